/* What the admin API decides without a database: whether a body is what its route wants, and what a verdict about evidence means for who sent it.
 * Pure. */
#ifndef AETHELOS_BOARD_CORE_H
#define AETHELOS_BOARD_CORE_H

#include "base/amount.h"
#include "base/json.h"
#include "base/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOARD_LIST_MAX     32   /* tags, steps, fallbacks */
#define BOARD_TEXT_MAX     200  /* characters of a reference and of a name of who says so */
#define BOARD_PAYMENTS_MAX 1000 /* of one request */

/* A refusal, for a problem document. */
struct board_problem {
        int status;
        const char *slug, *detail; /* static */
        char field[64];            /* JSON Pointer; "" = none */
};

struct board_list {
        char *v[BOARD_LIST_MAX];
        size_t n;
};

/* POST /payment-intents/{id}/confirm, POST /refunds/{id}/confirm and POST /payouts/mark */
struct board_evidence {
        char *reference, *by;
        bool has_amount;
        struct amount amount;
        struct uuid payout_id; /* of a mark */
};

/* POST /payment-intents/confirm */
struct board_payments {
        struct board_payment {
                char *id_text; /* as it was sent */
                bool known;    /* it can be an intent: id is what it says */
                struct uuid id;
                struct board_evidence evidence;
        } * v;
        size_t n; /* 1 to BOARD_PAYMENTS_MAX */
};

/* POST /runs/{run_id}/resolve */
struct board_decision {
        bool done;
        char *output; /* JSON text; NULL when it failed */
        char *reference, *by;
};

struct board_operator {
        const char *kind;     /* static: http or bus */
        const char *encoding; /* static: json or protobuf */
        char *name, *description;
        char *url;        /* bus: the subject */
        char *status_url; /* NULL: none */
        struct board_list tags, fallback_for;
        bool idempotent;
        int64_t timeout_ms, max_in_flight, lease_ms;
};

struct board_flow {
        char *type, *name, *base, *per_unit;
        char currency[4];
        struct board_list steps;
};

/* Each reads a body: true, or false with the problem (400 for what is not JSON, 422 for values). After false nothing is left to free. */
bool board_read_confirm(const char *body, size_t len, struct board_evidence *ret_evidence, struct board_problem *ret_problem);
bool board_read_mark(const char *body, size_t len, struct board_evidence *ret_evidence, struct board_problem *ret_problem);
bool board_read_payments(const char *body, size_t len, struct board_payments *ret_payments, struct board_problem *ret_problem);
bool board_read_operator(
        const char *body, size_t len, struct board_operator *ret_operator, struct board_problem *ret_problem); /* URLs are not looked at */
bool board_read_flow(const char *body, size_t len, struct board_flow *ret_flow, struct board_problem *ret_problem);
bool board_read_decision(const char *body, size_t len, struct board_decision *ret_decision, struct board_problem *ret_problem);
void board_evidence_done(struct board_evidence *e);
void board_payments_done(struct board_payments *p);
void board_decision_done(struct board_decision *d);
void board_operator_done(struct board_operator *o);
void board_flow_done(struct board_flow *f);

/* A problem of the i-th of many: its pointer becomes one into the whole body, /items/<i>... */
void board_problem_of_item(struct board_problem *p, size_t i);

enum board_kind { BOARD_PAYMENT, BOARD_PAYOUT, BOARD_REFUND };

/* Answers of submit_evidence(). */
enum board_verdict {
        BOARD_STORED,
        BOARD_REPEATED,
        BOARD_CONFLICT,
        BOARD_AMOUNT,
        BOARD_EXPIRED,
        BOARD_NOT_WAITING,
        BOARD_UNKNOWN,
};
bool board_verdict_parse(const char *s, enum board_verdict *ret_verdict);

/* What is done with the request: the refusal, or status 0 for STORED and REPEATED (wait until the chain has moved) and for AGAIN. */
struct board_problem board_verdict_problem(enum board_kind kind, enum board_verdict verdict);

/* Where a chain stands, seen from its evidence. */
enum board_stand {
        BOARD_ABSENT, /* there is nothing yet that evidence could be for */
        BOARD_WAITS,
        BOARD_MOVED, /* the event that the evidence allows is committed */
        BOARD_OVER,  /* it ended without it */
};
enum board_stand board_stand(enum board_kind kind, const char *chain_kind, const char *step);

/* "generation.xid.id", the cursor of the event list. */
struct board_cursor {
        int64_t generation, xid, id;
};
bool board_cursor_parse(const char *s, struct board_cursor *ret_cursor);

/* A query argument that counts items: NULL is `fallback`; false outside 1 to 1000. */
bool board_limit_parse(const char *s, int64_t fallback, int64_t *ret_limit);

#endif
