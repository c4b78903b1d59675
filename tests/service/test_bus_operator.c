/* Operators on the bus, against real servers; the test plays the workers, so that it knows what each was asked and what it said. Every kind of answer
 * ends as it must; a worker that dies is noticed by its lease and asked about; whoever's run was given away is refused; results may be repeated; long
 * work outlives execution and the broker. */
#include "tests/support/bus_world.h"
#include "tests/support/paid_jobs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- what a worker does --- */

/* A message to a worker: a call or a question. */
struct heard {
        char *run, *text, *reply;
        int token; /* 0: a question */
};

static void heard_done(struct heard *h)
{
        free(h->run);
        free(h->text);
        free(h->reply);
}

static bool listen_until(struct bus *bus, int64_t until, struct heard *ret_heard)
{
        struct bus_message *m;

        bus_maintain(bus);
        while (!(m = bus_next_plain(bus)) && now_mono_ms() < until) {
                usleep(2000);
                bus_maintain(bus);
        }
        if (!m)
                return false;
        _cleanup_(freep) char *token = json_at(m->data, "token");
        *ret_heard = (struct heard){.run = json_at(m->data, "run_id"),
                .text = json_at(m->data, "input.text"),
                .reply = xstrdup(m->reply),
                .token = token ? atoi(token) : 0};
        bus_drop(bus, m);
        return true;
}

static struct heard listen_to(struct bus *bus)
{
        struct heard h;

        if (!listen_until(bus, now_mono_ms() + PATIENCE_MS, &h))
                fail_msg("the worker hears nothing");
        return h;
}

static void reply(struct bus *bus, const struct heard *h, const char *body)
{
        assert_int_equal(bus_publish(bus, h->reply, NULL, NULL, 0, body, strlen(body)), 0);
        bus_flush(bus);
}

/* Says it until it is answered, as a worker does; the status of the answer, malloc'ed. `what`: beat or result; `body`: what follows run and token. */
static char *say(struct bus *bus, const char *name, const char *what, const struct heard *h, const char *body)
{
        char subject[96], text[512];
        int64_t until = now_mono_ms() + PATIENCE_MS;

        snprintf(subject, sizeof(subject), "aethelos.operator.%s.%s", name, what);
        snprintf(text, sizeof(text), "{\"run_id\":\"%s\",\"token\":%d%s}", h->run, h->token, body);
        while (now_mono_ms() < until) {
                struct bus_message *m;

                bus_maintain(bus);
                if (bus_request(bus, subject, text, strlen(text), 500, &m) == 0) {
                        char *status = json_at(m->data, "status");
                        bus_drop(bus, m);
                        return status;
                }
                usleep(20000);
        }
        fail_msg("no answer to %s", text);
        return NULL;
}

static void expect_said(struct bus *bus, const char *name, const char *what, const struct heard *h, const char *body, const char *status)
{
        _cleanup_(freep) char *is = say(bus, name, what, h, body);

        assert_string_equal(is, status);
}

static void on_said(void *arg, const struct bus_reply *reply)
{
        _cleanup_(freep) char *text = xstrndup(reply->body.s ? reply->body.s : "", reply->body.len);

        *(char **)arg = reply->outcome == BUS_ANSWERED ? json_at(text, "status") : xstrdup("unanswered");
}

/* Both beat while execution stands still, so that it deals with them together. */
static void expect_together(struct bus_world *w, struct bus *bus, const char *name, const struct heard *h, const char *h_status,
        const struct heard *other, const char *other_status)
{
        const struct heard *who[] = {h, other};
        _cleanup_(freep) char *h_is = NULL, *other_is = NULL;
        char subject[96], text[2][128];
        pid_t pid = 0;

        for (size_t i = 0; i < w->stack->n; i++)
                if (strcmp(w->stack->processes[i].name, "execution") == 0)
                        pid = w->stack->processes[i].pid;
        snprintf(subject, sizeof(subject), "aethelos.operator.%s.beat", name);
        kill(pid, SIGSTOP);
        for (int i = 0; i < 2; i++) {
                snprintf(text[i], sizeof(text[i]), "{\"run_id\":\"%s\",\"token\":%d}", who[i]->run, who[i]->token);
                bus_call(bus, &(struct bus_call){.subject = subject,
                                      .body = slice_of(text[i]),
                                      .timeout_ms = PATIENCE_MS,
                                      .done = on_said,
                                      .arg = i == 0 ? &h_is : &other_is});
        }
        for (int i = 0; i < 5; i++) {
                bus_maintain(bus);
                bus_flush(bus);
                usleep(10000);
        }
        kill(pid, SIGCONT);
        for (int64_t until = now_mono_ms() + PATIENCE_MS; (!h_is || !other_is) && now_mono_ms() < until; usleep(2000))
                bus_maintain(bus);
        assert_string_equal(h_is, h_status);
        assert_string_equal(other_is, other_status);
}

