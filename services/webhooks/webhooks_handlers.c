/* Gathering, sending, and what came of it.
 *
 * Invariant: nothing is sent that is not claimed in the store, and a delivery is done only when a 2xx is committed: each event reaches each
 * subscription at least once, and every attempt carries the id of its delivery. A crash leaves claims that run out and are made again. While nobody
 * is subscribed the store is asked for subscriptions once a second, and for no event. */
#include "webhooks.h"

#include "base/crashpoint.h"
#include "services/intake/job_view.h"
#include "webhook_sign.h"
#include "webhooks_core.h"
#include "webhooks_store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IN_FLIGHT    32 /* of one subscription: a receiver that hangs takes no place of another */
#define LEASE_MORE   2000
#define LOOK_MS      100
#define NOBODY_MS    1000
#define AWAY_MS      1000
#define PRUNE_MS     30000
#define ANSWER_MAX   65536
#define STATUS_ERROR "the receiver answered with status %d"

static size_t in_flight(const struct webhooks_state *state, const struct uuid *webhook)
{
        size_t n = 0;

        for (const struct webhooks_attempt *a = state->open; a; a = a->next)
                n += uuid_equal(&a->webhook, webhook);
        return n;
}

static void on_answer(void *arg, const struct http_reply *reply)
{
        struct webhooks_attempt *a = arg, **at;
        struct webhooks_state *state = a->service->state;

        CRASH_POINT("webhooks: after call");
        for (at = &state->open; *at != a;)
                at = &(*at)->next;
        *at = a->next;
        if (reply->outcome == HTTP_ANSWERED) {
                a->status = reply->status;
                snprintf(a->error, sizeof(a->error), STATUS_ERROR, reply->status);
        } else {
                copy_text(a->error, sizeof(a->error), reply->why);
        }
        a->next = state->ended;
        state->ended = a;
}

static void send_one(struct service *s, const struct webhooks_subscription *w, const PGresult *rows, int row)
{
        static const char agent[] = "User-Agent: Aethelos/" AETHELOS_VERSION;
        const struct webhooks_config *config = s->config;
        struct webhooks_state *state = s->state;
        const char *message = PQgetvalue(rows, row, JOB_VIEW_EVENT_N + 1);
        _cleanup_(strbuf_done) struct strbuf body = {0}, signature = {0};
        int64_t now_s = now_wall_ms() / 1000;
        char id[64], timestamp[48];
        const char *headers[] = {
                w->cloudevents ? "Content-Type: application/cloudevents+json" : "Content-Type: application/json", agent, id, timestamp, NULL, NULL};
        struct webhooks_attempt *a = xcalloc(1, sizeof(*a));

        a->service = s;
        a->webhook = w->id;
        a->delivery = db_int(rows, row, JOB_VIEW_EVENT_N);
        a->attempts = db_int(rows, row, JOB_VIEW_EVENT_N + 2);
        job_view_add_event(&body, rows, row, 0, w->cloudevents ? JOB_VIEW_CLOUDEVENT : JOB_VIEW_EVENT);
        snprintf(id, sizeof(id), "webhook-id: %s", message);
        snprintf(timestamp, sizeof(timestamp), "webhook-timestamp: %" PRId64, now_s);
        strbuf_adds(&signature, "webhook-signature: ");
        if (webhook_sign(&signature, w->secret, message, now_s, (struct slice){body.s, body.len}) < 0)
                die("the secret of a webhook is none");
        for (const char *old = w->old_secrets; *old; old += strspn(old, " ")) {
                _cleanup_(freep) char *secret = xstrndup(old, strcspn(old, " "));

                strbuf_addc(&signature, ' ');
                if (webhook_sign(&signature, secret, message, now_s, (struct slice){body.s, body.len}) < 0)
                        die("an old secret of a webhook is none");
                old += strlen(secret);
                explicit_bzero(secret, strlen(secret));
        }
        headers[4] = signature.s;
        a->next = state->open;
        state->open = a;
        CRASH_POINT("webhooks: before call");
        httpc_start(state->http, &(struct http_call){.method = "POST",
                                         .url = w->url,
                                         .headers = headers,
                                         .body = {body.s, body.len},
                                         .timeout_ms = config->timeout_ms,
                                         .answer_max = ANSWER_MAX,
                                         .answer_cut = true,
                                         .public_only = !config->private_addresses,
                                         .done = on_answer,
                                         .arg = a});
}

