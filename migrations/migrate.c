/* aethelos-migrate: brings a database to the schema of this checkout.
 *
 * Invariant: history is append-only. A numbered file that was applied never changes and never goes, and a new one has the next number: anything else
 * is refused before the first statement runs. The files of functions/ hold what may be repeated (CREATE OR REPLACE); they come after the numbered
 * ones, again whenever their text has changed. Each file is one transaction together with its row in schema_migration, under one advisory lock, so
 * that any number of runners may start at once; a crash here leaves the files before intact and the one under way undone, and the next run goes on
 * there. A file that ran into a deadlock with the services that are at work is tried again: undone it holds nothing up. It also opens a new
 * generation when it finds another cluster under the data (after a restore), and sets the passwords of the services' roles. */
#include "base/hash.h"
#include "base/strbuf.h"
#include "base/util.h"
#include "locks.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <libpq-fe.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOCK_KEY     "4702111234474983745" /* any constant that no other program uses */
#define FILE_MAX     (16 * 1024 * 1024)
#define PASSWORD_MAX 1024
#define TRIES_MAX    6   /* of a file that runs into deadlocks */
#define PAUSE_MS     250 /* before the second try, doubling */

struct options {
        const char *database_url, *database_user, *passfile, *password_file, *directory, *passwords;
        bool check, new_generation;
};

#define FUNCTIONS "functions/"

struct migration {
        char *name;
        long number; /* of a file of functions: LONG_MAX */
        char *sql;
        char sha256[2 * SHA256_SIZE + 1];
        bool applied;
};

struct history {
        struct migration *files;
        size_t n;
};

static const char USAGE[] =
        "usage: aethelos-migrate [--database-url URL] [--directory DIR] [--passwords DIR] [--check]\n"
        "\n"
        "Applies the migrations that a database lacks, opens a new generation after a restore, sets the passwords of the services' roles.\n"
        "\n"
        "  --database-url URL   where, as a libpq conninfo or URI; default AETHELOS_DATABASE_URL\n"
        "  --database-user NAME owner of the schema; default AETHELOS_DATABASE_USER, else from the URL\n"
        "  --passfile FILE      libpq password file; default AETHELOS_DATABASE_PASSFILE\n"
        "  --password-file FILE with the owner's password alone; default AETHELOS_DATABASE_PASSWORD_FILE\n"
        "  --directory DIR      with the numbered *.sql files and functions/*.sql; default migrations\n"
        "  --passwords DIR      DIR/aethelos_<service> holds the password of that role\n"
        "  --check              says what would be applied and what each file locks, and changes nothing; exit status 0 when that is nothing, else "
        "3\n"
        "  --new-generation     opens a generation in any case: after the cluster was set back to an earlier moment. No service may run meanwhile\n";

static int fail(const char *what, const char *why)
{
        fprintf(stderr, "aethelos-migrate: %s: %.*s\n", what, (int)strcspn(why, "\n"), why);
        const char *rest = strchr(why, '\n');
        if (rest && rest[1])
                fprintf(stderr, "%s%s", rest + 1, rest[strlen(rest) - 1] == '\n' ? "" : "\n");
        return -1;
}

/* --- the files --- */

static int by_number(const void *a, const void *b)
{
        const struct migration *x = a, *y = b;
        return x->number != y->number ? (x->number < y->number ? -1 : 1) : strcmp(x->name, y->name);
}

static bool is_function(const char *name)
{
        return strncmp(name, FUNCTIONS, strlen(FUNCTIONS)) == 0;
}

static int file_add(struct history *h, const char *directory, const char *name)
{
        struct migration m = {.number = is_function(name) ? LONG_MAX : strtol(name, NULL, 10)};
        uint8_t hash[SHA256_SIZE];
        char path[4096];

        snprintf(path, sizeof(path), "%s/%s", directory, name);
        int r = read_file(path, FILE_MAX, &m.sql);
        if (r < 0)
                return fail(path, strerror(-r));
        sha256_bytes(m.sql, strlen(m.sql), hash);
        for (size_t i = 0; i < SHA256_SIZE; i++)
                snprintf(m.sha256 + 2 * i, 3, "%02x", hash[i]);
        m.name = xstrdup(name);
        h->files = xrealloc(h->files, (h->n + 1) * sizeof(*h->files));
        h->files[h->n++] = m;
        return 0;
}

