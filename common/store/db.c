/* The connection. Statements are prepared once per connection under a name made from their address, and found again by it. Connecting is bounded in
 * time (3 s) and in rate, and a dead peer is noticed by TCP within seconds, so that the service's loop never stands still for long. A COMMIT whose
 * answer is lost leaves an unknown outcome: the caller hears -ENOTCONN, does not acknowledge, and the next delivery finds in the store what happened.
 */
#include "store/db.h"

#include "base/crashpoint.h"
#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATEMENTS_MAX 128

struct db {
        char *url, *user, *passfile, *password, *application_name;
        PGconn *connection;
        int64_t next_attempt_ms;
        const char *prepared[STATEMENTS_MAX]; /* by address of their text */
        size_t n_prepared;
        bool generic_plans, in_transaction;
        char error[512];
        char sqlstate[6];
};

struct db *db_new(const struct db_config *config)
{
        struct db *db = xcalloc(1, sizeof(*db));

        db->url = xstrdup(config->url);
        db->user = config->user ? xstrdup(config->user) : NULL;
        db->passfile = config->passfile ? xstrdup(config->passfile) : NULL;
        db->password = config->password ? xstrdup(config->password) : NULL;
        db->application_name = config->application_name ? xstrdup(config->application_name) : NULL;
        db->generic_plans = config->generic_plans;
        return db;
}

static void forget_connection(struct db *db)
{
        PQfinish(db->connection);
        db->connection = NULL;
        db->n_prepared = 0;
        db->in_transaction = false;
}

struct db *db_free(struct db *db)
{
        if (!db)
                return NULL;
        forget_connection(db);
        free(db->url);
        free(db->user);
        free(db->passfile);
        if (db->password)
                explicit_bzero(db->password, strlen(db->password));
        free(db->password);
        free(db->application_name);
        free(db);
        return NULL;
}

bool db_connected(const struct db *db)
{
        return db->connection != NULL;
}

const char *db_error(const struct db *db)
{
        return db->error;
}

const char *db_sqlstate(const struct db *db)
{
        return db->sqlstate;
}

static void note_error(struct db *db, const char *text, const char *sqlstate)
{
        size_t len = strcspn(text, "\n"); /* the first line says it; the rest is context */

        snprintf(db->error, sizeof(db->error), "%.*s", (int)len, text);
        snprintf(db->sqlstate, sizeof(db->sqlstate), "%s", sqlstate ? sqlstate : "");
}

/* A plan made while a table is empty is kept when it no longer is. */
static bool settle_plans(struct db *db)
{
        static const char sql[] = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off";
        _cleanup_(PQclearp) PGresult *r = db->generic_plans ? PQexec(db->connection, sql) : NULL;

        return !db->generic_plans || PQresultStatus(r) == PGRES_COMMAND_OK;
}

int db_ready(struct db *db)
{
        const char *keys[16], *values[16];
        size_t n = 0;

        if (db->connection && PQstatus(db->connection) == CONNECTION_OK)
                return 0;
        forget_connection(db);
        if (now_mono_ms() < db->next_attempt_ms)
                return -ENOTCONN;

        /* The first entry may be a whole conninfo or URI (expand_dbname); later ones override what it says. */
        keys[n] = "dbname", values[n++] = db->url;
        if (db->user)
                keys[n] = "user", values[n++] = db->user;
        if (db->passfile)
                keys[n] = "passfile", values[n++] = db->passfile;
        if (db->password)
                keys[n] = "password", values[n++] = db->password;
        if (db->application_name)
                keys[n] = "application_name", values[n++] = db->application_name;
        keys[n] = "connect_timeout", values[n++] = "3";
        keys[n] = "keepalives_idle", values[n++] = "5";
        keys[n] = "keepalives_interval", values[n++] = "2";
        keys[n] = "keepalives_count", values[n++] = "3";
        keys[n] = "tcp_user_timeout", values[n++] = "8000";
        keys[n] = "client_encoding", values[n++] = "UTF8";
        keys[n] = values[n] = NULL;

        db->connection = PQconnectdbParams(keys, values, 1);
        if (PQstatus(db->connection) != CONNECTION_OK || !settle_plans(db)) {
                note_error(db, PQerrorMessage(db->connection), NULL);
                forget_connection(db);
                db->next_attempt_ms = now_mono_ms() + 200;
                return -ENOTCONN;
        }
        PQsetNoticeProcessor(db->connection, NULL, NULL);
        return 0;
}

