/* What execution meets for the second time: runs of an instance that was killed, bells that it has heard, calls that were lost. All is done in the
 * end, and no step is done twice, wherever it is killed. */
#include "tests/support/execution_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void runs_of_a_killed_instance_are_taken_over(void **state)
{
        struct world *w = *state;

        operator_is(w, "one", fake_operator_url(w->one), fake_operator_status_url(w->one), "out", ", timeout_ms", ", 3000");
        jobs(w, 10, "[\"out\"]", "{\"mode\":\"late\",\"ms\":1500}", true);
        stack_await(w->stack, "SELECT count(*) FROM aethelos.operator_run WHERE state = 'calling'", "10", 10000);
        stack_stop(w->stack, "execution", SIGKILL);
        stack_spawn(w->stack, "execution", NULL);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 10", 30000);
        assert_int_equal(fake_operator_truth(w->one).done, 10);
        assert_int_equal(fake_operator_truth(w->one).most_per_step, 1);
        assert_true(number(w, "SELECT min(epoch) FROM aethelos.operator_run") >= 2);
        stack_assert_sound(w->stack);
}

static void repeated_bells_do_nothing(void **state)
{
        struct world *w = *state;

        stack_spawn(w->stack, "execution", NULL);
        operator_is(w, "one", fake_operator_url(w->one), NULL, "out", "", "");
        jobs(w, 50, "[\"out\",\"puz19_text\"]", "{\"mode\":\"late\",\"ms\":300}", false);
        for (int i = 0; i < 10; i++) {
                ring(w, "true");
                usleep(60000);
        }
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 50", 20000);
        assert_int_equal(fake_operator_truth(w->one).calls, 50);
        stack_assert_sound(w->stack);
}

/* Found by the fault suite: questions that were asked while the call might still arrive were counted as attempts, and the run was given up unsent. */
static void a_lost_call_is_sent_again_however_often_it_was_asked_about(void **state)
{
        struct world *w = *state;

        stack_stop(w->stack, "execution", SIGTERM);
        stack_spawn(w->stack, "execution", (const char *const[]){"AETHELOS_RESEND_TRIES=2", NULL});
        operator_is(w, "one", fake_operator_url(w->one), fake_operator_status_url(w->one), "out", ", timeout_ms", ", 300");
        jobs(w, 1, "[\"out\"]", "{\"mode\":\"never\"}", true);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 1", 30000);
        assert_true(fake_operator_truth(w->one).queries >= 3);
        assert_int_equal(number(w, "SELECT sends FROM aethelos.operator_run"), 2);
        assert_int_equal(fake_operator_truth(w->one).calls, 2);
        stack_assert_sound(w->stack);
}

/* Found by 400 kills: the pause before the first question about an accepted run grew with the questions about the call before, which was never
 * received. */
static void a_call_that_is_sent_again_is_asked_about_like_the_first(void **state)
{
        struct world *w = *state;

        operator_is(w, "one", "http://127.0.0.1:1/", fake_operator_status_url(w->one), "out", "", "");
        jobs(w, 1, "[\"out\"]", "{\"mode\":\"accept\"}", true);
        stack_await(w->stack, "SELECT count(*) FROM aethelos.operator_run WHERE state = 'unknown' AND error LIKE 'not sent: %'", "1", 20000);
        _cleanup_(strbuf_done) struct strbuf sql = {0};
        strbuf_addf(&sql, "UPDATE aethelos.operator SET url = '%s' WHERE name = 'one'; UPDATE aethelos.operator_run SET probes = 20, next_at = now()",
                fake_operator_url(w->one));
        operators_change(w, sql.s);
        stack_await(w->stack, STANDING, "EXECUTION_COMPLETED 1", 15000);
        assert_int_equal(fake_operator_truth(w->one).calls, 1);
        stack_assert_sound(w->stack);
}

static void killed_at_every_point(void **state)
{
#ifdef AETHELOS_CRASH_POINTS
        static const char *const points[] = {"before commit", "after commit", "before publish", "after publish", "before ack", "after ack",
                "execution: before call", "execution: after call", "execution: before status query", "execution: after status query"};
        struct world *w = *state;
        int jobs_so_far = 0;

        operator_is(w, "one", fake_operator_url(w->one), fake_operator_status_url(w->one), "out", ", timeout_ms", ", 300");
        stack_stop(w->stack, "execution", SIGTERM);
        for (size_t n = 0; n < ARRAY_SIZE(points) * (size_t)stack_crash_rounds(); n++)
                for (int nth = 1; nth <= 3; nth += 2) {
                        char setting[128];
                        int64_t until = now_mono_ms() + 90000; /* its operator may be avoided */

                        snprintf(setting, sizeof(setting), "AETHELOS_CRASH_AT=%s:%d", points[n % ARRAY_SIZE(points)], nth);
                        stack_spawn(w->stack, "execution", (const char *const[]){setting, NULL});
                        jobs(w, 2, "[\"out\",\"puz19_text\"]", "{\"mode\":\"done\"}", false);
                        jobs(w, 2, "[\"puz19_text\",\"out\"]", "{\"text\":\"x\"}", false);
                        jobs(w, 3, "[\"out\"]", "{\"mode\":\"accept\"}", false);
                        jobs(w, 1, "[\"out\"]", "{\"mode\":\"lost\"}", false);
                        jobs(w, 1, "[\"puz19_text\"]", "{\"text\":\"x\"}", false);
                        jobs_so_far += 9;
                        do {
                                if (now_mono_ms() > until)
                                        fail_msg("not killed at %s", setting);
                                ring(w, "true");
                        } while (stack_wait_end(w->stack, "execution", 300) == -1);
                }
        stack_spawn(w->stack, "execution", NULL);
        /* In a long run the pauses of runs that were asked about, and of their operator, have grown to minutes. */
        for (int i = 0; i < 120 * (stack_crash_rounds() < 10 ? stack_crash_rounds() : 10); i++) {
                if (number(w, "SELECT count(*) FROM aethelos.chain WHERE step <> 'EXECUTION_COMPLETED'") == 0)
                        break;
                ring(w, "step <> 'EXECUTION_COMPLETED'");
                usleep(500000);
        }
        stack_await(w->stack,
                "SELECT coalesce(json_agg(x), '[]') FROM (SELECT c.step, r.state, count(*), max(r.probes) AS probes, max(r.next_at - now()) AS next, "
                "max(r.error) AS error"
                " FROM aethelos.chain c LEFT JOIN aethelos.operator_run r ON r.chain_id = c.id AND r.state <> 'done' WHERE c.step <> "
                "'EXECUTION_COMPLETED' GROUP BY 1, 2) x",
                "[]", 0);
        assert_int_equal(number(w, "SELECT count(*) FROM aethelos.chain WHERE step = 'EXECUTION_COMPLETED'"), jobs_so_far);
        assert_int_equal(fake_operator_truth(w->one).most_per_step, 1);
        assert_int_equal(fake_operator_truth(w->one).wrong, 0);
        stack_assert_sound(w->stack);
#else
        (void)state;
        skip();
#endif
}

/* With an argument: only the tests of that name; * and ? are wild. */
int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(runs_of_a_killed_instance_are_taken_over, setup, teardown),
                cmocka_unit_test_setup_teardown(repeated_bells_do_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(a_lost_call_is_sent_again_however_often_it_was_asked_about, setup, teardown),
                cmocka_unit_test_setup_teardown(a_call_that_is_sent_again_is_asked_about_like_the_first, setup, teardown),
                cmocka_unit_test_setup_teardown(killed_at_every_point, setup, teardown),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
