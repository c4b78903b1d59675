/* One small state machine a job: each stage is one call, repeated with growing pauses until it is answered. Nothing is believed but answers; an
 * answer that contradicts an earlier one, or refuses what is right, is counted as wrong and fails the run. */
#include "load.h"

#include "base/json.h"
#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBMIT_SUBJECT  "aethelos.job.submit.default"
#define QUERY_SUBJECT   "aethelos.query.receipt.default"
#define RECEIPTS        "aethelos.receipt.default."
#define FIRST_WAIT_MS   400
#define LONGEST_WAIT_MS 4000
#define CALL_MS         4000
#define PROBE_ODDS      15 /* percent of jobs whose key is tried with another job */
#define TWICE_ODDS      20 /* percent of submissions sent twice at once */

struct call {
        struct load *load;
        size_t n;
        enum load_stage stage;
};

_printf_(2, 3) static void wrong(struct load *l, const char *fmt, ...)
{
        va_list ap;

        if (l->n_wrong++ > 0)
                return;
        va_start(ap, fmt);
        vsnprintf(l->wrong, sizeof(l->wrong), fmt, ap);
        va_end(ap);
}

static void enter(struct load *l, struct load_job *j, enum load_stage stage)
{
        if (stage == LOAD_END && j->stage != LOAD_END)
                l->n_open--;
        j->stage = stage;
        j->wait_ms = FIRST_WAIT_MS;
        j->next_ms = now_mono_ms();
}

/* After a payment what is left to a client depends on how the job must end. */
static void after_payment(struct load *l, struct load_job *j)
{
        enum load_end end = load_kinds[j->kind].end;

        enter(l, j, j->pays && (end == LOAD_DONE || end == LOAD_FAILED) ? LOAD_WATCH : LOAD_END);
}

static void receipted(struct load *l, struct load_job *j, const char *id_text)
{
        struct uuid id;

        if (!id_text || !uuid_parse(id_text, strlen(id_text), &id)) {
                wrong(l, "%s: an answer without a job", j->key);
                return;
        }
        if (j->receipted && !uuid_equal(&j->id, &id))
                wrong(l, "%s: two jobs for one key", j->key);
        if (j->receipted)
                return;
        j->receipted = true;
        j->id = id;
        load_expect(j);
        if (fault_random_chance(&l->random, PROBE_ODDS))
                enter(l, j, LOAD_PROBE);
        else
                enter(l, j, j->pays ? LOAD_PAY : LOAD_END);
}

/* --- answers over HTTP, one function a stage --- */

static void on_submitted(struct load *l, struct load_job *j, int status, const char *body)
{
        _cleanup_(freep) char *id = NULL;

        if (status < 200 || status > 202) {
                if (status < 500)
                        wrong(l, "%s: submission answered %d %s", j->key, status, body);
                return;
        }
        id = json_at(body, "job.id");
        receipted(l, j, id);
}

static void on_probed(struct load *l, struct load_job *j, int status, const char *body)
{
        if (status >= 500)
                return;
        if (status != 422)
                wrong(l, "%s: another job under its key answered %d %s", j->key, status, body);
        enter(l, j, j->pays ? LOAD_PAY : LOAD_END);
}

static void on_paid(struct load *l, struct load_job *j, int status, const char *body)
{
        if (status == 200 || status == 202) {
                j->paid = true;
                after_payment(l, j);
        } else if ((status == 404 && strstr(body, "unknown-payment-intent")) || (status == 409 && strstr(body, "not-waiting-for-payment"))) {
                ; /* the job is priced, its intent does not stand yet */
        } else if (status < 500) {
                wrong(l, "%s: payment answered %d %s", j->key, status, body);
        }
}

static void on_seen(struct load *l, struct load_job *j, int status, const char *body)
{
        _cleanup_(freep) char *state = NULL, *step = NULL;

        if (status != 200) {
                if (status < 500)
                        wrong(l, "%s: job answered %d %s", j->key, status, body);
                return;
        }
        state = json_at(body, "status");
        step = json_at(body, "step");
        if (!state || !step)
                wrong(l, "%s: a job without status: %s", j->key, body);
        else if (strcmp(state, "completed") == 0)
                enter(l, j, j->marks ? LOAD_FIND_PAYOUT : LOAD_END);
        else if (strcmp(state, "final_fail") == 0)
                enter(l, j, LOAD_END);
        else if (strcmp(step, "REFUND_INITIATED") == 0 && !j->refund_sent && !l->provider)
                enter(l, j, LOAD_REFUND);
}

static void on_refunded(struct load *l, struct load_job *j, int status, const char *body)
{
        if (status == 200 || status == 202)
                enter(l, j, LOAD_WATCH);
        else if (status < 500)
                wrong(l, "%s: refund answered %d %s", j->key, status, body);
}

