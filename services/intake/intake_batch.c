/* Admission of a round: everything that came in over HTTP and the bus is checked against the catalogue in memory and committed together, at most 256
 * jobs a transaction. Invariant: a key and its job are one transaction (I1, I9), and nothing is answered or acknowledged before it is committed. A
 * crash before the commit leaves nothing; after it, the sender repeats with the same key and finds its job, and the ringer rings pricing. */
#include "base/util.h"
#include "services/intake/intake.h"
#include "services/intake/intake_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CATALOGUE_MS 1000 /* a flow or offer that was changed is noticed after this at the latest; an unknown one at once */
#define BATCH_MAX    256
#define REST_MS      1000 /* longest rest after a full batch */
#define REST_LOOK_MS 10
#define BATCH_BYTES  (16 << 20) /* so that a round of large payloads does not become one huge statement */

_Static_assert(
        (int)PRICING_HIGH == (int)LANE_HIGH && (int)PRICING_NORMAL == (int)LANE_NORMAL && (int)PRICING_LOW == (int)LANE_LOW, "a priority is a lane");

int intake_catalogue_fresh(struct service *s, bool at_once)
{
        struct intake_state *state = s->state;
        struct intake_catalogue fresh;
        int64_t now = now_mono_ms();
        int e;

        if (!at_once && state->catalogue_ms > 0 && now - state->catalogue_ms < CATALOGUE_MS)
                return 0;
        e = intake_read_catalogue(s->db, &fresh);
        if (e < 0)
                return e;
        intake_catalogue_done(&state->catalogue);
        state->catalogue = fresh;
        state->catalogue_ms = now;
        return 0;
}

void intake_submit(struct service *s, struct intake_item *item, const struct intake_submitted *submitted, const char *offer_id)
{
        struct intake_state *state = s->state;
        struct intake_origin origin = {.client = item->client, .key = item->key, .bus = item->message != NULL, .protobuf = item->protobuf};
        enum pricing_priority priority = PRICING_NORMAL;
        int e = intake_catalogue_fresh(s, false);

        if (e == 0 && !intake_flow_for(&state->catalogue, submitted))
                e = intake_catalogue_fresh(s, true);
        if (e < 0) {
                intake_postpone(s, item);
                return;
        }
        origin.offer = offer_id ? intake_offer_of(&state->catalogue, offer_id) : NULL;
        memcpy(item->hash, submitted->hash, sizeof(item->hash));
        item->refused = !intake_admit(submitted, intake_flow_for(&state->catalogue, submitted), &origin, &item->created, &priority, &item->refusal);
        item->lane = (enum lane)priority;
        item->fresh_id = uuid_v7();
        if (state->n_items == state->cap_items) {
                state->cap_items = state->cap_items ? 2 * state->cap_items : BATCH_MAX;
                state->items = xrealloc(state->items, state->cap_items * sizeof(struct intake_item *));
        }
        state->items[state->n_items++] = item;
        if (item->message && ++state->n_bus == service_crowd(s))
                service_rest(s, REST_MS); /* this is a round of them */
}

struct work {
        struct intake_item *const *items;
        size_t n;
        struct advance a;
};

static int commit(struct db *db, void *arg)
{
        struct work *w = arg;
        int e;

        advance_reset(&w->a); /* it may be another try */
        for (size_t i = 0; i < w->n; i++)
                w->items[i]->outcome = INTAKE_REFUSED;
        e = intake_claim(db, w->items, w->n);
        if (e == 0)
                e = intake_find(db, w->items, w->n);
        for (size_t i = 0; e == 0 && i < w->n; i++) {
                struct intake_item *item = w->items[i];

                if (item->outcome == INTAKE_NEW)
                        advance_event(&w->a, advance_open(&w->a, &item->id, "job", item->client, item->lane), "JOB_CREATED", item->created.s,
                                item->created.len);
        }
        if (e == 0)
                e = advance_run(&w->a, db);
        for (size_t i = 0; e == 0 && i < w->a.n; i++)
                if (w->a.t[i].verdict != ADVANCE_WON)
                        e = -EINVAL;
        return e;
}

