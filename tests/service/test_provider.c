/* payments with the driver http against a provider with ground truth: every kind of answer ends as it must, nobody is charged or refunded twice, and
 * money moves only on the provider's word. */
#include "base/util.h"
#include "store/chain.h"
#include "tests/support/fake_provider.h"
#include "tests/support/stack.h"

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

static struct stack *stack;
static struct fake_provider *provider;
static char url_setting[128];
static int jobs;

static void spawn_payments(void)
{
        stack_spawn(
                stack, "payments", (const char *const[]){"AETHELOS_PAYMENT_DRIVER=http", url_setting, "AETHELOS_PAYMENT_HTTP_TIMEOUT_MS=2000", NULL});
}

static int set_up(void **state)
{
        static const char *const services[] = {"pricing", "meta-repair", "feed", "intake", "board"};

        (void)state;
        stack = stack_start_bare();
        provider = fake_provider_start();
        snprintf(url_setting, sizeof(url_setting), "AETHELOS_PAYMENT_HTTP_URL=%s", fake_provider_url(provider));
        spawn_payments();
        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                stack_spawn(stack, services[i], NULL);
        stack_wait_ready(stack);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        stack_assert_sound(stack);
        stack = stack_free(stack);
        provider = fake_provider_free(provider);
        return 0;
}

static void await_step(const char *id, const char *step)
{
        char sql[128];

        snprintf(sql, sizeof(sql), "SELECT step FROM chain WHERE id = '%s'", id);
        stack_await(stack, sql, step, 30000);
}

/* A job at the step; malloc'ed id. */
static char *job_at(const char *step)
{
        _cleanup_(freep) char *made = NULL;
        char key[48], *id;
        long status;

        snprintf(key, sizeof(key), "Idempotency-Key: provider-%d", ++jobs);
        made = stack_http(stack, false, "POST", "/jobs", (const char *const[]){key, "Prefer: respond-async", NULL},
                "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\"}}", &status);
        assert_int_equal(status, 202);
        id = json_at(made, "job.id");
        if (!id)
                id = json_at(made, "id");
        await_step(id, step);
        return id;
}

/* What meta-repair would do: one move under its role. */
static void refund(const char *id)
{
        _cleanup_(advance_done) struct advance a = {0};
        _cleanup_(freep) char *version = NULL;
        struct db *db = pg_fixture_connect(stack->pg, "meta_repair");
        struct uuid uuid;
        char sql[128];

        assert_true(uuid_parse(id, strlen(id), &uuid));
        snprintf(sql, sizeof(sql), "SELECT version FROM chain WHERE id = '%s'", id);
        version = pg_fixture_ask(stack->pg, sql);
        advance_event(&a, advance_move(&a, &uuid, atoi(version)), "REFUND_REQUIRED", "{}", 2);
        assert_int_equal(advance_run(&a, db), 0);
        assert_int_equal(a.t[0].verdict, ADVANCE_WON);
        db_free(db);
}

static char *paid_job(void)
{
        char *id = job_at("PAYMENT_INITIATED");

        assert_true(fake_provider_pay(provider, id, -1));
        await_step(id, "PAYMENT_CONFIRMED");
        return id;
}

static void await_refunded(const char *id)
{
        char sql[200];

        snprintf(sql, sizeof(sql), "SELECT count(*) FROM event WHERE chain_id = '%s' AND type = 'REFUND_CONFIRMED'", id);
        stack_await(stack, sql, "1", 60000);
}

static void paid_at_the_provider(void **state)
{
        _cleanup_(freep) char *id = paid_job();
        char sql[200];

        (void)state;
        snprintf(sql, sizeof(sql), "SELECT kind || ' ' || who || ' ' || reference FROM evidence WHERE chain_id = '%s'", id);
        _cleanup_(freep) char *evidence = pg_fixture_ask(stack->pg, sql), *expected = NULL;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        strbuf_addf(&b, "provider http py_%s", id);
        assert_string_equal(evidence, b.s);
}

static void await_posts(size_t n)
{
        for (int tries = 0; tries < 2000 && fake_provider_truth(provider).posts < n; tries++)
                usleep(20000);
        assert_true(fake_provider_truth(provider).posts >= n);
}

static void await_queries(size_t n)
{
        for (int tries = 0; tries < 2000 && fake_provider_truth(provider).queries < n; tries++)
                usleep(20000);
        assert_true(fake_provider_truth(provider).queries >= n);
}

/* The intent is made once, whatever becomes of the answers. */
static void answers_get_lost(void **state)
{
        static const char *const modes[] = {"lost", "error", "never"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
                struct fake_provider_truth before = fake_provider_truth(provider), after;
                _cleanup_(freep) char *id = NULL;

                fake_provider_mode(provider, modes[i]);
                id = job_at("PAYMENT_REQUIRED");
                await_posts(before.posts + 1);
                fake_provider_mode(provider, "ok");
                await_step(id, "PAYMENT_INITIATED");
                after = fake_provider_truth(provider);
                assert_int_equal(after.intents, before.intents + 1);
                assert_true(after.posts > before.posts + 1);
        }
}

