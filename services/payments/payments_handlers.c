/* A batch of chains whose bell rang: read, decide, commit in one transaction (events, journal, intents, inbox), then ring. A crash before the commit
 * leaves everything as it was; after it, the next delivery finds the chain further and rings again. Confirming is one row of evidence and one edge: a
 * second message about the same payment loses on the version. */
#include "base/crashpoint.h"
#include "base/util.h"
#include "payments.h"
#include "payments_core.h"
#include "payments_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct payments_state {
        char expired_after[64];
};

int payments_init(struct service *s)
{
        struct payments_state *state = xcalloc(1, sizeof(*state));

        strcpy(state->expired_after, "-infinity");
        s->state = state;
        return 0;
}

void payments_fini(struct service *s)
{
        free(s->state);
}

static void plan(struct advance *a, const struct payments_row *row, enum payments_action action)
{
        _cleanup_(strbuf_done) struct strbuf data = {0};
        char id[UUID_TEXT_SIZE];
        struct uuid refund;
        size_t t = advance_move(a, &row->chain.id, row->chain.version);

        switch (action) {
        case PAYMENTS_CREATE:
                payments_amount_data(&data, row->chain.amount);
                advance_event(a, t, "PAYMENT_REQUIRED", data.s, data.len);
                strbuf_reset(&data);
                uuid_format(&row->chain.id, id);
                payments_initiated_data(&data, id, row->expires_at);
                advance_event(a, t, "PAYMENT_INITIATED", data.s, data.len);
                break;
        case PAYMENTS_CONFIRM:
        case PAYMENTS_REFUNDED:
                payments_evidence_data(&data, row->chain.amount, row->kind, row->who, row->reference);
                advance_event(a, t, action == PAYMENTS_CONFIRM ? "PAYMENT_CONFIRMED" : "REFUND_CONFIRMED", data.s, data.len);
                break;
        case PAYMENTS_EXPIRE:
                payments_expired_data(&data);
                advance_event(a, t, "PAYMENT_EXPIRED", data.s, data.len);
                break;
        case PAYMENTS_REFUND:
                refund = uuid_v7();
                uuid_format(&refund, id);
                payments_refund_data(&data, id);
                advance_event(a, t, "REFUND_INITIATED", data.s, data.len);
                break;
        case PAYMENTS_NOTHING:
        case PAYMENTS_RING_AGAIN:
                die("no plan for nothing");
        }
}

struct work {
        struct advance a;
        const char **expires_at; /* of transition i, or NULL when it makes no intent */
};

static int commit(struct db *db, void *arg)
{
        struct work *w = arg;
        _cleanup_(freep) struct uuid *made = xcalloc(w->a.n + 1, sizeof(*made));
        _cleanup_(freep) struct uuid *moved = xcalloc(w->a.n + 1, sizeof(*moved));
        _cleanup_(freep) const char **expires_at = xcalloc(w->a.n + 1, sizeof(*expires_at));
        size_t n_made = 0, n_moved = 0;
        int e = advance_run(&w->a, db);

        for (size_t i = 0; e == 0 && i < w->a.n; i++) {
                if (w->a.t[i].verdict != ADVANCE_WON)
                        continue;
                if (w->expires_at[i]) {
                        made[n_made] = w->a.t[i].id;
                        expires_at[n_made++] = w->expires_at[i];
                } else {
                        moved[n_moved++] = w->a.t[i].id;
                }
        }
        if (e == 0)
                e = payments_insert_intents(db, made, expires_at, n_made);
        if (e == 0)
                e = payments_heard(db, moved, n_moved);
        return e;
}

int payments_on_bells(struct service *s, const struct uuid ids[], size_t n)
{
        const struct payments_config *config = s->config;
        _cleanup_(PQclearp) PGresult *result = NULL;
        _cleanup_(freep) const char **expires_at = xcalloc(n + 1, sizeof(*expires_at));
        struct work w = {.expires_at = expires_at};
        int e = payments_read(s->db, ids, n, config->intent_expiry_ms, &result);

        for (int i = 0; e == 0 && i < PQntuples(result); i++) {
                struct payments_row row;
                enum payments_action action;

                payments_row(result, i, &row);
                action = payments_decide(row.chain.step, row.has_evidence, row.expired);
                if (action == PAYMENTS_RING_AGAIN) {
                        service_ring_one(s, row.chain.hearer, row.chain.lane, &row.chain.id, row.chain.version);
                } else if (action != PAYMENTS_NOTHING) {
                        expires_at[w.a.n] = action == PAYMENTS_CREATE ? row.expires_at : NULL;
                        plan(&w.a, &row, action);
                }
        }
        if (e == 0 && w.a.n > 0)
                e = db_transaction(s->db, commit, &w);
        if (e == 0)
                service_ring(s, &w.a);
        advance_done(&w.a);
        return e;
}

/* The clock of the intents. */
int64_t payments_on_tick(struct service *s)
{
        struct payments_state *state = s->state;
        _cleanup_(freep) struct uuid *ids = NULL;
        size_t n = 0;
        char next[64];

        if (payments_expired(s->db, state->expired_after, &ids, &n, next) < 0)
                return 1000;
        if (n > 0 && payments_on_bells(s, ids, n) < 0)
                return 1000;
        strcpy(state->expired_after, next);
        return n == 500 ? 0 : 1000;
}
