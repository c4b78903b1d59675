/* PostgreSQL through libpq: one connection of the service's own thread, prepared statements made on first use, binary array parameters for set-based
 * statements. Nothing here logs. Errors are negative errnos:
 *   -ENOTCONN  the connection is gone or cannot be had (whether a COMMIT, or a statement on its own, took effect is unknown)
 *   -EAGAIN    serialization failure or deadlock: the whole transaction may be tried again
 *   -EINVAL    the server refused the statement: db_error() says why
 * After any failure inside a transaction the caller rolls back. */
#ifndef AETHELOS_STORE_DB_H
#define AETHELOS_STORE_DB_H

#include "base/strbuf.h"
#include "base/uuid.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

struct db;

struct db_config {
        const char *url;      /* conninfo or URI: where; not who */
        const char *user;     /* login role; NULL: from url */
        const char *passfile; /* libpq password file; NULL: libpq's default */
        const char *password; /* NULL: from passfile or url */
        const char *application_name;
        bool generic_plans; /* every statement is planned once per connection, whatever its parameters, and for tables that have grown: by index */
};

struct db *db_new(const struct db_config *config); /* does not connect; the strings are copied */
struct db *db_free(struct db *db);                 /* returns NULL */
/* Connects if there is no connection. At most one attempt per 200 ms, each at most 3 s; 0 or -ENOTCONN. */
int db_ready(struct db *db);
bool db_connected(const struct db *db);
const char *db_error(const struct db *db);    /* of the last failure, for people */
const char *db_sqlstate(const struct db *db); /* of the last failure, "" when there was none */

/* Parameters of one statement, in order. {0} is empty; at most DB_ARGS_MAX. Text is borrowed until db_run or db_send returns. */
#define DB_ARGS_MAX 16
struct db_args {
        int n;
        unsigned oids[DB_ARGS_MAX];
        const char *values[DB_ARGS_MAX];
        int lengths[DB_ARGS_MAX];
        int formats[DB_ARGS_MAX];
        struct strbuf own[DB_ARGS_MAX];
        bool binary_results; /* for many rows of numbers and ids; read them with db_text (of text), db_int, db_bool and db_uuid alone */
};
void db_args_done(struct db_args *a);               /* also for _cleanup_(db_args_done) */
void db_arg_text(struct db_args *a, const char *s); /* NULL is SQL NULL */
void db_arg_bytes(struct db_args *a, const void *p, size_t len);
void db_arg_int(struct db_args *a, int64_t n); /* bigint */
void db_arg_bool(struct db_args *a, bool b);
void db_arg_uuid(struct db_args *a, const struct uuid *id); /* NULL is SQL NULL */

/* Array parameters: db_array_begin, then n elements, in the same order everywhere. */
enum db_array_kind { DB_ARRAY_UUID, DB_ARRAY_INT, DB_ARRAY_BIGINT, DB_ARRAY_TEXT, DB_ARRAY_BYTEA };
void db_array_begin(struct db_args *a, enum db_array_kind kind);
void db_array_uuid(struct db_args *a, const struct uuid *id);            /* NULL: SQL NULL */
void db_arg_uuids(struct db_args *a, const struct uuid ids[], size_t n); /* a whole array */
void db_array_int(struct db_args *a, int64_t n);                         /* for INT and BIGINT */
void db_array_text(struct db_args *a, const char *s, size_t len);        /* s NULL: SQL NULL; for TEXT and BYTEA */
void db_array_null(struct db_args *a);

/* Runs one statement; `sql` must be a string that lives as long as the program (it is prepared once per connection, found by its address).
 * args may be NULL. Results are text format unless args say so. *ret_result (may be NULL) is freed with PQclear. */
int db_run(struct db *db, const char *sql, const struct db_args *args, PGresult **ret_result);
/* The same in a transaction, for a statement whose rows nobody needs: it is sent with the next one or the COMMIT, and what it says is heard there, so
 * that nothing is waited for twice. One that fails ends the transaction, and is what the next call returns. Outside a transaction it is
 * run at once. */
int db_send(struct db *db, const char *sql, const struct db_args *args);
int db_begin(struct db *db); /* READ COMMITTED; sent with the first statement */
int db_commit(struct db *db);
void db_rollback(struct db *db); /* harmless outside a transaction */
/* Runs `work` in a transaction, again on -EAGAIN (at most 5 times, with jitter). work's other results end it: 0 commits, negative rolls back. */
int db_transaction(struct db *db, int (*work)(struct db *db, void *arg), void *arg);
/* The same for work that runs one statement and nothing else: it is its own transaction, and one answer less is waited for. What work returns after
 * the statement undoes nothing. */
int db_statement(struct db *db, int (*work)(struct db *db, void *arg), void *arg);

void PQclearp(PGresult **r); /* for _cleanup_(PQclearp) */

/* Reading results; r and column must exist. */
struct slice db_text(const PGresult *r, int row, int column); /* borrowed; {NULL,0} for SQL NULL */
int64_t db_int(const PGresult *r, int row, int column);       /* 0 for NULL; of a binary timestamptz: microseconds since 2000 */
bool db_bool(const PGresult *r, int row, int column);
struct uuid db_uuid(const PGresult *r, int row, int column); /* zeros for NULL */
bool db_null(const PGresult *r, int row, int column);

#endif
