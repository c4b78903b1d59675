/* backup: a copy of all there is, while the stack works.
 *
 * Invariant: the directory has its name only when it is complete and on disk; until then it is NAME.partial. The dump is one snapshot of the
 * database, and the database is the only truth, so nothing else needs to stand still. A crash here leaves the partial directory, which the next run
 * refuses to touch. */
#include "backup.h"

#include "cli.h"
#include "client_args.h"
#include "database.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char HELP[] =
        "usage: aethelos backup DIR [--secrets] [--state DIR] [--json]\n"
        "\n"
        "Writes a backup into the new directory DIR: the whole database as of one moment, and the services' roles. The stack goes on working.\n"
        "It is taken from the stack that runs here, or from AETHELOS_DATABASE_URL. What it holds is as confidential as the database.\n"
        "\n"
        "  --secrets    also copies the secrets of the stack (admin token, passwords), in clear: without, a restored stack makes new ones\n"
        "  --state DIR  where the state of the stack is\n"
        "  --json       prints what was written as JSON\n";

int file_sha256(const char *path, char ret_hex[2 * SHA256_SIZE + 1])
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        uint8_t hash[SHA256_SIZE];
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        void *bytes = st.st_size > 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
        if (bytes == MAP_FAILED)
                return -errno;
        sha256_bytes(bytes, (size_t)st.st_size, hash);
        if (bytes)
                munmap(bytes, (size_t)st.st_size);
        hex_format(hash, sizeof(hash), ret_hex);
        return 0;
}

/* A dump grants to roles and does not make them; their settings belong to the cluster and are in no dump of a database. Passwords are left out: the
 * stack sets them. */
static const char ROLES_SQL[] = "WITH r AS (SELECT oid, rolname FROM pg_roles WHERE rolname LIKE 'aethelos\\_%'),"
                                " s AS (SELECT r.rolname, split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value"
                                "  FROM r JOIN pg_db_role_setting d ON d.setrole = r.oid AND d.setdatabase = 0, unnest(d.setconfig) AS c)"
                                " SELECT string_agg(line, E'\\n' ORDER BY part, line) FROM ("
                                "  SELECT 1 AS part, format('DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = %L) THEN CREATE ROLE "
                                "%I LOGIN; END IF; END $$;',"
                                "   rolname, rolname) AS line FROM r"
                                /* a list of names is not one quoted string */
                                "  UNION ALL SELECT 2, format('ALTER ROLE %I SET %I TO %s;', rolname, name, CASE WHEN name = 'search_path' THEN "
                                "value ELSE quote_literal(value) END)"
                                "  FROM s) l";

static int write_roles(PGconn *c, const char *directory)
{
        _cleanup_(freep) char *sql = database_ask(c, ROLES_SQL, "the roles");
        char path[4096];

        if (!sql)
                return -1;
        snprintf(path, sizeof(path), "%s/" BACKUP_ROLES, directory);
        int r = write_file_atomic(path, 0600, sql, strlen(sql));
        if (r < 0)
                say_errno(path, r);
        return r;
}

static int write_dump(PGconn *c, const struct database *d, const char *directory)
{
        _cleanup_(freep) char *tool = postgres_tool("pg_dump", c);
        char file[4096];
        _cleanup_(strbuf_done) struct strbuf where = {0};

        snprintf(file, sizeof(file), "--file=%s/" BACKUP_DUMP, directory);
        strbuf_addf(&where, "--dbname=%s", d->url);
        return database_run(d, (const char *const[]){tool, "--format=custom", "--no-password", file, where.s, NULL});
}