/* `part` is a folder below the directory, with its slash, or "": there only numbered files count. */
static int part_read(struct history *h, const char *directory, const char *part)
{
        char path[4096];
        DIR *d;
        const struct dirent *e;
        int r = 0;

        snprintf(path, sizeof(path), "%s/%s", directory, part);
        d = opendir(path);
        if (!d)
                return fail(path, strerror(errno));
        while (r == 0 && (e = readdir(d))) {
                size_t len = strlen(e->d_name);
                char name[512];

                if (len <= 4 || strcmp(e->d_name + len - 4, ".sql") != 0 || (!part[0] && !isdigit((unsigned char)e->d_name[0])))
                        continue;
                snprintf(name, sizeof(name), "%s%s", part, e->d_name);
                r = file_add(h, directory, name);
        }
        closedir(d);
        return r;
}

static int files_read(struct history *h, const char *directory)
{
        int r = part_read(h, directory, "");

        if (r == 0)
                r = part_read(h, directory, FUNCTIONS);
        if (r < 0)
                return r;
        if (h->n == 0)
                return fail(directory, "there is no numbered *.sql file. Name the directory of the migrations with --directory");
        qsort(h->files, h->n, sizeof(*h->files), by_number);
        for (size_t i = 0; i < h->n && !is_function(h->files[i].name); i++)
                if (h->files[i].number != (long)i + 1) {
                        char why[96];
                        snprintf(why, sizeof(why), "the number should be %04zu: numbers have no gap and no double", i + 1);
                        return fail(h->files[i].name, why);
                }
        return 0;
}

static void history_done(struct history *h)
{
        for (size_t i = 0; i < h->n; i++) {
                free(h->files[i].name);
                free(h->files[i].sql);
        }
        free(h->files);
}

/* --- the database --- */

static void result_done(PGresult **r)
{
        PQclear(*r);
}

static int execute_and_tell(PGconn *c, const char *sql, const char *what, bool *ret_deadlock)
{
        _cleanup_(result_done) PGresult *r = PQexec(c, sql);
        ExecStatusType s = PQresultStatus(r);
        const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);

        *ret_deadlock = state && strcmp(state, "40P01") == 0;
        return s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK ? 0 : fail(what, PQerrorMessage(c));
}

static int execute(PGconn *c, const char *sql, const char *what)
{
        bool deadlock;

        return execute_and_tell(c, sql, what, &deadlock);
}

/* One row, one column; "" for no row or NULL. malloc'ed, NULL on failure. */
static char *ask(PGconn *c, const char *sql, const char *what)
{
        _cleanup_(result_done) PGresult *r = PQexec(c, sql);
        if (PQresultStatus(r) != PGRES_TUPLES_OK) {
                fail(what, PQerrorMessage(c));
                return NULL;
        }
        return xstrdup(PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "");
}

static PGconn *database_open(const struct options *o)
{
        const char *keys[7] = {"dbname"}, *values[7] = {o->database_url};
        _cleanup_(freep) char *password = NULL;
        size_t n = 1;

        int r = o->password_file ? read_file(o->password_file, PASSWORD_MAX, &password) : 0;
        if (r < 0) {
                fail(o->password_file, strerror(-r));
                return NULL;
        }

        if (o->database_user)
                keys[n] = "user", values[n++] = o->database_user;
        if (o->passfile)
                keys[n] = "passfile", values[n++] = o->passfile;
        if (password)
                keys[n] = "password", values[n++] = password;
        keys[n] = "connect_timeout", values[n++] = "10";
        keys[n] = "fallback_application_name", values[n] = "aethelos-migrate";
        PGconn *c = PQconnectdbParams(keys, values, 1);
        if (password)
                explicit_bzero(password, strlen(password));
        if (PQstatus(c) != CONNECTION_OK) {
                fail("the database does not let us in", PQerrorMessage(c));
                PQfinish(c);
                return NULL;
        }
        (void)execute(c, "SET client_min_messages = warning", "settings");
        return c;
}

