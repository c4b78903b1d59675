/* A job is explained wherever it stands: for whom it waits, what happens next, what a person may do, and in the end why it ended. The overview counts
 * it as what it is. */
#include "base/util.h"
#include "tests/support/whole_stack.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/asserts.h"

#define TEXT_JOB "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"Code 19\"}}"
#define WORD     "{\"reference\":\"slip 4711\",\"by\":\"anna\"}"

static char *ask(bool admin, const char *method, const char *path, const char *const headers[], const char *body, long wanted)
{
        return ask_stack(stack, admin, method, path, headers, body, wanted);
}

static char *new_job(const char *key, const char *body)
{
        char header[80];
        long status = 0;

        snprintf(header, sizeof(header), "Idempotency-Key: %s", key);
        _cleanup_(freep) char *made = stack_http(stack, false, "POST", "/jobs", (const char *const[]){header, NULL}, body, &status);
        char *id = json_at(made, "job.id");

        assert_non_null(id);
        return id;
}

static void post_word(const char *what, const char *id)
{
        char path[128];

        snprintf(path, sizeof(path), "/%s/%s/confirm", what, id);
        free(ask(true, "POST", path, NULL, WORD, 200));
}

static char *dossier(bool admin, const char *id)
{
        char path[128];

        snprintf(path, sizeof(path), "/jobs/%s/dossier", id);
        return ask(admin, "GET", path, NULL, NULL, 200);
}

static void assert_overview(const char *member, const char *value)
{
        _cleanup_(freep) char *overview = ask(true, "GET", "/status/overview", NULL, NULL, 200);

        assert_at(overview, member, value);
}

/* Asks for one id. Inside, what belongs to a job leads to the dossier of the job, and outside nothing does but its own. */
static void assert_leads_to(const char *job, const char *sql)
{
        _cleanup_(freep) char *id = pg_fixture_ask(stack->pg, sql), *told = dossier(true, id);
        char path[128];

        assert_at(told, "job.id", job);
        snprintf(path, sizeof(path), "/jobs/%s/dossier", id);
        free(ask(false, "GET", path, NULL, NULL, 404));
}

static void unpaid_then_done(void **state)
{
        _cleanup_(freep) char *id = new_job("explained-1", TEXT_JOB);
        char sql[200];

        (void)state;
        await_step(id, "PAYMENT_INITIATED");
        _cleanup_(freep) char *unpaid = dossier(false, id), *at = json_at(unpaid, "waits.next.at"), *late = json_at(unpaid, "waits.late_at");
        assert_at(unpaid, "job.id", id);
        assert_at(unpaid, "waits.for", "payer");
        assert_int_equal(at[strlen(at) - 1], 'Z');
        assert_int_equal(late[strlen(late) - 1], 'Z');
        assert_at(unpaid, "may.0.what", "confirm_payment");
        assert_at(unpaid, "may.1.what", "close");
        assert_at(unpaid, "held", "null");
        post_word("payment-intents", id);
        snprintf(sql, sizeof(sql), "SELECT step FROM chain WHERE parent = '%s'", id);
        stack_await(stack, sql, "PAYOUT_READY", 20000);
        /* The job is over; its payout waits. */
        _cleanup_(freep) char *done = dossier(true, id);
        assert_at(done, "job.status", "completed");
        assert_at(done, "waits.for", "person");
        assert_at(done, "waits.step", "PAYOUT_READY");
        assert_at(done, "may.0.what", "mark_payout");
        assert_at(done, "held.minor", "0");
        assert_at(done, "end", "null");
        assert_at(done, "journal.0.event", "PAYMENT_CONFIRMED");
        assert_at(done, "timeline.0.type", "JOB_CREATED");
        assert_at(done, "timeline.5.data.evidence.who", "anna");
        snprintf(sql, sizeof(sql), "SELECT id FROM chain WHERE parent = '%s'", id);
        assert_leads_to(id, sql);
        assert_overview("jobs_completed", "1");
        assert_overview("payouts_ready", "1");
        assert_overview("revenue.0.count", "1");
}