#define DONE(text) ",\"status\":\"done\",\"output\":{\"text\":\"" text "\"}"

static void a_worker_does_a_step(void **state)
{
        struct bus_world *w = *state;
        struct bus *bus = bus_world_worker(w, "plain");

        bus_world_operator(w, "plain", "");
        bus_world_job(w, "plain");
        _cleanup_(heard_done) struct heard h = listen_to(bus);
        assert_string_equal(h.text, "one two");
        assert_int_equal(h.token, 1);
        reply(bus, &h, "{\"status\":\"done\",\"output\":{\"text\":\"a b c\"}}");
        bus_world_await_runs(w, "plain", "state", "done");
        stack_await(w->stack, "SELECT data FROM aethelos.event WHERE type = 'EXECUTION_COMPLETED'",
                "{\"result\":{\"length\":5,\"word_count\":3,\"preview\":\"a b c\"}}", PATIENCE_MS);
        stack_await(w->stack, "SELECT successes FROM aethelos.operator WHERE name = 'plain'", "1", PATIENCE_MS);
        bus_free(bus);
}

static void a_failure_goes_to_another_operator(void **state)
{
        struct bus_world *w = *state;
        struct bus *bus = bus_world_worker(w, "fails");

        bus_world_operator(w, "fails", "");
        bus_world_operator(w, "stands_in", ",\"fallback_for\":[\"fails\"]");
        bus_world_job(w, "fails");
        _cleanup_(heard_done) struct heard h = listen_to(bus);
        struct bus *other = bus_world_worker(w, "stands_in");
        reply(bus, &h, "{\"status\":\"failed\",\"error\":\"no paper\"}");
        _cleanup_(heard_done) struct heard again = listen_to(other);
        assert_string_not_equal(again.run, h.run);
        reply(other, &again, "{\"status\":\"done\",\"output\":{\"text\":\"x\"}}");
        bus_world_await_runs(w, "fails", "state || ': ' || error", "failed: no paper");
        bus_world_await_runs(w, "stands_in", "state", "done");
        bus_free(bus);
        bus_free(other);
}

static void where_nobody_listens_nothing_was_sent(void **state)
{
        struct bus_world *w = *state;

        bus_world_operator(w, "deserted", "");
        bus_world_operator(w, "there", ",\"fallback_for\":[\"deserted\"]");
        struct bus *bus = bus_world_worker(w, "there");
        bus_world_job(w, "deserted");
        _cleanup_(heard_done) struct heard h = listen_to(bus);
        reply(bus, &h, "{\"status\":\"done\",\"output\":{\"text\":\"x\"}}");
        bus_world_await_runs(w, "deserted", "state || ': ' || error", "failed: nobody listens");
        bus_free(bus);
        /* With nobody else it is sent again until somebody is there: the same run, and it is the first that anybody hears of it. */
        bus_world_operator(w, "late", "");
        bus_world_job(w, "late");
        bus_world_await_runs(w, "late", "state || ': ' || error", "unknown: not sent: nobody listens");
        bus = bus_world_worker(w, "late");
        _cleanup_(heard_done) struct heard late = listen_to(bus);
        assert_true(late.token > 1);
        reply(bus, &late, "{\"status\":\"done\",\"output\":{\"text\":\"x\"}}");
        bus_world_await_runs(w, "late", "state", "done");
        bus_free(bus);
}