static int lock(PGconn *c)
{
        _cleanup_(freep) char *got = ask(c, "SELECT pg_try_advisory_lock(" LOCK_KEY ")", "lock");
        if (!got)
                return -1;
        if (*got == 't')
                return 0;
        fprintf(stderr, "aethelos-migrate: another runner is at work, waiting for it\n");
        return execute(c, "SELECT pg_advisory_lock(" LOCK_KEY ")", "lock");
}

static int history_table(PGconn *c)
{
        return execute(c,
                "BEGIN;"
                "CREATE SCHEMA IF NOT EXISTS aethelos;"
                "CREATE TABLE IF NOT EXISTS aethelos.schema_migration (name text PRIMARY KEY, sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),"
                "  applied_at timestamptz NOT NULL DEFAULT now());"
                "COMMENT ON SCHEMA aethelos IS 'Everything of Aethelos';"
                "COMMENT ON TABLE aethelos.schema_migration IS 'The migrations that this database has had; written by aethelos-migrate alone';"
                "COMMENT ON COLUMN aethelos.schema_migration.name IS 'File name; its number orders the history. functions/*: applied again whenever "
                "it changes';"
                "COMMENT ON COLUMN aethelos.schema_migration.sha256 IS 'Of the file as it was applied: a numbered file that was edited since is "
                "refused';"
                "COMMENT ON COLUMN aethelos.schema_migration.applied_at IS 'When';"
                "COMMIT",
                "table schema_migration");
}

/* Compares what was applied with the files. */
static int history_compare(PGconn *c, struct history *h)
{
        _cleanup_(freep) char *exists = ask(c, "SELECT to_regclass('aethelos.schema_migration') IS NOT NULL", "table schema_migration");
        if (!exists)
                return -1;
        if (*exists != 't')
                return 0;
        _cleanup_(result_done) PGresult *r = PQexec(c, "SELECT name, sha256 FROM aethelos.schema_migration ORDER BY name COLLATE \"C\"");
        if (PQresultStatus(r) != PGRES_TUPLES_OK)
                return fail("table schema_migration", PQerrorMessage(c));
        for (int row = 0; row < PQntuples(r); row++) {
                const char *name = PQgetvalue(r, row, 0);
                struct migration *m = NULL;
                for (size_t i = 0; i < h->n && !m; i++)
                        if (strcmp(h->files[i].name, name) == 0)
                                m = &h->files[i];
                if (is_function(name)) {
                        if (m)
                                m->applied = strcmp(m->sha256, PQgetvalue(r, row, 1)) == 0;
                        continue;
                }
                if (!m)
                        return fail(name,
                                "it was applied to this database and its file is not here. The database is newer than this checkout, or the "
                                "file was renamed: use the version that made the database, or a later one");
                if (strcmp(m->sha256, PQgetvalue(r, row, 1)) != 0)
                        return fail(name,
                                "it was edited after it had been applied to this database. Restore the file, and put the change into a new one");
                m->applied = true;
        }
        for (size_t i = 1; i < h->n && !is_function(h->files[i].name); i++)
                if (h->files[i].applied && !h->files[i - 1].applied)
                        return fail(h->files[i - 1].name,
                                "it was never applied to this database, but a later one was. A new migration takes the next number");
        return 0;
}

static int apply_once(PGconn *c, const struct migration *m, bool *ret_deadlock)
{
        _cleanup_(strbuf_done) struct strbuf note = {0};

        strbuf_addf(&note,
                "INSERT INTO aethelos.schema_migration (name, sha256) VALUES ('%s', '%s')"
                "%s; COMMIT",
                m->name, m->sha256, is_function(m->name) ? " ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, applied_at = now()" : "");
        *ret_deadlock = false;
        if (strchr(m->name, '\''))
                return fail(m->name, "a file name without quotes is needed");
        if (execute(c, "BEGIN; SET LOCAL search_path = aethelos", m->name) < 0)
                return -1;
        if (execute_and_tell(c, m->sql, m->name, ret_deadlock) < 0) {
                (void)execute(c, "ROLLBACK", m->name);
                return -1;
        }
        if (PQtransactionStatus(c) != PQTRANS_INTRANS)
                return fail(m->name, "it ended its transaction by itself. A migration contains neither COMMIT nor ROLLBACK");
        if (execute(c, note.s, m->name) < 0)
                return -1;
        fprintf(stderr, "aethelos-migrate: applied %s\n", m->name);
        return 0;
}

