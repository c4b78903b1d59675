/* execution against a real PostgreSQL, a real nats-server and operators with ground truth: every kind of answer ends as it must, no step is done
 * twice, and what stands goes on as soon as an operator, meta-repair or a person says how. */
#include "tests/support/execution_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void built_in_steps_run_in_the_batch(void **state)
{
        struct world *w = *state;

        jobs(w, 300, "[\"puz19_text\"]", "{\"text\":\"one two\"}", true);
        jobs(w, 1, "[\"puz19_numeric\"]", "{\"numbers\":[1,2]}", true);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 301", 20000);
        stack_assert_sound(w->stack);
        assert_int_equal(number(w, "SELECT successes FROM aethelos.operator WHERE name = 'puz19_text_summary'"), 300);
        assert_int_equal(number(w, "SELECT count(*) FROM aethelos.operator_run"), 0);
}

static void answers_of_http_operators(void **state)
{
        struct world *w = *state;

        operator_is(w, "one", fake_operator_url(w->one), fake_operator_status_url(w->one), "out", ", timeout_ms", ", 1000");
        jobs(w, 40, "[\"out\",\"puz19_text\"]", "{\"mode\":\"done\"}", true);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 40", 20000);
        expect_last(w, "{\"result\":{\"length\":11,\"word_count\":3,\"preview\":\"done by one\"}}");
        jobs(w, 5, "[\"out\"]", "{\"mode\":\"lost\"}", true);
        jobs(w, 5, "[\"out\"]", "{\"mode\":\"error\"}", true);
        jobs(w, 5, "[\"out\"]", "{\"mode\":\"accept\"}", true);
        jobs(w, 2, "[\"out\"]", "{\"mode\":\"late\",\"ms\":2000}", true);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 57", 30000);
        assert_int_equal(fake_operator_truth(w->one).done, 57);
        assert_int_equal(fake_operator_truth(w->one).calls, 57);
        jobs(w, 3, "[\"out\"]", "{\"mode\":\"never\"}", true); /* asked, not known there, sent again under the same run_id */
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 60", 40000);
        assert_int_equal(fake_operator_truth(w->one).runs, 60);
        assert_int_equal(fake_operator_truth(w->one).calls, 63);
        jobs(w, 1, "[\"out\"]", "{\"mode\":\"failed\"}", true);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 60, EXECUTION_FAILED 1", 20000);
        expect_last(
                w, "{\"reason\":\"all_operators_failed\",\"step\":0,\"tag\":\"out\",\"attempts\":[{\"operator\":\"one\",\"error\":\"refused\"}]}");
        jobs(w, 1, "[\"out\"]", "{\"mode\":\"bad\"}", true);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 60, EXECUTION_FAILED 2", 20000);
        expect_last(w, "\"reason\":\"bad_output\"");
        jobs(w, 1, "[\"none\"]", "{}", true);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 60, EXECUTION_FAILED 3", 20000);
        expect_last(w, "\"reason\":\"no_operator\"");
        jobs(w, 2, "[\"out\"]", "{\"mode\":\"busy\"}", true);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 62, EXECUTION_FAILED 3", 20000);
        assert_int_equal(fake_operator_truth(w->one).most_per_step, 1);
        assert_int_equal(fake_operator_truth(w->one).wrong, 0);
        assert_int_equal(number(w, "SELECT successes FROM aethelos.operator WHERE name = 'one'"), 62);
        assert_int_equal(number(w, "SELECT refusals FROM aethelos.operator WHERE name = 'one'"), 1);
        assert_int_equal(number(w, "SELECT failures FROM aethelos.operator WHERE name = 'one'"), 1);
        /* Outcomes find their runs by key: planned once, on an empty table, they must not go through the index of all that is open. Only who makes a
         * run looks there, once. */
        stack_await(w->stack,
                "SELECT idx_scan >= (SELECT count(*) FROM aethelos.operator_run) FROM pg_stat_user_indexes WHERE indexrelname = 'operator_run_live'",
                "t", 30000);
        assert_int_equal(number(w, "SELECT idx_scan - (SELECT count(*) FROM aethelos.operator_run) FROM pg_stat_user_indexes"
                                   " WHERE indexrelname = 'operator_run_live'"),
                0);
        stack_assert_sound(w->stack);
}

