/* Subscriptions of webhooks: made, shown, enabled again, removed; and what was delivered. A crash before the answer of POST leaves a subscription
 * whose secret nobody knows: it is seen in the list, and removed. */
#include "board.h"
#include "board_webhooks_store.h"
#include "http/httpc.h"
#include "services/webhooks/webhook_sign.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 50

static void webhook_done(struct board_webhook *w)
{
        free(w->url);
        free(w->client);
        for (size_t i = 0; i < w->n_types; i++)
                free(w->types[i]);
}

static bool read_types(const struct json_doc *doc, struct board_webhook *w)
{
        json_value list = json_get(doc, json_root(doc), "types");

        if (!list)
                return true;
        if (!json_is(list, JSON_ARRAY) || list->n > ARRAY_SIZE(w->types))
                return false;
        for (json_value v = json_first(doc, list); v; v = json_after(doc, list, v)) {
                char *type = json_string(doc, v, NULL);

                if (!type)
                        return false;
                w->types[w->n_types++] = type;
        }
        return true;
}

/* NULL, or what is wrong, and where. */
static const char *read_webhook(const struct json_doc *doc, struct board_webhook *w, const char **ret_field)
{
        static const char *const names[] = {"url", "types", "client", "format"};
        json_value root = json_root(doc), client, format;

        *ret_field = "";
        if (!json_is(root, JSON_OBJECT))
                return "the body must be an object";
        for (json_value name = json_first(doc, root); name; name = json_after(doc, root, json_after(doc, root, name))) {
                size_t i = 0;

                while (i < ARRAY_SIZE(names) && !json_string_is(doc, name, names[i]))
                        i++;
                if (i == ARRAY_SIZE(names))
                        return "a webhook has the members url, types, client and format";
        }
        *ret_field = "/url";
        w->url = json_string(doc, json_get(doc, root, "url"), NULL);
        if (!w->url || strlen(w->url) > 2000 || http_url_check(w->url) < 0)
                return "an http or https URL with a host and without a user name";
        *ret_field = "/types";
        if (!read_types(doc, w))
                return "an array of at most 32 types of events";
        *ret_field = "/client";
        client = json_get(doc, root, "client");
        if (client && !json_is(client, JSON_NULL)) {
                w->client = json_string(doc, client, NULL);
                if (!w->client || !*w->client || strlen(w->client) > 128)
                        return "a client: a string of 1 to 128 characters";
        }
        *ret_field = "/format";
        format = json_get(doc, root, "format");
        w->cloudevents = json_string_is(doc, format, "cloudevents");
        return !format || json_is(format, JSON_NULL) || w->cloudevents || json_string_is(doc, format, "event") ? NULL : "event or cloudevents";
}

static void answer_webhook(struct service *s, struct http_request *r, int status, const struct board_webhook *w)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        int e = board_webhooks(s->db, &w->id, &b);

        if (e < 0) {
                board_fail(s, r, e);
                return;
        }
        b.len--; /* the closing brace */
        strbuf_addf(&b, ",\"secret\":\"%s\"}", w->secret);
        board_answer(r, status, &b);
        explicit_bzero(b.s, b.len);
}

void board_post_webhook(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        struct slice body = http_body(r);
        _cleanup_(json_done) struct json_doc doc = {0};
        _cleanup_(strbuf_done) struct strbuf secret = {0};
        _cleanup_(webhook_done) struct board_webhook w = {.id = uuid_v7()};
        const char *fault, *field;
        struct json_error error;
        int e;

        if (json_parse(body.s, body.len, &doc, &error) < 0) {
                http_answer_problem(r, 400, "invalid-json", error.why, NULL);
                return;
        }
        fault = read_webhook(&doc, &w, &field);
        if (fault) {
                http_answer_problem(r, 422, "invalid-value", fault, field);
                return;
        }
        e = webhook_secret_new(&secret);
        w.secret = secret.s;
        if (e == 0)
                e = board_webhook_add(s->db, &w);
        if (e == -EDOM)
                http_answer_problem(r, 422, "unknown-event", "there is no such event; proto/events.md lists them", "/types");
        else if (e == -ENOSPC)
                http_answer_problem(r, 409, "too-many-webhooks", "there are as many webhooks as there may be: 64", NULL);
        else if (e < 0)
                board_fail(s, r, e);
        else
                answer_webhook(s, r, 201, &w);
        explicit_bzero(secret.s, secret.len);
}

void board_get_webhooks(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        int e = board_webhooks(s->db, NULL, &b);

        if (e < 0)
                board_fail(s, r, e);
        else
                board_answer(r, 200, &b);
}

static bool path_webhook(struct http_request *r, struct uuid *ret_id)
{
        const char *text = http_path_arg(r, 0);

        return uuid_parse(text, strlen(text), ret_id);
}