static int serve(struct service *s, const struct webhooks_subscription *w)
{
        const struct webhooks_config *config = s->config;
        size_t busy = in_flight(s->state, &w->id);
        _cleanup_(PQclearp) PGresult *rows = NULL;
        int e = 0;

        if (w->behind) {
                CRASH_POINT("webhooks: before commit of deliveries");
                e = webhooks_gather(s->db, &w->id);
                CRASH_POINT("webhooks: after commit of deliveries");
        }
        /* Half of the places at a time: each claim is a commit. */
        if (e < 0 || busy > IN_FLIGHT / 2 || (!w->due && !w->behind))
                return e;
        e = webhooks_claim(s->db, &w->id, (int64_t)(IN_FLIGHT - busy), config->timeout_ms + LEASE_MORE, &rows);
        CRASH_POINT("webhooks: after claim");
        for (int row = 0; e == 0 && row < PQntuples(rows); row++)
                send_one(s, w, rows, row);
        return e;
}

/* Ms until the next look. */
static int64_t look(struct service *s)
{
        _cleanup_(PQclearp) PGresult *rows = NULL;
        int e = webhooks_active(s->db, &rows);

        for (int row = 0; e == 0 && row < PQntuples(rows); row++) {
                struct webhooks_subscription w;

                webhooks_subscription(rows, row, &w);
                e = serve(s, &w);
        }
        if (e == 0)
                return PQntuples(rows) > 0 ? LOOK_MS : NOBODY_MS;
        if (e != -ENOTCONN && e != -EAGAIN)
                log_error("webhooks cannot be served", LOG_S("error", db_error(s->db)));
        return AWAY_MS;
}

static int store_outcome(struct service *s, const struct webhooks_attempt *a)
{
        const struct webhooks_config *config = s->config;
        struct webhooks_state *state = s->state;
        enum webhooks_verdict verdict = webhooks_judge(a->status);
        bool disabled = false;
        char id[UUID_TEXT_SIZE];
        int e;

        if (verdict == WEBHOOKS_DELIVERED)
                return webhooks_delivered(s->db, a);
        e = webhooks_failed(s->db, a, verdict == WEBHOOKS_GONE, webhooks_delay_ms(a->attempts, config->first_retry_ms, erand48(state->jitter)),
                config, &disabled);
        if (e == 0 && disabled) {
                uuid_format(&a->webhook, id);
                log_warning("a webhook is disabled", LOG_S("webhook", id), LOG_S("error", a->error));
        }
        return e;
}

static int store_outcomes(struct db *db, void *arg)
{
        struct service *s = arg;
        const struct webhooks_state *state = s->state;
        int e = 0;

        (void)db;
        for (const struct webhooks_attempt *a = state->ended; a && e == 0; a = a->next)
                e = store_outcome(s, a);
        CRASH_POINT("webhooks: before commit of outcomes");
        return e;
}

/* All that ended since the last round, together. What cannot be committed now waits; what is lost is made again when its claim runs out. */
static void commit_ended(struct service *s, int64_t now)
{
        struct webhooks_state *state = s->state;
        int e = db_transaction(s->db, store_outcomes, s);

        CRASH_POINT("webhooks: after commit of outcomes");
        if (e == -ENOTCONN || e == -EAGAIN) {
                state->look_at_ms = now + AWAY_MS;
                return;
        }
        if (e < 0)
                log_error("what came of deliveries cannot be stored", LOG_S("error", db_error(s->db)));
        for (struct webhooks_attempt *a; (a = state->ended);) {
                state->ended = a->next;
                free(a);
        }
        state->look_at_ms = 0; /* their places are free */
}

void webhooks_on_round(struct service *s)
{
        const struct webhooks_config *config = s->config;
        struct webhooks_state *state = s->state;
        int64_t now = now_mono_ms(), ms;

        httpc_run(state->http);
        if (state->ended)
                commit_ended(s, now);
        if (now >= state->look_at_ms)
                state->look_at_ms = now + (service_stopping() ? AWAY_MS : look(s));
        if (now >= state->prune_at_ms) {
                bool more = false;

                (void)webhooks_prune(s->db, config->keep_s, &more);
                (void)webhooks_forget_secrets(s->db);
                state->prune_at_ms = now + (more ? LOOK_MS : PRUNE_MS);
        }
        ms = httpc_timeout_ms(state->http);
        service_wake_in(s, state->look_at_ms - now);
        if (ms >= 0)
                service_wake_in(s, ms);
}
