/* Chains as services see them: reading a batch, and moving a batch through advance(), the only writer of event, chain and journal.
 *
 * Typical use, inside one transaction:
 *     struct advance a = {0};
 *     size_t t = advance_move(&a, &chain->id, chain->version);
 *     advance_event(&a, t, "PAYMENT_REQUIRED", data, len);
 *     ...; r = advance_run(&a, db); ...the service's own rows for the transitions whose verdict is ADVANCE_WON...; db_commit(db);
 *     then hand `a` to the outbox (service.h) so that the next services hear of it. */
#ifndef AETHELOS_STORE_CHAIN_H
#define AETHELOS_STORE_CHAIN_H

#include "base/amount.h"
#include "base/strbuf.h"
#include "store/db.h"

enum lane { LANE_HIGH, LANE_NORMAL, LANE_LOW, LANE_COUNT };
const char *lane_name(enum lane lane); /* high, normal, low */
bool lane_parse(const char *s, size_t len, enum lane *ret_lane);

enum advance_verdict { ADVANCE_WON, ADVANCE_LOST, ADVANCE_REFUSED };

struct transition {
        struct uuid id, parent;
        bool has_parent;
        int expected;              /* version; 0 opens */
        const char *kind, *client; /* for opening; borrowed, must live until advance_run returns */
        enum lane lane;
        /* the answer */
        enum advance_verdict verdict;
        int version;
        char step[32];   /* where the chain stands now */
        char hearer[16]; /* the service whose bell is to be rung; "" = none */
};

struct advance {
        struct transition *t;
        size_t n, cap;
        struct advance_event {
                size_t t;
                const char *type; /* static */
                size_t at, len;   /* its JSON text in `data` */
        } * e;
        size_t n_events, cap_events;
        struct strbuf data;
};

void advance_done(struct advance *a); /* also for _cleanup_(advance_done) */
void advance_reset(struct advance *a);
size_t advance_move(struct advance *a, const struct uuid *id, int expected); /* index of the transition */
size_t advance_open(struct advance *a, const struct uuid *id, const char *kind, const char *client, enum lane lane);
size_t advance_open_child(struct advance *a, const struct uuid *id, const char *kind, const struct uuid *parent);
void advance_event(struct advance *a, size_t t, const char *type, const char *data, size_t len); /* data is copied */
/* One call of the SQL function; fills the verdicts. 0 (also when rows were lost or refused) or a negative errno of db_run. n == 0 does nothing. */
int advance_run(struct advance *a, struct db *db);

/* A chain as it stands. */
struct chain {
        struct uuid id;
        char kind[16], step[32];
        int version;
        enum lane lane;
        struct amount amount; /* currency "" before it is priced */
};

#endif
