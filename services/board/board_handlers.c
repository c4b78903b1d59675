/* The documents of the admin API: each request is one read, answered at once. Nothing but a second's metrics is kept between requests, so a crash
 * here costs the request alone. */
#include "board.h"
#include "board_store.h"
#include "services/intake/dossier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE       50
#define METRICS_MS 1000

struct board_problem board_failure(struct service *s, int e)
{
        if (e == -ENOTCONN || e == -EAGAIN)
                return (struct board_problem){503, "unavailable", "the store cannot be reached", ""};
        log_error("a request failed", LOG_S("error", db_error(s->db)), LOG_I("errno", -e));
        return (struct board_problem){500, "internal-error", NULL, ""};
}

void board_fail(struct service *s, struct http_request *r, int e)
{
        struct board_problem p = board_failure(s, e);

        board_refuse(r, &p);
}

void board_refuse(struct http_request *r, const struct board_problem *p)
{
        if (p->status == 503)
                http_set_header(r, "Retry-After", "1");
        http_answer_problem(r, p->status, p->slug, p->detail, p->field[0] ? p->field : NULL);
}

void board_answer(struct http_request *r, int status, const struct strbuf *b)
{
        http_answer_json(r, status, b->s, b->len);
}

static void refuse_query(struct http_request *r, const char *detail)
{
        http_answer_problem(r, 422, "invalid-query", detail, NULL);
}

void board_get_healthz(void *ctx, struct http_request *r)
{
        (void)ctx;
        http_answer_json(r, 200, "{\"status\":\"ok\"}", strlen("{\"status\":\"ok\"}"));
}

void board_get_readyz(void *ctx, struct http_request *r)
{
        static const char sql[] = "SELECT 1";
        struct service *s = ctx;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        int e = db_run(s->db, sql, NULL, NULL); /* asked, not remembered */

        if (e < 0) {
                board_fail(s, r, e);
                return;
        }
        strbuf_addf(&b, "{\"status\":\"ready\",\"database\":true,\"bus\":%s}", bus_connected(s->bus) ? "true" : "false");
        board_answer(r, 200, &b);
}

static void document(struct service *s, struct http_request *r, int (*make)(struct db *db, struct strbuf *b))
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        int e = make(s->db, &b);

        if (e < 0)
                board_fail(s, r, e);
        else
                board_answer(r, 200, &b);
}

void board_get_metrics(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        struct board_state *state = s->state;
        int64_t now = now_mono_ms();
        int e = 0;

        /* Without a token anybody near may ask, however often: it is looked up once for all of them. */
        if (!state->metrics_ms || now - state->metrics_ms >= METRICS_MS) {
                strbuf_reset(&state->metrics);
                e = board_metrics(s->db, &state->metrics);
                state->metrics_ms = e == 0 ? now : 0;
        }
        if (e < 0)
                board_fail(s, r, e);
        else
                http_answer(r, 200, "text/plain; version=0.0.4; charset=utf-8", state->metrics.s, state->metrics.len);
}

void board_get_overview(void *ctx, struct http_request *r)
{
        document(ctx, r, board_overview);
}

void board_get_revenue(void *ctx, struct http_request *r)
{
        document(ctx, r, board_revenue);
}

void board_get_payouts_summary(void *ctx, struct http_request *r)
{
        document(ctx, r, board_payouts_summary);
}

void board_get_payouts(void *ctx, struct http_request *r)
{
        static const struct {
                const char *status, *step;
        } known[] = {{"earned", "PAYOUT_EARNED"}, {"ready", "PAYOUT_READY"}, {"done", "PAYOUT_DONE"}};
        struct service *s = ctx;
        const char *status = http_query_arg(r, "status"), *job_id = http_query_arg(r, "job_id"), *cursor = http_query_arg(r, "after"), *step = NULL;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid job, after;
        int64_t limit;
        int e;

        for (size_t i = 0; status && i < ARRAY_SIZE(known); i++)
                if (strcmp(status, known[i].status) == 0)
                        step = known[i].step;
        if (status && !step) {
                refuse_query(r, "status is earned, ready or done");
                return;
        }
        if (job_id && !uuid_parse(job_id, strlen(job_id), &job)) {
                refuse_query(r, "job_id is the id of a job");
                return;
        }
        if ((cursor && !uuid_parse(cursor, strlen(cursor), &after)) || !board_limit_parse(http_query_arg(r, "limit"), PAGE, &limit)) {
                refuse_query(r, "after is the `next` of the page before, limit a number from 1 to 1000");
                return;
        }
        e = board_payouts(s->db, step, job_id ? &job : NULL, cursor ? &after : NULL, limit, &b);
        if (e < 0)
                board_fail(s, r, e);
        else
                board_answer(r, 200, &b);
}