static void an_open_outcome_is_asked_about(void **state)
{
        struct bus_world *w = *state;
        struct bus *bus = bus_world_worker(w, "slow");

        bus_world_operator(w, "slow", ",\"answers_status\":true,\"timeout_ms\":300");
        bus_world_job(w, "slow");
        _cleanup_(heard_done) struct heard h = listen_to(bus);
        bus_world_await_runs(w, "slow", "state", "unknown");
        _cleanup_(heard_done) struct heard question = listen_to(bus);
        assert_int_equal(question.token, 0);
        assert_string_equal(question.run, h.run);
        reply(bus, &question, "nonsense"); /* no answer: it is asked again */
        _cleanup_(heard_done) struct heard second = listen_to(bus);
        reply(bus, &second, "{\"status\":\"done\",\"output\":{\"text\":\"x\"}}");
        bus_world_await_runs(w, "slow", "state || sends", "done1");
        bus_free(bus);
}

static void long_work_is_seen_and_its_result_committed(void **state)
{
        struct bus_world *w = *state;
        struct bus *bus = bus_world_worker(w, "long");
        long status;

        bus_world_operator(w, "long", ",\"lease_ms\":5000");
        bus_world_job(w, "long");
        _cleanup_(heard_done) struct heard h = listen_to(bus);
        reply(bus, &h, "{\"status\":\"accepted\",\"worker\":\"desk 1\"}");
        bus_world_await_runs(w, "long", "state || ' ' || worker", "accepted desk 1");
        expect_said(bus, "long", "beat", &h, ",\"percent\":40,\"progress\":\"reading\"", "held");
        _cleanup_(freep) char *runs = stack_http(w->stack, true, "GET", "/runs?operator=long", NULL, NULL, &status);
        for (size_t i = 0; i < 4; i++) {
                static const char *const parts[] = {"\"worker\":\"desk 1\"", "\"progress\":\"reading\"", "\"percent\":40", "\"beat_age_s\":0"};
                if (!strstr(runs, parts[i]))
                        fail_msg("%s is not in %s", parts[i], runs);
        }
        expect_said(bus, "long", "beat", &h, ",\"percent\":101", "invalid");
        struct heard wrong = {.run = h.run, .token = h.token + 1};
        expect_said(bus, "long", "beat", &wrong, "", "over");
        expect_said(bus, "long", "result", &wrong, DONE("wrong"), "over");
        expect_said(bus, "plain", "result", &h, DONE("of another operator"), "over");
        expect_said(bus, "long", "result", &h, ",\"status\":\"running\"", "invalid");
        expect_said(bus, "long", "result", &h, DONE("x"), "committed");
        expect_said(bus, "long", "result", &h, DONE("x"), "committed"); /* its answer was lost, as far as the worker knows */
        expect_said(bus, "long", "result", &h, ",\"status\":\"failed\"", "over");
        expect_said(bus, "long", "beat", &h, "", "over");
        bus_world_await_runs(w, "long", "state || sends", "done1");
        bus_free(bus);
}

static void a_worker_that_dies_is_noticed_and_its_run_done_by_the_next(void **state)
{
        struct bus_world *w = *state;
        struct bus *first = bus_world_worker(w, "mortal"), *second;
        int64_t died;

        bus_world_operator(w, "mortal", ",\"answers_status\":true,\"lease_ms\":1000,\"timeout_ms\":1000");
        bus_world_job(w, "mortal");
        _cleanup_(heard_done) struct heard h = listen_to(first);
        reply(first, &h, "{\"status\":\"accepted\"}");
        expect_said(first, "mortal", "beat", &h, "", "held");
        bus_free(first);
        died = now_mono_ms();
        second = bus_world_worker(w, "mortal");
        _cleanup_(heard_done) struct heard question = listen_to(second);
        print_message("asked %lld ms after its death\n", (long long)(now_mono_ms() - died));
        assert_int_equal(question.token, 0); /* asked about, not sent again blindly */
        reply(second, &question, "{\"status\":\"unknown\"}");
        _cleanup_(heard_done) struct heard again = listen_to(second);
        assert_string_equal(again.run, h.run);
        assert_int_equal(again.token, 2);
        reply(second, &again, "{\"status\":\"accepted\"}");
        /* It was not dead. Found by the fault suite (seed 41): beside the beat of the one who holds the run its own was taken for held. */
        expect_together(w, second, "mortal", &h, "over", &again, "held");
        expect_said(second, "mortal", "beat", &h, "", "over");
        expect_said(second, "mortal", "result", &h, DONE("old"), "over");
        expect_said(second, "mortal", "result", &again, DONE("new"), "committed");
        bus_world_await_runs(w, "mortal", "state || sends", "done2");
        bus_free(second);
}