static void failed_and_refunded(void **state)
{
        _cleanup_(freep) char *id = NULL;
        char path[128];

        (void)state;
        free(ask(true, "POST", "/flows", NULL,
                "{\"type\":\"test:impossible\",\"name\":\"impossible\",\"base\":\"5\",\"per_unit\":\"0\",\"currency\":\"EUR\",\"steps\":[{\"tag\":"
                "\"nobody_"
                "does_this\"}]}",
                201));
        stack_stop(stack, "intake", SIGTERM); /* it reads the flows when it starts */
        stack_spawn(stack, "intake", NULL);
        stack_wait_ready(stack);
        stack_stop(stack, "meta-repair", SIGTERM);
        id = new_job("explained-2", "{\"type\":\"test:impossible\",\"payload\":{}}");
        post_word("payment-intents", id);
        await_step(id, "EXECUTION_FAILED");
        _cleanup_(freep) char *failed = dossier(true, id);
        assert_at(failed, "job.error.reason", "no_operator");
        assert_at(failed, "waits.for", "meta-repair");
        assert_at(failed, "may.0.what", "redrive");
        assert_at(failed, "may.1.what", "refund");
        assert_at(failed, "held.minor", "475");
        assert_overview("jobs_failed", "0");
        stack_spawn(stack, "meta-repair", NULL);
        snprintf(path, sizeof(path), "/jobs/%s/refund", id);
        free(ask(true, "POST", path, NULL, "{\"reason\":\"nobody will do it\",\"by\":\"anna\"}", 200));
        await_step(id, "REFUND_INITIATED");
        _cleanup_(freep) char *goes_back = dossier(true, id);
        assert_at(goes_back, "waits.for", "person");
        assert_at(goes_back, "may.1.what", "confirm_refund");
        assert_at(goes_back, "end", "null");
        post_word("refunds", id);
        await_step(id, "FINAL_FAIL");
        _cleanup_(freep) char *ended = dossier(true, id), *shown = dossier(false, id), *reason = json_at(ended, "end.error.reason");
        assert_at(ended, "waits", "null");
        assert_at(ended, "may", "[]");
        assert_at(ended, "held.minor", "0");
        assert_at(ended, "end.compensation.kind", "refund");
        assert_non_null(reason);
        assert_non_null(strstr(ended, "slip 4711"));
        assert_at(shown, "end.error.reason", reason);
        assert_null(strstr(shown, "slip 4711"));
        assert_null(strstr(shown, "anna"));
        _cleanup_(strbuf_done) struct strbuf issue = {0};
        strbuf_addf(&issue,
                "INSERT INTO issue (id, kind, grade, chain_id, client, since, state, antibody, next_at, closed_at) VALUES"
                " (gen_random_uuid(), 'STUCK_AT_STEP', 'repair', '%s', 'default', now(), 'resolved', 'ring_again', now(), now()) RETURNING id",
                id);
        assert_leads_to(id, issue.s);
        assert_overview("jobs_failed", "1");
        assert_overview("jobs_expired", "0");
        /* What stands, by step, as meta-repair saw it. */
        stack_await(stack, "SELECT value FROM repair_figure WHERE name = 'waiting' AND label = 'payout/PAYOUT_READY'", "1", 20000);
        _cleanup_(freep) char *overview = ask(true, "GET", "/status/overview", NULL, NULL, 200), *at = json_at(overview, "repair.at");
        assert_int_equal(at[strlen(at) - 1], 'Z');
        const char *payout = strstr(overview, "{\"kind\":\"payout\",\"step\":\"PAYOUT_READY\",\"standing\":");
        assert_non_null(payout);
        const char *waiting = strstr(payout, "\"waiting\":1,\"oldest_s\":");
        assert_non_null(waiting);
        assert_true(waiting < strchr(payout, '}')); /* in that row */
        assert_at(overview, "repair.past_bell", "0");
}

