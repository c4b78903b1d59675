/* The antibodies as a table: facts in, plan out; and that no time-out or count of attempts ever makes a state of money. */
#include "services/meta-repair/repair_antibodies.h"
#include "services/meta-repair/repair_decisions.h"
#include "services/meta-repair/repair_progress.h"
#include "services/meta-repair/repair_texts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static const struct repair_rule rule = {.kind = "job",
        .step = "X",
        .version = 3,
        .late_ms = 1000,
        .deadline_ms = 2000,
        .attempts = 2,
        .backoff_first_ms = 100,
        .backoff_max_ms = 1000};

static struct repair_facts at(const char *antibody, const char *step, int attempts)
{
        return (struct repair_facts){.rule = &rule,
                .antibody = antibody,
                .step = step,
                .attempts = attempts,
                .outcome = "",
                .status = "open",
                .driver = "manual",
                .run_operator = "",
                .webhook = ""};
}

static struct repair_plan plan(struct repair_facts f)
{
        struct repair_plan p;

        repair_decide(&f, &p);
        return p;
}

static void expect(struct repair_facts f, enum repair_move move, enum repair_issue_state state, const char *waits_for, const char *outcome)
{
        struct repair_plan p = plan(f);

        assert_int_equal(p.move, move);
        assert_int_equal(p.state, state);
        assert_string_equal(p.outcome, outcome);
        assert_string_equal(p.waits_for ? p.waits_for : "-", waits_for);
}

static void grades_and_pauses(void **state)
{
        (void)state;
        assert_int_equal(repair_grade(&rule, 999), REPAIR_IN_TIME);
        assert_int_equal(repair_grade(&rule, 1000), REPAIR_LATE);
        assert_int_equal(repair_grade(&rule, 2000), REPAIR_BEYOND);
        assert_null(repair_grade_name(REPAIR_IN_TIME));
        assert_string_equal(repair_grade_name(REPAIR_BEYOND), "repair");
        assert_int_equal(repair_backoff_ms(&rule, 0, 0), 100);
        assert_int_equal(repair_backoff_ms(&rule, 1, 0), 100);
        assert_int_equal(repair_backoff_ms(&rule, 2, 0), 200);
        assert_int_equal(repair_backoff_ms(&rule, 4, 0), 800);
        assert_int_equal(repair_backoff_ms(&rule, 5, 0), 1000);
        assert_int_equal(repair_backoff_ms(&rule, 1000000, 0), 1000);
        assert_int_equal(repair_backoff_ms(&rule, 5, 0.5), 875);
        assert_true(repair_backoff_ms(&rule, 5, 0.999) > 750);
}

static void expect_task(struct repair_facts f, const char *task)
{
        struct repair_plan p = plan(f);

        assert_string_equal(p.task ? p.task : "-", task);
}

/* What is paid for a task goes nowhere but back; and which issues open a task. */
static void tasks(void **state)
{
        static const struct {
                const char *step;
                enum repair_move move;
        } ends[] = {{"TASK_CREATED", REPAIR_FAIL}, {"FLOW_CHOSEN", REPAIR_FAIL}, {"PRICED", REPAIR_FAIL}, {"PAYMENT_CONFIRMED", REPAIR_REVERSE},
                {"EXECUTION_REQUIRED", REPAIR_REVERSE}, {"EXECUTION_STARTED", REPAIR_REVERSE}, {"STEP_COMPLETED", REPAIR_REVERSE}};
        struct repair_facts f = at("run_again", "EXECUTION_FAILED", 0);

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
                struct repair_facts stands = at("ring_again", ends[i].step, 2);

                stands.task = true;
                expect(stands, ends[i].move, REPAIR_FAILED, "-", "final_fail");
                expect_task(stands, "-");
        }
        f.task = f.operator_ready = true;
        expect(f, REPAIR_RUN_AGAIN, REPAIR_RESOLVED, "-", "run_again");
        f.retries = 2;
        expect(f, REPAIR_REVERSE, REPAIR_FAILED, "-", "final_fail");
        expect_task(f, "-");

        f = at("await_settlement", "PAYOUT_READY", 0);
        expect_task(f, "PAYOUT_SETTLEMENT");
        f.listed = true;
        expect_task(f, "-");
        f = at("avoid_operator", "", 0);
        f.calls = 6;
        f.failures = f.streak = 5;
        expect_task(f, "OPERATOR_TUNING");
        f.outcome = "watched";
        expect_task(f, "-");
        f.outcome = "";
        f.streak = 0;
        expect_task(f, "-");

        /* What was asked about three times and stands: once, and not for a person who asks meanwhile, nor for a task itself. */
        for (int attempts = 0; attempts < 6; attempts++) {
                struct repair_facts paid = at("ask_provider", "PAYMENT_INITIATED", attempts), run = at("ask_operator", "EXECUTION_STARTED", attempts);

                expect_task(paid, "-"); /* driver manual: the payer is waited for */
                paid.driver = "http";
                run.run_operator = "silent";
                expect_task(paid, attempts == 3 ? "CLEANUP" : "-");
                expect_task(run, attempts == 3 ? "CLEANUP" : "-");
                run.task = true;
                expect_task(run, "-");
                paid.early = true;
                expect_task(paid, "-");
        }
}

