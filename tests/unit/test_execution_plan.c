/* Plans: from where a chain stands to the next outside call, the end, or the failure. */
#include "services/execution/execution_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static char *t_text[] = {"puz19_text"}, *t_numeric[] = {"puz19_numeric"}, *t_out[] = {"out"};
static int64_t out_in_flight;
static struct execution_operator plan_ops[] = {
        {.name = "out1", .url = "http://1", .tags = t_out, .n_tags = 1, .max_in_flight = 1, .in_flight = &out_in_flight},
        {.name = "puz19_numeric_stats", .tags = t_numeric, .n_tags = 1},
        {.name = "puz19_text_summary", .tags = t_text, .n_tags = 1},
};
static const struct execution_operators all_ops = {plan_ops, ARRAY_SIZE(plan_ops)};

/* "EVENT{data} EVENT{data} ...call=who@step.attempt<input". The record comes without the data of JOB_CREATED. */
static void check_record(
        const char *steps, const char *payload, struct execution_record record, const struct execution_result *done, const char *expected)
{
        _cleanup_(strbuf_done) struct strbuf job = {0}, got = {0};
        struct execution_chain c;
        struct execution_plan p;
        const char *why = NULL;

        strbuf_addf(&job, "{\"payload\":%s,\"context\":{\"priority\":\"high\"},\"flow\":{\"id\":\"f\",\"version\":1,\"steps\":%s}}", payload, steps);
        record.job = (struct slice){job.s, job.len};
        if (execution_chain_parse(&record, &c, &why) < 0)
                fail_msg("%s: %s", expected, why);
        assert_true(slice_equal(c.context, "{\"priority\":\"high\"}"));
        execution_plan_make(&c, &all_ops, done, &p);
        for (size_t i = 0; i < p.n_events; i++) {
                struct json_doc doc;
                struct json_error error;
                strbuf_addf(&got, "%s%s ", p.events[i].type, p.events[i].data.s);
                assert_int_equal(json_parse(p.events[i].data.s, p.events[i].data.len, &doc, &error), 0);
                json_done(&doc);
        }
        if (p.call)
                strbuf_addf(&got, "call=%s@%d.%d<%s", p.call->name, p.step, p.attempt, p.input);
        if (p.room_for)
                strbuf_addf(&got, "room=%s", p.room_for->name);
        assert_string_equal(got.s ? got.s : "", expected);
        execution_plan_done(&p);
        execution_chain_done(&c);
}

static void check_plan(
        const char *steps, const char *payload, const char *last, const char *runs, const struct execution_result *done, const char *expected)
{
        const char *at = last ? "STEP_COMPLETED" : runs ? "EXECUTION_STARTED" : "PAYMENT_CONFIRMED";

        check_record(steps, payload, (struct execution_record){.at = at, .last = slice_of(last), .runs = slice_of(runs)}, done, expected);
}

#define STARTED1 "EXECUTION_STARTED{\"steps\":1} "
#define STARTED2 "EXECUTION_STARTED{\"steps\":2} "
#define BUILTIN(s)                                                                                                                                   \
        "STEP_COMPLETED{\"step\":" s                                                                                                                 \
        ",\"tag\":\"puz19_text\",\"operator\":\"puz19_text_summary\",\"run_id\":null,\"attempt\":1,\"took_ms\":0,\"output\":"
#define SUM_HI                "{\"length\":2,\"word_count\":1,\"preview\":\"hi\"}"
#define RUN_ID                "01890000-0000-7000-8000-000000000001"
#define FAILED_RUN(step, who) "{\"step\":" step ",\"operator\":\"" who "\",\"state\":\"failed\",\"error\":\"no\"}"
#define DONE_RUN(step, who)   "{\"step\":" step ",\"operator\":\"" who "\",\"state\":\"done\",\"error\":null}"
#define LIVE_RUN(step, who)   "{\"step\":" step ",\"operator\":\"" who "\",\"state\":\"calling\",\"error\":null}"

static void plans_of_built_in_steps(void **state)
{
        (void)state;
        check_plan("[\"puz19_text\"]", "{\"text\":\"hi\"}", NULL, NULL, NULL,
                STARTED1 BUILTIN("0") SUM_HI "} EXECUTION_COMPLETED{\"result\":" SUM_HI "} ");
        check_plan("[\"nobody\"]", "{}", NULL, NULL, NULL,
                "EXECUTION_FAILED{\"error\":{\"reason\":\"no_operator\",\"step\":0,\"tag\":\"nobody\",\"attempts\":[]}} ");
        check_plan("[\"puz19_text\"]", "{}", NULL, NULL, NULL,
                STARTED1 "EXECUTION_FAILED{\"error\":{\"reason\":\"all_operators_failed\",\"step\":0,\"tag\":\"puz19_text\",\"attempts\":["
                         "{\"operator\":\"puz19_text_summary\",\"error\":\"text must be a string\"}]}} ");
        /* The output of a step is the input of the next. */
        check_plan("[\"puz19_text\",\"puz19_numeric\"]", "{\"text\":\"hi\"}", NULL, NULL, NULL,
                STARTED2 BUILTIN("0") SUM_HI
                "} EXECUTION_FAILED{\"error\":{\"reason\":\"all_operators_failed\",\"step\":1,\"tag\":\"puz19_numeric\","
                "\"attempts\":[{\"operator\":\"puz19_numeric_stats\",\"error\":\"numbers must be an array of numbers\"}]}} ");
}