static void another_operator_after_a_definite_failure(void **state)
{
        struct world *w = *state;

        operator_is(w, "gone", "http://127.0.0.1:1/", NULL, "out", "", "");
        operator_is(w, "backup", fake_operator_url(w->two), NULL, "other", ", fallback_for", ", '{gone}'");
        jobs(w, 2, "[\"out\"]", "{}", true);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 2", 20000);
        expect_last(w, "done by two");
        assert_int_equal(number(w, "SELECT count(*) FROM aethelos.operator_run WHERE operator = 'gone' AND state = 'failed'"), 2);
        assert_int_equal(number(w, "SELECT count(*) FROM aethelos.operator_run WHERE operator = 'backup' AND state = 'done' AND attempt = 2"), 2);
        stack_assert_sound(w->stack);
}

/* What the admin API says of the only job. */
static void assert_waits_for(struct world *w, const char *operator, const char * run_state)
{
        _cleanup_(freep) char *id = pg_fixture_ask(w->stack->pg, "SELECT id FROM aethelos.chain");
        char path[64];
        long status = -1;

        snprintf(path, sizeof(path), "/jobs/%s", id);
        stack_spawn(w->stack, "board", NULL);
        for (int64_t until = now_mono_ms() + 20000; now_mono_ms() < until; usleep(20000)) {
                _cleanup_(freep) char *job = stack_http(w->stack, true, "GET", path, NULL, NULL, &status);
                if (status != 200)
                        continue;
                _cleanup_(freep) char *who = json_at(job, "operator_run.operator"), *how = json_at(job, "operator_run.state");
                assert_string_equal(who, operator);
                assert_string_equal(how, run_state);
                return;
        }
        fail_msg("the board does not answer: %ld", status);
}

static void an_unknown_outcome_waits_when_nothing_else_is_safe(void **state)
{
        struct world *w = *state;

        operator_is(w, "one", fake_operator_url(w->one), NULL, "out", "", "");
        operator_is(w, "two", fake_operator_url(w->two), NULL, "out", ", fallback_for", ", '{one}'");
        jobs(w, 1, "[\"out\"]", "{\"mode\":\"lost\"}", true);
        stack_await(w->stack, "SELECT count(*) FROM aethelos.operator_run WHERE state = 'unknown' AND probes >= 2", "1", 20000);
        assert_int_equal(fake_operator_truth(w->one).calls, 1);
        assert_int_equal(fake_operator_truth(w->two).calls, 0);
        stack_await(w->stack, STANDING, "EXECUTION_STARTED 1", 1000);
        assert_waits_for(w, "one", "unknown");
        /* Registered as idempotent, it may be sent again. */
        run_sql(w, "UPDATE aethelos.operator SET idempotent = true WHERE name = 'one'");
        stack_await(w->stack, "SELECT count(*) > 0 FROM aethelos.operator_run WHERE operator = 'two'", "t", 30000);
        assert_true(fake_operator_truth(w->one).calls >= 1);
}

/* As meta-repair does it: all chains that stand at EXECUTION_FAILED are run again. */
static void run_again(struct world *w)
{
        run_sql(w, "SET SESSION AUTHORIZATION aethelos_meta_repair;"
                   "SELECT aethelos.advance(array_agg(id), array_agg(version), array_agg(NULL::text), array_agg(NULL::text), array_agg(NULL::text),"
                   "  array_agg(NULL::uuid), array_agg('EXECUTION_REQUIRED'::text), array_agg('{\"cause\":\"retry\",\"step\":1}'::text))"
                   " FROM aethelos.chain WHERE step = 'EXECUTION_FAILED'");
        ring(w, "step = 'EXECUTION_REQUIRED'");
}

static void a_failed_job_goes_on_at_the_failed_step(void **state)
{
        struct world *w = *state;

        operator_is(w, "one", fake_operator_url(w->one), NULL, "first", "", "");
        operator_is(w, "two", fake_operator_url(w->two), NULL, "second", ", successes", ", 100");
        run_sql(w, "UPDATE aethelos.operator SET url = url || '?mode=failed' WHERE name = 'two'");
        jobs(w, 3, "[\"first\",\"second\",\"puz19_text\"]", "{}", true);
        stack_await(w->stack, STANDING, "EXECUTION_FAILED 3", 60000);
        /* The same operator is asked again, and refuses again; then nobody is there, and nothing is started. */
        run_again(w);
        stack_await(w->stack, "SELECT count(*) FROM aethelos.event WHERE type = 'EXECUTION_FAILED'", "6", 20000);
        operators_change(w, "UPDATE aethelos.operator SET tags = '{other}' WHERE name = 'two'");
        run_again(w);
        stack_await(w->stack, "SELECT count(*) FROM aethelos.event WHERE type = 'EXECUTION_FAILED'", "9", 20000);
        operators_change(w, "UPDATE aethelos.operator SET tags = '{second}', url = replace(url, '?mode=failed', '') WHERE name = 'two'");
        run_again(w);
        ring(w, "true");
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 3", 20000);
        expect_last(w, "\"preview\":\"done by two\"");
        /* The first step was done once. The attempts at the second go on counting over the starts. */
        assert_int_equal(fake_operator_truth(w->one).calls, 3);
        assert_int_equal(fake_operator_truth(w->two).calls, 9);
        assert_int_equal(fake_operator_truth(w->two).most_per_step, 1);
        stack_await(w->stack,
                "SELECT string_agg(data, ' ' ORDER BY version) FROM aethelos.event WHERE type = 'EXECUTION_STARTED' GROUP BY chain_id LIMIT 1",
                "{\"steps\":3} {\"steps\":3,\"from_step\":1,\"attempts_before\":1} {\"steps\":3,\"from_step\":1,\"attempts_before\":2}", 1000);
        assert_int_equal(number(w, "SELECT count(*) FROM aethelos.operator_run WHERE step = 1 AND attempt = 3 AND state = 'done'"), 3);
        stack_assert_sound(w->stack);
}