/* What a failed result means for the caller. */
static int fail(struct db *db, const PGresult *r)
{
        const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
        const char *text = r ? PQresultErrorMessage(r) : PQerrorMessage(db->connection);

        note_error(db, text, state);
        if (PQstatus(db->connection) != CONNECTION_OK || !state) {
                forget_connection(db);
                db->next_attempt_ms = now_mono_ms() + 200;
                return -ENOTCONN;
        }
        /* Shutting down, starting up, or a time-out of the server's own: like a lost connection, try later. */
        if (strncmp(state, "57", 2) == 0 || strncmp(state, "53", 2) == 0 || strncmp(state, "08", 2) == 0) {
                forget_connection(db);
                db->next_attempt_ms = now_mono_ms() + 200;
                return -ENOTCONN;
        }
        if (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0)
                return -EAGAIN;
        return -EINVAL;
}

static int simple(struct db *db, const char *sql)
{
        _cleanup_(PQclearp) PGresult *r = NULL;

        if (!db->connection)
                return -ENOTCONN;
        r = PQexec(db->connection, sql);
        if (PQresultStatus(r) != PGRES_COMMAND_OK)
                return fail(db, r);
        return 0;
}

static int prepare(struct db *db, const char *sql, const struct db_args *args, char ret_name[32])
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        size_t i;

        snprintf(ret_name, 32, "s%zx", (size_t)sql);
        for (i = 0; i < db->n_prepared; i++)
                if (db->prepared[i] == sql)
                        return 0;
        if (db->n_prepared == STATEMENTS_MAX)
                die("more than 128 prepared statements in one service");
        r = PQprepare(db->connection, ret_name, sql, args ? args->n : 0, args ? args->oids : NULL);
        if (PQresultStatus(r) != PGRES_COMMAND_OK)
                return fail(db, r);
        db->prepared[db->n_prepared++] = sql;
        return 0;
}

int db_run(struct db *db, const char *sql, const struct db_args *args, PGresult **ret_result)
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        char name[32];
        int e;

        if (!db->in_transaction) {
                e = db_ready(db);
                if (e < 0)
                        return e;
        }
        if (!db->connection)
                return -ENOTCONN;
        e = prepare(db, sql, args, name);
        if (e < 0)
                return e;
        r = args ? PQexecPrepared(db->connection, name, args->n, args->values, args->lengths, args->formats, 0)
                 : PQexecPrepared(db->connection, name, 0, NULL, NULL, NULL, 0);
        if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
                return fail(db, r);
        if (ret_result)
                *ret_result = TAKE_PTR(r);
        return 0;
}

int db_begin(struct db *db)
{
        int e = db_ready(db);

        if (e == 0)
                e = simple(db, "BEGIN");
        db->in_transaction = e == 0;
        return e;
}

int db_commit(struct db *db)
{
        int e;

        CRASH_POINT("before commit");
        e = simple(db, "COMMIT");
        db->in_transaction = false;
        CRASH_POINT("after commit");
        return e;
}

void db_rollback(struct db *db)
{
        if (db->in_transaction && db->connection)
                (void)simple(db, "ROLLBACK");
        db->in_transaction = false;
}

int db_transaction(struct db *db, int (*work)(struct db *db, void *arg), void *arg)
{
        int e = -EAGAIN;

        for (int attempt = 0; attempt < 5 && e == -EAGAIN; attempt++) {
                if (attempt > 0)
                        usleep((useconds_t)(1000 * (1 + random() % (5 << attempt)))); /* so that two instances do not meet again */
                e = db_begin(db);
                if (e < 0)
                        continue;
                e = work(db, arg);
                if (e == 0)
                        e = db_commit(db);
                if (e < 0)
                        db_rollback(db);
        }
        return e;
}
