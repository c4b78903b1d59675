/* restore: a new database from a backup; migrate: the present one to this version.
 *
 * Invariant: a restore never overwrites: it goes into a database that holds nothing of Aethelos, and only from files that are what the backup wrote.
 * The data comes in one transaction; then a generation is opened, so that readers of the tail go on behind their checkpoints although the cluster's
 * transaction ids are others. The broker needs nothing: chains that are open are rung, and streams are declared by whoever uses them. A crash here
 * leaves a database without Aethelos, into which the same command restores, or a whole one, which `up` completes. */
#include "backup.h"

#include "cli.h"
#include "client_args.h"
#include "database.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char RESTORE_HELP[] =
        "usage: aethelos restore DIR [--state DIR] [--json]\n"
        "\n"
        "Restores a backup into the database of a new stack: of a state directory in which no stack runs and that holds no data yet, or of\n"
        "AETHELOS_DATABASE_URL. Then `aethelos up` starts the stack, and everything that was open goes on. Nothing is ever overwritten. Exit status "
        "1\n"
        "also when the restored data breaks an invariant.\n"
        "\n"
        "  --state DIR  where the state of the new stack is to be\n"
        "  --json       prints what came back as JSON\n";
static const char MIGRATE_HELP[] =
        "usage: aethelos migrate [--check] [--state DIR] [--json]\n"
        "\n"
        "Brings the database of the running stack, or of AETHELOS_DATABASE_URL, to this version; `up` does it, too.\n"
        "\n"
        "  --check      names the files that would be applied, one a line, and changes nothing. Exit status 0: none; 3: these; 1: the history was\n"
        "               edited, or the database is newer than this version, and nothing could be applied\n"
        "  --state DIR  where the state of the stack is\n"
        "  --json       is accepted: the answer is lines either way\n";

/* --- the files of a backup --- */

/* "<hash>  <path>": the path stays within the directory. */
static const char *listed(char *line)
{
        char *path = line + 2 * SHA256_SIZE + 2;

        if (strlen(line) < 2 * SHA256_SIZE + 3 || strncmp(path - 2, "  ", 2) != 0 || *path == '/' || strstr(path, ".."))
                return NULL;
        path[-2] = '\0';
        return path;
}