/* What the board answers to a decision about the run of the only open one. */
static void expect_decision(struct world *w, const char *run, const char *body, long expected)
{
        char path[96];
        long status = -1;

        snprintf(path, sizeof(path), "/runs/%s/resolve", run);
        for (int64_t until = now_mono_ms() + 20000; status < 200 && now_mono_ms() < until; usleep(20000))
                free(stack_http(w->stack, true, "POST", path, NULL, body, &status));
        if (status != expected)
                fail_msg("%s: %ld instead of %ld", body, status, expected);
}

static void a_person_decides_what_nobody_else_can_tell(void **state)
{
        static const char open_run[] = "SELECT id FROM aethelos.operator_run WHERE state = 'unknown'";
        static const char done[] = "{\"outcome\":\"done\",\"output\":{\"text\":\"by hand\"},\"reference\":\"ticket 7\",\"by\":\"ann\"}";
        static const char failed[] = "{\"outcome\":\"failed\",\"reference\":\"ticket 8\",\"by\":\"ann\"}";
        struct world *w = *state;
        long status = 0;

        stack_spawn(w->stack, "board", NULL);
        operator_is(w, "one", fake_operator_url(w->one), NULL, "out", "", "");
        operator_is(w, "asked", fake_operator_url(w->two), fake_operator_status_url(w->two), "other", "", "");
        jobs(w, 1, "[\"out\",\"puz19_text\"]", "{\"mode\":\"lost\"}", true);
        stack_await(w->stack, "SELECT count(*) FROM aethelos.operator_run WHERE state = 'unknown'", "1", 20000);
        _cleanup_(freep) char *run = pg_fixture_ask(w->stack->pg, open_run);
        expect_decision(w, run, done, 409); /* its call may still be under way */
        run_sql(w, "UPDATE aethelos.operator_run SET lease_until = now() - interval '1 s', next_at = now() + interval '1 hour'");
        expect_decision(w, "01890000-0000-7000-8000-000000000001", done, 404);
        expect_decision(w, "nonsense", done, 404);
        _cleanup_(freep) char *runs = stack_http(w->stack, true, "GET", "/runs?state=unknown", NULL, NULL, &status);
        _cleanup_(freep) char *who = json_at(runs, "items.0.operator");
        assert_string_equal(who, "one");
        expect_decision(w, run, "{\"outcome\":\"done\",\"reference\":\"ticket 7\",\"by\":\"ann\"}", 422);
        expect_decision(w, run, done, 200);
        expect_decision(w, run, failed, 409);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 1", 20000);
        expect_last(w, "\"preview\":\"by hand\"");
        expect_decision(w, run, done, 200);
        stack_await(w->stack, "SELECT data::json ->> 'evidence' FROM aethelos.event WHERE type = 'STEP_COMPLETED' AND version = 8",
                "{\"kind\":\"person\",\"who\":\"ann\",\"reference\":\"ticket 7\"}", 1000);

        jobs(w, 1, "[\"out\"]", "{\"mode\":\"lost\"}", true);
        stack_await(w->stack, "SELECT count(*) FROM aethelos.operator_run WHERE state = 'unknown'", "1", 20000);
        run_sql(w, "UPDATE aethelos.operator_run SET lease_until = now() - interval '1 s' WHERE state = 'unknown'");
        _cleanup_(freep) char *second = pg_fixture_ask(w->stack->pg, open_run);
        expect_decision(w, second, failed, 200);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 1, EXECUTION_FAILED 1", 20000);
        expect_last(w, "\"error\":\"failed, on a person's word\"");

        /* Who can be asked is asked; a person decides only when that has led to nothing for long. */
        jobs(w, 1, "[\"other\"]", "{\"mode\":\"lost\"}", false);
        run_sql(w, "INSERT INTO aethelos.operator_run (id, chain_id, step, attempt, tag, operator, state, owner, lease_until, next_at)"
                   " SELECT gen_random_uuid(), id, 0, 1, 'other', 'asked', 'unknown', 'x', now(), now() + interval '1 hour'"
                   " FROM aethelos.chain WHERE step = 'PAYMENT_CONFIRMED'");
        _cleanup_(freep) char *third = pg_fixture_ask(w->stack->pg, open_run);
        expect_decision(w, third, failed, 409);
        run_sql(w, "UPDATE aethelos.operator_run SET started_at = now() - interval '1 day' WHERE state = 'unknown'");
        expect_decision(w, third, failed, 200);
        stack_assert_sound(w->stack);
}