/* Whoever has the id of a job sees what has happened to it, and no name of a person and no reference of theirs, on any public page. */
static void no_names_outside(void **state)
{
        static const char *const pages[] = {"/jobs/", "", "/jobs/", "/events", "/jobs/", "/dossier", "/payment-intents/", ""};
        _cleanup_(freep) char *ids = pg_fixture_ask(stack->pg, "SELECT string_agg(job_id::text, ' ') FROM submission"), *seen = NULL;
        char *rest = ids;

        (void)state;
        for (const char *id; (id = strsep(&rest, " "));)
                for (size_t i = 0; i < ARRAY_SIZE(pages); i += 2) {
                        char path[128];

                        snprintf(path, sizeof(path), "%s%s%s", pages[i], id, pages[i + 1]);
                        _cleanup_(freep) char *page = ask(false, "GET", path, NULL, NULL, 200);
                        if (strstr(page, "anna") || strstr(page, "slip 4711"))
                                fail_msg("%s: %s", path, page);
                        if (i == 2 && strstr(page, "REVENUE_BOOKED"))
                                seen = xstrdup(page);
                }
        assert_non_null(seen);
        assert_at(seen, "items.0.data.payload.text", "Code 19");
        assert_at(seen, "items.5.type", "PAYMENT_CONFIRMED");
        assert_at(seen, "items.5.data.evidence.kind", "person");
        assert_at(seen, "items.5.data.amount.currency", "EUR");
}

static void set_data(const char *job, const char *data)
{
        char sql[256];

        free(pg_fixture_ask(stack->pg, "ALTER TABLE event DISABLE TRIGGER ALL"));
        snprintf(sql, sizeof(sql), "UPDATE event SET data = '%s' WHERE chain_id = '%s' AND type = 'FLOW_CHOSEN' RETURNING 1", data, job);
        free(pg_fixture_ask(stack->pg, sql));
        free(pg_fixture_ask(stack->pg, "ALTER TABLE event ENABLE TRIGGER ALL"));
}

/* An event that cannot be read hides nothing but itself, and inside it is there to be looked at. */
static void what_is_spoiled_is_told(void **state)
{
        _cleanup_(freep) char *job = pg_fixture_ask(stack->pg, "SELECT id FROM chain WHERE step = 'REVENUE_BOOKED' LIMIT 1"), *before = NULL;
        _cleanup_(strbuf_done) struct strbuf ask_data = {0};

        (void)state;
        strbuf_addf(&ask_data, "SELECT data FROM event WHERE chain_id = '%s' AND type = 'FLOW_CHOSEN'", job);
        before = pg_fixture_ask(stack->pg, ask_data.s);
        set_data(job, "{\"flow\":");
        _cleanup_(freep) char *inside = dossier(true, job), *outside = dossier(false, job);
        set_data(job, before);
        assert_at(inside, "timeline.1.type", "FLOW_CHOSEN");
        assert_at(inside, "timeline.1.data", "{\"flow\":");
        assert_at(inside, "timeline.2.type", "PRICED");
        assert_at(outside, "timeline.1.data", "{}");
        assert_at(outside, "timeline.2.type", "PRICED");
}

static void nobody(void **state)
{
        (void)state;
        for (int admin = 0; admin < 2; admin++) {
                free(ask(admin, "GET", "/jobs/01890000-0000-7000-8000-000000000000/dossier", NULL, NULL, 404));
                free(ask(admin, "GET", "/jobs/none/dossier", NULL, NULL, 404));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(unpaid_then_done),
                cmocka_unit_test(failed_and_refunded),
                cmocka_unit_test(no_names_outside),
                cmocka_unit_test(what_is_spoiled_is_told),
                cmocka_unit_test(nobody),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