static void where_nobody_can_be_asked_a_silent_worker_is_waited_for(void **state)
{
        struct bus_world *w = *state;
        struct bus *bus = bus_world_worker(w, "silent");
        struct heard nothing;

        bus_world_operator(w, "silent", ",\"lease_ms\":1000");
        bus_world_job(w, "silent");
        _cleanup_(heard_done) struct heard h = listen_to(bus);
        reply(bus, &h, "{\"status\":\"accepted\"}");
        bus_world_await_runs(w, "silent", "state || ': ' || error", "unknown: its worker has fallen silent");
        expect_said(bus, "silent", "beat", &h, "", "held");
        bus_world_await_runs(w, "silent", "state", "accepted");
        expect_said(bus, "silent", "result", &h, ",\"status\":\"failed\",\"error\":\"too hard\"", "committed");
        bus_world_await_runs(w, "silent", "state || ': ' || error", "failed: too hard");
        assert_false(listen_until(bus, 0, &nothing));
        bus_free(bus);
}

static void workers_share(void **state)
{
        struct bus_world *w = *state;
        struct bus *both[2] = {bus_world_worker(w, "shared"), bus_world_worker(w, "shared")};
        int calls[2] = {0};

        bus_world_operator(w, "shared", "");
        paid_jobs(w->stack, w->bus, 40, "[\"shared\"]", "{}");
        for (int64_t until = now_mono_ms() + PATIENCE_MS; calls[0] + calls[1] < 40 && now_mono_ms() < until;)
                for (int i = 0; i < 2; i++) {
                        struct heard h;
                        if (!listen_until(both[i], 0, &h))
                                continue;
                        calls[i]++;
                        reply(both[i], &h, "{\"status\":\"done\",\"output\":1}");
                        heard_done(&h);
                }
        stack_await(w->stack, "SELECT count(*) FROM aethelos.operator_run WHERE operator = 'shared' AND state = 'done'", "40", PATIENCE_MS);
        print_message("%d and %d calls\n", calls[0], calls[1]);
        assert_true(calls[0] > 0 && calls[1] > 0);
        bus_free(both[0]);
        bus_free(both[1]);
}

static void long_work_outlives_execution_and_the_broker(void **state)
{
        struct bus_world *w = *state;
        struct bus *bus = bus_world_worker(w, "patient");

        bus_world_operator(w, "patient", ",\"lease_ms\":60000");
        bus_world_job(w, "patient");
        _cleanup_(heard_done) struct heard h = listen_to(bus);
        reply(bus, &h, "{\"status\":\"accepted\"}");
        bus_world_await_runs(w, "patient", "state", "accepted");
        stack_stop(w->stack, "execution", SIGKILL);
        stack_spawn(w->stack, "execution", NULL);
        expect_said(bus, "patient", "beat", &h, ",\"progress\":\"after a crash\"", "held");
        nats_fixture_kill(w->stack->nats);
        nats_fixture_wipe(w->stack->nats);
        nats_fixture_restart(w->stack->nats);
        expect_said(bus, "patient", "beat", &h, ",\"progress\":\"after another\"", "held");
        bus_world_await_runs(w, "patient", "progress || ' ' || sends", "after another 1");
        /* The answer to the result is lost with execution: it is said again. */
        stack_stop(w->stack, "execution", SIGKILL);
        stack_spawn(w->stack, "execution", NULL);
        expect_said(bus, "patient", "result", &h, DONE("x"), "committed");
        bus_world_await_runs(w, "patient", "state || sends", "done1");
        bus_free(bus);
}