static void ringing_has_a_budget_and_an_end(void **state)
{
        struct repair_facts held = at("ring_again", "JOB_CREATED", 9), early = at("ring_again", "JOB_CREATED", 9);

        (void)state;
        expect(at("ring_again", "JOB_CREATED", 0), REPAIR_RING, REPAIR_OPEN, "-", "rang_again");
        expect(at("ring_again", "JOB_CREATED", 1), REPAIR_RING, REPAIR_OPEN, "-", "rang_again");
        expect(at("ring_again", "JOB_CREATED", 2), REPAIR_FAIL, REPAIR_FAILED, "-", "final_fail");
        expect(at("ring_again", "PAYMENT_CONFIRMED", 2), REPAIR_REFUND, REPAIR_RESOLVED, "-", "refund_required");
        /* Where no end is allowed it is rung on, at the longest pause, and not told each time. */
        expect(at("ring_again", "EXECUTION_COMPLETED", 2), REPAIR_RING, REPAIR_OPEN, "-", "rang_again");
        assert_true(plan(at("ring_again", "EXECUTION_COMPLETED", 2)).longest);
        assert_false(plan(at("ring_again", "EXECUTION_COMPLETED", 2)).told);
        assert_true(plan(at("ring_again", "EXECUTION_COMPLETED", 1)).told);
        /* An overload, or a bus that is away, fails nobody; nor does a person who asks too often. */
        held.bell_held = true;
        expect(held, REPAIR_STAY, REPAIR_OPEN, "-", "bell_held");
        assert_false(plan(held).counts);
        early.early = true;
        expect(early, REPAIR_RING, REPAIR_OPEN, "-", "rang_again");
}

static void parties_outside_are_asked_for_ever(void **state)
{
        struct repair_facts f = at("ask_provider", "PAYMENT_INITIATED", 1000000), run = at("ask_operator", "EXECUTION_STARTED", 1000000);

        (void)state;
        expect(f, REPAIR_STAY, REPAIR_WAITING, "payer", "waits_for_payment");
        f.step = "REFUND_INITIATED";
        expect(f, REPAIR_STAY, REPAIR_WAITING, "person", "waits_for_refund");
        f.driver = "http";
        expect(f, REPAIR_ASK_PROVIDER, REPAIR_WAITING, "provider", "asked_provider");
        assert_true(plan(f).told);
        f.outcome = "asked_provider";
        assert_false(plan(f).told); /* not each probe */
        f.driver = "";
        f.step = "PAYMENT_REQUIRED";
        expect(f, REPAIR_RING, REPAIR_OPEN, "-", "rang_again");
        run.run_operator = "one";
        expect(run, REPAIR_ASK_OPERATOR, REPAIR_WAITING, "operator", "asked_operator");
        run.run_operator = "";
        expect(run, REPAIR_REFUND, REPAIR_RESOLVED, "-", "refund_required");
        run.attempts = 0;
        expect(run, REPAIR_RING, REPAIR_OPEN, "-", "rang_again");
        expect(at("await_settlement", "PAYOUT_READY", 99), REPAIR_STAY, REPAIR_WAITING, "person", "waits_for_transfer");
}

