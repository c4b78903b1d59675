/* What must exist before a process starts: the user, the directories, copies of what was built, the addresses of the engines. Secrets: secrets.c.
 *
 * Invariant: programs run from copies, so that a build under a running stack changes nothing in it. A crash here leaves a part of all that; the next
 * start completes it. */
#include "database.h"
#include "postgres_program.h"
#include "stack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int make_directory(const char *path, mode_t mode, const struct stack *owner)
{
        struct stat st;

        if (mkdir(path, mode) < 0 && errno != EEXIST) {
                say_errno(path, errno);
                return -1;
        }
        if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
                say_errno(path, ENOTDIR);
                return -1;
        }
        if (geteuid() == 0 && owner && st.st_uid != owner->uid && lchown(path, owner->uid, owner->gid) < 0) {
                say_errno(path, errno);
                return -1;
        }
        if ((st.st_mode & 0777) != mode && chmod(path, mode) < 0) {
                say_errno(path, errno);
                return -1;
        }
        return 0;
}

static int run_quietly(char *const argv[])
{
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                execvp(argv[0], argv);
                _exit(127);
        }
        while (pid > 0 && waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -1;
        return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* PostgreSQL refuses root, and the services need no root either. */
static int choose_user(struct stack *s)
{
        struct stat st;

        s->uid = geteuid();
        s->gid = getegid();
        if (s->uid != 0)
                return 0;
        if (lstat(s->state, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid != 0) {
                s->uid = st.st_uid;
                s->gid = st.st_gid;
                return 0;
        }
        const struct passwd *user = getpwnam(STACK_USER);
        if (!user) {
                char *argv[] = {"useradd", "--system", "--user-group", "--no-create-home", "--home-dir", STACK_ROOT_STATE, "--shell",
                        "/usr/sbin/nologin", STACK_USER, NULL};
                (void)run_quietly(argv); /* another start may have been faster: that he is there is what counts */
                user = getpwnam(STACK_USER);
                if (!user) {
                        fprintf(stderr, "aethelos: the user " STACK_USER " cannot be made. Make it (`useradd --system " STACK_USER
                                        "`), or start as another user than root.\n");
                        return -1;
                }
        }
        s->uid = user->pw_uid;
        s->gid = user->pw_gid;
        return 0;
}

/* As root `var` in the checkout leads to the state, wherever that is. */
static void link_var(const struct stack *s)
{
        _cleanup_(strbuf_done) struct strbuf var = {0};

        strbuf_addf(&var, "%s/var", s->home);
        if (geteuid() == 0 && strcmp(s->state, STACK_ROOT_STATE) == 0 && symlink(s->state, var.s) < 0 && errno != EEXIST)
                fprintf(stderr, "aethelos: %s cannot be made a link to %s (%s); the state is there all the same\n", var.s, s->state, strerror(errno));
}

int copy_file(const char *from, const char *to, mode_t mode)
{
        struct stat a, b;
        _cleanup_(strbuf_done) struct strbuf temporary = {0};
        _cleanup_(closep) int in = open(from, O_RDONLY | O_CLOEXEC), out = -1;

        if (in < 0 || fstat(in, &a) < 0) {
                fprintf(stderr, "aethelos: %s: %s. Build first: ./aethelos does it.\n", from, strerror(errno));
                return -1;
        }
        if (stat(to, &b) == 0 && a.st_size == b.st_size && a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec)
                return 0;
        strbuf_addf(&temporary, "%s.new", to);
        unlink(temporary.s);
        out = open(temporary.s, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        ssize_t n = out < 0 ? -1 : 1;
        while (n > 0)
                n = copy_file_range(in, NULL, out, NULL, 1 << 24, 0);
        if (n < 0 && out >= 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
                char chunk[65536];
                while ((n = read(in, chunk, sizeof(chunk))) > 0)
                        if (write(out, chunk, (size_t)n) != n) {
                                n = -1;
                                break;
                        }
        }
        const struct timespec times[2] = {a.st_mtim, a.st_mtim};
        if (n < 0 || fchmod(out, mode) < 0 || futimens(out, times) < 0 || rename(temporary.s, to) < 0) {
                say_errno(to, errno);
                unlink(temporary.s);
                return -1;
        }
        return 0;
}

/* `part`: a folder below migrations, with its slash, or "". What an earlier version left there goes. */
static int copy_migrations(const struct stack *s, const char *part)
{
        char from[4096], to[4096];
        glob_t files;
        int r = 0;

        snprintf(from, sizeof(from), "%s/share/migrations/%s*.sql", s->state, part);
        if (glob(from, 0, NULL, &files) == 0) {
                for (size_t i = 0; i < files.gl_pathc; i++)
                        unlink(files.gl_pathv[i]);
                globfree(&files);
        }
        snprintf(from, sizeof(from), "%s/migrations/%s*.sql", s->home, part);
        if (glob(from, 0, NULL, &files) != 0) {
                fprintf(stderr, "aethelos: there are no migrations under %s/migrations/%s. Set AETHELOS_HOME to the checkout.\n", s->home, part);
                return -1;
        }
        for (size_t i = 0; r == 0 && i < files.gl_pathc; i++) {
                snprintf(to, sizeof(to), "%s/share/migrations/%s%s", s->state, part, strrchr(files.gl_pathv[i], '/') + 1);
                r = copy_file(files.gl_pathv[i], to, 0644);
        }
        globfree(&files);
        return r;
}

static int install(const struct stack *s)
{
        char from[4096], to[4096];

        for (int i = -1; i < STACK_SERVICES; i++) {
                const char *name = i < 0 ? "migrate" : stack_services[i];
                snprintf(from, sizeof(from), "%s/aethelos-%s", s->bin, name);
                snprintf(to, sizeof(to), "%s/bin/aethelos-%s", s->state, name);
                if (copy_file(from, to, 0755) < 0)
                        return -1;
        }
        snprintf(from, sizeof(from), "%s/proto/nats-permissions.conf", s->home);
        snprintf(to, sizeof(to), "%s/share/nats-permissions.conf", s->state);
        if (copy_file(from, to, 0644) < 0)
                return -1;

        if (copy_migrations(s, "") < 0)
                return -1;
        return copy_migrations(s, "functions/");
}

int postgres_find(const char *data, char **ret_bin)
{
        _cleanup_(strbuf_done) struct strbuf file = {0};
        _cleanup_(freep) char *wanted = NULL;

        strbuf_addf(&file, "%s/PG_VERSION", data ? data : "");
        if (data)
                (void)read_file(file.s, 64, &wanted);
        *ret_bin = postgres_program(POSTGRES_ROOT, "initdb", wanted ? atoi(wanted) : 0);
        if (*ret_bin)
                *strrchr(*ret_bin, '/') = '\0';
        if (*ret_bin)
                return 0;
        if (wanted)
                fprintf(stderr,
                        "aethelos: the cluster in %s was made by PostgreSQL %s, which is not installed. Install postgresql-%s, or upgrade the "
                        "cluster with pg_upgrade.\n",
                        data, wanted, wanted);
        else
                fprintf(stderr, "aethelos: there is no PostgreSQL server under /usr/lib/postgresql. Install it: apt-get install postgresql\n");
        return -1;
}

/* Somebody else's engines: their address without user and password is what the services get, each with a role of its own. */
static int external_engines(struct stack *s, const char *database_url, const char *nats_url)
{
        static const char *const who[] = {"user", "password", "passfile", NULL};

        s->service_database_url = conninfo_without(database_url, who, NULL);
        if (!s->service_database_url)
                return -1;
        s->external = true;
        s->database_url = xstrdup(database_url);
        s->nats_url = xstrdup(nats_url);
        const char *passwords = getenv("AETHELOS_NATS_PASSWORDS");
        s->nats_passwords = passwords && *passwords ? xstrdup(passwords) : NULL;
        return 0;
}

int stack_prepare_outside(struct stack *s)
{
        static const struct {
                const char *name;
                mode_t mode;
                bool own; /* of the user the servers run as; else of who called */
        } directories[] = {{"bin", 0755, false}, {"share", 0755, false}, {"share/migrations", 0755, false},
                {"share/migrations/functions", 0755, false}, {"secrets", 0700, true}, {"run", 0755, true}, {"log", 0755, true}, {"nats", 0700, true}};
        const char *database_url = getenv("AETHELOS_DATABASE_URL"), *nats_url = getenv("AETHELOS_NATS_URL");
        bool has_database = database_url && *database_url, has_nats = nats_url && *nats_url;

        if (has_database != has_nats) {
                fprintf(stderr, "aethelos: only %s is set. Set both to use engines of your own, or neither for private ones.\n",
                        has_database ? "AETHELOS_DATABASE_URL" : "AETHELOS_NATS_URL");
                return -1;
        }
        if (has_database && external_engines(s, database_url, nats_url) < 0)
                return -1;
        if (choose_user(s) < 0)
                return -1;
        if (make_directory(s->state, 0755, NULL) < 0) {
                fprintf(stderr, "aethelos: so the state cannot be there. Name another directory with --state; the one above it must exist, and be "
                                "writable.\n");
                return -1;
        }
        /* Two `up` at once: the second waits here until the first has started the stack or given up. Closed with the process. */
        int one_by_one = open(s->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (one_by_one < 0 || flock(one_by_one, LOCK_EX) < 0) {
                say_errno(s->state, errno);
                return -1;
        }
        if (stack_running(s))
                return 1;
        for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
                _cleanup_(freep) char *path = stack_path(s, directories[i].name);
                if (make_directory(path, directories[i].mode, directories[i].own ? s : NULL) < 0)
                        return -1;
        }
        if (s->secrets_from && secrets_copy(s->secrets_from, s) < 0)
                return -1;
        link_var(s);
        if (!s->external) {
                _cleanup_(freep) char *data = stack_path(s, "postgresql");
                if (make_directory(data, 0700, s) < 0 || postgres_find(data, &s->postgres_bin) < 0)
                        return -1;
        }
        return install(s);
}