/* While the broker or execution is away longer than a lease, a worker that is alive cannot be heard: that is not held against it. */
static void a_worker_that_could_not_be_heard_keeps_its_run(void **state)
{
        struct bus_world *w = *state;
        struct bus *bus = bus_world_worker(w, "unheard");
        struct heard nothing;

        bus_world_operator(w, "unheard", ",\"lease_ms\":1500,\"idempotent\":true");
        bus_world_job(w, "unheard");
        _cleanup_(heard_done) struct heard h = listen_to(bus);
        reply(bus, &h, "{\"status\":\"accepted\"}");
        bus_world_await_runs(w, "unheard", "state", "accepted");
        stack_stop(w->stack, "execution", SIGKILL);
        bus_world_await_runs(w, "unheard", "lease_until < now()", "true");
        stack_spawn(w->stack, "execution", NULL);
        expect_said(bus, "unheard", "beat", &h, "", "held");
        nats_fixture_kill(w->stack->nats);
        bus_world_await_runs(w, "unheard", "lease_until < now() - interval '1 s'", "true");
        nats_fixture_restart(w->stack->nats);
        expect_said(bus, "unheard", "beat", &h, "", "held");
        expect_said(bus, "unheard", "result", &h, DONE("x"), "committed");
        bus_world_await_runs(w, "unheard", "state || sends", "done1");
        assert_false(listen_until(bus, 0, &nothing));
        bus_free(bus);
}

static void signal_execution(struct bus_world *w, int signal)
{
        for (size_t i = 0; i < w->stack->n; i++)
                if (strcmp(w->stack->processes[i].name, "execution") == 0)
                        kill(w->stack->processes[i].pid, signal);
}

/* Nor is it when execution stood still for longer than a lease, or the broker went and came while nobody looked. */
static void a_worker_is_not_silent_because_nobody_listened(void **state)
{
        struct bus_world *w = *state;
        struct bus *bus = bus_world_worker(w, "steady");
        struct heard nothing;

        bus_world_operator(w, "steady", ",\"lease_ms\":2500,\"idempotent\":true");
        bus_world_job(w, "steady");
        _cleanup_(heard_done) struct heard h = listen_to(bus);
        reply(bus, &h, "{\"status\":\"accepted\"}");
        bus_world_await_runs(w, "steady", "state", "accepted");
        expect_said(bus, "steady", "beat", &h, "", "held");
        signal_execution(w, SIGSTOP);
        bus_world_await_runs(w, "steady", "lease_until < now() - interval '500 ms'", "true");
        signal_execution(w, SIGCONT);
        bus_world_await_runs(w, "steady", "next_at > now() AND lease_until < now()", "true"); /* it has been looked at, and waits */
        expect_said(bus, "steady", "beat", &h, "", "held");
        bus_world_await_runs(w, "steady", "lease_until < now() + interval '300 ms'", "true");
        nats_fixture_kill(w->stack->nats);
        nats_fixture_restart(w->stack->nats);
        bus_world_await_runs(w, "steady", "next_at > now() AND lease_until < now()", "true");
        expect_said(bus, "steady", "beat", &h, "", "held");
        bus_world_await_runs(w, "steady", "state || sends || probes", "accepted10");
        expect_said(bus, "steady", "result", &h, DONE("x"), "committed");
        bus_world_await_runs(w, "steady", "state || sends", "done1");
        assert_false(listen_until(bus, 0, &nothing));
        bus_free(bus);
}

/* With an argument: only the tests of that name; * and ? are wild. */
int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(a_worker_does_a_step, bus_world_finished),
                cmocka_unit_test_teardown(a_failure_goes_to_another_operator, bus_world_finished),
                cmocka_unit_test_teardown(where_nobody_listens_nothing_was_sent, bus_world_finished),
                cmocka_unit_test_teardown(an_open_outcome_is_asked_about, bus_world_finished),
                cmocka_unit_test_teardown(long_work_is_seen_and_its_result_committed, bus_world_finished),
                cmocka_unit_test_teardown(a_worker_that_dies_is_noticed_and_its_run_done_by_the_next, bus_world_finished),
                cmocka_unit_test_teardown(where_nobody_can_be_asked_a_silent_worker_is_waited_for, bus_world_finished),
                cmocka_unit_test_teardown(workers_share, bus_world_finished),
                cmocka_unit_test_teardown(long_work_outlives_execution_and_the_broker, bus_world_finished),
                cmocka_unit_test_teardown(a_worker_that_could_not_be_heard_keeps_its_run, bus_world_finished),
                cmocka_unit_test_teardown(a_worker_is_not_silent_because_nobody_listened, bus_world_finished),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, bus_world_setup, bus_world_teardown);
}