static void on_payout(struct load *l, struct load_job *j, int status, const char *body)
{
        _cleanup_(freep) char *id = NULL, *state = NULL;

        if (status != 200) {
                if (status < 500)
                        wrong(l, "%s: payouts answered %d %s", j->key, status, body);
                return;
        }
        id = json_at(body, "items.0.id");
        state = json_at(body, "items.0.status");
        if (!id || !state || strcmp(state, "ready") != 0)
                return; /* it is made ready by another service, a moment later */
        snprintf(j->payout, sizeof(j->payout), "%s", id);
        enter(l, j, LOAD_MARK);
}

static void on_marked(struct load *l, struct load_job *j, int status, const char *body)
{
        if (status == 200 || status == 202) {
                j->marked = true;
                enter(l, j, LOAD_END);
        } else if (status < 500) {
                wrong(l, "%s: mark answered %d %s", j->key, status, body);
        }
}

static void on_reply(void *arg, const struct http_reply *reply)
{
        static void (*const on[])(struct load *, struct load_job *, int, const char *) = {
                [LOAD_SUBMIT] = on_submitted,
                [LOAD_PROBE] = on_probed,
                [LOAD_PAY] = on_paid,
                [LOAD_WATCH] = on_seen,
                [LOAD_REFUND] = on_refunded,
                [LOAD_FIND_PAYOUT] = on_payout,
                [LOAD_MARK] = on_marked,
        };
        _cleanup_(freep) struct call *call = arg;
        struct load_job *j = &call->load->jobs[call->n];
        _cleanup_(freep) char *body = xstrndup(reply->body.s ? reply->body.s : "", reply->body.len);

        if (call->stage == j->stage)
                j->in_flight = false;
        if (reply->outcome != HTTP_ANSWERED)
                return;
        if (call->stage == j->stage)
                on[call->stage](call->load, j, reply->status, body);
        else if (call->stage == LOAD_SUBMIT) /* the second of two */
                on_submitted(call->load, j, reply->status, body);
}

/* --- calls --- */

static void call(struct load *l, size_t n, bool admin, const char *method, const char *path, const char *header, const char *body)
{
        struct call *c = xmalloc(sizeof(*c));
        char url[256];

        *c = (struct call){.load = l, .n = n, .stage = l->jobs[n].stage};
        snprintf(url, sizeof(url), "http://127.0.0.1:%ld%s", stack_port(l->stack, admin), path);
        l->jobs[n].in_flight = true;
        httpc_start(l->http, &(struct http_call){.method = method,
                                     .url = url,
                                     .headers = (const char *const[]){"Content-Type: application/json", admin ? l->token.s : header, NULL},
                                     .body = slice_of(body ? body : ""),
                                     .timeout_ms = CALL_MS,
                                     .answer_max = 1 << 20,
                                     .done = on_reply,
                                     .arg = c});
}

static void submission(const struct load_job *j, bool another, struct strbuf *b)
{
        strbuf_addf(b, "{\"type\":\"%s\",\"payload\":%s,\"context\":{\"priority\":\"%s\"%s}}", load_kinds[j->kind].type, j->payload, j->priority,
                another ? ",\"another\":true" : "");
}

static void send_submission(struct load *l, size_t n, bool another)
{
        struct load_job *j = &l->jobs[n];
        _cleanup_(strbuf_done) struct strbuf body = {0};
        int times = !another && fault_random_chance(&l->random, TWICE_ODDS) ? 2 : 1;
        char header[96], inbox[96];

        submission(j, another, &body);
        if (another || !j->by_bus) {
                snprintf(header, sizeof(header), "Idempotency-Key: %s", j->key);
                for (int i = 0; i < times; i++)
                        call(l, n, false, "POST", "/jobs", header, body.s);
                return;
        }
        for (int i = 0; i < times; i++)
                (void)bus_publish(l->bus, SUBMIT_SUBJECT, NULL,
                        (const struct bus_header[]){{"Idempotency-Key", j->key}, {"Content-Type", "application/json"}}, 2, body.s, body.len);
        if (j->wait_ms > 2 * FIRST_WAIT_MS) { /* the receipt may have been missed: ask for it */
                snprintf(inbox, sizeof(inbox), "_INBOX.%s.%s", l->run, j->key);
                (void)bus_publish(l->bus, QUERY_SUBJECT, inbox, NULL, 0, j->key, strlen(j->key));
        }
}

/* At the provider, once the intent is there. */
static void pay_provider(struct load *l, struct load_job *j, const char *id)
{
        if (!fake_provider_pay(l->provider, id, -1))
                return;
        j->pay_sent = j->paid = true;
        after_payment(l, j);
}

