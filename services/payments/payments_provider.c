/* Dealing with a payment provider over HTTP: due calls are taken (committed), made, and what came of them is committed with the move or the evidence
 * that follows from it.
 *
 * Invariants: nothing is called that is not in provider_call; an outcome is written only under the epoch of its take; an answer moves no money, it
 * becomes evidence, which submit_evidence() compares with what is due. A crash while a call is under way leaves a row whose lease runs out: it is
 * asked about. */
#include "payments_provider.h"

#include "base/crashpoint.h"
#include "base/hash.h"
#include "base/util.h"
#include "http/httpc.h"
#include "payments.h"
#include "payments_core.h"
#include "provider_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEASE_MARGIN_MS 5000 /* beyond the time-out of a call */
#define LOOK_MS         1000
#define OUTCOMES_MAX    128
#define RETRY_MS        200

struct payments_provider {
        struct httpc *http;
        struct strbuf authorization; /* header line; empty: none */
        struct provider_window window;
        struct provider_call *ended, **tail; /* answers that are not committed yet */
        size_t n_ended;
        int64_t look_at_ms, commit_at_ms;
        unsigned short jitter[3];
};

int payments_provider_open(struct service *s, struct payments_provider **ret_provider)
{
        const struct payments_config *config = s->config;
        struct payments_provider *p = xcalloc(1, sizeof(*p));
        int e = httpc_open(&p->http);

        if (e < 0) {
                free(p);
                return e;
        }
        if (config->http_token)
                strbuf_addf(&p->authorization, "Authorization: Bearer %s", config->http_token);
        p->window.size = PROVIDER_WINDOW_MAX;
        p->tail = &p->ended;
        (void)random_bytes(p->jitter, sizeof(p->jitter));
        *ret_provider = p;
        return 0;
}

struct payments_provider *payments_provider_free(struct payments_provider *p)
{
        if (!p)
                return NULL;
        p->http = httpc_free(p->http);
        for (struct provider_call *c = p->ended, *next; c; c = next) {
                next = c->next;
                free(c);
        }
        strbuf_done(&p->authorization);
        free(p);
        return NULL;
}

int payments_provider_fd(const struct payments_provider *p)
{
        return httpc_fd(p->http);
}

size_t payments_provider_busy(const struct payments_provider *p)
{
        return httpc_in_flight(p->http) + p->n_ended;
}

void payments_provider_look(struct service *s, struct payments_provider *p)
{
        p->look_at_ms = 0;
        service_wake_in(s, 0);
}

/* --- calls --- */

static void on_answer(void *arg, const struct http_reply *reply)
{
        struct provider_call *c = arg;
        struct payments_provider *p = payments_provider_of(c->service);

        CRASH_POINT("payments: after call");
        provider_read(reply->outcome == HTTP_ANSWERED ? reply->status : 0, reply->body, reply->why, !c->send, c->call_over && !c->send, &c->answer);
        if (c->send && reply->outcome == HTTP_NOT_SENT)
                c->answer.status = PROVIDER_NOT_KNOWN; /* it never left: it may be sent again */
        provider_window_answer(&p->window, c->answer.reached, now_mono_ms(), erand48(p->jitter));
        c->next = NULL;
        *p->tail = c;
        p->tail = &c->next;
        p->n_ended++;
}

static void start(struct service *s, struct payments_provider *p, struct provider_call *c)
{
        const struct payments_config *config = s->config;
        _cleanup_(strbuf_done) struct strbuf url = {0}, body = {0};
        const struct uuid *subject = c->what == PROVIDER_REFUND ? &c->id : &c->chain_id;
        char id[UUID_TEXT_SIZE], key[64];
        const char *headers[] = {"Content-Type: application/json", key, p->authorization.len ? p->authorization.s : NULL, NULL};

        c->service = s;
        uuid_format(subject, id);
        snprintf(key, sizeof(key), "Idempotency-Key: %s", id);
        if (!c->send) {
                provider_query_url(&url, config->http_url, c->what, subject);
        } else if (c->what == PROVIDER_REFUND) {
                strbuf_addf(&url, "%s/refunds", config->http_url);
                provider_refund_body(&body, &c->id, &c->chain_id, c->amount);
        } else {
                strbuf_addf(&url, "%s/intents", config->http_url);
                provider_create_body(&body, &c->chain_id, c->amount, c->expires_at);
        }
        CRASH_POINT("payments: before call");
        httpc_start(p->http, &(struct http_call){.method = c->send ? "POST" : "GET",
                                     .url = url.s,
                                     .headers = headers,
                                     .body = {body.s, body.len},
                                     .timeout_ms = config->http_timeout_ms,
                                     .answer_max = 65536,
                                     .done = on_answer,
                                     .arg = c});
}

