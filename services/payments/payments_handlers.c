/* A batch of chains whose bell rang: read, decide, commit in one transaction (events, journal, intents, inbox), then ring. A crash before the commit
 * leaves everything as it was; after it, the next delivery finds the chain further and rings again. Confirming is one row of evidence and one edge: a
 * second message about the same payment loses on the version. */
#include "base/util.h"
#include "payments.h"
#include "payments_core.h"
#include "payments_provider.h"
#include "payments_store.h"
#include "provider_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct payments_state {
        char expired_after[64];
        const struct payments_driver *driver; /* of new intents */
        struct payments_provider *provider;
};

static const struct payments_driver drivers[] = {
        {"manual", false},
        {"http", true},
};

const struct payments_driver *payments_driver_find(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
                if (strcmp(drivers[i].name, name) == 0)
                        return &drivers[i];
        return NULL;
}

struct payments_provider *payments_provider_of(struct service *s)
{
        return ((struct payments_state *)s->state)->provider;
}

int payments_init(struct service *s)
{
        const struct payments_config *config = s->config;
        const struct payments_driver *driver = payments_driver_find(config->driver);
        struct payments_state *state;
        int e;

        if (!driver || (driver->calls && (!config->http_url || http_url_check(config->http_url) < 0))) {
                log_error(driver ? "the payment driver http needs payment_http_url" : "payment_driver is manual or http",
                        LOG_S("payment_driver", config->driver));
                return -EINVAL;
        }
        state = xcalloc(1, sizeof(*state));
        strcpy(state->expired_after, "-infinity");
        state->driver = driver;
        e = payments_provider_open(s, &state->provider);
        if (e < 0) {
                free(state);
                return e;
        }
        s->state = state;
        return 0;
}

void payments_fini(struct service *s)
{
        struct payments_state *state = s->state;

        if (state)
                payments_provider_free(state->provider);
        free(state);
        s->state = NULL;
}

void payments_on_round(struct service *s)
{
        payments_provider_round(s, payments_provider_of(s));
}

int payments_fd(struct service *s)
{
        return payments_provider_fd(payments_provider_of(s));
}

size_t payments_busy(struct service *s)
{
        return payments_provider_busy(payments_provider_of(s));
}

/* A batch: transition i makes an intent when expires_at[i] is set, and is followed by a call of the provider when intentions[i].id is. */
struct work {
        struct advance a;
        const char *driver; /* of new intents */
        const char **expires_at;
        struct provider_intention *intentions;
        bool calls;     /* any */
        bool transfers; /* tasks that are paid by internal transfer, and nothing else */
};

static void intend(struct work *w, size_t t, const struct uuid *id, enum provider_what what)
{
        w->intentions[t] = (struct provider_intention){.id = *id, .what = what};
        w->calls = true;
}

static void plan_intent(struct work *w, const struct payments_driver *driver, size_t t, const struct payments_row *row)
{
        _cleanup_(strbuf_done) struct strbuf data = {0};
        struct uuid call = uuid_v7();
        char id[UUID_TEXT_SIZE];

        w->expires_at[t] = row->expires_at;
        payments_amount_data(&data, row->chain.amount);
        advance_event(&w->a, t, "PAYMENT_REQUIRED", data.s, data.len);
        if (driver->calls) { /* the provider must have it first */
                intend(w, t, &call, PROVIDER_CREATE);
                return;
        }
        strbuf_reset(&data);
        uuid_format(&row->chain.id, id);
        payments_initiated_data(&data, id, driver->name, row->expires_at);
        advance_event(&w->a, t, "PAYMENT_INITIATED", data.s, data.len);
}

static void plan_refund(struct work *w, size_t t, const struct payments_row *row)
{
        const struct payments_driver *driver = payments_driver_find(row->driver);
        _cleanup_(strbuf_done) struct strbuf data = {0};
        struct uuid refund = uuid_v7();
        char id[UUID_TEXT_SIZE];

        uuid_format(&refund, id);
        payments_refund_data(&data, id, row->driver);
        advance_event(&w->a, t, "REFUND_INITIATED", data.s, data.len);
        if (driver && driver->calls)
                intend(w, t, &refund, PROVIDER_REFUND);
}

static void plan_transfer(struct work *w, const struct payments_row *row)
{
        _cleanup_(strbuf_done) struct strbuf data = {0};
        size_t t = advance_move(&w->a, &row->chain.id, row->chain.version);
        char id[UUID_TEXT_SIZE];

        w->transfers = true;

        uuid_format(&row->chain.id, id);
        payments_evidence_data(&data, row->chain.amount, "internal", PAYMENTS_SYSTEM, id);
        advance_event(&w->a, t, "PAYMENT_CONFIRMED", data.s, data.len);
}

