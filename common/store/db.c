/* The connection. Statements are prepared once per connection under a name made from their address, and found again by it. Connecting is bounded in
 * time (3 s) and in rate, and a dead peer is noticed by TCP within seconds, so that the service's loop never stands still for long. A COMMIT whose
 * answer is lost, or that of a statement on its own, leaves an unknown outcome: the caller hears -ENOTCONN, does not acknowledge, and the next
 * delivery finds in the store what happened. */
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
        bool sending; /* pipeline mode: the answers to what was sent since then are still to be heard */
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
        db->in_transaction = db->sending = false;
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
        copy_text(db->sqlstate, sizeof(db->sqlstate), sqlstate ? sqlstate : "");
}

static int lose(struct db *db)
{
        forget_connection(db);
        db->next_attempt_ms = now_mono_ms() + 200;
        return -ENOTCONN;
}

/* A plan made while a table is empty is kept when it no longer is. Look-ups by key for a batch find nothing twice: remembering them costs more. */
static bool settle_plans(struct db *db)
{
        static const char sql[] = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_memoize = off; SET jit = off";
        _cleanup_(PQclearp) PGresult *r = db->generic_plans ? PQexec(db->connection, sql) : NULL;

        return !db->generic_plans || PQresultStatus(r) == PGRES_COMMAND_OK;
}

static void no_notice(void *arg, const char *text)
{
        (void)arg;
        (void)text;
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
                return lose(db);
        }
        PQsetNoticeProcessor(db->connection, no_notice, NULL);
        return 0;
}

/* What a failed result means for the caller. */
static int fail(struct db *db, const PGresult *r)
{
        const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
        const char *text = r ? PQresultErrorMessage(r) : PQerrorMessage(db->connection);

        note_error(db, text, state);
        if (PQstatus(db->connection) != CONNECTION_OK || !state)
                return lose(db);
        /* Shutting down, starting up, or a time-out of the server's own: like a lost connection, try later. */
        if (strncmp(state, "57", 2) == 0 || strncmp(state, "53", 2) == 0 || strncmp(state, "08", 2) == 0)
                return lose(db);
        if (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0)
                return -EAGAIN;
        return -EINVAL;
}

/* --- statements: what is sent since the last answer is one message whose answers are heard together; after one that failed none is run --- */

static int begin_sending(struct db *db)
{
        if (!db->connection)
                return -ENOTCONN;
        db->sending = db->sending || PQenterPipelineMode(db->connection);
        return db->sending ? 0 : fail(db, NULL);
}

/* Hears all the answers. *ret_result (may be NULL): the last one. */
static int hear(struct db *db, PGresult **ret_result)
{
        _cleanup_(PQclearp) PGresult *failed = NULL, *last = NULL;
        bool heard = false;
        int nulls = 0; /* one ends each statement's answer */

        if (!PQpipelineSync(db->connection))
                return fail(db, NULL);
        while (!heard && nulls < 2) {
                _cleanup_(PQclearp) PGresult *r = PQgetResult(db->connection);
                ExecStatusType status = PQresultStatus(r);

                nulls = r ? 0 : nulls + 1;
                heard = r && status == PGRES_PIPELINE_SYNC;
                if (!r || heard || status == PGRES_PIPELINE_ABORTED)
                        continue;
                if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
                        if (!failed)
                                failed = TAKE_PTR(r);
                        continue;
                }
                PQclearp(&last);
                last = TAKE_PTR(r);
        }
        db->sending = false;
        if (!heard || !PQexitPipelineMode(db->connection)) {
                (void)fail(db, failed);
                return lose(db);
        }
        if (failed)
                return fail(db, failed);
        if (ret_result)
                *ret_result = TAKE_PTR(last);
        return 0;
}

static int send_simple(struct db *db, const char *sql)
{
        int e = begin_sending(db);

        return e == 0 && !PQsendQueryParams(db->connection, sql, 0, NULL, NULL, NULL, NULL, 0) ? fail(db, NULL) : e;
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
        if (db->sending) {
                int e = hear(db, NULL);

                if (e < 0)
                        return e;
        }
        r = PQprepare(db->connection, ret_name, sql, args->n, args->oids);
        if (PQresultStatus(r) != PGRES_COMMAND_OK)
                return fail(db, r);
        db->prepared[db->n_prepared++] = sql;
        return 0;
}

static int send(struct db *db, const char *sql, const struct db_args *args)
{
        static const struct db_args none = {0};
        char name[32];
        int e;

        if (!args)
                args = &none;
        if (!db->connection)
                return -ENOTCONN;
        e = prepare(db, sql, args, name);
        if (e == 0)
                e = begin_sending(db);
        if (e == 0 && !PQsendQueryPrepared(db->connection, name, args->n, args->values, args->lengths, args->formats, args->binary_results))
                e = fail(db, NULL);
        return e;
}

int db_run(struct db *db, const char *sql, const struct db_args *args, PGresult **ret_result)
{
        int e = db->in_transaction ? 0 : db_ready(db);

        if (e == 0)
                e = send(db, sql, args);
        return e == 0 ? hear(db, ret_result) : e;
}

int db_send(struct db *db, const char *sql, const struct db_args *args)
{
        return db->in_transaction ? send(db, sql, args) : db_run(db, sql, args, NULL);
}

int db_begin(struct db *db)
{
        int e = db_ready(db);

        if (e == 0)
                e = send_simple(db, "BEGIN");
        db->in_transaction = e == 0;
        return e;
}

int db_commit(struct db *db)
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        CRASH_POINT("before commit");
        e = send_simple(db, "COMMIT");
        if (e == 0)
                e = hear(db, &r);
        db->in_transaction = e < 0 && db->connection; /* what was sent before may have failed, and then COMMIT was not heard */
        if (e == 0 && strcmp(PQcmdStatus(r), "COMMIT") != 0) {
                note_error(db, "the transaction had failed and was rolled back", NULL);
                e = -EINVAL;
        }
        CRASH_POINT("after commit");
        return e;
}

void db_rollback(struct db *db)
{
        if (db->in_transaction && db->connection && (!db->sending || hear(db, NULL) != -ENOTCONN) && send_simple(db, "ROLLBACK") == 0)
                (void)hear(db, NULL);
        db->in_transaction = false;
}

static int in_transaction(struct db *db, int (*work)(struct db *db, void *arg), void *arg)
{
        int e = db_begin(db);

        if (e == 0)
                e = work(db, arg);
        if (e == 0)
                e = db_commit(db);
        if (e < 0)
                db_rollback(db);
        return e;
}

static int alone(struct db *db, int (*work)(struct db *db, void *arg), void *arg)
{
        int e;

        CRASH_POINT("before commit");
        e = work(db, arg);
        CRASH_POINT("after commit");
        return e;
}

/* Again on -EAGAIN. */
static int persist(
        struct db *db, int (*how)(struct db *db, int (*work)(struct db *db, void *arg), void *arg), int (*work)(struct db *db, void *arg), void *arg)
{
        int e = how(db, work, arg);

        for (int attempt = 1; attempt < 5 && e == -EAGAIN; attempt++) {
                usleep((useconds_t)(1000 * (1 + random() % (5 << attempt)))); /* so that two instances do not meet again */
                e = how(db, work, arg);
        }
        return e;
}

int db_transaction(struct db *db, int (*work)(struct db *db, void *arg), void *arg)
{
        return persist(db, in_transaction, work, arg);
}

int db_statement(struct db *db, int (*work)(struct db *db, void *arg), void *arg)
{
        return persist(db, alone, work, arg);
}