static void runs_out_at_the_provider(void **state)
{
        _cleanup_(freep) char *id = job_at("PAYMENT_INITIATED");

        (void)state;
        assert_true(fake_provider_expire(provider, id));
        await_step(id, "PAYMENT_EXPIRED");
}

/* Another amount moves nothing and is kept. */
static void a_wrong_amount(void **state)
{
        _cleanup_(freep) char *id = job_at("PAYMENT_INITIATED");
        char sql[160];

        (void)state;
        assert_true(fake_provider_pay(provider, id, 1));
        snprintf(sql, sizeof(sql), "SELECT string_agg(verdict, ',') FROM evidence_mismatch WHERE chain_id = '%s'", id);
        stack_await(stack, sql, "amount", 30000);
        await_step(id, "PAYMENT_INITIATED");
}

static void refunds_go_once(void **state)
{
        static const char *const modes[] = {"ok", "lost", "error", "never"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
                _cleanup_(freep) char *id = paid_job();
                struct fake_provider_truth before = fake_provider_truth(provider), after;

                fake_provider_mode(provider, modes[i]);
                fake_provider_deny_queries(provider, 1);
                refund(id);
                await_posts(before.posts + 1);
                /* Who asks is told to go: that says nothing of what was done before. */
                if (i > 0)
                        await_queries(before.queries + 1);
                fake_provider_mode(provider, "ok");
                fake_provider_deny_queries(provider, 0);
                await_refunded(id);
                after = fake_provider_truth(provider);
                assert_int_equal(after.refunds, before.refunds + 1);
                assert_int_equal(after.refunded, before.refunded + 1);
        }
}

/* A refund that takes its time is asked about; one that is refused waits for a person, and can be confirmed by one. */
static void slow_and_refused_refunds(void **state)
{
        _cleanup_(freep) char *slow = paid_job(), *refused = paid_job();
        char sql[200], path[128];
        long status;

        (void)state;
        fake_provider_hold_refunds(provider, 1);
        refund(slow);
        snprintf(sql, sizeof(sql), "SELECT state FROM provider_call WHERE chain_id = '%s' AND what = 'refund'", slow);
        stack_await(stack, sql, "pending", 30000);
        fake_provider_hold_refunds(provider, 0);
        await_refunded(slow);

        fake_provider_mode(provider, "refuse");
        refund(refused);
        snprintf(sql, sizeof(sql), "SELECT state || ' ' || error FROM provider_call WHERE chain_id = '%s' AND what = 'refund'", refused);
        stack_await(stack, sql, "failed refused", 30000);
        fake_provider_mode(provider, "ok");
        await_step(refused, "REFUND_INITIATED");
        /* Both clocks of the rule are run out: it is a person's, and whoever asks is told so. */
        snprintf(sql, sizeof(sql), "UPDATE chain SET updated_at = now() - interval '2 days' WHERE id = '%s'", refused);
        free(pg_fixture_ask(stack->pg, sql));
        snprintf(sql, sizeof(sql), "SELECT state || ' ' || waits_for FROM issue WHERE chain_id = '%s' AND kind = 'STUCK_AT_STEP'", refused);
        stack_await(stack, sql, "waiting_evidence person", 30000);
        snprintf(path, sizeof(path), "/jobs/%s/dossier", refused);
        _cleanup_(freep) char *told = stack_http(stack, true, "GET", path, NULL, NULL, &status);
        _cleanup_(freep) char *who = json_at(told, "waits.for"), *may = json_at(told, "may.1.what");
        assert_string_equal(who, "person");
        assert_string_equal(may, "confirm_refund");
        snprintf(path, sizeof(path), "/refunds/%s/confirm", refused);
        free(stack_http(stack, true, "POST", path, NULL, "{\"reference\":\"by hand\",\"by\":\"anna\"}", &status));
        assert_int_equal(status, 200);
        await_refunded(refused);
}

static void close_job(const char *id, long expected)
{
        char path[96];
        long status = 0;

        snprintf(path, sizeof(path), "/jobs/%s/close", id);
        for (int tries = 0; tries < 50 && status != expected; tries++) { /* the intent may just be asked for */
                if (tries > 0)
                        usleep(20000);
                free(stack_http(stack, true, "POST", path, NULL, "{\"reason\":\"it is refused\",\"by\":\"anna\"}", &status));
                if (status != expected)
                        assert_int_equal(status, 409); /* it is never closed unasked for */
        }
        assert_int_equal(status, expected);
}

/* An intent that is refused is asked for again; whoever has no more patience closes the job, and then it is not. One that the provider may have is
 * left. */