/* A file locks whole tables in the order in which it changes them, and the services theirs: whom PostgreSQL ends to undo the knot is chance. */
static int apply(PGconn *c, const struct migration *m)
{
        bool deadlock;
        int r = apply_once(c, m, &deadlock);

        for (int n = 1; r < 0 && deadlock && n < TRIES_MAX; n++) {
                fprintf(stderr, "aethelos-migrate: it is undone, and tried again\n");
                usleep((useconds_t)(PAUSE_MS * 1000) << (n - 1));
                r = apply_once(c, m, &deadlock);
        }
        return r;
}

/* After a restore into another cluster, old transaction ids may stand above the new horizon: readers tell them apart by generation. */
static int generation_open(PGconn *c, bool anyway)
{
        _cleanup_(strbuf_done) struct strbuf sql = {0};

        strbuf_adds(&sql, "INSERT INTO aethelos.generation (n, system_identifier)"
                          " SELECT coalesce(max(g.n), 0) + 1, s.system_identifier FROM pg_control_system() s LEFT JOIN aethelos.generation g ON true"
                          " GROUP BY s.system_identifier");
        if (!anyway)
                strbuf_adds(&sql, " HAVING s.system_identifier IS DISTINCT FROM"
                                  " (SELECT system_identifier FROM aethelos.generation ORDER BY n DESC LIMIT 1)");
        strbuf_adds(&sql, " RETURNING n");
        _cleanup_(freep) char *opened = ask(c, sql.s, "generation");
        if (!opened)
                return -1;
        if (*opened)
                fprintf(stderr, "aethelos-migrate: opened generation %s\n", opened);
        return 0;
}

static int password_set(PGconn *c, const char *directory, const char *role)
{
        _cleanup_(freep) char *password = NULL;
        _cleanup_(strbuf_done) struct strbuf sql = {0};
        char path[4096];

        snprintf(path, sizeof(path), "%s/%s", directory, role);
        int r = read_file(path, PASSWORD_MAX, &password);
        if (r < 0)
                return fail(path, strerror(-r));
        if (!*password)
                return fail(path, "it is empty");
        char *verifier = PQencryptPasswordConn(c, password, role, "scram-sha-256");
        explicit_bzero(password, strlen(password));
        char *name = PQescapeIdentifier(c, role, strlen(role));
        char *literal = verifier ? PQescapeLiteral(c, verifier, strlen(verifier)) : NULL;
        if (name && literal) {
                strbuf_addf(&sql, "ALTER ROLE %s PASSWORD %s", name, literal);
                r = execute(c, sql.s, role);
        } else {
                r = fail(role, PQerrorMessage(c));
        }
        PQfreemem(verifier);
        PQfreemem(name);
        PQfreemem(literal);
        return r;
}

static int passwords_set(PGconn *c, const char *directory)
{
        DIR *d = opendir(directory);
        const struct dirent *e;
        int r = 0;

        if (!d)
                return fail(directory, strerror(errno));
        while (r == 0 && (e = readdir(d)))
                if (strncmp(e->d_name, "aethelos_", 9) == 0)
                        r = password_set(c, directory, e->d_name);
        closedir(d);
        return r;
}