static void plans_with_outside_steps(void **state)
{
        struct execution_result done = {.who = "out1", .attempt = 1, .took_ms = 7, .output = {"{\"text\":\"hi\"}", 13}};

        (void)state;
        assert_true(uuid_parse(RUN_ID, 36, &done.run_id));
        check_plan("[\"out\"]", "{\"a\":1}", NULL, NULL, NULL, STARTED1 "call=out1@0.1<{\"a\":1}");
        check_plan("[\"puz19_text\",\"out\"]", "{\"text\":\"hi\"}", NULL, NULL, NULL, STARTED2 BUILTIN("0") SUM_HI "} call=out1@1.1<" SUM_HI);
        /* Its answer, and the rest of the flow. */
        check_plan("[\"out\",\"puz19_text\"]", "{}", NULL, "[" LIVE_RUN("0", "out1") "]", &done,
                "STEP_COMPLETED{\"step\":0,\"tag\":\"out\",\"operator\":\"out1\",\"run_id\":\"" RUN_ID
                "\",\"attempt\":1,\"took_ms\":7,\"output\":{\"text\":\"hi\"}} " BUILTIN("1") SUM_HI "} EXECUTION_COMPLETED{\"result\":" SUM_HI "} ");
        check_plan("[\"out\",\"out\"]", "{}", NULL, "[" LIVE_RUN("0", "out1") "]", &done,
                "STEP_COMPLETED{\"step\":0,\"tag\":\"out\",\"operator\":\"out1\",\"run_id\":\"" RUN_ID
                "\",\"attempt\":1,\"took_ms\":7,\"output\":{\"text\":\"hi\"}} call=out1@1.1<{\"text\":\"hi\"}");
        /* From a completed step on. */
        check_plan("[\"puz19_text\",\"out\"]", "{}", "{\"step\":0,\"output\":[5]}", NULL, NULL, "call=out1@1.1<[5]");
        check_plan("[\"puz19_text\"]", "{}", "{\"step\":0,\"output\":[5]}", NULL, NULL, "EXECUTION_COMPLETED{\"result\":[5]} ");
        /* Failed attempts: nobody is left; those of an earlier step do not count. */
        check_plan("[\"out\"]", "{}", NULL, "[" FAILED_RUN("0", "out1") "]", NULL,
                "EXECUTION_FAILED{\"error\":{\"reason\":\"all_operators_failed\",\"step\":0,\"tag\":\"out\",\"attempts\":[{\"operator\":\"out1\","
                "\"error\":\"no\"}]}} ");
        check_plan("[\"out\"]", "{}", NULL, "[{\"step\":0,\"operator\":\"out1\",\"state\":\"failed\",\"error\":\"bad_output\"}]", NULL,
                "EXECUTION_FAILED{\"error\":{\"reason\":\"bad_output\",\"step\":0,\"tag\":\"out\",\"attempts\":[{\"operator\":\"out1\",\"error\":"
                "\"bad_output\"}]}} ");
        check_plan("[\"out\",\"out\"]", "{}", "{\"step\":0,\"output\":[5]}", "[" FAILED_RUN("0", "out1") "]", NULL, "call=out1@1.1<[5]");
        check_plan("[\"out\"]", "{}", NULL, "[" FAILED_RUN("0", "gone") "]", NULL, "call=out1@0.2<{}");
}

