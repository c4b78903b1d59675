/* Kills each service at each of its crash points once, starts it again, and finds the invariants intact and the chain finished. The points are learnt
 * from a run with AETHELOS_CRASH_LOG; each is then killed in a stack that goes on. */
#include "base/util.h"
#include "tests/support/stack.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const services[] = {"intake", "pricing", "payments", "execution", "ledger", "payouts", "feed", "webhooks", "board"};
static struct stack *stack;
static const char *only; /* this service; NULL: all */
static int submitted, killed;

/* As a careful client: the same key and body until there is an answer that names the job. */
static char *submit(void)
{
        char header[64], body[160];

        snprintf(header, sizeof(header), "Idempotency-Key: crash-%d", ++submitted);
        snprintf(body, sizeof(body), "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"crash %d\"}}", submitted);
        for (int i = 0; i < 400; i++) {
                long status;
                _cleanup_(freep) char *answer = stack_http(stack, false, "POST", "/jobs", (const char *const[]){header, NULL}, body, &status);

                if (status >= 200 && status < 300)
                        return json_at(answer, "job.id");
                stack_wait_end(stack, "none", 25);
                if (stack_wait_end(stack, "intake", 0) >= 0) { /* as a supervisor would */
                        killed++;
                        stack_spawn(stack, "intake", NULL);
                }
        }
        fail_msg("no answer to a submission");
        return NULL;
}

static void revive(const char *service)
{
        if (stack_wait_end(stack, service, 0) >= 0) {
                killed++;
                stack_spawn(stack, service, NULL);
        }
}

/* Until the store says so; whoever dies meanwhile is started again. */
static void drive(const char *service, const char *sql, const char *answer)
{
        for (int i = 0; i < 4000; i++) {
                _cleanup_(freep) char *got = pg_fixture_ask(stack->pg, sql);

                if (strcmp(got, answer) == 0)
                        return;
                revive(service);
                stack_wait_end(stack, "none", 5);
        }
        stack_await(stack, sql, answer, 0);
}

static void act(const char *service, const char *path, const char *body)
{
        for (int i = 0; i < 400; i++) {
                long status;

                free(stack_http(stack, true, "POST", path, NULL, body, &status));
                if (status == 200 || status == 201 || status == 202)
                        return;
                revive(service);
                stack_wait_end(stack, "none", 25);
        }
        fail_msg("%s was never answered", path);
}

/* Somebody who is told of all events and is never there, in place of the one before. */
static void subscribe(const char *service)
{
        /* Locked as the service that is just writing locks them, or one of us two ends by a deadlock. */
        free(pg_fixture_ask(stack->pg, "LOCK TABLE webhook_delivery, webhook IN SHARE ROW EXCLUSIVE MODE; DELETE FROM webhook"));
        act(service, "/webhooks", "{\"url\":\"http://127.0.0.1:1/\"}");
}

/* The work of a task, its result and its move are one transaction: it is done once, whenever execution dies. */
static void run_task(const char *service)
{
        act(service, "/system/tasks", "{\"kind\":\"PAYOUT_SETTLEMENT\",\"now\":true}");
        drive(service, "SELECT count(*) FROM chain WHERE kind = 'system' AND status = 'open'", "0");
        stack_await(stack,
                "SELECT (count(*) > 0) || ' ' || count(*) FILTER (WHERE c.step <> 'EXECUTION_COMPLETED' OR (e.data::json #>> "
                "'{result,payouts}')::int <>"
                "   (SELECT count(*) FROM settlement_item i WHERE i.task_id = c.id)) FROM chain c LEFT JOIN event e ON e.chain_id = c.id AND"
                "   e.type = 'EXECUTION_COMPLETED' WHERE c.task LIKE 'PAYOUT_SETTLEMENT%'",
                "true 0", 0);
}

static void run_chain(const char *service)
{
        _cleanup_(freep) char *id = NULL, *payout = NULL;
        char sql[200], path[128], body[200];

        subscribe(service);
        id = submit();
        snprintf(sql, sizeof(sql), "SELECT step FROM chain WHERE id = '%s'", id);
        drive(service, sql, "PAYMENT_INITIATED");
        snprintf(path, sizeof(path), "/payment-intents/%s/confirm", id);
        act(service, path, "{\"reference\":\"bank\",\"by\":\"anna\"}");
        snprintf(sql, sizeof(sql), "SELECT coalesce((SELECT step FROM chain WHERE parent = '%s'), '')", id);
        drive(service, sql, "PAYOUT_READY");
        snprintf(path, sizeof(path), "SELECT id FROM chain WHERE parent = '%s'", id);
        payout = pg_fixture_ask(stack->pg, path);
        if (strcmp(service, "execution") == 0)
                run_task(service);
        snprintf(body, sizeof(body), "{\"payout_id\":\"%s\",\"reference\":\"transfer\",\"by\":\"anna\"}", payout);
        act(service, "/payouts/mark", body);
        snprintf(body, sizeof(body), "{\"name\":\"crash_%d\",\"kind\":\"http\",\"url\":\"http://127.0.0.1:1/\",\"tags\":[\"none\"]}", submitted);
        act(service, "/operators", body);
        drive(service, sql, "PAYOUT_DONE");
        stack_assert_sound(stack);
}

static int set_up(void **state)
{
        (void)state;
        stack = stack_start();
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        stack = stack_free(stack);
        return 0;
}

static void kill_at(const char *service, const char *point)
{
        char setting[200];
        int before = killed;

        snprintf(setting, sizeof(setting), "AETHELOS_CRASH_AT=%s:1", point);
        stack_stop(stack, service, SIGKILL);
        stack_spawn(stack, service, (const char *const[]){setting, NULL});
        run_chain(service);
        if (killed == before && stack_wait_end(stack, service, 5000) >= 0) { /* after its last answer */
                killed++;
                stack_spawn(stack, service, NULL);
                stack_wait_ready(stack);
        }
        if (killed == before)
                fail_msg("%s was not killed at \"%s\"", service, point);
}

static void every_point(void **state)
{
        int points = 0;

        (void)state;
        for (size_t s = 0; s < ARRAY_SIZE(services); s++) {
                _cleanup_(freep) char *log = NULL;
                char path[128], setting[200], *line, *rest;

                if (only && strcmp(only, services[s]) != 0)
                        continue;
                /* learn the points */
                snprintf(path, sizeof(path), "%s/%s.points", stack->dir, services[s]);
                snprintf(setting, sizeof(setting), "AETHELOS_CRASH_LOG=%s", path);
                stack_stop(stack, services[s], SIGTERM);
                stack_spawn(stack, services[s], (const char *const[]){setting, NULL});
                stack_wait_ready(stack);
                run_chain(services[s]);
                /* Who stands beside the chains may not have looked yet when one has ended. */
                for (int i = 0; points > 0 && i < 500 && access(path, F_OK) < 0; i++)
                        usleep(20000);
                stack_stop(stack, services[s], SIGTERM); /* what it is at it finishes, and names */
                if (read_file(path, 1 << 20, &log) < 0 && points == 0)
                        skip(); /* built without crash points */
                if (!log)
                        fail_msg("no crash points of %s", services[s]);

                for (line = strtok_r(log, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), points++)
                        for (int round = 0; round < stack_crash_rounds(); round++)
                                kill_at(services[s], line);
        }
        print_message("%d crash points, %d kills\n", points, killed);
        assert_true(points > (only ? 0 : 20));
}

/* With an argument: that service only. */
int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_point),
        };

        only = argc > 1 ? argv[1] : NULL;
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
