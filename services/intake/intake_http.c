/* The public HTTP interface: submissions are gathered for the round, everything else is one read. Nothing of a request reaches SQL but as a
 * parameter, and an id that is none is an unknown one. A crash loses open requests, nothing else. */
#include "base/util.h"
#include "http/http_route.h"
#include "http/sse.h"
#include "services/intake/dossier.h"
#include "services/intake/intake.h"
#include "services/intake/intake_event.h"
#include "services/intake/intake_store.h"
#include "services/intake/job_view.h"
#include "services/pricing/receipt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_DEFAULT 100
#define PAGE_MAX     1000

static struct intake_item *item_of(struct http_request *r)
{
        struct intake_item *item = xcalloc(1, sizeof(*item));

        item->request = r;
        item->async = http_prefers_async(r);
        item->client = xstrdup(INTAKE_CLIENT);
        if (http_header(r, "Idempotency-Key"))
                item->key = xstrdup(http_header(r, "Idempotency-Key"));
        return item;
}

static const char *event_header(const void *arg, const char *name)
{
        return http_header(arg, name);
}

static bool read_job(struct http_request *r, enum intake_form form, struct intake_submitted *ret_submitted, struct refusal *ret_refusal)
{
        struct slice body = http_body(r);

        switch (form) {
        case INTAKE_PLAIN:
                break;
        case INTAKE_STRUCTURED:
                return intake_read_structured(body.s, body.len, ret_submitted, ret_refusal);
        case INTAKE_BINARY:
                return intake_read_binary(event_header, r, body, ret_submitted, ret_refusal);
        case INTAKE_FOREIGN:
                return intake_refuse_foreign(ret_refusal);
        }
        return intake_read_job(body.s, body.len, false, ret_submitted, ret_refusal);
}

static void post_job(void *ctx, struct http_request *r)
{
        enum intake_form form = intake_form_of(http_header(r, "Content-Type"), http_header(r, "ce-specversion"));
        const char *key = http_header(r, "Idempotency-Key");
        _cleanup_(intake_submitted_done) struct intake_submitted submitted = {0};
        struct intake_item *item;

        /* An event names itself. */
        if (key ? !http_idempotency_key_valid(key) : form == INTAKE_PLAIN) {
                http_answer_problem(r, 400, key ? "idempotency-key-invalid" : "idempotency-key-missing", HTTP_IDEMPOTENCY_KEY_RULE, NULL);
                return;
        }
        item = item_of(r);
        item->event = form != INTAKE_PLAIN;
        if (read_job(r, form, &submitted, &item->refusal)) {
                if (!item->key)
                        item->key = xstrdup(submitted.key);
                intake_submit(ctx, item, &submitted, NULL);
        } else {
                intake_refuse(ctx, item, &item->refusal);
        }
}

static void post_purchase(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        struct intake_state *state = s->state;
        _cleanup_(intake_submitted_done) struct intake_submitted submitted = {0};
        _cleanup_(freep) char *id = xstrdup(http_path_arg(r, 0));
        const struct intake_offer *offer;
        struct intake_item *item;
        int e = intake_catalogue_fresh(s, false);

        if (e == 0 && !intake_offer_of(&state->catalogue, id))
                e = intake_catalogue_fresh(s, true);
        if (e < 0) {
                intake_answer_away(r);
                return;
        }
        offer = intake_offer_of(&state->catalogue, id);
        if (!offer) {
                http_answer_problem(r, 404, "unknown-offer", "there is no such offer", NULL);
                return;
        }
        item = item_of(r);
        item->offer = true;
        if (intake_read_parts(offer->type, http_body(r), slice_of(offer->context), &submitted, &item->refusal))
                intake_submit(s, item, &submitted, id);
        else
                intake_refuse(s, item, &item->refusal);
}

static void answer_unknown(struct http_request *r)
{
        http_answer_problem(r, 404, "not-found", "there is nothing under this address", NULL);
}

/* Answers a failed read. */
static void answer_failed(struct service *s, struct http_request *r, int e)
{
        if (e == -ENOTCONN || e == -EAGAIN) {
                intake_answer_away(r);
                return;
        }
        log_error("a read failed", LOG_S("error", db_error(s->db)));
        http_answer_problem(r, 500, "internal-error", NULL, NULL);
}

static bool path_id(const struct http_request *r, struct uuid *ret_id)
{
        const char *text = http_path_arg(r, 0);

        return uuid_parse(text, strlen(text), ret_id);
}

static void get_job_or_intent(struct service *s, struct http_request *r, bool intent)
{
        _cleanup_(PQclearp) PGresult *rows = NULL;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid id;
        int e;

        if (!path_id(r, &id)) {
                answer_unknown(r);
                return;
        }
        e = job_view_jobs(s->db, &id, 1, &rows);
        if (e < 0) {
                answer_failed(s, r, e);
                return;
        }
        if (PQntuples(rows) == 0 || (intent && !job_view_has_intent(rows, 0, 0))) {
                answer_unknown(r);
                return;
        }
        if (intent)
                job_view_add_intent(&b, rows, 0, 0);
        else
                job_view_add_job(&b, rows, 0, 0);
        http_answer_json(r, 200, b.s, b.len);
}

static void get_job(void *ctx, struct http_request *r)
{
        get_job_or_intent(ctx, r, false);
}

static void get_intent(void *ctx, struct http_request *r)
{
        get_job_or_intent(ctx, r, true);
}