static void serve(struct service *s, struct payments_provider *p, int64_t now)
{
        const struct payments_config *config = s->config;
        int room = provider_window_room(&p->window, now, httpc_in_flight(p->http));
        struct provider_call *calls = NULL;

        if (now < p->look_at_ms || !config->http_url)
                return;
        p->look_at_ms = now + LOOK_MS;
        if (room == 0 || provider_store_take(s->db, s->instance, room, config->http_timeout_ms + LEASE_MARGIN_MS, &calls) < 0)
                return;
        for (struct provider_call *c = calls, *next; c; c = next) {
                next = c->next;
                start(s, p, c);
                p->look_at_ms = 0; /* there may be more */
        }
        service_wake_in(s, p->look_at_ms ? LOOK_MS : 0);
}

/* --- outcomes --- */

struct batch {
        struct service *s;
        struct provider_call *calls[OUTCOMES_MAX];
        size_t n;
        struct provider_outcome outcomes[OUTCOMES_MAX];
        struct provider_evidence evidence[OUTCOMES_MAX];
        size_t of[OUTCOMES_MAX]; /* the call that evidence is of */
        size_t n_evidence;
        struct advance advance;
};

/* An intent that is refused was not made, unless an earlier call that was not answered may have made it: then only a word about the intent itself
 * says so, for the contract keeps one for each key. */
static enum provider_says says_of(const struct provider_call *c)
{
        if (c->what != PROVIDER_CREATE)
                return PROVIDER_SAYS_SEND; /* it was asked about, and is not there */
        if (c->answer.status == PROVIDER_FAILED)
                return c->clean || !c->answer.about_call ? PROVIDER_SAYS_REFUSED : PROVIDER_SAYS_OPEN;
        return c->clean && c->answer.status == PROVIDER_NOT_KNOWN ? PROVIDER_SAYS_SEND : PROVIDER_SAYS_OPEN;
}

static struct provider_outcome outcome_of(struct payments_provider *p, const struct provider_call *c)
{
        struct provider_outcome o = {.call = c, .what = c->what, .state = "done", .probes = c->probes + 1};
        int64_t later = provider_backoff_ms(c->probes, erand48(p->jitter));

        switch (provider_decide(c->what, c->answer.status)) {
        case PROVIDER_INITIATED:
                o.what = PROVIDER_QUERY;
                o.state = "pending";
                o.probes = 0; /* a new question, asked from the first pause on */
                o.next_ms = c->answer.status == PROVIDER_PENDING ? provider_backoff_ms(0, erand48(p->jitter)) : 0;
                break;
        case PROVIDER_SEND_AGAIN:
                if (c->what == PROVIDER_QUERY)
                        o.what = PROVIDER_CREATE;
                o.state = "unknown";
                o.says = says_of(c);
                o.error = c->answer.error;
                o.next_ms = later;
                break;
        case PROVIDER_ASK_LATER:
                o.state = c->answer.status == PROVIDER_PENDING ? "pending" : "unknown";
                o.error = c->answer.error[0] ? c->answer.error : NULL;
                o.next_ms = later;
                break;
        case PROVIDER_GIVE_UP:
                o.state = "failed";
                o.error = c->answer.error;
                break;
        case PROVIDER_PAID:
        case PROVIDER_RAN_OUT:
        case PROVIDER_REFUNDED:
                break;
        }
        return o;
}

/* What the provider says is compared with what is due by submit_evidence(); another currency never equals it. */
static void add_evidence(struct batch *b, size_t i, const char *event)
{
        const struct provider_call *c = b->calls[i];
        const struct provider_answer *a = &c->answer;
        bool other = a->has_amount && strcmp(a->amount.currency, c->amount.currency) != 0;

        b->of[b->n_evidence] = i;
        b->evidence[b->n_evidence++] = (struct provider_evidence){.chain_id = c->chain_id,
                .event = event,
                .reference = a->reference[0] ? a->reference : "none",
                .minor = other           ? -1
                         : a->has_amount ? a->amount.minor
                                         : c->amount.minor};
}