void board_get_refunds(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        const char *cursor = http_query_arg(r, "after");
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid after = {0};
        int64_t limit;
        int e;

        if ((cursor && !uuid_parse(cursor, strlen(cursor), &after)) || !board_limit_parse(http_query_arg(r, "limit"), PAGE, &limit)) {
                refuse_query(r, "after is the `next` of the page before, limit a number from 1 to 1000");
                return;
        }
        e = board_refunds(s->db, &after, limit, &b);
        if (e < 0)
                board_fail(s, r, e);
        else
                board_answer(r, 200, &b);
}

void board_get_events(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        const char *after = http_query_arg(r, "after"), *since = http_query_arg(r, "since"), *chain = http_query_arg(r, "chain");
        _cleanup_(strbuf_done) struct strbuf b = {0};
        enum job_view_form form;
        struct board_cursor c;
        struct uuid id;
        int64_t limit;
        int e;

        if ((after && since) || ((after || since) && !board_cursor_parse(after ? after : since, &c)) ||
                (chain && !uuid_parse(chain, strlen(chain), &id)) || !board_limit_parse(http_query_arg(r, "limit"), PAGE, &limit) ||
                !job_view_form_parse(http_query_arg(r, "format"), &form)) {
                refuse_query(r,
                        "after is the `next` of the page before, or since the `latest` of one; chain is the id of a job, payout, task or issue; "
                        "limit is a number from 1 to 1000; format is event or cloudevents");
                return;
        }
        e = board_events(s->db, chain ? &id : NULL, after ? &c : NULL, since ? &c : NULL, limit, form, &b);
        if (e < 0)
                board_fail(s, r, e);
        else
                board_answer(r, 200, &b);
}

void board_get_quarantine(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        const char *after = http_query_arg(r, "after");
        _cleanup_(strbuf_done) struct strbuf b = {0};
        int64_t limit, from = INT64_MAX;
        size_t digits = after ? strspn(after, "0123456789") : 0;
        int e;

        if ((after && (digits < 1 || digits > 18 || after[digits])) || !board_limit_parse(http_query_arg(r, "limit"), PAGE, &limit)) {
                refuse_query(r, "after is the `next` of the page before, limit a number from 1 to 1000");
                return;
        }
        if (after)
                from = strtoll(after, NULL, 10);
        e = board_quarantine(s->db, from, limit, &b);
        if (e < 0)
                board_fail(s, r, e);
        else
                board_answer(r, 200, &b);
}

static void answer_job(struct service *s, struct http_request *r, int (*make)(struct db *db, const struct uuid *id, struct strbuf *b))
{
        const char *text = http_path_arg(r, 0);
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid id;
        int e = uuid_parse(text, strlen(text), &id) ? make(s->db, &id, &b) : -ENOENT;

        if (e == -ENOENT)
                http_answer_problem(r, 404, "unknown-job", "there is no such job", NULL);
        else if (e < 0)
                board_fail(s, r, e);
        else
                board_answer(r, 200, &b);
}

void board_get_job(void *ctx, struct http_request *r)
{
        answer_job(ctx, r, board_job);
}

static int whole_dossier(struct db *db, const struct uuid *id, struct strbuf *b)
{
        return dossier(db, id, false, b);
}

void board_get_dossier(void *ctx, struct http_request *r)
{
        answer_job(ctx, r, whole_dossier);
}