static void a_further_start_goes_on_at_the_failed_step(void **state)
{
        struct execution_result done = {.who = "out1", .attempt = 3, .output = {"1", 1}};
        struct execution_record again = {.at = "EXECUTION_REQUIRED",
                .last = slice_of("{\"step\":0,\"output\":[5]}"),
                .runs = slice_of("[" DONE_RUN("0", "out1") "," FAILED_RUN("1", "out1") "," FAILED_RUN("1", "gone") "]")};
        struct execution_record started = {.at = "EXECUTION_STARTED", .last = again.last, .attempts_before = 2};

        (void)state;
        assert_true(uuid_parse(RUN_ID, 36, &done.run_id));
        /* What was completed is kept, attempts go on counting, and who failed before is asked again. */
        check_record(
                "[\"out\",\"out\"]", "{}", again, NULL, "EXECUTION_STARTED{\"steps\":2,\"from_step\":1,\"attempts_before\":2} call=out1@1.3<[5]");
        /* At the first step, with nothing run before. */
        check_record("[\"out\"]", "{\"a\":1}", (struct execution_record){.at = "EXECUTION_REQUIRED"}, NULL,
                "EXECUTION_STARTED{\"steps\":1,\"from_step\":0,\"attempts_before\":0} call=out1@0.1<{\"a\":1}");
        /* Nobody is there: nothing was started. */
        check_record("[\"nobody\"]", "{}", (struct execution_record){.at = "EXECUTION_REQUIRED", .runs = slice_of("[" FAILED_RUN("0", "gone") "]")},
                NULL, "EXECUTION_FAILED{\"error\":{\"reason\":\"no_operator\",\"step\":0,\"tag\":\"nobody\",\"attempts\":[]}} ");
        /* Under way: it is done, */
        started.runs = slice_of("[" DONE_RUN("0", "out1") "," FAILED_RUN("1", "out1") "," FAILED_RUN("1", "gone") "," LIVE_RUN("1", "out1") "]");
        check_record("[\"out\",\"out\"]", "{}", started, &done,
                "STEP_COMPLETED{\"step\":1,\"tag\":\"out\",\"operator\":\"out1\",\"run_id\":\"" RUN_ID
                "\",\"attempt\":3,\"took_ms\":0,\"output\":1} EXECUTION_COMPLETED{\"result\":1} ");
        /* or it failed: only what failed since the start rules out, and is named. */
        started.runs = slice_of("[" DONE_RUN("0", "out1") "," FAILED_RUN("1", "out1") "," FAILED_RUN("1", "gone") "," FAILED_RUN("1", "gone") "]");
        check_record("[\"out\",\"out\"]", "{}", started, NULL, "call=out1@1.4<[5]");
        started.runs = slice_of("[" DONE_RUN("0", "out1") "," FAILED_RUN("1", "out1") "," FAILED_RUN("1", "gone") "," FAILED_RUN("1", "out1") "]");
        check_record("[\"out\",\"out\"]", "{}", started, NULL,
                "EXECUTION_FAILED{\"error\":{\"reason\":\"all_operators_failed\",\"step\":1,\"tag\":\"out\",\"attempts\":["
                "{\"operator\":\"out1\",\"error\":\"no\"}]}} ");
}

static void a_full_operator_is_waited_for(void **state)
{
        (void)state;
        out_in_flight = 1;
        check_plan("[\"out\"]", "{}", NULL, NULL, NULL, "room=out1"); /* nothing is begun */
        check_plan("[\"puz19_text\",\"out\"]", "{\"text\":\"hi\"}", NULL, NULL, NULL, STARTED2 BUILTIN("0") SUM_HI "} room=out1");
        check_plan("[\"puz19_text\"]", "{\"text\":\"hi\"}", NULL, NULL, NULL,
                STARTED1 BUILTIN("0") SUM_HI "} EXECUTION_COMPLETED{\"result\":" SUM_HI "} "); /* it holds up nobody else */
        out_in_flight = 0;
}

static void chains_that_cannot_be_used(void **state)
{
        static const struct {
                const char *job, *last, *runs;
        } rows[] = {
                {"", NULL, NULL},
                {"{}", NULL, NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[]}}", NULL, NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[1]}}", NULL, NULL},
                {"{\"flow\":{\"steps\":[\"a\"]}}", NULL, NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[\"a\"]}}", "{\"step\":1,\"output\":1}", NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[\"a\"]}}", "{\"step\":-1,\"output\":1}", NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[\"a\"]}}", "{\"step\":0}", NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[\"a\"]}}", "x", NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[\"a\"]}}", NULL, "x"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct execution_chain c;
                const char *why = NULL;
                struct execution_record record = {
                        .at = "STEP_COMPLETED", .job = slice_of(rows[i].job), .last = slice_of(rows[i].last), .runs = slice_of(rows[i].runs)};
                assert_int_not_equal(execution_chain_parse(&record, &c, &why), 0);
                assert_non_null(why);
                execution_chain_done(&c);
        }
}

static void an_open_run_is_seen(void **state)
{
        static const struct {
                const char *state;
                bool live;
        } rows[] = {{"calling", true}, {"accepted", true}, {"unknown", true}, {"done", false}, {"failed", false}};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                _cleanup_(strbuf_done) struct strbuf runs = {0};
                struct execution_chain c;
                const char *why;

                strbuf_addf(&runs, "[{\"step\":0,\"operator\":\"o\",\"state\":\"%s\",\"error\":null}]", rows[i].state);
                struct execution_record record = {
                        .at = "EXECUTION_STARTED", .job = slice_of("{\"payload\":1,\"flow\":{\"steps\":[\"a\"]}}"), .runs = {runs.s, runs.len}};
                assert_int_equal(execution_chain_parse(&record, &c, &why), 0);
                assert_int_equal(c.live, rows[i].live);
                assert_int_equal(c.n_runs, 1);
                execution_chain_done(&c);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(plans_of_built_in_steps),
                cmocka_unit_test(plans_with_outside_steps),
                cmocka_unit_test(a_further_start_goes_on_at_the_failed_step),
                cmocka_unit_test(a_full_operator_is_waited_for),
                cmocka_unit_test(chains_that_cannot_be_used),
                cmocka_unit_test(an_open_run_is_seen),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
