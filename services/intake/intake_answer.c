/* How a submission ends: an HTTP answer at once or when its intent exists, a receipt and an ack on the bus. Invariant: an answer that says admitted
 * comes after the commit. A crash here loses answers and nothing else: the sender repeats with the same key. */
#include "base/crashpoint.h"
#include "base/util.h"
#include "services/intake/intake.h"
#include "services/intake/intake_event.h"
#include "services/intake/intake_store.h"
#include "services/intake/job_view.h"
#include "services/pricing/receipt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS          100 /* payments' bell may be lost */
#define MESSAGE_AGAIN_MS 500

static void item_free(struct intake_item *item)
{
        free(item->client);
        free(item->key);
        strbuf_done(&item->created);
        free(item);
}

static void acknowledge(struct service *s, struct intake_item *item)
{
        CRASH_POINT("intake: before ack");
        bus_ack(s->bus, item->message);
        CRASH_POINT("intake: after ack");
}

void intake_answer_away(struct http_request *r)
{
        http_set_header(r, "Retry-After", "2");
        http_answer_problem(r, 503, "database-away", "the store cannot be reached; try again with the same key", NULL);
}

void intake_postpone(struct service *s, struct intake_item *item)
{
        if (item->request)
                intake_answer_away(item->request);
        else
                bus_nak(s->bus, item->message, MESSAGE_AGAIN_MS);
        item_free(item);
}

void intake_refuse(struct service *s, struct intake_item *item, const struct refusal *refusal)
{
        struct refusal own = *refusal;
        const char *field;

        if (item->event)
                intake_event_field(&own);
        field = own.field[0] ? own.field : NULL;
        if (item->request) {
                /* The body of a purchase is the payload itself. */
                if (item->offer && field)
                        field = strncmp(field, "/payload/", 9) == 0 ? field + 8 : NULL;
                http_answer_problem(item->request, refusal->status, refusal->slug, refusal->detail, field);
        } else {
                const struct receipt receipt = {.status = refusal->status, .slug = refusal->slug, .detail = refusal->detail, .field = field};

                receipt_publish(s->bus, item->client, item->key, &receipt, item->protobuf);
                acknowledge(s, item);
        }
        item_free(item);
}

static void look_by(struct intake_state *state, int64_t at_ms)
{
        int64_t poll_ms = now_mono_ms() + POLL_MS;

        if (at_ms > poll_ms)
                at_ms = poll_ms;
        if (at_ms < state->poll_ms)
                state->poll_ms = at_ms;
}

static void hold(struct service *s, struct intake_item *item)
{
        const struct intake_config *config = s->config;
        struct intake_state *state = s->state;
        int64_t due_ms = item->async ? 0 : http_received_ms(item->request) + config->hold_ms;

        if (state->n_held == state->cap_held) {
                state->cap_held = state->cap_held ? 2 * state->cap_held : 256;
                state->held = xrealloc(state->held, state->cap_held * sizeof(*state->held));
        }
        state->held[state->n_held++] =
                (struct intake_held){.request = item->request, .id = item->id, .due_ms = due_ms, .replay = item->outcome == INTAKE_REPLAY};
        look_by(state, item->outcome == INTAKE_REPLAY ? 0 : due_ms); /* the intent of a repeat may be there */
        if (item->async)
                state->rested_ms = 0; /* it is answered in this round */
}

void intake_finish(struct service *s, struct intake_item *item)
{
        static const struct refusal conflict = {
                .status = 422, .slug = "idempotency-key-reused", .detail = "another job was submitted under this Idempotency-Key"};

        switch (item->outcome) {
        case INTAKE_REFUSED:
                intake_refuse(s, item, &item->refusal);
                return;
        case INTAKE_CONFLICT:
                intake_refuse(s, item, &conflict);
                return;
        case INTAKE_NEW:
        case INTAKE_REPLAY:
                break;
        }
        if (item->request) {
                hold(s, item);
        } else {
                /* The receipt of a new job is pricing's; a repeat has its receipt again as soon as there is one. */
                if (item->outcome == INTAKE_REPLAY && item->price.currency[0]) {
                        char id[UUID_TEXT_SIZE];

                        uuid_format(&item->id, id);
                        receipt_publish(s->bus, item->client, item->key, &(struct receipt){.job_id = id, .price = item->price}, item->protobuf);
                }
                acknowledge(s, item);
        }
        item_free(item);
}

static void answer_held(struct intake_held *h, const PGresult *r, int row)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        bool has_intent = job_view_has_intent(r, row, 0);
        char location[64] = "/jobs/", id[UUID_TEXT_SIZE];

        uuid_format(&h->id, id);
        strcat(location, id);
        strbuf_adds(&b, "{\"job\":");
        job_view_add_job(&b, r, row, 0);
        if (has_intent) {
                strbuf_adds(&b, ",\"payment_intent\":");
                job_view_add_intent(&b, r, row, 0);
        } else if (h->replay) {
                strbuf_adds(&b, ",\"payment_intent\":null");
        }
        strbuf_addc(&b, '}');
        http_set_header(h->request, "Location", location);
        CRASH_POINT("intake: before answer");
        http_answer_json(h->request, h->replay ? 200 : has_intent && h->due_ms > 0 ? 201 : 202, b.s, b.len);
        CRASH_POINT("intake: after answer");
        h->request = NULL;
}

/* Answers those whose intent exists, and those whose time is over. */
void intake_look_at_held(struct service *s)
{
        struct intake_state *state = s->state;
        _cleanup_(PQclearp) PGresult *r = NULL;
        int64_t began_us = now_mono_us(), now = began_us / 1000, at = state->poll_ms > state->rested_ms ? state->poll_ms : state->rested_ms;
        size_t kept = 0;
        bool away;

        if (state->n_held > 0 && now < at) {
                service_wake_in(s, at - now);
                return;
        }
        state->poll_ms = INT64_MAX; /* also of a bell for which nobody waited */
        if (state->n_held == 0)
                return;
        away = intake_read_held(s->db, state->held, state->n_held, now, &r) < 0;
        for (int row = 0; !away && row < PQntuples(r); row++)
                answer_held(&state->held[db_int(r, row, JOB_VIEW_JOB_N)], r, row);
        for (size_t i = 0; i < state->n_held; i++) {
                struct intake_held *h = &state->held[i];

                if (h->request && h->due_ms <= now)
                        intake_answer_away(TAKE_PTR(h->request));
                if (!h->request)
                        continue;
                look_by(state, h->due_ms);
                state->held[kept++] = *h;
        }
        state->n_held = kept;
        /* At most about a fifth of the time goes into looking. */
        state->rested_ms = now + (5 * (now_mono_us() - began_us) + 999) / 1000;
        if (kept > 0)
                service_wake_in(s, state->poll_ms - now_mono_ms());
}