static void act(struct load *l, size_t n)
{
        struct load_job *j = &l->jobs[n];
        char path[128], body[200], id[UUID_TEXT_SIZE];

        uuid_format(&j->id, id);
        switch (j->stage) {
        case LOAD_SUBMIT:
        case LOAD_PROBE:
                send_submission(l, n, j->stage == LOAD_PROBE);
                break;
        case LOAD_PAY:
                if (l->provider) {
                        pay_provider(l, j, id);
                        break;
                }
                snprintf(path, sizeof(path), "/payment-intents/%s/confirm", id);
                snprintf(body, sizeof(body), "{\"reference\":\"pay %s\",\"by\":\"fault\"}", j->key);
                j->pay_sent = true;
                call(l, n, true, "POST", path, NULL, body);
                break;
        case LOAD_WATCH:
                snprintf(path, sizeof(path), "/jobs/%s", id);
                call(l, n, false, "GET", path, "Accept: application/json", NULL);
                break;
        case LOAD_REFUND:
                snprintf(path, sizeof(path), "/refunds/%s/confirm", id);
                snprintf(body, sizeof(body), "{\"reference\":\"refund %s\",\"by\":\"fault\"}", j->key);
                j->refund_sent = true;
                call(l, n, true, "POST", path, NULL, body);
                break;
        case LOAD_FIND_PAYOUT:
                snprintf(path, sizeof(path), "/payouts?job_id=%s", id);
                call(l, n, true, "GET", path, NULL, NULL);
                break;
        case LOAD_MARK:
                snprintf(body, sizeof(body), "{\"payout_id\":\"%s\",\"reference\":\"transfer %s\",\"by\":\"fault\"}", j->payout, j->key);
                j->mark_sent = true;
                call(l, n, true, "POST", "/payouts/mark", NULL, body);
                break;
        case LOAD_END:
                break;
        }
}

/* --- receipts on the bus --- */

static void hear(struct load *l, const struct bus_message *m)
{
        const char *dash = strrchr(m->subject, '-'), *digits = dash ? dash + 1 : "";
        size_t n = strtoul(digits, NULL, 10);
        _cleanup_(freep) char *text = xstrndup(m->data, m->len), *status = json_at(text, "status"), *id = NULL, *code = NULL;
        size_t prefix = strlen(l->run);
        const char *key = dash ? dash - prefix : m->subject;

        if (n >= l->n || key <= m->subject || strncmp(key, l->run, prefix) != 0 || !status)
                return; /* spoiled on its way */
        if (strcmp(status, "accepted") == 0) {
                id = json_at(text, "job_id");
                receipted(l, &l->jobs[n], id);
                return;
        }
        code = json_at(text, "problem.status");
        /* 400: what arrived was no JSON, because it was spoiled on its way; 404: a receipt was asked for before the job was there; 503: ask again */
        if (!code || (strcmp(code, "400") != 0 && strcmp(code, "404") != 0 && strcmp(code, "503") != 0))
                wrong(l, "%s: rejected: %s", l->jobs[n].key, text);
}

/* --- the life of the load --- */

void load_open(struct load *l, struct stack *stack, struct fake_provider *provider, struct bus *bus, struct desk *desk, uint64_t seed)
{
        char inbox[64];

        *l = (struct load){.stack = stack, .provider = provider, .bus = bus, .desk = desk, .random = {seed}};
        snprintf(l->run, sizeof(l->run), "f%x", (unsigned)seed);
        strbuf_addf(&l->token, "Authorization: Bearer %s", STACK_TOKEN);
        if (httpc_open(&l->http) < 0)
                die("load: no HTTP client");
        snprintf(inbox, sizeof(inbox), "_INBOX.%s.>", l->run);
        if (bus_subscribe(bus, RECEIPTS ">", NULL) < 0 || bus_subscribe(bus, inbox, NULL) < 0)
                die("load: cannot listen on the bus");
}

void load_done(struct load *l)
{
        l->http = httpc_free(l->http);
        strbuf_done(&l->token);
        free(l->jobs);
}

void load_submit(struct load *l, size_t kind)
{
        struct load_job *j;

        if (l->n == l->cap) {
                l->cap = l->cap ? 2 * l->cap : 1024;
                l->jobs = xrealloc(l->jobs, l->cap * sizeof(*l->jobs));
        }
        j = &l->jobs[l->n];
        load_make(j, l->run, l->n, kind, &l->random);
        l->n++;
        l->n_open++;
        enter(l, j, LOAD_SUBMIT);
}

void load_round(struct load *l)
{
        int64_t now = now_mono_ms();
        struct bus_message *m;

        httpc_run(l->http);
        while ((m = bus_next_plain(l->bus)) != NULL) {
                if (!desk_hear(l->desk, m))
                        hear(l, m);
                bus_drop(l->bus, m);
        }
        for (size_t i = 0; i < l->n; i++) {
                struct load_job *j = &l->jobs[i];

                if (j->stage == LOAD_END || j->in_flight || now < j->next_ms)
                        continue;
                act(l, i);
                j->next_ms = now + j->wait_ms;
                j->wait_ms = j->wait_ms * 2 < LONGEST_WAIT_MS ? j->wait_ms * 2 : LONGEST_WAIT_MS;
        }
}
