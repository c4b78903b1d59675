/* Calls to outside operators and queries for the outcome of runs, over HTTP or on the bus.
 *
 * Invariant: nothing is called for a run that is not committed; an answer is never acted upon here, it only joins the list of those that wait for
 * their commit. A crash while a call is under way leaves an open run with a lease. */
#include "services/execution/execution.h"

#include "base/crashpoint.h"
#include "proto/encoding.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATUS_ANSWER_EXTRA 65536 /* bytes around the output */

struct execution_slot *execution_slot(struct execution_state *state, const char *name)
{
        struct execution_slot *slot = state->slots;

        while (slot && strcmp(slot->name, name) != 0)
                slot = slot->next;
        if (!slot) {
                slot = xcalloc(1, sizeof(*slot));
                slot->name = xstrdup(name);
                slot->limit = INT64_MAX;
                slot->next = state->slots;
                state->slots = slot;
        }
        return slot;
}

int64_t execution_backoff(struct execution_state *state, int probes)
{
        return execution_backoff_ms(probes, erand48(state->jitter));
}

struct execution_run *execution_run_free(struct execution_run *run)
{
        if (run) {
                execution_answer_done(&run->answer);
                free(run->evidence);
                free(run->reply);
                free(run->who);
                free(run);
        }
        return NULL;
}

void execution_run_ended(struct execution_run *run)
{
        struct execution_state *state = run->service->state;

        run->took_ms = run->age_ms + now_mono_ms() - run->taken_mono_ms;
        run->next = NULL;
        *state->ended_tail = run;
        state->ended_tail = &run->next;
        state->n_ended++;
}

/* What came of a call is known as far as it will be. */
static void call_ended(struct execution_run *run, const struct execution_reply *reply,
        void (*read)(const struct execution_reply *reply, bool clean, struct execution_answer *ret_answer))
{
        CRASH_POINT("execution: after call");
        run->slot->in_flight--;
        read(reply, run->clean, &run->answer);
        execution_run_ended(run);
}

static void query_ended(struct execution_run *run, const struct execution_reply *reply)
{
        struct execution_slot *slot = execution_slot(run->service->state, run->who);

        CRASH_POINT("execution: after status query");
        execution_read_status(reply, run->call_over, &run->answer);
        slot->queries--;
        slot->answers = run->answer.verdict != EXECUTION_UNKNOWN || run->answer.answered;
        execution_run_ended(run);
}

/* --- over HTTP --- */

static struct execution_reply of_http(const struct http_reply *reply)
{
        return (struct execution_reply){
                .kind = reply->outcome == HTTP_ANSWERED   ? EXECUTION_REPLY_ANSWERED
                        : reply->outcome == HTTP_NOT_SENT ? EXECUTION_REPLY_NOT_SENT
                                                          : EXECUTION_REPLY_LOST,
                .status = reply->status,
                .body = reply->body,
                .why = reply->why,
        };
}

static void on_http_answer(void *arg, const struct http_reply *reply)
{
        struct execution_reply plain = of_http(reply);

        call_ended(arg, &plain, execution_read_call);
}

static void on_http_status(void *arg, const struct http_reply *reply)
{
        struct execution_reply plain = of_http(reply);

        query_ended(arg, &plain);
}

static void call_http(struct service *s, const struct execution_operator *op, struct execution_run *run, const struct strbuf *body)
{
        const struct execution_config *config = s->config;
        struct execution_state *state = s->state;
        char id[UUID_TEXT_SIZE], key[64];
        const char *headers[] = {"Content-Type: application/json", key, NULL};

        uuid_format(&run->id, id);
        snprintf(key, sizeof(key), "Idempotency-Key: %s", id);
        httpc_start(state->http, &(struct http_call){.method = "POST",
                                         .url = op->url,
                                         .headers = headers,
                                         .body = {body->s, body->len},
                                         .timeout_ms = op->timeout_ms,
                                         .answer_max = (size_t)config->output_max,
                                         .done = on_http_answer,
                                         .arg = run});
}

static void ask_http(struct service *s, const struct execution_operator *op, struct execution_run *run)
{
        const struct execution_config *config = s->config;
        struct execution_state *state = s->state;
        _cleanup_(strbuf_done) struct strbuf url = {0};

        execution_status_url(&url, op->status_url, &run->id);
        httpc_start(state->http, &(struct http_call){.method = "GET",
                                         .url = url.s,
                                         .timeout_ms = config->status_timeout_ms,
                                         .answer_max = (size_t)config->output_max + STATUS_ANSWER_EXTRA,
                                         .done = on_http_status,
                                         .arg = run});
}