/* As meta-repair does it. */
static void a_run_is_looked_at_when_its_time_is_set_to_now(void **state)
{
        static const char accepted[] = "SELECT count(*) FROM aethelos.operator_run WHERE state = 'accepted'";
        struct world *w = *state;

        operator_is(w, "one", fake_operator_url(w->one), fake_operator_status_url(w->one), "out", "", "");
        jobs(w, 1, "[\"out\"]", "{\"mode\":\"late\",\"ms\":3000}", true);
        stack_await(w->stack, "SELECT count(*) FROM aethelos.operator_run WHERE state = 'calling'", "1", 20000);
        run_sql(w, "UPDATE aethelos.operator_run SET next_at = now()"); /* under way: its caller's */
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 1", 20000);
        assert_int_equal(number(w, "SELECT epoch FROM aethelos.operator_run"), 1);
        jobs(w, 1, "[\"out\"]", "{\"mode\":\"accept\"}", true);
        stack_await(w->stack, "SELECT count(*) FROM aethelos.operator_run WHERE state = 'accepted'", "1", 20000);
        for (int i = 0; i < 3 && number(w, accepted) > 0; i++) {
                size_t asked = fake_operator_truth(w->one).queries;
                run_sql(w, "UPDATE aethelos.operator_run SET next_at = now() WHERE state = 'accepted'");
                /* A question that was under way before may have ended it. */
                for (int k = 0; k < 500 && fake_operator_truth(w->one).queries == asked && number(w, accepted) > 0; k++)
                        usleep(20000);
                assert_true(fake_operator_truth(w->one).queries > asked || number(w, accepted) == 0);
        }
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 2", 20000);
        stack_assert_sound(w->stack);
}

/* Found by the fault suite: over a kept connection the second answer became the output of the next job, and so on for every job behind it. */
static void an_answer_too_many_is_nobody_elses(void **state)
{
        struct world *w = *state;

        operator_is(w, "one", fake_operator_url(w->one), fake_operator_status_url(w->one), "out", ", max_in_flight", ", 1");
        jobs(w, 20, "[\"out\"]", "{\"mode\":\"twice\"}", true);
        for (int i = 0; i < 60 && number(w, "SELECT count(*) FROM aethelos.chain WHERE step <> 'EXECUTION_COMPLETED'") > 0; i++) {
                ring(w, "step <> 'EXECUTION_COMPLETED'");
                usleep(200000);
        }
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 20", 1000);
        assert_int_equal(number(w, "SELECT count(*) FROM aethelos.event WHERE type = 'STEP_COMPLETED'"
                                   " AND data::json -> 'output' ->> 'job' <> chain_id::text"),
                0);
        stack_assert_sound(w->stack);
}

/* With an argument: only the tests of that name; * and ? are wild. */
int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(built_in_steps_run_in_the_batch, setup, teardown),
                cmocka_unit_test_setup_teardown(answers_of_http_operators, setup, teardown),
                cmocka_unit_test_setup_teardown(another_operator_after_a_definite_failure, setup, teardown),
                cmocka_unit_test_setup_teardown(an_unknown_outcome_waits_when_nothing_else_is_safe, setup, teardown),
                cmocka_unit_test_setup_teardown(a_failed_job_goes_on_at_the_failed_step, setup, teardown),
                cmocka_unit_test_setup_teardown(a_person_decides_what_nobody_else_can_tell, setup, teardown),
                cmocka_unit_test_setup_teardown(a_run_is_looked_at_when_its_time_is_set_to_now, setup, teardown),
                cmocka_unit_test_setup_teardown(an_answer_too_many_is_nobody_elses, setup, teardown),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