static void a_failed_step_is_run_again_while_it_may(void **state)
{
        struct repair_facts f = at("run_again", "EXECUTION_FAILED", 0);

        (void)state;
        expect(f, REPAIR_REFUND, REPAIR_RESOLVED, "-", "refund_required");
        f.operator_ready = true;
        expect(f, REPAIR_RUN_AGAIN, REPAIR_RESOLVED, "-", "run_again");
        f.retries = 1;
        expect(f, REPAIR_RUN_AGAIN, REPAIR_RESOLVED, "-", "run_again");
        f.retries = 2;
        expect(f, REPAIR_REFUND, REPAIR_RESOLVED, "-", "refund_required");
        f.moved = true;
        expect(f, REPAIR_STAY, REPAIR_RESOLVED, "-", "moved_on");
        f.status = "final_fail";
        expect(f, REPAIR_STAY, REPAIR_FAILED, "-", "final_fail");
}

static void the_rest(void **state)
{
        struct repair_facts f = at("avoid_operator", "", 0);
        struct repair_plan p;

        (void)state;
        f.calls = 10;
        f.failures = 5;
        f.streak = 1;
        expect(f, REPAIR_STAY, REPAIR_WAITING, "operator", "watched");
        f.avoided = true;
        expect(f, REPAIR_STAY, REPAIR_WAITING, "operator", "avoided");
        f.failures = 4;
        expect(f, REPAIR_STAY, REPAIR_RESOLVED, "-", "rate_fell");
        f.streak = 0;
        expect(f, REPAIR_STAY, REPAIR_RESOLVED, "-", "taken_back");
        assert_false(repair_operator_fails(4, 4, 4));
        assert_true(repair_operator_fails(5, 3, 1));
        f = at("await_enabling", "", 0);
        f.webhook = "disabled";
        expect(f, REPAIR_STAY, REPAIR_WAITING, "person", "disabled");
        f.webhook = "active";
        expect(f, REPAIR_STAY, REPAIR_RESOLVED, "-", "enabled");
        f.webhook = "";
        expect(f, REPAIR_STAY, REPAIR_RESOLVED, "-", "removed");
        assert_non_null(repair_fixed_rule("WEBHOOK_DISABLED"));
        f = at("refold", "PRICED", 0);
        f.moved = true;
        assert_int_equal(plan(f).move, REPAIR_REFOLD);
        repair_refolded(&f, "refolded", &p);
        assert_int_equal(p.state, REPAIR_RESOLVED);
        repair_refolded(&f, "broken", &p);
        assert_int_equal(p.state, REPAIR_QUARANTINED);
        f.antibody = "of a later version";
        expect(f, REPAIR_STAY, REPAIR_QUARANTINED, "person", "quarantined");
        assert_true(repair_antibody_known("refold"));
        assert_false(repair_antibody_known("of a later version"));
        assert_null(repair_fixed_rule("STUCK_PAYMENT"));
        assert_non_null(repair_fixed_rule(ISSUE_BROKEN_CHAIN));
}