/* --- on the bus --- */

static struct execution_reply of_bus(const struct execution_run *run, const struct bus_reply *reply)
{
        const struct execution_config *config = run->service->config;

        if (reply->body.len > (size_t)config->output_max + STATUS_ANSWER_EXTRA)
                return (struct execution_reply){.kind = EXECUTION_REPLY_LOST, .why = "the answer is too long"};
        return (struct execution_reply){
                .kind = reply->outcome == BUS_ANSWERED   ? EXECUTION_REPLY_ANSWERED
                        : reply->outcome == BUS_NOT_SENT ? EXECUTION_REPLY_NOT_SENT
                                                         : EXECUTION_REPLY_LOST,
                .status = 200,
                .protobuf = run->protobuf,
                .body = reply->body,
                .why = reply->why,
        };
}

static void on_bus_answer(void *arg, const struct bus_reply *reply)
{
        struct execution_reply plain = of_bus(arg, reply);

        call_ended(arg, &plain, execution_read_bus_call);
}

static void on_bus_status(void *arg, const struct bus_reply *reply)
{
        struct execution_reply plain = of_bus(arg, reply);

        query_ended(arg, &plain);
}

static void request(struct service *s, const char *subject, const struct strbuf *body, int64_t timeout_ms,
        void (*done)(void *arg, const struct bus_reply *reply), struct execution_run *run)
{
        bus_call(s->bus, &(struct bus_call){.subject = subject,
                                 .headers = &(struct bus_header){"Content-Type", encoding_content_type(run->protobuf)},
                                 .n_headers = 1,
                                 .body = {body->s, body->len},
                                 .timeout_ms = timeout_ms,
                                 .done = done,
                                 .arg = run});
}

static void call_bus(struct service *s, const struct execution_operator *op, struct execution_run *run, const struct strbuf *body)
{
        request(s, op->url, body, op->timeout_ms, on_bus_answer, run);
}

static void ask_bus(struct service *s, const struct execution_operator *op, struct execution_run *run)
{
        const struct execution_config *config = s->config;
        _cleanup_(strbuf_done) struct strbuf body = {0};

        execution_question_body(&body, &run->id, run->protobuf);
        request(s, op->status_url, &body, config->status_timeout_ms, on_bus_status, run);
}

/* --- both --- */

static const struct {
        void (*call)(struct service *s, const struct execution_operator *op, struct execution_run *run, const struct strbuf *body);
        void (*ask)(struct service *s, const struct execution_operator *op, struct execution_run *run);
} transports[] = {
        [EXECUTION_HTTP] = {call_http, ask_http},
        [EXECUTION_BUS] = {call_bus, ask_bus},
};

static void hold(struct service *s, const struct execution_operator *op, struct execution_run *run)
{
        run->service = s;
        run->who = xstrdup(op->name);
        run->protobuf = op->protobuf;
        run->taken_mono_ms = now_mono_ms();
}

void execution_start_call(struct service *s, const struct execution_operator *op, struct execution_run *run, const struct execution_call *call)
{
        struct execution_call full = *call;
        _cleanup_(strbuf_done) struct strbuf body = {0};

        hold(s, op, run);
        run->slot = execution_slot(s->state, op->name);
        /* Whoever stood still since the commit may find that others have asked the operator meanwhile and acted on its "never heard of it". */
        if (!execution_in_time(now_mono_ms() - run->lease_mono_ms, EXECUTION_LEASE_MARGIN_MS)) {
                run->slot->in_flight--;
                execution_read_call(&(struct execution_reply){.kind = EXECUTION_REPLY_NOT_SENT, .why = "held up until it was too late to call"},
                        run->clean, &run->answer);
                execution_run_ended(run);
                return;
        }
        full.token = run->sends;
        full.lease_ms = op->transport == EXECUTION_BUS ? op->lease_ms : 0;
        (op->protobuf ? execution_call_message : execution_call_body)(&body, &full);
        CRASH_POINT("execution: before call");
        transports[op->transport].call(s, op, run, &body);
}

void execution_start_query(struct service *s, const struct execution_operator *op, struct execution_run *run)
{
        hold(s, op, run);
        execution_slot(s->state, op->name)->queries++;
        CRASH_POINT("execution: before status query");
        transports[op->transport].ask(s, op, run);
}