static void quarantine(struct service *s, struct intake_item *item)
{
        static const struct refusal broken = {
                .status = 500, .slug = "internal-error", .detail = "the job could not be stored; it was put aside for a person"};

        service_quarantine(s, item->message ? item->message->subject : NULL, NULL, db_error(s->db)[0] ? db_error(s->db) : "could not be stored",
                item->created.s, item->created.len);
        intake_refuse(s, item, &broken);
}

/* Finish before you start: after a round that took as much from the bus as it may nothing more is taken there until the last job of the round before
 * has come to its payment, and so has been through all that lies before. Else starting would take the time that finishing needs, and what is started
 * could only pile up. (The round before, because with one on its way the processors are idle where it waits for the disk.) Who waits for anybody
 * outside (payer, provider, operator) holds up nothing; a service before the payment that stands still does for REST_MS a round. Requests are no
 * crowd of the bus, however many they are. */
static void rest(struct service *s)
{
        struct intake_state *state = s->state;
        bool crowd = state->n_bus >= service_crowd(s);

        state->n_bus = 0;
        if (!crowd)
                return;
        state->look_ms = now_mono_ms() + REST_LOOK_MS;
        service_rest(s, state->admitted ? REST_MS : 0);
}

static void note_admitted(struct intake_state *state, struct intake_item *const items[], size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (items[i]->message && items[i]->outcome == INTAKE_NEW) {
                        if (!state->admitted)
                                state->before = state->last;
                        state->last = items[i]->id;
                        state->admitted = true;
                }
}

static void look_whether_rested(struct service *s)
{
        struct intake_state *state = s->state;
        bool on_its_way = true;

        if (!service_rests(s))
                return;
        if (now_mono_ms() >= state->look_ms) {
                if (intake_on_its_way(s->db, &state->before, &on_its_way) == 0 && !on_its_way)
                        service_rest(s, 0);
                state->look_ms = now_mono_ms() + REST_LOOK_MS;
        }
        service_wake_in(s, on_its_way ? state->look_ms - now_mono_ms() : 0);
}

static void submit_batch(struct service *s, struct intake_item *items[], size_t n)
{
        struct work w = {.items = items, .n = n};
        int e = db_transaction(s->db, commit, &w);

        if (e == 0) {
                note_admitted(s->state, items, n);
                service_ring(s, &w.a);
        } else if (e == -ENOTCONN || e == -EAGAIN)
                log_warning("submissions wait for the database", LOG_I("jobs", (int64_t)n), LOG_S("error", db_error(s->db)));
        else if (n > 1)
                log_warning("a batch failed and is tried one by one", LOG_I("jobs", (int64_t)n), LOG_S("error", db_error(s->db)));
        for (size_t i = 0; i < n; i++) {
                if (e == 0)
                        intake_finish(s, items[i]);
                else if (e == -ENOTCONN || e == -EAGAIN)
                        intake_postpone(s, items[i]);
                else if (n > 1)
                        submit_batch(s, &items[i], 1);
                else
                        quarantine(s, items[i]);
        }
        advance_done(&w.a);
}

/* Go together: what is admitted together stays together on its way, and each service behind pays more for a round than for a job in it. */
static bool gathers(struct service *s)
{
        const struct intake_state *state = s->state;
        int64_t left = state->admit_ms - now_mono_ms();

        if (state->n_items == 0 || state->n_items >= BATCH_MAX || state->n_bus >= service_crowd(s) || left <= 0 || service_stopping())
                return false;
        service_wake_in(s, left);
        return true;
}

static void admit(struct service *s)
{
        struct intake_state *state = s->state;

        if (state->n_items > 0)
                state->admit_ms = now_mono_ms() + intake_gather_ms(state->n_items);
        for (size_t at = 0, n; at < state->n_items; at += n) {
                size_t bytes = 0;

                for (n = 0; n < BATCH_MAX && at + n < state->n_items && (n == 0 || bytes < BATCH_BYTES); n++)
                        bytes += state->items[at + n]->created.len;
                submit_batch(s, state->items + at, n);
        }
        state->n_items = 0;
        rest(s);
}

void intake_on_round(struct service *s)
{
        struct intake_state *state = s->state;

        state->admitted = false;
        if (!gathers(s))
                admit(s);
        look_whether_rested(s);
        intake_look_at_held(s);
}