static void what_people_may_decide(void **state)
{
        static const struct {
                enum repair_wish wish;
                struct repair_place place;
                const char *event, *why;
                bool evidence;
        } rows[] = {
                {REPAIR_WISH_REDRIVE, {"job", "EXECUTION_FAILED", "open", true, false}, "EXECUTION_REQUIRED", NULL, false},
                {REPAIR_WISH_REDRIVE, {"job", "REFUND_INITIATED", "open", true, false}, "EXECUTION_REQUIRED", NULL, true},
                {REPAIR_WISH_REDRIVE, {"job", "REFUND_INITIATED", "open", true, true}, NULL, "refund_under_way", false},
                {REPAIR_WISH_REDRIVE, {"job", "FINAL_FAIL", "final_fail", false, false}, "CHAIN_REOPENED", NULL, true},
                {REPAIR_WISH_REDRIVE, {"job", "FINAL_FAIL", "final_fail", true, false}, NULL, "refunded", false},
                {REPAIR_WISH_REDRIVE, {"job", "REVENUE_BOOKED", "completed", true, false}, NULL, "completed", false},
                {REPAIR_WISH_REDRIVE, {"job", "PRICED", "open", false, false}, NULL, "under_way", false},
                {REPAIR_WISH_REDRIVE, {"payout", "PAYOUT_READY", "open", false, false}, NULL, "not_a_job", false},
                {REPAIR_WISH_REFUND, {"job", "STEP_COMPLETED", "open", true, false}, "REFUND_REQUIRED", NULL, false},
                {REPAIR_WISH_REFUND, {"job", "PRICED", "open", false, false}, NULL, "not_paid", false},
                {REPAIR_WISH_CLOSE, {"job", "PAYMENT_INITIATED", "open", false, false}, "FINAL_FAIL", NULL, true},
                {REPAIR_WISH_CLOSE, {"job", "PAYMENT_REQUIRED", "open", false, false}, "FINAL_FAIL", NULL, true},
                {REPAIR_WISH_CLOSE, {"job", "PAYMENT_CONFIRMED", "open", true, false}, NULL, "paid", false},
                {REPAIR_WISH_CLOSE, {"job", "PAYMENT_EXPIRED", "final_fail", false, false}, NULL, "final_fail", false},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct repair_decision d;

                repair_wish(rows[i].wish, &rows[i].place, &d);
                assert_string_equal(d.event ? d.event : "-", rows[i].event ? rows[i].event : "-");
                assert_string_equal(d.why ? d.why : "-", rows[i].why ? rows[i].why : "-");
                assert_int_equal(d.evidence, rows[i].evidence);
        }
}

static void progress_survives(void **state)
{
        _cleanup_(strbuf_done) struct strbuf text = {0}, again = {0}, result = {0};
        struct repair_progress p = {.phase = 2, .found = 205, .done = 3}, q;
        struct uuid id = uuid_v7();

        (void)state;
        p.after = id;
        for (int i = 0; i < 202; i++)
                repair_progress_refuse(&p, &id, "refunded");
        repair_progress_write(&text, &p);
        repair_progress_read(text.s, &q);
        repair_progress_write(&again, &q);
        assert_string_equal(text.s, again.s);
        assert_int_equal(q.refused, 202);
        assert_int_equal(q.n_refusals, REPAIR_REFUSALS_MAX);
        repair_progress_result(&result, "redrive", &q);
        assert_int_equal(strncmp(result.s, "{\"found\":205,\"redriven\":3,\"refused\":202,\"refusals\":[{", 53), 0);
        repair_progress_done(&p);
        repair_progress_done(&q);
        repair_progress_read(NULL, &q);
        assert_int_equal(q.found, 0);
}

static void texts(void **state)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid id = {{0}};

        (void)state;
        repair_text_fail(&b, "could_not_be_priced", "PRICED", 8, &rule, &id, NULL, NULL);
        assert_string_equal(b.s, "{\"error\":{\"reason\":\"could_not_be_priced\",\"step\":\"PRICED\",\"attempts\":8},\"rule\":{\"kind\":\"job\","
                                 "\"step\":\"X\",\"version\":3},"
                                 "\"compensation\":{\"kind\":\"none\"},\"issue_id\":\"00000000-0000-0000-0000-000000000000\"}");
        strbuf_reset(&b);
        repair_text_reopened(&b, "anna", "ref", 1500);
        assert_string_equal(b.s, "{\"cause\":\"redrive\",\"by\":\"anna\",\"reference\":\"ref\",\"deadline\":\"1970-01-01T00:00:01.500Z\"}");
        strbuf_reset(&b);
        repair_text_issue(&b, &rule, "late", NULL, "one", NULL, "", 0);
        assert_string_equal(b.s, "{\"issue\":\"\",\"grade\":\"late\",\"operator\":\"one\",\"since\":\"1970-01-01T00:00:00.000Z\",\"antibody\":\"\"}");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(grades_and_pauses),
                cmocka_unit_test(tasks),
                cmocka_unit_test(ringing_has_a_budget_and_an_end),
                cmocka_unit_test(parties_outside_are_asked_for_ever),
                cmocka_unit_test(a_failed_step_is_run_again_while_it_may),
                cmocka_unit_test(the_rest),
                cmocka_unit_test(what_people_may_decide),
                cmocka_unit_test(progress_survives),
                cmocka_unit_test(texts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