static void plan(struct work *w, const struct payments_driver *driver, const struct payments_row *row, enum payments_action action)
{
        _cleanup_(strbuf_done) struct strbuf data = {0};
        size_t t = advance_move(&w->a, &row->chain.id, row->chain.version);

        switch (action) {
        case PAYMENTS_CREATE:
                plan_intent(w, driver, t, row);
                break;
        case PAYMENTS_CONFIRM:
        case PAYMENTS_REFUNDED:
                payments_evidence_data(&data, row->chain.amount, row->kind, row->who, row->reference);
                advance_event(&w->a, t, action == PAYMENTS_CONFIRM ? "PAYMENT_CONFIRMED" : "REFUND_CONFIRMED", data.s, data.len);
                break;
        case PAYMENTS_EXPIRE:
                payments_expired_data(&data);
                advance_event(&w->a, t, "PAYMENT_EXPIRED", data.s, data.len);
                break;
        case PAYMENTS_REFUND:
                plan_refund(w, t, row);
                break;
        case PAYMENTS_TRANSFER:
        case PAYMENTS_NOTHING:
        case PAYMENTS_RING_AGAIN:
                die("no plan of this kind");
        }
}

static int commit(struct db *db, void *arg)
{
        struct work *w = arg;
        _cleanup_(freep) struct uuid *made = xcalloc(w->a.n + 1, sizeof(*made));
        _cleanup_(freep) struct uuid *moved = xcalloc(w->a.n + 1, sizeof(*moved));
        _cleanup_(freep) const char **expires_at = xcalloc(w->a.n + 1, sizeof(*expires_at));
        _cleanup_(freep) struct provider_intention *intentions = xcalloc(w->a.n + 1, sizeof(*intentions));
        size_t n_made = 0, n_moved = 0, n_intentions = 0;
        int e = 0;

        for (size_t i = 0; i < w->a.n; i++)
                moved[i] = w->a.t[i].id;
        if (w->transfers)
                e = payments_transfer(db, moved, w->a.n);
        if (e == 0)
                e = advance_run(&w->a, db);
        for (size_t i = 0; e == 0 && i < w->a.n; i++) {
                const struct transition *t = &w->a.t[i];

                if (t->verdict != ADVANCE_WON)
                        continue;
                if (w->expires_at[i]) {
                        made[n_made] = t->id;
                        expires_at[n_made++] = w->expires_at[i];
                } else {
                        moved[n_moved++] = t->id;
                }
                if (uuid_equal(&w->intentions[i].id, &(struct uuid){0}))
                        continue;
                intentions[n_intentions] = w->intentions[i];
                intentions[n_intentions].chain_id = t->id;
                intentions[n_intentions++].version = t->version;
        }
        if (e == 0)
                e = payments_insert_intents(db, w->driver, made, expires_at, n_made);
        if (e == 0)
                e = payments_heard(db, moved, n_moved);
        return e < 0 ? e : provider_store_intend(db, intentions, n_intentions);
}

static struct work work_new(const struct payments_driver *driver, size_t n)
{
        return (struct work){.driver = driver->name,
                .expires_at = xcalloc(n + 1, sizeof(char *)),
                .intentions = xcalloc(n + 1, sizeof(struct provider_intention))};
}

static void work_done(struct work *w)
{
        advance_done(&w->a);
        free(w->expires_at);
        free(w->intentions);
}

/* Ends with the empty work. */
static int commit_all(struct db *db, void *arg)
{
        int e = 0;

        for (struct work *w = arg; e == 0 && w->driver; w++)
                if (w->a.n > 0)
                        e = commit(db, w);
        return e;
}

static int work_commit(struct service *s, struct work works[])
{
        size_t n = 0;
        int e;

        for (struct work *w = works; w->driver; w++)
                n += w->a.n;
        e = n > 0 ? db_transaction(s->db, commit_all, works) : 0;
        for (struct work *w = works; e == 0 && w->driver; w++)
                service_ring(s, &w->a);
        return e;
}

/* Customers and tasks are committed apart: what is wrong with the internal transfers holds up no customer. New intents are a work of their own,
 * because a batch of one kind of move costs advance() less. */
int payments_on_bells(struct service *s, const struct uuid ids[], size_t n)
{
        const struct payments_config *config = s->config;
        struct payments_state *state = s->state;
        _cleanup_(PQclearp) PGresult *result = NULL;
        struct work customers[] = {work_new(state->driver, n), work_new(state->driver, n), {.driver = NULL}};
        struct work tasks[] = {work_new(state->driver, n), {.driver = NULL}};
        int e = payments_read(s->db, ids, n, config->intent_expiry_ms, &result);

        for (int i = 0; e == 0 && i < PQntuples(result); i++) {
                struct payments_row row;
                enum payments_action action;

                payments_row(result, i, &row);
                action = payments_decide(row.chain.kind, row.chain.step, row.has_evidence, row.expired);
                if (action == PAYMENTS_RING_AGAIN)
                        service_ring_one(s, row.hearer, row.chain.lane, &row.chain.id, row.chain.version);
                else if (action == PAYMENTS_TRANSFER)
                        plan_transfer(tasks, &row);
                else if (action != PAYMENTS_NOTHING)
                        plan(&customers[action == PAYMENTS_CREATE ? 0 : 1], state->driver, &row, action);
        }
        if (e == 0) {
                int of_tasks;

                e = work_commit(s, customers);
                if (e == 0 && (customers[0].calls || customers[1].calls))
                        payments_provider_look(s, state->provider);
                of_tasks = work_commit(s, tasks);
                e = e < 0 ? e : of_tasks;
        }
        work_done(&customers[0]);
        work_done(&customers[1]);
        work_done(tasks);
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
        payments_provider_look(s, state->provider); /* meta-repair may have made a question due */
        strcpy(state->expired_after, next);
        return n == 500 ? 0 : 1000;
}
