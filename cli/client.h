/* What the commands that talk to a running stack share: finding it, asking it, and writing its answers for people.
 *
 * Every function that fails has said on stderr what happened and what to do. */
#ifndef AETHELOS_CLI_CLIENT_H
#define AETHELOS_CLI_CLIENT_H

#include "client_http.h"

#include "base/json.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stdint.h>

struct client {
        char *public_url, *admin_url, *token_file; /* NULL: not known */
        char *token;                               /* read at the first admin call */
        bool json;                                 /* the body is only passed on: it need not be understood */
};

enum client_side { CLIENT_PUBLIC, CLIENT_ADMIN };

void client_done(struct client *c); /* {0} is allowed; also for _cleanup_(client_done) */

/* From AETHELOS_PUBLIC_URL, AETHELOS_ADMIN_URL and AETHELOS_ADMIN_TOKEN_FILE when one of the addresses is set, else from the state of the running
 * stack. The two are never mixed: the token of one stack must not travel to another. 0 or -1. */
int client_find(struct client *ret_client);
bool client_elsewhere(void); /* the environment names a stack, so none is to be started here */
bool client_has_admin(const struct client *c);
bool client_may_admin(const struct client *c); /* and this user may read the token; for what the public side tells, too, if less of it */

struct answer {
        int status; /* 0: none came */
        struct strbuf body;
        struct json_doc doc;
        json_value root; /* NULL when the body is not JSON */
};

void answer_done(struct answer *a); /* {0} is allowed; also for _cleanup_(answer_done) */

/* 0 when the status is 2xx and the body is JSON, else -1. A GET, and a POST with a key, is repeated for a few seconds while the answer is 503. */
int client_get(struct client *c, enum client_side side, const char *path, struct answer *ret_answer);
int client_post(struct client *c, enum client_side side, const char *path, const char *key, const char *body, size_t len, struct answer *ret_answer);
/* The same for any method; body NULL: none. */
int client_do(struct client *c, enum client_side side, const char *method, const char *path, const char *body, size_t len, struct answer *ret_answer);

/* Whether an operator of this name, and of this kind (NULL: any), is registered: 1, 0, or -1 when that could not be asked. */
int client_operator(struct client *c, const char *name, const char *kind);

/* Whether s can be the id of a job, intent or payout; says so if not. */
bool client_id_ok(const char *what, const char *s);

/* `name` of who confirms: --by, else the login name. */
const char *client_by(const char *by);

/* One member's text; "" when absent or null; a number or a bool as it is written. malloc'ed, safe to print on a terminal. The path's parts are
 * separated by '.'. */
char *answer_text(const struct json_doc *doc, json_value v, const char *path);
json_value answer_at(const struct json_doc *doc, json_value v, const char *path);
char *answer_amount(const struct json_doc *doc, json_value v, const char *path); /* "EUR 25.88", or "" */

/* The list in a body: the body itself when it is an array, else its member "items" or `name`. NULL if there is none. */
json_value answer_list(const struct answer *a, const char *name);

void print_json(const struct answer *a); /* the body as it came, and a newline */

/* Rows of cells in columns as wide as their longest cell. The first row is the heading. */
struct table {
        size_t columns, n_cells;
        char **cells;
        unsigned right; /* bit i: column i is set flush right */
};

void table_cell(struct table *t, char *cell);                                        /* takes it; NULL counts as "" */
void table_cells(struct table *t, const char *first, ...) __attribute__((sentinel)); /* copies, until NULL */
void table_print(const struct table *t);
void table_done(struct table *t); /* also for _cleanup_(table_done) */

struct answer_member {
        const char *label, *path;
};

/* "label   text" when the text is not empty; frees it. */
void print_field(const char *label, char *text);

/* A heading and each member of an object on a line of its own; nothing when it is absent or null. */
void print_members(const struct json_doc *doc, json_value object, const char *heading);

/* One line for an event: what it says to a person. "" for nothing worth saying. malloc'ed. */
char *event_words(const struct json_doc *doc, json_value event);
void print_event(const struct json_doc *doc, json_value event, bool with_chain);

/* The whole job for people: price and how it came about, result or error, ledger, payout. */
void print_job(const struct answer *job);

/* Milliseconds since 1970 of an RFC 3339 time in UTC, or -1. */
int64_t time_ms(const char *rfc3339);

#endif