static void add_move(struct batch *b, const struct provider_call *c)
{
        _cleanup_(strbuf_done) struct strbuf data = {0};
        char id[UUID_TEXT_SIZE];

        uuid_format(&c->chain_id, id);
        payments_initiated_data(&data, id, "http", c->expires_at);
        advance_event(&b->advance, advance_move(&b->advance, &c->chain_id, c->version), "PAYMENT_INITIATED", data.s, data.len);
}

static int write_outcomes(struct db *db, void *arg)
{
        static const char *const events[] = {
                [PROVIDER_PAID] = "PAYMENT_CONFIRMED", [PROVIDER_RAN_OUT] = "PAYMENT_EXPIRED", [PROVIDER_REFUNDED] = "REFUND_CONFIRMED"};
        struct batch *b = arg;
        bool in[OUTCOMES_MAX];
        int e = provider_store_write(db, b->outcomes, b->n, in);

        advance_reset(&b->advance);
        b->n_evidence = 0;
        for (size_t i = 0; e == 0 && i < b->n; i++) {
                enum provider_next next = provider_decide(b->calls[i]->what, b->calls[i]->answer.status);

                if (!in[i])
                        continue; /* another instance has taken it over: it asks */
                if (next == PROVIDER_INITIATED)
                        add_move(b, b->calls[i]);
                else if (next == PROVIDER_PAID || next == PROVIDER_RAN_OUT || next == PROVIDER_REFUNDED)
                        add_evidence(b, i, events[next]);
        }
        if (e == 0)
                e = advance_run(&b->advance, db);
        if (e == 0)
                e = provider_store_evidence(db, b->evidence, b->n_evidence);
        return e;
}

static void log_refused(const struct batch *b)
{
        for (size_t k = 0; k < b->n_evidence; k++) {
                char id[UUID_TEXT_SIZE];

                if (strcmp(b->evidence[k].verdict, "stored") == 0 || strcmp(b->evidence[k].verdict, "repeated") == 0)
                        continue;
                uuid_format(&b->evidence[k].chain_id, id);
                log_warning("what the provider says does not go with the chain", LOG_S("chain", id), LOG_S("event", b->evidence[k].event),
                        LOG_S("verdict", b->evidence[k].verdict));
        }
}

static void commit(struct service *s, struct payments_provider *p)
{
        _cleanup_(freep) struct batch *b = xcalloc(1, sizeof(*b));
        struct uuid heard[OUTCOMES_MAX];
        int e;

        b->s = s;
        for (struct provider_call *c = p->ended; c && b->n < OUTCOMES_MAX; c = c->next) {
                b->calls[b->n] = c;
                b->outcomes[b->n++] = outcome_of(p, c);
        }
        CRASH_POINT("payments: before outcomes");
        e = db_transaction(s->db, write_outcomes, b);
        CRASH_POINT("payments: after outcomes");
        if (e < 0) {
                if (e != -ENOTCONN)
                        log_error("what a provider answered cannot be committed", LOG_S("error", db_error(s->db)));
                p->commit_at_ms = now_mono_ms() + RETRY_MS; /* or the lease runs out, and it is asked about */
                advance_done(&b->advance);
                return;
        }
        service_ring(s, &b->advance);
        log_refused(b);
        for (size_t k = 0; k < b->n_evidence; k++)
                heard[k] = b->evidence[k].chain_id;
        for (size_t i = 0; i < b->n; i++) {
                p->ended = b->calls[i]->next;
                free(b->calls[i]);
                p->n_ended--;
        }
        if (!p->ended)
                p->tail = &p->ended;
        if (b->n_evidence > 0 && payments_on_bells(s, heard, b->n_evidence) < 0)
                log_warning("evidence of a provider is stored and moves its chain when it is rung");
        p->look_at_ms = 0;
        advance_done(&b->advance);
}

void payments_provider_round(struct service *s, struct payments_provider *p)
{
        int64_t now = now_mono_ms(), ms;

        httpc_run(p->http);
        if (p->ended && now >= p->commit_at_ms)
                commit(s, p);
        if (p->ended)
                service_wake_in(s, p->commit_at_ms > now ? p->commit_at_ms - now : 0);
        serve(s, p, now);
        ms = httpc_timeout_ms(p->http);
        if (ms >= 0)
                service_wake_in(s, ms);
}