/* Answers what is about one subscription: with the document, or where there is none with the subscription. */
static void answer_about(struct service *s, struct http_request *r, int e, struct strbuf *document, const struct uuid *id)
{
        if (e == 0 && document->len == 0)
                e = board_webhooks(s->db, id, document);
        if (e == -ENOENT)
                http_answer_problem(r, 404, "unknown-webhook", "there is no such webhook, or no such delivery of it", NULL);
        else if (e < 0)
                board_fail(s, r, e);
        else
                board_answer(r, 200, document);
}

void board_delete_webhook(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid id;
        int e = path_webhook(r, &id) ? board_webhook_remove(s->db, &id) : -ENOENT;

        strbuf_adds(&b, "{}");
        answer_about(s, r, e, &b, &id);
}

void board_enable_webhook(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid id;
        int e = path_webhook(r, &id) ? board_webhook_enable(s->db, &id) : -ENOENT;

        answer_about(s, r, e, &b, &id);
}

#define KEEP_S     86400 /* an old secret signs for so long, unless it is said */
#define KEEP_MAX_S 2592000

/* {"keep_s"}, or nothing. NULL, or what is wrong. */
static const char *read_keep(struct slice body, int64_t *ret_keep_s)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;
        json_value root, keep;

        *ret_keep_s = KEEP_S;
        if (body.len == 0)
                return NULL;
        if (json_parse(body.s, body.len, &doc, &error) < 0)
                return "";
        root = json_root(&doc);
        keep = json_is(root, JSON_OBJECT) ? json_get(&doc, root, "keep_s") : NULL;
        if (!json_is(root, JSON_OBJECT) || root->n > (keep != NULL))
                return "the body has the member keep_s alone, or none";
        if (keep && (json_int64(&doc, keep, ret_keep_s) < 0 || *ret_keep_s < 0 || *ret_keep_s > KEEP_MAX_S))
                return "keep_s: seconds, from 0 to 2592000";
        return NULL;
}

void board_rotate_webhook(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        _cleanup_(strbuf_done) struct strbuf secret = {0};
        struct board_webhook w = {0};
        int64_t keep_s;
        const char *fault = read_keep(http_body(r), &keep_s);
        int e;

        if (fault) {
                http_answer_problem(
                        r, *fault ? 422 : 400, *fault ? "invalid-value" : "invalid-json", *fault ? fault : NULL, *fault ? "/keep_s" : NULL);
                return;
        }
        e = path_webhook(r, &w.id) ? webhook_secret_new(&secret) : -ENOENT;
        w.secret = secret.s;
        if (e == 0)
                e = board_webhook_rotate(s->db, &w.id, w.secret, keep_s);
        if (e == -ENOENT)
                http_answer_problem(r, 404, "unknown-webhook", "there is no such webhook", NULL);
        else if (e == -ENOSPC)
                http_answer_problem(
                        r, 409, "too-many-secrets", "three old secrets still sign; wait until one's time is over, or end them with keep_s 0", NULL);
        else if (e < 0)
                board_fail(s, r, e);
        else
                answer_webhook(s, r, 200, &w);
        if (secret.len > 0)
                explicit_bzero(secret.s, secret.len);
}

/* A number of a delivery; NULL: behind all of them. */
static bool delivery_number(const char *text, int64_t *ret_n)
{
        size_t digits = text ? strspn(text, "0123456789") : 0;

        *ret_n = INT64_MAX;
        if (!text)
                return true;
        if (digits < 1 || digits > 18 || text[digits])
                return false;
        *ret_n = strtoll(text, NULL, 10);
        return true;
}

void board_get_deliveries(void *ctx, struct http_request *r)
{
        static const char *const states[] = {"pending", "delivered", "failed"};
        struct service *s = ctx;
        const char *state = http_query_arg(r, "state");
        _cleanup_(strbuf_done) struct strbuf b = {0};
        int64_t before, limit;
        struct uuid id;
        size_t i = 0;

        while (state && i < ARRAY_SIZE(states) && strcmp(state, states[i]) != 0)
                i++;
        if (i == ARRAY_SIZE(states) || !delivery_number(http_query_arg(r, "after"), &before) ||
                !board_limit_parse(http_query_arg(r, "limit"), PAGE, &limit)) {
                http_answer_problem(r, 422, "invalid-query",
                        "state is pending, delivered or failed; after is the `next` of the page before, limit a number from 1 to 1000", NULL);
                return;
        }
        answer_about(s, r, path_webhook(r, &id) ? board_deliveries(s->db, &id, state, before, limit, &b) : -ENOENT, &b, &id);
}

void board_redeliver_webhook(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        int64_t delivery;
        struct uuid id;
        int e = path_webhook(r, &id) && delivery_number(http_path_arg(r, 1), &delivery) ? board_redeliver(s->db, &id, delivery) : -ENOENT;

        answer_about(s, r, e, &b, &id);
}