static int backup_verify(const char *directory, bool *ret_secrets)
{
        _cleanup_(freep) char *sums = NULL;
        bool dump = false, roles = false;
        char path[4096], *line, *rest;

        *ret_secrets = false;
        snprintf(path, sizeof(path), "%s/" BACKUP_SUMS, directory);
        int r = read_file(path, 1 << 20, &sums);
        if (r < 0) {
                fprintf(stderr, "aethelos: %s: %s. It names the directory that `aethelos backup` wrote.\n", path, strerror(-r));
                return -1;
        }
        for (line = strtok_r(sums, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                const char *name = listed(line);
                char hex[2 * SHA256_SIZE + 1];

                if (!name) {
                        fprintf(stderr, "aethelos: %s cannot be understood.\n", path);
                        return -1;
                }
                char file[4096];
                snprintf(file, sizeof(file), "%s/%s", directory, name);
                r = file_sha256(file, hex);
                if (r < 0 || strcmp(hex, line) != 0) {
                        fprintf(stderr, "aethelos: %s is not what the backup wrote%s%s. Nothing was restored.\n", file, r < 0 ? ": " : "",
                                r < 0 ? strerror(-r) : "");
                        return -1;
                }
                dump |= strcmp(name, BACKUP_DUMP) == 0;
                roles |= strcmp(name, BACKUP_ROLES) == 0;
                *ret_secrets |= strncmp(name, "secrets/", 8) == 0;
        }
        if (dump && roles)
                return 0;
        fprintf(stderr, "aethelos: %s does not list " BACKUP_DUMP " and " BACKUP_ROLES ": this is no whole backup.\n", path);
        return -1;
}

/* --- the database --- */

static int run_migrate(const struct stack *s, const struct database *d, const char *option)
{
        char program[4096], directory[4096];

        snprintf(program, sizeof(program), "%s/aethelos-migrate", s->bin);
        snprintf(directory, sizeof(directory), "--directory=%s/migrations", s->home);
        return database_run(d, (const char *const[]){program, directory, option, NULL});
}

static int load(PGconn *c, const struct database *d, const char *directory)
{
        _cleanup_(freep) char *tool = postgres_tool("pg_restore", c), *roles = NULL;
        _cleanup_(strbuf_done) struct strbuf where = {0};
        char path[4096];
        bool failed;

        bool there = database_holds_aethelos(c, &failed);
        if (there)
                fprintf(stderr, "aethelos: this database holds Aethelos already. A restore never overwrites: name an empty one.\n");
        if (there || failed)
                return -1;
        snprintf(path, sizeof(path), "%s/" BACKUP_ROLES, directory);
        int r = read_file(path, 1 << 20, &roles);
        if (r < 0) {
                say_errno(path, r);
                return -1;
        }
        if (*roles && database_execute(c, roles, "the roles") < 0)
                return -1;
        snprintf(path, sizeof(path), "%s/" BACKUP_DUMP, directory);
        strbuf_addf(&where, "--dbname=%s", d->url);
        return database_run(d, (const char *const[]){tool, "--single-transaction", "--exit-on-error", "--no-password", where.s, path, NULL});
}

/* What came back, for people; -1 when it breaks an invariant. */
static int look_over(PGconn *c, bool json)
{
        static const char COUNTS[] = "SELECT format(%s, (SELECT count(*) FROM aethelos.event), (SELECT count(*) FROM aethelos.chain),"
                                     " (SELECT count(*) FROM aethelos.chain WHERE status = 'open'), (SELECT max(n) FROM aethelos.generation))";
        _cleanup_(strbuf_done) struct strbuf sql = {0};

        strbuf_addf(&sql, COUNTS,
                json ? "'{\"events\":%s,\"chains\":%s,\"open\":%s,\"generation\":%s}'"
                     : "'restored %s events of %s chains, %s of them open; generation %s'");
        _cleanup_(freep) char *counts = database_ask(c, sql.s, "the restored data");
        _cleanup_(freep) char *faults = database_ask(c,
                "SELECT string_agg(format('%s %s: %s', invariant, chain_id, fault), E'\\n') FROM (SELECT * FROM aethelos.audit() LIMIT 20) a",
                "audit");
        if (!counts || !faults)
                return -1;
        printf("%s\n", counts);
        if (!*faults)
                return 0;
        fprintf(stderr, "aethelos: the restored data breaks invariants (SELECT * FROM aethelos.audit()):\n%s\n", faults);
        return -1;
}

static int restore_into(const struct stack *s, const struct database *d, const char *directory, bool json)
{
        PGconn *c = database_open(d);
        int r = c ? load(c, d, directory) : -1;

        if (r == 0)
                r = run_migrate(s, d, "--new-generation");
        if (r == 0)
                r = database_execute(c, "ANALYZE", "statistics");
        if (r == 0)
                r = look_over(c, json);
        PQfinish(c);
        return r;
}

int cmd_restore(int argc, char **argv)
{
        _cleanup_(stack_done) struct stack s = {0};
        _cleanup_(database_done) struct database d = {0};
        const char *state = NULL;
        bool json = false, has_secrets;
        struct args a = {.help = RESTORE_HELP,
                .options = (struct args_option[]){{"--state", .value = &state}, {"--json", .flag = &json}, {0}},
                .least = 1,
                .most = 1};

        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        _cleanup_(freep) char *directory = path_absolute(a.rest[0]);
        if (backup_verify(directory, &has_secrets) < 0 || stack_locate(&s, state) < 0)
                return 1;
        if (database_external())
                return database_find(&s, &d) < 0 || restore_into(&s, &d, directory, json) < 0 ? 1 : 0;
        if (stack_running(&s)) {
                fprintf(stderr, "aethelos: a stack runs in %s. A restore makes a new one: name another directory with --state.\n", s.state);
                return 1;
        }
        _cleanup_(strbuf_done) struct strbuf secrets = {0};
        strbuf_addf(&secrets, "%s/secrets", directory);
        s.secrets_from = has_secrets ? secrets.s : NULL;
        if (stack_start_database(&s, json ? stderr : stdout) < 0)
                return 1;
        r = database_find(&s, &d) < 0 ? -1 : restore_into(&s, &d, directory, json);
        if (stack_stop(&s) < 0 || r < 0)
                return 1;
        if (!json)
                printf("start the stack: ./aethelos up --state %s\n", s.state);
        return 0;
}

int cmd_migrate(int argc, char **argv)
{
        _cleanup_(stack_done) struct stack s = {0};
        _cleanup_(database_done) struct database d = {0};
        const char *state = NULL, *args[8];
        bool check = false, json = false;
        struct args a = {.help = MIGRATE_HELP,
                .options = (struct args_option[]){{"--check", .flag = &check}, {"--state", .value = &state}, {"--json", .flag = &json}, {0}}};
        char program[4096], directory[4096], passwords[4096];
        size_t n = 0;

        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        if (stack_locate(&s, state) < 0 || database_find(&s, &d) < 0)
                return 1;
        snprintf(program, sizeof(program), "%s/aethelos-migrate", s.bin);
        snprintf(directory, sizeof(directory), "--directory=%s/migrations", s.home);
        args[n++] = program, args[n++] = directory;
        if (check) {
                args[n++] = "--check";
        } else if (!database_external()) {
                snprintf(passwords, sizeof(passwords), "--passwords=%s/secrets/roles", s.state);
                args[n++] = passwords;
        }
        args[n] = NULL;
        database_exec(&d, args);
}
