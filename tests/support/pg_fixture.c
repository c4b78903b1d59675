/* Starts, crashes and ends a PostgreSQL server for a test. The kernel kills it when the test ends (PR_SET_PDEATHSIG). Readiness is asked for by
 * connecting. fsync is off: these tests kill processes, not machines. */
#include "tests/support/pg_fixture.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 30000

struct pg_fixture {
        char dir[64], bin[256], url[160];
        pid_t pid, owner;
        struct pg_fixture *next;
};

static struct pg_fixture *fixtures;

static _Noreturn void fail(const struct pg_fixture *f, const char *what)
{
        char command[160];

        fprintf(stderr, "pg fixture: %s: %s\n", what, strerror(errno));
        snprintf(command, sizeof(command), "tail -n 30 %s/log >&2", f->dir);
        (void)!system(command);
        abort();
}

static void end_all(void)
{
        while (fixtures && fixtures->owner == getpid())
                pg_fixture_free(fixtures);
}

static int unlink_entry(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st, (void)type, (void)ftw;
        remove(name);
        return 0;
}

/* The newest server on this machine. */
static void find_server(struct pg_fixture *f)
{
        glob_t found;
        size_t newest = 0;
        int best = -1;

        if (glob("/usr/lib/postgresql/*/bin/postgres", 0, NULL, &found) != 0)
                fail(f, "no PostgreSQL server under /usr/lib/postgresql");
        for (size_t i = 0; i < found.gl_pathc; i++) {
                int version = atoi(found.gl_pathv[i] + strlen("/usr/lib/postgresql/"));
                if (version > best)
                        best = version, newest = i;
        }
        snprintf(f->bin, sizeof(f->bin), "%.*s", (int)(strlen(found.gl_pathv[newest]) - strlen("/postgres")), found.gl_pathv[newest]);
        globfree(&found);
}

/* Runs a program of the server's as the user that may run it. With wait: until it ends, successfully. */
static pid_t run(struct pg_fixture *f, bool wait, char *argv[])
{
        char program[320], log[96];
        pid_t parent = getpid(), pid;
        int status;

        snprintf(program, sizeof(program), "%s/%s", f->bin, argv[0]);
        snprintf(log, sizeof(log), "%s/log", f->dir);
        pid = fork();
        if (pid < 0)
                fail(f, "fork");
        if (pid == 0) {
                int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
                struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;

                dup2(fd, STDOUT_FILENO);
                dup2(fd, STDERR_FILENO);
                if (user && (setgroups(0, NULL) < 0 || setgid(user->pw_gid) < 0 || setuid(user->pw_uid) < 0))
                        _exit(126);
                prctl(PR_SET_PDEATHSIG, SIGQUIT); /* after the change of user, which clears it */
                if (getppid() != parent)
                        _exit(126);
                argv[0] = program;     /* the server's programs find each other by it, */
                if (chdir(f->dir) < 0) /* and want a directory that their user may read */
                        _exit(126);
                execv(program, argv);
                _exit(127);
        }
        if (wait && (waitpid(pid, &status, 0) != pid || status != 0))
                fail(f, argv[0]);
        return pid;
}

static void wait_ready(struct pg_fixture *f)
{
        int64_t until = now_mono_ms() + START_MS;
        char url[256];

        snprintf(url, sizeof(url), "%s user=owner", f->url);
        for (;;) {
                PGconn *c = PQconnectdb(url);
                bool ok = PQstatus(c) == CONNECTION_OK;

                PQfinish(c);
                if (ok)
                        return;
                if (now_mono_ms() > until || waitpid(f->pid, NULL, WNOHANG) != 0)
                        fail(f, "the server does not answer");
                usleep(20000);
        }
}

static void spawn(struct pg_fixture *f)
{
        char data[96];

        snprintf(data, sizeof(data), "%s/data", f->dir);
        f->pid = run(f, false,
                (char *[]){"postgres", "-D", data, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60", "-c",
                        "shared_buffers=64MB", "-c", "unix_socket_directories=", "-k", f->dir, NULL});
        wait_ready(f);
}