/* A number from min to max; absent: `fallback`. */
static bool number_text(const char *text, int64_t fallback, int64_t min, int64_t max, int64_t *ret_n)
{
        char *end;

        *ret_n = fallback;
        if (!text)
                return true;
        errno = 0;
        *ret_n = strtoll(text, &end, 10);
        return errno == 0 && end != text && !*end && *ret_n >= min && *ret_n <= max;
}

/* How events are written; what cannot be is answered here. */
static bool form_text(struct http_request *r, enum job_view_form *ret_form)
{
        if (job_view_form_parse(http_query_arg(r, "format"), ret_form))
                return true;
        http_answer_problem(r, 400, "invalid-format", "format is event or cloudevents", NULL);
        return false;
}

static void get_events(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        enum job_view_form form;
        struct uuid id;
        int64_t after, limit;
        int e;

        if (!path_id(r, &id)) {
                answer_unknown(r);
                return;
        }
        if (!form_text(r, &form))
                return;
        if (!number_text(http_query_arg(r, "after"), 0, 0, INT32_MAX, &after)) {
                http_answer_problem(r, 400, "invalid-cursor", "after is the `next` of an earlier page", NULL);
                return;
        }
        if (!number_text(http_query_arg(r, "limit"), PAGE_DEFAULT, 1, PAGE_MAX, &limit)) {
                http_answer_problem(r, 400, "invalid-limit", "limit is a number from 1 to 1000", NULL);
                return;
        }
        e = job_view_events(s->db, &id, "job", after, limit, form, &b);
        if (e == -ENOENT)
                answer_unknown(r);
        else if (e < 0)
                answer_failed(s, r, e);
        else
                http_answer_json(r, 200, b.s, b.len);
}

static void stream_events(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        struct intake_stand stand = {0};
        const char *last = sse_last_id(r);
        enum job_view_form form;
        struct uuid id;
        int64_t after;
        int e;

        if (!path_id(r, &id)) {
                answer_unknown(r);
                return;
        }
        if (!form_text(r, &form))
                return;
        if (!number_text(last, 0, 0, INT32_MAX, &after)) {
                http_answer_problem(r, 400, "invalid-cursor", "Last-Event-ID or after is the id of an event of this stream", NULL);
                return;
        }
        e = intake_stands(s->db, &id, 1, &stand);
        if (e < 0)
                answer_failed(s, r, e);
        else if (stand.version == 0)
                answer_unknown(r);
        else
                intake_stream_job(s, r, &id, after, form, &stand);
}

static void get_dossier(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid id;
        int e = path_id(r, &id) ? dossier(s->db, &id, true, &b) : -ENOENT;

        if (e == -ENOENT)
                answer_unknown(r);
        else if (e < 0)
                answer_failed(s, r, e);
        else
                http_answer_json(r, 200, b.s, b.len);
}

static void get_offers(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        struct intake_state *state = s->state;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        int e = intake_catalogue_fresh(s, false);

        if (e < 0) {
                answer_failed(s, r, e);
                return;
        }
        intake_add_offers(&b, &state->catalogue);
        http_answer_json(r, 200, b.s, b.len);
}

static void get_receipt(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        char id_text[UUID_TEXT_SIZE];
        struct amount price;
        struct uuid id;
        const char *key = http_path_arg(r, 0);
        /* The key of an event follows from its source and id, which anybody may guess; and whoever has a receipt has the job. */
        bool tells = http_idempotency_key_valid(key) && strncmp(key, INTAKE_EVENT_KEY, strlen(INTAKE_EVENT_KEY)) != 0;
        int e = tells ? intake_find_key(s->db, INTAKE_CLIENT, key, &id, &price) : -ENOENT;

        if (e == -ENOENT) {
                answer_unknown(r);
                return;
        }
        if (e < 0) {
                answer_failed(s, r, e);
                return;
        }
        uuid_format(&id, id_text);
        if (price.currency[0])
                receipt_encode(&b, &(struct receipt){.job_id = id_text, .price = price}, false);
        else
                strbuf_addf(&b, "{\"status\":\"pending\",\"job_id\":\"%s\"}", id_text);
        http_answer_json(r, price.currency[0] ? 200 : 202, b.s, b.len);
}

static void get_health(void *ctx, struct http_request *r)
{
        static const char alive[] = "{\"status\":\"ok\"}";

        (void)ctx;
        http_answer_json(r, 200, alive, strlen(alive));
}

static void get_ready(void *ctx, struct http_request *r)
{
        static const char ready[] = "{\"status\":\"ready\"}";
        struct service *s = ctx;

        if (intake_ping(s->db) < 0)
                intake_answer_away(r);
        else
                http_answer_json(r, 200, ready, strlen(ready));
}

const struct http_route intake_routes[] = {
        {.method = "POST", .pattern = "/jobs", .handle = post_job},
        {.method = "POST", .pattern = "/buy/offer/{id}", .flags = HTTP_IDEMPOTENCY_KEY, .handle = post_purchase},
        {.method = "GET", .pattern = "/jobs/{id}", .handle = get_job},
        {.method = "GET", .pattern = "/jobs/{id}/events", .handle = get_events},
        {.method = "GET", .pattern = "/jobs/{id}/events/stream", .handle = stream_events},
        {.method = "GET", .pattern = "/jobs/{id}/dossier", .handle = get_dossier},
        {.method = "GET", .pattern = "/payment-intents/{id}", .handle = get_intent},
        {.method = "GET", .pattern = "/offers", .handle = get_offers},
        {.method = "GET", .pattern = "/receipts/{key}", .handle = get_receipt},
        {.method = "GET", .pattern = "/healthz", .handle = get_health},
        {.method = "GET", .pattern = "/readyz", .handle = get_ready},
        {0},
};
