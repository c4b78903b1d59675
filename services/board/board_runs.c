/* Open runs at operators, and a person's word about one whose operator cannot say what came of it. The word is stored as evidence is: once, under its
 * reference; execution takes it for the operator's answer. A crash before the commit leaves nothing, after it the repeat finds the row. */
#include "board.h"
#include "board_runs_store.h"

#include <string.h>

#define PAGE 50

void board_get_runs(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        const char *state = http_query_arg(r, "state"), *job_id = http_query_arg(r, "job_id"), *cursor = http_query_arg(r, "after");
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid job, after;
        int64_t limit;
        int e;

        if ((state && strcmp(state, "calling") != 0 && strcmp(state, "accepted") != 0 && strcmp(state, "unknown") != 0) ||
                (job_id && !uuid_parse(job_id, strlen(job_id), &job)) || (cursor && !uuid_parse(cursor, strlen(cursor), &after)) ||
                !board_limit_parse(http_query_arg(r, "limit"), PAGE, &limit)) {
                http_answer_problem(r, 422, "invalid-query",
                        "state is calling, accepted or unknown, job_id the id of a job, after the `next` of the page before, limit a number from 1 "
                        "to 1000",
                        NULL);
                return;
        }
        e = board_runs(s->db, state, http_query_arg(r, "operator"), job_id ? &job : NULL, cursor ? &after : NULL, limit, &b);
        if (e < 0)
                board_fail(s, r, e);
        else
                board_answer(r, 200, &b);
}

static const struct {
        const char *verdict;
        int status;
        const char *slug, *detail;
} verdicts[] = {
        {"stored", 200, NULL, NULL},
        {"repeated", 200, NULL, NULL},
        {"unknown", 404, "unknown-run", "there is no such run"},
        {"conflict", 409, "decision-exists", "another decision stands for this run"},
        {"known", 409, "outcome-known", "what came of this run is known"},
        {"calling", 409, "under-way", "its call may still be under way"},
        {"askable", 409, "operator-answers", "its operator can be asked; a person decides only when the run is beyond its deadline"},
};

static void answer_decision(struct http_request *r, const struct uuid *id, const struct board_decision *d, const char *verdict)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        char text[UUID_TEXT_SIZE];
        size_t i = 0;

        while (i < ARRAY_SIZE(verdicts) && strcmp(verdicts[i].verdict, verdict) != 0)
                i++;
        if (i == ARRAY_SIZE(verdicts)) {
                http_answer_problem(r, 500, "internal-error", NULL, NULL);
                return;
        }
        if (verdicts[i].slug) {
                http_answer_problem(r, verdicts[i].status, verdicts[i].slug, verdicts[i].detail, NULL);
                return;
        }
        uuid_format(id, text);
        strbuf_addf(&b, "{\"run_id\":\"%s\",\"outcome\":\"%s\",\"reference\":", text, d->done ? "done" : "failed");
        strbuf_add_json(&b, d->reference, strlen(d->reference));
        strbuf_adds(&b, ",\"by\":");
        strbuf_add_json(&b, d->by, strlen(d->by));
        strbuf_addf(&b, ",\"status\":\"stored\"}");
        board_answer(r, 200, &b);
}

void board_resolve_run(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        const char *text = http_path_arg(r, 0);
        struct slice body = http_body(r);
        char verdict[16] = "unknown";
        struct board_decision d;
        struct board_problem p;
        struct uuid id = {0};
        int e = 0;

        if (!board_read_decision(body.s, body.len, &d, &p)) {
                board_refuse(r, &p);
                return;
        }
        if (uuid_parse(text, strlen(text), &id))
                e = board_decide_run(s->db, &id, &d, verdict);
        if (e == 0 && strcmp(verdict, "stored") == 0) /* before the answer, which ends the request and its texts */
                log_info("a person has decided what came of a run", LOG_S("run", text), LOG_S("by", d.by), LOG_S("reference", d.reference));
        if (e < 0)
                board_fail(s, r, e);
        else
                answer_decision(r, &id, &d, verdict);
        board_decision_done(&d);
}