static void refused_intents(void **state)
{
        _cleanup_(freep) char *closed = NULL, *kept = NULL, *unknown = NULL;
        char sql[200], path[96];
        long status = 0;

        (void)state;
        fake_provider_mode(provider, "refuse");
        closed = job_at("PAYMENT_REQUIRED");
        kept = job_at("PAYMENT_REQUIRED");
        stack_await(stack, "SELECT count(*) FROM provider_call WHERE state = 'unknown' AND error = 'refused: refused' AND probes > 0", "2", 30000);
        snprintf(path, sizeof(path), "/jobs/%s/dossier", closed);
        _cleanup_(freep) char *told = stack_http(stack, true, "GET", path, NULL, NULL, &status);
        _cleanup_(freep) char *who = json_at(told, "waits.for"), *may = json_at(told, "may.0.what");
        assert_string_equal(who, "provider");
        assert_string_equal(may, "close");
        close_job(closed, 200);
        await_step(closed, "FINAL_FAIL");
        snprintf(sql, sizeof(sql), "SELECT state FROM provider_call WHERE chain_id = '%s'", closed);
        stack_await(stack, sql, "failed", 1000);
        fake_provider_mode(provider, "down");
        unknown = job_at("PAYMENT_REQUIRED");
        snprintf(sql, sizeof(sql), "SELECT state FROM provider_call WHERE chain_id = '%s' AND probes > 0", unknown);
        stack_await(stack, sql, "unknown", 30000);
        close_job(unknown, 409);
        fake_provider_mode(provider, "ok");
        await_step(kept, "PAYMENT_INITIATED");
        await_step(unknown, "PAYMENT_INITIATED");
        assert_false(fake_provider_pay(provider, closed, -1)); /* it knows of no such intent */
}

/* The provider has made the intent, says so to nobody, and then tells who asks again to go: nobody may close the job, for the payer may pay. */
static void an_intent_that_it_may_have(void **state)
{
        _cleanup_(freep) char *made = NULL, *not_made = NULL;
        char sql[200];

        (void)state;
        fake_provider_mode(provider, "lost");
        made = job_at("PAYMENT_REQUIRED");
        snprintf(
                sql, sizeof(sql), "SELECT error LIKE 'open: %%' FROM provider_call WHERE chain_id = '%s' AND state = 'unknown' AND probes > 0", made);
        stack_await(stack, sql, "t", 30000);
        fake_provider_mode(provider, "deny");
        not_made = job_at("PAYMENT_REQUIRED");
        snprintf(sql, sizeof(sql), "SELECT error FROM provider_call WHERE chain_id = '%s' AND state = 'unknown'", made);
        stack_await(stack, sql, "open: refused", 30000);
        close_job(made, 409);
        snprintf(sql, sizeof(sql), "SELECT error FROM provider_call WHERE chain_id = '%s' AND state = 'unknown'", not_made);
        stack_await(stack, sql, "refused: refused", 30000);
        close_job(not_made, 200);
        fake_provider_mode(provider, "ok");
        await_step(made, "PAYMENT_INITIATED");
}

/* While it is down single probes find out; then everything goes on. */
static void a_provider_that_is_down(void **state)
{
        enum { N = 40 };
        struct fake_provider_truth before, after;
        char *ids[N];

        (void)state;
        fake_provider_mode(provider, "down");
        before = fake_provider_truth(provider);
        for (int i = 0; i < N; i++)
                ids[i] = job_at("PAYMENT_REQUIRED");
        await_posts(before.posts + 6);
        stack_await(stack, "SELECT count(*) FROM provider_call WHERE state = 'calling' AND what = 'create'", "0", 30000);
        after = fake_provider_truth(provider);
        assert_true(after.posts - before.posts < N); /* not even one for each job */
        fake_provider_mode(provider, "ok");
        for (int i = 0; i < N; i++) {
                await_step(ids[i], "PAYMENT_INITIATED");
                free(ids[i]);
        }
}

/* Killed while calls are under way: taken over, and nobody is charged twice. */
static void killed_in_the_middle(void **state)
{
        struct fake_provider_truth before = fake_provider_truth(provider), after;
        char *ids[20];

        (void)state;
        fake_provider_mode(provider, "lost");
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
                ids[i] = job_at("PAYMENT_REQUIRED");
        stack_stop(stack, "payments", SIGKILL);
        fake_provider_mode(provider, "ok");
        spawn_payments();
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
                await_step(ids[i], "PAYMENT_INITIATED");
                assert_true(fake_provider_pay(provider, ids[i], -1));
        }
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
                await_step(ids[i], "PAYMENT_CONFIRMED");
                free(ids[i]);
        }
        after = fake_provider_truth(provider);
        assert_int_equal(after.intents - before.intents, ARRAY_SIZE(ids));
        assert_int_equal(after.wrong, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(paid_at_the_provider),
                cmocka_unit_test(answers_get_lost),
                cmocka_unit_test(runs_out_at_the_provider),
                cmocka_unit_test(a_wrong_amount),
                cmocka_unit_test(refunds_go_once),
                cmocka_unit_test(slow_and_refused_refunds),
                cmocka_unit_test(refused_intents),
                cmocka_unit_test(an_intent_that_it_may_have),
                cmocka_unit_test(a_provider_that_is_down),
                cmocka_unit_test(killed_in_the_middle),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
