/* The routes about repair on the real stack: what is asked is stored before it is answered, and a repeat under the same key is the same command. */
#include "tests/support/stack.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NO_JOB "01890000-0000-7000-8000-000000000000"

static char *ask(struct stack *s, const char *method, const char *path, const char *const headers[], const char *body, long want)
{
        long status = 0;
        char *answer = stack_http(s, true, method, path, headers, body, &status);

        if (status != want)
                print_error("%s %s: %ld, %s\n", method, path, status, answer ? answer : "(no answer)");
        assert_int_equal(status, want);
        return answer;
}

static void refused(struct stack *s, const char *path, const char *body, long status, const char *field)
{
        _cleanup_(freep) char *answer = ask(s, "POST", path, NULL, body, status), *said = json_at(answer, "field");

        if (field)
                assert_string_equal(said, field);
}

static void commands(void **state)
{
        static const char *const keyed[] = {"Idempotency-Key: k-1", "Prefer: respond-async", NULL};
        struct stack *s = stack_start();
        char path[80];

        (void)state;
        _cleanup_(freep) char *rules = ask(s, "GET", "/meta/rules", NULL, NULL, 200),
                              *issues = ask(s, "GET", "/meta/issues?limit=1", NULL, NULL, 200), *next = json_at(issues, "next");
        assert_non_null(strstr(rules, "\"step\":\"EXECUTION_FAILED\""));
        assert_string_equal(next, "null");
        refused(s, "/meta/auto_repair", "{\"dry_run\":\"yes\"}", 422, "/dry_run");
        refused(s, "/meta/redrive", "{\"by\":\"test\"}", 422, "/chain_id");
        refused(s, "/jobs/" NO_JOB "/refund", "{\"by\":\"test\"}", 422, "/reason");
        refused(s, "/jobs/none/close", "{\"by\":\"test\",\"reason\":\"r\"}", 404, NULL);
        refused(s, "/meta/issues/" NO_JOB "/repair", "{}", 404, NULL);
        free(ask(s, "GET", "/meta/issues/" NO_JOB, NULL, NULL, 404));
        free(ask(s, "GET", "/meta/commands/" NO_JOB, NULL, NULL, 404));
        free(ask(s, "GET", "/meta/issues?after=x", NULL, NULL, 422));

        /* Without meta-repair a command stands, and says so. */
        stack_stop(s, "meta-repair", SIGTERM);
        _cleanup_(freep) char *first = ask(s, "POST", "/meta/auto_repair", keyed, "{\"dry_run\":true}", 202),
                              *again = ask(s, "POST", "/meta/auto_repair", keyed, "{\"dry_run\":true}", 202), *id = json_at(first, "id"),
                              *same = json_at(again, "id");
        assert_string_equal(id, same);
        free(ask(s, "POST", "/meta/auto_repair", keyed, "{\"dry_run\":false}", 409));
        snprintf(path, sizeof(path), "/meta/commands/%s", id);
        _cleanup_(freep) char *stands = ask(s, "GET", path, NULL, NULL, 200), *status = json_at(stands, "status");
        assert_string_equal(status, "stored");
        stack_await(s, "SELECT count(*) FROM repair_command", "1", 1000);
        /* Held as long as hold_ms, and then not answered as if it were done. */
        free(ask(s, "POST", "/meta/auto_repair", NULL, "{\"dry_run\":true}", 202));

        /* What a service must move on is its queue, with the age of the oldest. */
        static const char *const submit[] = {"Idempotency-Key: k-2", "Prefer: respond-async", NULL};
        _cleanup_(freep) char *none = ask(s, "GET", "/metrics", NULL, NULL, 200);
        assert_non_null(strstr(none, "\naethelos_queue_chains{service=\"pricing\"} 0\n"));
        assert_non_null(strstr(none, "\naethelos_queue_oldest_seconds{service=\"pricing\"} 0.000\n"));
        stack_stop(s, "pricing", SIGTERM);
        long code;
        free(stack_http(s, false, "POST", "/jobs", submit, "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"waits\"}}", &code));
        assert_int_equal(code, 202);
        char *queue = NULL;
        for (int64_t until = now_mono_ms() + 20000;
                !queue || !strstr(queue, "\naethelos_queue_chains{service=\"pricing\"} 1\n");) { /* within a second */
                assert_true(now_mono_ms() < until);
                poll(NULL, 0, 50);
                free(queue);
                queue = ask(s, "GET", "/metrics", NULL, NULL, 200);
        }
        assert_null(strstr(queue, "\naethelos_queue_oldest_seconds{service=\"pricing\"} 0.000\n"));
        free(queue);
        stack_spawn(s, "pricing", NULL);
        stack_free(s);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {cmocka_unit_test(commands)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
