/* One chain as a client drives it: submit (bus or HTTP), and confirm the payment by an explicit call as soon as the intent stands. Jobs, prices and
 * confirmations are real. */
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SUBMIT_SUBJECT "aethelos.job.submit.default"
#define INTENT_EVENTS  "aethelos.event.default.PAYMENT_INITIATED."
#define CONFIRMING_MAX 128 /* confirmations at once: a payer has so many connections, and not one for each payment */

int64_t wall_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_REALTIME, &t);
        return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Counts a refusal, and shows the first. */
static void refused(struct load *l, const char *what, const struct http_reply *reply)
{
        if (l->careful) {
                l->failed++;
                return;
        }
        if (l->refused++ == 0)
                fprintf(stderr, "load: the first %s refused: %d %s %.*s\n", what, reply->status, reply->why ? reply->why : "", (int)reply->body.len,
                        reply->body.s ? reply->body.s : "");
}

static void on_confirmed(void *arg, const struct http_reply *reply)
{
        struct load *l = arg;

        l->confirming--;
        if (reply->outcome == HTTP_ANSWERED && (reply->status == 200 || reply->status == 202))
                l->paid++;
        else
                refused(l, "payment", reply);
}

static void confirm(struct load *l, const char *intent)
{
        _cleanup_(strbuf_done) struct strbuf url = {0}, token = {0};
        static const char body[] = "{\"reference\":\"bench\",\"by\":\"bench\"}";

        strbuf_addf(&url, "%s/payment-intents/%s/confirm", l->admin_url, intent);
        strbuf_addf(&token, "Authorization: Bearer %s", l->token);
        l->confirming++;
        httpc_start(l->http, &(struct http_call){.method = "POST",
                                     .url = url.s,
                                     .headers = (const char *const[]){token.s, "Content-Type: application/json", "Prefer: respond-async", NULL},
                                     .body = slice_of(body),
                                     .timeout_ms = 30000,
                                     .answer_max = 1 << 20,
                                     .reuse = true,
                                     .done = on_confirmed,
                                     .arg = l});
}

void load_confirm(struct load *l)
{
        while (l->next_intent < l->n_intents && l->confirming < CONFIRMING_MAX)
                confirm(l, l->intents[l->next_intent++]);
        if (l->next_intent == l->n_intents)
                l->next_intent = l->n_intents = 0;
}

void load_owe(struct load *l, const char *intent)
{
        if (l->n_intents == l->cap_intents) {
                l->cap_intents = l->cap_intents ? 2 * l->cap_intents : 4096;
                l->intents = xrealloc(l->intents, l->cap_intents * sizeof(*l->intents));
        }
        snprintf(l->intents[l->n_intents++], sizeof(*l->intents), "%s", intent);
}

static void on_submitted(void *arg, const struct http_reply *reply)
{
        struct load *l = arg;
        _cleanup_(json_done) struct json_doc doc = {0};
        _cleanup_(freep) char *intent = NULL;
        struct json_error error;

        if (reply->outcome != HTTP_ANSWERED || json_parse(reply->body.s, reply->body.len, &doc, &error) < 0) {
                refused(l, "submission", reply);
                return;
        }
        intent = json_string(&doc, json_get(&doc, json_get(&doc, json_root(&doc), "payment_intent"), "id"), NULL);
        if (!intent) /* 202: the intent did not stand within 2 s; its event on the bus will say so */
                return;
        load_owe(l, intent);
}

void load_repeat(struct load *l, size_t i)
{
        _cleanup_(strbuf_done) struct strbuf body = {0}, key = {0}, header = {0}, url = {0};

        strbuf_addf(&key, "%s-%zu", l->run, i);
        /* Over the bus the key stands in the body, which spares the publisher, and the processors it shares with the stack, two headers. */
        strbuf_adds(&body, "{");
        if (l->by_bus)
                strbuf_addf(&body, "\"key\":\"%s\",", key.s);
        strbuf_addf(&body, "\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"Code 19: Initial global activation payload %zu.\"}}", i);
        if (l->by_bus) {
                if (bus_publish(l->bus, SUBMIT_SUBJECT, NULL, NULL, 0, body.s, body.len) < 0)
                        *(l->careful ? &l->failed : &l->refused) += 1;
                return;
        }
        strbuf_addf(&header, "Idempotency-Key: %s", key.s);
        strbuf_addf(&url, "%s/jobs", l->public_url);
        httpc_start(l->http, &(struct http_call){.method = "POST",
                                     .url = url.s,
                                     .headers = (const char *const[]){header.s, "Content-Type: application/json", NULL},
                                     .body = {body.s, body.len},
                                     .timeout_ms = 30000,
                                     .answer_max = 1 << 20,
                                     .reuse = true,
                                     .done = on_submitted,
                                     .arg = l});
}

void load_submit(struct load *l)
{
        if (l->n == l->cap) {
                l->cap = l->cap ? 2 * l->cap : 4096;
                l->jobs = xrealloc(l->jobs, l->cap * sizeof(*l->jobs));
        }
        l->jobs[l->n] = (struct load_job){.sent_us = wall_us()};
        load_repeat(l, l->n++);
}

void load_hear(struct load *l)
{
        struct bus_message *m;

        while ((m = bus_next_plain(l->bus)) != NULL) {
                if (strncmp(m->subject, INTENT_EVENTS, strlen(INTENT_EVENTS)) == 0)
                        load_owe(l, m->subject + strlen(INTENT_EVENTS));
                else if (l->careful)
                        load_careful_hear(l, m);
                bus_drop(l->bus, m);
        }
}