/* Every regular file below the directory, by its path in it. */
static int write_sums(const char *directory)
{
        static const char *const patterns[] = {"*", "secrets/*", "secrets/*/*"};
        _cleanup_(strbuf_done) struct strbuf sums = {0};
        char path[4096];
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(patterns); i++) {
                glob_t files;
                snprintf(path, sizeof(path), "%s/%s", directory, patterns[i]);
                if (glob(path, 0, NULL, &files) != 0) {
                        if (i > 0)
                                continue;
                        say_errno(path, -ENOENT); /* the dump has just been written: a name that glob reads as a pattern */
                        return -ENOENT;
                }
                for (size_t k = 0; r == 0 && k < files.gl_pathc; k++) {
                        char hex[2 * SHA256_SIZE + 1];
                        struct stat st;
                        if (stat(files.gl_pathv[k], &st) == 0 && !S_ISREG(st.st_mode))
                                continue;
                        r = file_sha256(files.gl_pathv[k], hex);
                        if (r < 0)
                                say_errno(files.gl_pathv[k], r);
                        else
                                strbuf_addf(&sums, "%s  %s\n", hex, files.gl_pathv[k] + strlen(directory) + 1);
                }
                globfree(&files);
        }
        if (r == 0) {
                snprintf(path, sizeof(path), "%s/" BACKUP_SUMS, directory);
                r = write_file_atomic(path, 0600, sums.s, sums.len);
                if (r < 0)
                        say_errno(path, r);
        }
        return r;
}

/* On disk, then under its name, then that on disk. */
static int publish(const char *partial, const char *directory)
{
        _cleanup_(freep) char *above = xstrdup(directory);
        char *slash = strrchr(above, '/');

        slash[slash == above] = '\0';
        _cleanup_(closep) int fd = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || syncfs(fd) < 0 || rename(partial, directory) < 0 || fsync(fd) < 0) {
                say_errno(directory, errno);
                return -1;
        }
        return 0;
}

static int fill(const struct stack *s, const struct database *d, const char *directory, bool with_secrets)
{
        PGconn *c = database_open(d);
        bool failed;

        if (!c)
                return -1;
        bool there = database_holds_aethelos(c, &failed);
        if (!there && !failed)
                fprintf(stderr, "aethelos: this database holds nothing of Aethelos, so there is nothing to back up.\n");
        int r = there ? write_roles(c, directory) : -1;
        if (r == 0)
                r = write_dump(c, d, directory);
        PQfinish(c);
        if (r == 0 && with_secrets) {
                _cleanup_(freep) char *from = stack_path(s, "secrets");
                struct stack to = {.state = (char *)directory, .uid = geteuid(), .gid = getegid()};
                r = secrets_copy(from, &to);
        }
        return r == 0 ? write_sums(directory) : r;
}

int cmd_backup(int argc, char **argv)
{
        _cleanup_(stack_done) struct stack s = {0};
        _cleanup_(database_done) struct database d = {0};
        _cleanup_(strbuf_done) struct strbuf partial = {0};
        const char *state = NULL;
        bool json = false, with_secrets = false;
        struct args a = {.help = HELP,
                .options = (struct args_option[]){{"--secrets", .flag = &with_secrets}, {"--state", .value = &state}, {"--json", .flag = &json}, {0}},
                .least = 1,
                .most = 1};

        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        _cleanup_(freep) char *directory = path_absolute(a.rest[0]);
        if (access(directory, F_OK) == 0) {
                fprintf(stderr, "aethelos: %s is there already. A backup makes a new directory.\n", directory);
                return 1;
        }
        if (stack_locate(&s, state) < 0 || database_find(&s, &d) < 0)
                return 1;
        umask(077); /* for pg_dump, too */
        strbuf_addf(&partial, "%s.partial", directory);
        if (mkdir(partial.s, 0700) < 0) {
                bool there = errno == EEXIST;

                say_errno(partial.s, errno);
                fprintf(stderr, there ? "aethelos: a backup that broke off left it; remove it.\n"
                                      : "aethelos: the directory above it must exist, and be writable.\n");
                return 1;
        }
        if (fill(&s, &d, partial.s, with_secrets) < 0 || publish(partial.s, directory) < 0) {
                if (rmdir(partial.s) < 0) /* it is empty when nothing was begun */
                        fprintf(stderr, "aethelos: what there is of the backup is in %s; remove it.\n", partial.s);
                return 1;
        }
        if (json) {
                strbuf_reset(&partial);
                strbuf_add_json(&partial, directory, strlen(directory));
                printf("{\"directory\":%s,\"secrets\":%s}\n", partial.s, with_secrets ? "true" : "false");
        } else {
                printf("backup   %s\nsecrets  %s\n", directory, with_secrets ? "in it, in clear" : "not in it: a restored stack makes new ones");
        }
        return 0;
}
