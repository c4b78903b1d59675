/* One chain as a client drives it: submit (bus or HTTP), and confirm the payment by an explicit call, with the others that are owed, as soon as the
 * intent stands. Jobs, prices and confirmations are real. */
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
#define CONFIRMING_MAX 4   /* requests at once, as a system that collects payments has: what is owed meanwhile goes along with the next one */
#define PAYMENTS_MAX   256 /* of one request */

int64_t wall_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_REALTIME, &t);
        return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Counts refusals, and shows the first. */
static void refused(struct load *l, const char *what, const struct http_reply *reply, size_t n)
{
        bool first = l->refused == 0;

        if (l->careful) {
                l->failed += n;
                return;
        }
        l->refused += n;
        if (first && n > 0)
                fprintf(stderr, "load: the first %s refused: %d %s %.*s\n", what, reply->status, reply->why ? reply->why : "", (int)reply->body.len,
                        reply->body.s ? reply->body.s : "");
}

/* How many payments of an answer are confirmed or stored; 0 when it is none. */
static size_t count_paid(const struct http_reply *reply)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;
        json_value items;
        size_t n = 0;

        if (reply->outcome != HTTP_ANSWERED || (reply->status != 200 && reply->status != 202) ||
                json_parse(reply->body.s, reply->body.len, &doc, &error) < 0)
                return 0;
        items = json_get(&doc, json_root(&doc), "items");
        for (json_value v = items ? json_first(&doc, items) : NULL; v; v = json_after(&doc, items, v))
                n += !json_string_is(&doc, json_get(&doc, v, "status"), "refused");
        return n;
}

/* A request under way. */
struct confirmation {
        struct load *load;
        size_t n; /* payments */
};

/* What was not stored, with a request that failed all of it, is refused; careful, it is still owed. */
static void on_confirmed(void *arg, const struct http_reply *reply)
{
        struct confirmation *c = arg;
        size_t paid = count_paid(reply);

        c->load->confirming--;
        c->load->paid += paid;
        refused(c->load, "payment", reply, c->n - paid);
        free(c);
}

static void confirm(struct load *l, char (*intents)[40], size_t n)
{
        _cleanup_(strbuf_done) struct strbuf url = {0}, token = {0}, body = {0};
        struct confirmation *c = xcalloc(1, sizeof(*c));

        *c = (struct confirmation){l, n};
        strbuf_adds(&body, "{\"by\":\"bench\"");
        for (size_t i = 0; i < n; i++)
                strbuf_addf(&body, "%s{\"id\":\"%s\",\"reference\":\"bench\"}", i > 0 ? "," : ",\"items\":[", intents[i]);
        strbuf_adds(&body, "]}");
        strbuf_addf(&url, "%s/payment-intents/confirm", l->admin_url);
        strbuf_addf(&token, "Authorization: Bearer %s", l->token);
        l->confirming++;
        httpc_start(l->http, &(struct http_call){.method = "POST",
                                     .url = url.s,
                                     .headers = (const char *const[]){token.s, "Content-Type: application/json", "Prefer: respond-async", NULL},
                                     .body = {body.s, body.len},
                                     .timeout_ms = 30000,
                                     .answer_max = 1 << 20,
                                     .reuse = true,
                                     .done = on_confirmed,
                                     .arg = c});
}

void load_confirm(struct load *l)
{
        while (l->next_intent < l->n_intents && l->confirming < CONFIRMING_MAX) {
                size_t owed = l->n_intents - l->next_intent, n = owed < PAYMENTS_MAX ? owed : PAYMENTS_MAX;

                confirm(l, l->intents + l->next_intent, n);
                l->next_intent += n;
        }
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
                refused(l, "submission", reply, 1);
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