/* What a file would lock, one line a table, with what PostgreSQL believes about its size. */
static int locks_print(PGconn *c, const struct migration *m)
{
        struct lock_notes notes;
        int r = 0;

        locks_of(m->sql, &notes);
        for (size_t i = 0; i < notes.n && r == 0; i++) {
                const struct lock_note *n = &notes.v[i];
                _cleanup_(strbuf_done) struct strbuf sql = {0};
                _cleanup_(freep) char *size = NULL;
                char *table = PQescapeLiteral(c, n->table, strlen(n->table));

                strbuf_addf(&sql,
                        "SELECT format(', %%s rows, %%s', greatest(reltuples, 0)::bigint, pg_size_pretty(pg_table_size(oid))) FROM pg_class"
                        " WHERE oid = to_regclass('aethelos.' || quote_ident(%s)) AND relkind = 'r'",
                        table ? table : "''");
                PQfreemem(table);
                size = ask(c, sql.s, m->name);
                if (size)
                        printf("  %s %s: %s, %s waits%s\n", lock_is_long(n) ? "LONG" : "    ", n->table, lock_work_text(n->work), n->waits, size);
                else
                        r = -1;
        }
        locks_done(&notes);
        return r;
}

static int migrate(PGconn *c, const struct options *o, struct history *h)
{
        size_t missing = 0;

        if (o->check) {
                if (history_compare(c, h) < 0)
                        return 1;
                for (size_t i = 0; i < h->n; i++)
                        if (!h->files[i].applied) {
                                printf("%s\n", h->files[i].name);
                                missing++;
                                if (!is_function(h->files[i].name) && locks_print(c, &h->files[i]) < 0)
                                        return 1;
                        }
                return missing > 0 ? 3 : 0;
        }
        if (lock(c) < 0 || history_compare(c, h) < 0 || history_table(c) < 0)
                return 1;
        for (size_t i = 0; i < h->n; i++)
                if (!h->files[i].applied && apply(c, &h->files[i]) < 0)
                        return 1;
        if (generation_open(c, o->new_generation) < 0 || (o->passwords && passwords_set(c, o->passwords) < 0))
                return 1;
        return 0;
}

static const char *environment(const char *name)
{
        const char *s = getenv(name);
        return s && *s ? s : NULL;
}

int main(int argc, char *argv[])
{
        static const struct option known[] = {
                {"database-url", required_argument, NULL, 'u'},
                {"database-user", required_argument, NULL, 'n'},
                {"passfile", required_argument, NULL, 'f'},
                {"password-file", required_argument, NULL, 'w'},
                {"directory", required_argument, NULL, 'd'},
                {"passwords", required_argument, NULL, 'p'},
                {"check", no_argument, NULL, 'c'},
                {"new-generation", no_argument, NULL, 'g'},
                {"help", no_argument, NULL, 'h'},
                {0},
        };
        struct options o = {
                .database_url = environment("AETHELOS_DATABASE_URL"),
                .database_user = environment("AETHELOS_DATABASE_USER"),
                .passfile = environment("AETHELOS_DATABASE_PASSFILE"),
                .password_file = environment("AETHELOS_DATABASE_PASSWORD_FILE"),
                .directory = "migrations",
        };
        struct history h = {0};
        int option, r = 1;

        while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
                switch (option) {
                case 'u':
                        o.database_url = optarg;
                        break;
                case 'n':
                        o.database_user = optarg;
                        break;
                case 'f':
                        o.passfile = optarg;
                        break;
                case 'w':
                        o.password_file = optarg;
                        break;
                case 'd':
                        o.directory = optarg;
                        break;
                case 'p':
                        o.passwords = optarg;
                        break;
                case 'c':
                        o.check = true;
                        break;
                case 'g':
                        o.new_generation = true;
                        break;
                case 'h':
                        fputs(USAGE, stdout);
                        return 0;
                default:
                        fprintf(stderr, "See aethelos-migrate --help.\n");
                        return 2;
                }
        if (optind < argc || !o.database_url) {
                fprintf(stderr, "aethelos-migrate: %s\n%s", optind < argc ? "one argument too many" : "say where the database is with --database-url",
                        USAGE);
                return 2;
        }
        if (files_read(&h, o.directory) == 0) {
                PGconn *c = database_open(&o);
                if (c)
                        r = migrate(c, &o, &h);
                PQfinish(c);
        }
        history_done(&h);
        return r;
}