static void execute(struct pg_fixture *f, PGconn *c, const char *sql, const char *what)
{
        PGresult *r = PQexec(c, sql);

        if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK) {
                fprintf(stderr, "%s: %s", what, PQerrorMessage(c));
                fail(f, what);
        }
        PQclear(r);
}

static void migrate(struct pg_fixture *f)
{
        char url[256];
        PGconn *c;
        glob_t files;

        snprintf(url, sizeof(url), "%s user=owner", f->url);
        c = PQconnectdb(url);
        execute(f, c, "CREATE SCHEMA aethelos; SET search_path = aethelos; ALTER ROLE owner SET search_path = aethelos", "schema");
        if (glob(AETHELOS_SOURCE_DIR "/migrations/0*.sql", 0, NULL, &files) != 0 ||
                glob(AETHELOS_SOURCE_DIR "/migrations/functions/*.sql", GLOB_APPEND, NULL, &files) != 0)
                fail(f, "no migrations");
        for (size_t i = 0; i < files.gl_pathc; i++) {
                _cleanup_(freep) char *sql = NULL;

                if (read_file(files.gl_pathv[i], 1 << 20, &sql) < 0)
                        fail(f, files.gl_pathv[i]);
                execute(f, c, sql, files.gl_pathv[i]);
        }
        execute(f, c, "INSERT INTO generation (n, system_identifier) SELECT 1, system_identifier FROM pg_control_system()", "generation");
        globfree(&files);
        PQfinish(c);
}

struct pg_fixture *pg_fixture_start(void)
{
        struct pg_fixture *f = xcalloc(1, sizeof(*f));
        static bool registered;
        char data[96];

        if (!registered)
                atexit(end_all);
        registered = true;
        strcpy(f->dir, "/tmp/aethelos-pg-XXXXXX");
        f->owner = getpid();
        f->pid = -1;
        if (!mkdtemp(f->dir) || chmod(f->dir, 0777) < 0)
                fail(f, "mkdtemp");
        f->next = fixtures;
        fixtures = f;
        find_server(f);
        snprintf(data, sizeof(data), "%s/data", f->dir);
        snprintf(f->url, sizeof(f->url), "host=%s dbname=postgres", f->dir);
        run(f, true, (char *[]){"initdb", "-D", data, "-U", "owner", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8", NULL});
        spawn(f);
        migrate(f);
        return f;
}

void pg_fixture_kill(struct pg_fixture *f)
{
        if (f->pid > 0) {
                kill(f->pid, SIGQUIT); /* immediate shutdown: no checkpoint, recovery at the next start */
                waitpid(f->pid, NULL, 0);
        }
        f->pid = -1;
}

void pg_fixture_restart(struct pg_fixture *f)
{
        pg_fixture_kill(f);
        spawn(f);
}

struct pg_fixture *pg_fixture_free(struct pg_fixture *f)
{
        if (!f)
                return NULL;
        pg_fixture_kill(f);
        nftw(f->dir, unlink_entry, 16, FTW_DEPTH | FTW_PHYS);
        for (struct pg_fixture **p = &fixtures; *p; p = &(*p)->next)
                if (*p == f) {
                        *p = f->next;
                        break;
                }
        free(f);
        return NULL;
}

const char *pg_fixture_url(const struct pg_fixture *f)
{
        return f->url;
}

struct db *pg_fixture_connect(struct pg_fixture *f, const char *service)
{
        char user[64];
        struct db *db;

        snprintf(user, sizeof(user), "aethelos_%s", service ? service : "");
        db = db_new(&(struct db_config){.url = f->url, .user = service ? user : "owner", .application_name = "test"});
        if (db_ready(db) < 0) {
                fprintf(stderr, "%s\n", db_error(db));
                fail(f, "connect");
        }
        return db;
}

char *pg_fixture_ask(struct pg_fixture *f, const char *sql)
{
        char url[256];
        PGconn *c;
        PGresult *r;
        char *answer;

        snprintf(url, sizeof(url), "%s user=owner", f->url);
        c = PQconnectdb(url);
        r = PQexec(c, sql);
        if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK) {
                fprintf(stderr, "%s\n%s", sql, PQerrorMessage(c));
                fail(f, "ask");
        }
        answer = xstrdup(PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "");
        PQclear(r);
        PQfinish(c);
        return answer;
}
