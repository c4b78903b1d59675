/* Finds the database of a stack, and runs PostgreSQL's own tools on it.
 *
 * Invariant: a password is never an argument (everybody on the machine can read those) and never in a message. A crash here leaves nothing. */
#include "database.h"

#include "base/json.h"
#include "postgres_program.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *environment(const char *name)
{
        const char *s = getenv(name);
        return s && *s ? s : NULL;
}

static char *copy_or_null(const char *s)
{
        return s ? xstrdup(s) : NULL;
}

void database_done(struct database *d)
{
        free(d->url);
        if (d->password)
                explicit_bzero(d->password, strlen(d->password));
        free(d->password);
        free(d->passfile);
        *d = (struct database){0};
}

static bool among(const char *word, const char *const list[])
{
        for (; *list; list++)
                if (strcmp(word, *list) == 0)
                        return true;
        return false;
}

char *conninfo_without(const char *url, const char *const left_out[], char **ret_password)
{
        char *why = NULL;
        PQconninfoOption *options = PQconninfoParse(url, &why);
        struct strbuf plain = {0};

        if (!options) {
                /* libpq's own words would repeat a part of it, which may be the password. */
                fprintf(stderr, "aethelos: AETHELOS_DATABASE_URL is no connection string that libpq understands\n");
                PQfreemem(why);
                return NULL;
        }
        if (ret_password)
                *ret_password = NULL;
        for (const PQconninfoOption *o = options; o->keyword; o++) {
                if (o->val && ret_password && strcmp(o->keyword, "password") == 0)
                        *ret_password = xstrdup(o->val);
                if (!o->val || among(o->keyword, left_out))
                        continue;
                strbuf_addf(&plain, "%s%s='", plain.len ? " " : "", o->keyword);
                for (const char *c = o->val; *c; c++)
                        strbuf_addf(&plain, "%s%c", *c == '\'' || *c == '\\' ? "\\" : "", *c);
                strbuf_addc(&plain, '\'');
        }
        PQconninfoFree(options);
        return strbuf_take(&plain);
}

bool database_external(void)
{
        return environment("AETHELOS_DATABASE_URL") != NULL;
}

static int password_from_file(struct database *d)
{
        const char *path = environment("AETHELOS_DATABASE_PASSWORD_FILE");
        int r = path && !d->password ? read_file(path, 4096, &d->password) : 0;

        if (r < 0)
                say_errno(path, r);
        return r < 0 ? -1 : 0;
}

static int external(struct database *d)
{
        static const char *const with_user[] = {"password", NULL}, *const without[] = {"password", "user", NULL};
        const char *user = environment("AETHELOS_DATABASE_USER");

        d->url = conninfo_without(environment("AETHELOS_DATABASE_URL"), user ? without : with_user, &d->password);
        if (!d->url)
                return -1;
        if (user) {
                struct strbuf b = {0};
                strbuf_addf(&b, "%s%suser='%s'", d->url, *d->url ? " " : "", user);
                free(d->url);
                d->url = strbuf_take(&b);
        }
        d->passfile = copy_or_null(environment("AETHELOS_DATABASE_PASSFILE"));
        return password_from_file(d);
}

int database_find(const struct stack *s, struct database *ret_database)
{
        struct database d = {0};
        _cleanup_(freep) char *text = NULL;
        struct json_doc doc;
        struct json_error why;

        if (database_external()) {
                if (external(&d) < 0)
                        return -1;
                *ret_database = d;
                return 0;
        }
        if (!stack_running(s) || stack_state_file(s, &text) < 0 || json_parse(text, strlen(text), &doc, &why) < 0) {
                fprintf(stderr,
                        "aethelos: no stack runs in %s. Start it (`./aethelos up`), or name a database of your own with AETHELOS_DATABASE_URL.\n",
                        s->state);
                return -1;
        }
        d.url = json_string(&doc, json_get(&doc, json_root(&doc), "database_url"), NULL);
        d.passfile = json_string(&doc, json_get(&doc, json_root(&doc), "database_passfile"), NULL);
        json_done(&doc);
        if (!d.url || !d.passfile) {
                fprintf(stderr, "aethelos: this stack uses a database of yours. Name it, with its owner, in AETHELOS_DATABASE_URL.\n");
                database_done(&d);
                return -1;
        }
        if (access(d.passfile, R_OK) < 0 && errno == EACCES) {
                fprintf(stderr, "aethelos: %s may not be read by this user. Run the command as the user who started the stack.\n", d.passfile);
                database_done(&d);
                return -1;
        }
        *ret_database = d;
        return 0;
}

PGconn *database_open(const struct database *d)
{
        const char *keys[] = {"dbname", "password", "passfile", "connect_timeout", "fallback_application_name", NULL},
                   *values[] = {d->url, d->password, d->passfile, "10", "aethelos", NULL};
        PGconn *c = PQconnectdbParams(keys, values, 1);

        if (PQstatus(c) == CONNECTION_OK) {
                PQclear(PQexec(c, "SET client_min_messages = warning"));
                return c;
        }
        fprintf(stderr, "aethelos: the database does not let us in: %s", PQerrorMessage(c));
        PQfinish(c);
        return NULL;
}

static int say_failure(PGconn *c, const char *what)
{
        fprintf(stderr, "aethelos: %s: %s", what, PQerrorMessage(c));
        return -1;
}

int database_execute(PGconn *c, const char *sql, const char *what)
{
        PGresult *r = PQexec(c, sql);
        ExecStatusType status = PQresultStatus(r);

        PQclear(r);
        return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? 0 : say_failure(c, what);
}

char *database_ask(PGconn *c, const char *sql, const char *what)
{
        PGresult *r = PQexec(c, sql);
        char *answer = NULL;

        if (PQresultStatus(r) == PGRES_TUPLES_OK)
                answer = xstrdup(PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "");
        else
                say_failure(c, what);
        PQclear(r);
        return answer;
}

bool database_holds_aethelos(PGconn *c, bool *ret_failed)
{
        _cleanup_(freep) char *there = database_ask(c, "SELECT to_regnamespace('aethelos') IS NOT NULL", "schema aethelos");

        *ret_failed = !there;
        return there && *there == 't';
}

void database_exec(const struct database *d, const char *const argv[])
{
        if (d->password)
                setenv("PGPASSWORD", d->password, 1);
        if (d->passfile)
                setenv("PGPASSFILE", d->passfile, 1);
        setenv("AETHELOS_DATABASE_URL", d->url, 1);
        execvp(argv[0], (char *const *)argv);
        say_errno(argv[0], errno);
        _exit(127);
}

int database_run(const struct database *d, const char *const argv[])
{
        int status = 0;

        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
                database_exec(d, argv);
        while (pid > 0 && waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        break;
        if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return 0;
        if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 127)
                fprintf(stderr, "aethelos: %s failed\n", argv[0]);
        return -1;
}

char *postgres_tool(const char *name, PGconn *c)
{
        char *tool = postgres_program(POSTGRES_ROOT, name, PQserverVersion(c) / 10000);

        if (!tool)
                tool = postgres_program(POSTGRES_ROOT, name, 0);
        return tool ? tool : xstrdup(name);
}
