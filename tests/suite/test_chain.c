/* The whole chain over HTTP, as a client and an owner live it: submit, pay, result, revenue, payout; and every way of asking wrongly. */
#include "base/util.h"
#include "store/chain.h"
#include "tests/support/whole_stack.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/asserts.h"

#define TEXT_JOB                                                                                                                                     \
        "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"Code 19: Initial global activation "                                              \
        "payload.\"},\"context\":{\"priority\":\"high\"}}"

static char *post_job(const char *key, const char *body, const char *prefer, long *ret_status)
{
        char header[200];

        snprintf(header, sizeof(header), "Idempotency-Key: %s", key);
        return stack_http(stack, false, "POST", "/jobs", (const char *const[]){header, prefer, NULL}, body, ret_status);
}

static void await_job(const char *id, const char *status)
{
        char sql[160];

        snprintf(sql, sizeof(sql), "SELECT status FROM chain WHERE id = '%s'", id);
        stack_await(stack, sql, status, 10000);
}

static char *confirm(const char *intent, const char *body, long *ret_status)
{
        char path[128];

        snprintf(path, sizeof(path), "/payment-intents/%s/confirm", intent);
        return stack_http(stack, true, "POST", path, NULL, body, ret_status);
}

static void whole_chain(void **state)
{
        _cleanup_(freep) char *made = NULL, *id = NULL, *intent = NULL, *confirmed = NULL, *job = NULL, *payouts = NULL, *payout = NULL,
                              *marked = NULL, *again = NULL;
        char path[128], body[256];
        long status;

        (void)state;
        made = post_job("whole-1", TEXT_JOB, NULL, &status);
        assert_int_equal(status, 201);
        assert_at(made, "job.price.minor", "2588");
        assert_at(made, "job.price.currency", "EUR");
        assert_at(made, "job.status", "open");
        assert_at(made, "payment_intent.status", "pending");
        id = json_at(made, "job.id");
        intent = json_at(made, "payment_intent.id");

        confirmed = confirm(intent, "{\"reference\":\"bank 17\",\"by\":\"anna\"}", &status);
        assert_int_equal(status, 200);
        await_job(id, "completed");
        snprintf(path, sizeof(path), "/jobs/%s", id);
        job = stack_http(stack, false, "GET", path, NULL, NULL, &status);
        assert_int_equal(status, 200);
        assert_at(job, "status", "completed");
        assert_at(job, "step", "REVENUE_BOOKED");
        assert_at(job, "result.length", "43");
        assert_at(job, "result.word_count", "6");
        assert_at(job, "error", "null");

        snprintf(path, sizeof(path), "SELECT step FROM chain WHERE parent = '%s'", id);
        stack_await(stack, path, "PAYOUT_READY", 10000);
        snprintf(path, sizeof(path), "/payouts?job_id=%s", id);
        payouts = stack_http(stack, true, "GET", path, NULL, NULL, &status);
        assert_int_equal(status, 200);
        assert_at(payouts, "items.0.status", "ready");
        assert_at(payouts, "items.0.amount.minor", "2588");
        payout = json_at(payouts, "items.0.id");
        snprintf(body, sizeof(body), "{\"payout_id\":\"%s\",\"reference\":\"transfer 4\",\"by\":\"owner\"}", payout);
        marked = stack_http(stack, true, "POST", "/payouts/mark", NULL, body, &status);
        assert_int_equal(status, 200);
        assert_at(marked, "status", "done");
        again = stack_http(stack, true, "POST", "/payouts/mark", NULL, body, &status);
        assert_int_equal(status, 200);
        snprintf(body, sizeof(body),
                "{\"payout_id\":\"%s\",\"reference\":\"transfer 4\",\"by\":\"owner\",\"amount\":{\"minor\":1,\"currency\":\"EUR\"}}", payout);
        free(stack_http(stack, true, "POST", "/payouts/mark", NULL, body, &status));
        assert_int_equal(status, 409);
        snprintf(body, sizeof(body), "{\"payout_id\":\"%s\",\"reference\":\"another\",\"by\":\"owner\"}", payout);
        free(stack_http(stack, true, "POST", "/payouts/mark", NULL, body, &status));
        assert_int_equal(status, 409);
}

static void same_key_same_job(void **state)
{
        _cleanup_(freep) char *first = NULL, *second = NULL, *id = NULL, *other = NULL, *async = NULL;
        long status;

        (void)state;
        first = post_job("same-1", TEXT_JOB, NULL, &status);
        assert_int_equal(status, 201);
        id = json_at(first, "job.id");
        second = post_job("same-1", TEXT_JOB, NULL, &status);
        assert_int_equal(status, 200);
        assert_at(second, "job.id", id);
        other = post_job("same-1", "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"other\"}}", NULL, &status);
        assert_int_equal(status, 422);
        async = post_job("same-2", TEXT_JOB, "Prefer: respond-async", &status);
        assert_int_equal(status, 202);
}

static void payment_answers(void **state)
{
        _cleanup_(freep) char *made = post_job("pay-1", TEXT_JOB, NULL, &(long){0});
        _cleanup_(freep) char *intent = json_at(made, "payment_intent.id");
        static const struct {
                const char *body;
                long status;
        } cases[] = {
                {"{\"reference\":\"r1\"}", 422},
                {"{\"by\":\"anna\"}", 422},
                {"{\"reference\":\"r1\",\"by\":\"anna\",\"ammount\":{\"minor\":1,\"currency\":\"EUR\"}}", 422},
                {"{\"reference\":\"r1\",\"by\":\"anna\",\"amount\":{\"minor\":1,\"currency\":\"EUR\"}}", 409},
                {"{\"reference\":\"r1\",\"by\":\"anna\",\"amount\":{\"minor\":2588,\"currency\":\"EUR\"}}", 200},
                {"{\"reference\":\"r1\",\"by\":\"anna\"}", 200},
                {"{\"reference\":\"r2\",\"by\":\"anna\"}", 409},
        };
        long status;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                free(confirm(intent, cases[i].body, &status));
                if (status != cases[i].status)
                        fail_msg("%s: %ld, not %ld", cases[i].body, status, cases[i].status);
        }
        free(confirm("01890000-0000-7000-8000-000000000000", "{\"reference\":\"r1\",\"by\":\"anna\"}", &status));
        assert_int_equal(status, 404);
}

/* What meta-repair would do: one move under its role. */
static void as_repair(const char *id, const char *event)
{
        _cleanup_(advance_done) struct advance a = {0};
        _cleanup_(freep) char *version = NULL;
        struct db *db = pg_fixture_connect(stack->pg, "meta_repair");
        struct uuid uuid;
        char sql[128];

        assert_true(uuid_parse(id, strlen(id), &uuid));
        snprintf(sql, sizeof(sql), "SELECT version FROM chain WHERE id = '%s'", id);
        version = pg_fixture_ask(stack->pg, sql);
        advance_event(&a, advance_move(&a, &uuid, atoi(version)), event, "{}", 2);
        assert_int_equal(advance_run(&a, db), 0);
        assert_int_equal(a.t[0].verdict, ADVANCE_WON);
        db_free(db);
}

/* What was paid goes back by a person's hand, and the job says so; the same intent never takes a second payment. */
static void a_refund_by_hand(void **state)
{
        _cleanup_(freep) char *made = NULL, *id = NULL, *refunds = NULL, *intent = NULL;
        char path[128], sql[160];
        static const struct {
                const char *body;
                long status;
        } cases[] = {{"{\"reference\":\"back 1\"}", 422},
                {"{\"reference\":\"back 1\",\"by\":\"anna\",\"amount\":{\"minor\":1,\"currency\":\"EUR\"}}", 409},
                {"{\"reference\":\"back 1\",\"by\":\"anna\"}", 200}, {"{\"reference\":\"back 1\",\"by\":\"anna\"}", 200},
                {"{\"reference\":\"back 2\",\"by\":\"anna\"}", 409}};
        long status;

        (void)state;
        stack_stop(stack, "execution", SIGTERM);
        made = post_job("refund-1", TEXT_JOB, NULL, &status);
        id = json_at(made, "job.id");
        free(confirm(id, "{\"reference\":\"r1\",\"by\":\"anna\"}", &status));
        assert_int_equal(status, 200);
        snprintf(path, sizeof(path), "/refunds/%s/confirm", id);
        free(stack_http(stack, true, "POST", path, NULL, cases[2].body, &status));
        assert_int_equal(status, 409); /* nothing goes back yet */
        as_repair(id, "REFUND_REQUIRED");
        snprintf(sql, sizeof(sql), "SELECT step FROM chain WHERE id = '%s'", id);
        stack_await(stack, sql, "REFUND_INITIATED", 20000);
        refunds = stack_http(stack, true, "GET", "/refunds", NULL, NULL, &status);
        assert_int_equal(status, 200);
        assert_at(refunds, "items.0.job_id", id);
        assert_at(refunds, "items.0.amount.minor", "2588");
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                free(stack_http(stack, true, "POST", path, NULL, cases[i].body, &status));
                if (status != cases[i].status)
                        fail_msg("%s: %ld, not %ld", cases[i].body, status, cases[i].status);
        }
        snprintf(path, sizeof(path), "/payment-intents/%s", id);
        intent = stack_http(stack, false, "GET", path, NULL, NULL, &status);
        assert_at(intent, "status", "refunded");
        free(stack_http(stack, true, "POST", "/refunds/none/confirm", NULL, cases[2].body, &status));
        assert_int_equal(status, 404);
        stack_spawn(stack, "execution", NULL);
}

/* An intent runs out by the clock; the money that comes later is refused, and nothing is owed. */
static void intent_expires(void **state)
{
        _cleanup_(freep) char *made = NULL, *id = NULL, *late = NULL, *intent = NULL, *job = NULL;
        char path[256];
        long status;

        (void)state;
        stack_stop(stack, "payments", SIGTERM);
        stack_spawn(stack, "payments", (const char *const[]){"AETHELOS_INTENT_EXPIRY_MS=100", NULL});
        made = post_job("expires-1", TEXT_JOB, NULL, &status);
        assert_int_equal(status, 201);
        id = json_at(made, "job.id");
        snprintf(path, sizeof(path), "SELECT step || ' ' || status FROM chain WHERE id = '%s'", id);
        stack_await(stack, path, "PAYMENT_EXPIRED final_fail", 20000);
        late = confirm(id, "{\"reference\":\"late\",\"by\":\"anna\"}", &status);
        assert_int_equal(status, 409);
        assert_at(late, "type", "/problems/payment-expired");
        snprintf(path, sizeof(path), "/payment-intents/%s", id);
        intent = stack_http(stack, false, "GET", path, NULL, NULL, &status);
        assert_at(intent, "status", "expired");
        snprintf(path, sizeof(path), "/jobs/%s", id);
        job = stack_http(stack, false, "GET", path, NULL, NULL, &status);
        assert_at(job, "status", "final_fail");
        stack_stop(stack, "payments", SIGTERM);
        stack_spawn(stack, "payments", NULL);

        /* A person gives it another term: the same intent at the same price. */
        snprintf(path, sizeof(path),
                "SELECT verdict FROM submit_evidence(ARRAY['%s'::uuid], '{CHAIN_REOPENED}', '{person}', '{anna}', '{again}', '{NULL}')", id);
        stack_await(stack, path, "stored", 1000);
        as_repair(id, "CHAIN_REOPENED");
        snprintf(path, sizeof(path), "SELECT step || ' ' || status FROM chain WHERE id = '%s'", id);
        stack_await(stack, path, "PAYMENT_INITIATED open", 20000);
        free(confirm(id, "{\"reference\":\"in time\",\"by\":\"anna\"}", &status));
        assert_int_equal(status, 200);
        await_job(id, "completed");
}

static void bad_submissions(void **state)
{
        static const struct {
                const char *body;
                long status;
        } cases[] = {
                {"", 400},
                {"{", 400},
                {"{\"type\":\"puz19:text_analysis\",\"type\":\"x\",\"payload\":{}}", 400},
                {"{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"\\u0000\"}}", 400},
                {"{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\"}} x", 400},
                {"[]", 422},
                {"{\"type\":\"no such type\",\"payload\":{}}", 422},
                {"{\"type\":\"puz19:text_analysis\",\"payload\":{}}", 422},
                {"{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":5}}", 422},
                {"{\"type\":\"puz19:numeric_analysis\",\"payload\":{\"numbers\":[1,\"2\"]}}", 422},
                {"{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\",\"complexity\":-1}}", 422},
                {"{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\",\"complexity\":1.5}}", 422},
                {"{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\",\"complexity\":9223372036854775807}}", 422},
                {"{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\"},\"context\":{\"priority\":\"urgent\"}}", 422},
                {"{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\"},\"context\":[]}", 422},
        };
        _cleanup_(freep) char *before = pg_fixture_ask(stack->pg, "SELECT count(*) FROM event WHERE type = 'JOB_CREATED'"), *after = NULL;
        long status;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(freep) char *answer = post_job("bad-1", cases[i].body, NULL, &status);
                if (status != cases[i].status)
                        fail_msg("%s: %ld, not %ld: %s", cases[i].body, status, cases[i].status, answer);
                free(json_at(answer, "title"));
        }
        free(stack_http(stack, false, "POST", "/jobs", NULL, TEXT_JOB, &status));
        assert_int_equal(status, 400); /* no key */
        free(post_job("bad key", TEXT_JOB, NULL, &status));
        assert_int_equal(status, 400);
        free(stack_http(stack, false, "GET", "/jobs/none", NULL, NULL, &status));
        assert_int_equal(status, 404);
        free(stack_http(stack, false, "GET", "/jobs/01890000-0000-7000-8000-000000000000", NULL, NULL, &status));
        assert_int_equal(status, 404);
        after = pg_fixture_ask(stack->pg, "SELECT count(*) FROM event WHERE type = 'JOB_CREATED'");
        assert_string_equal(before, after);
}

static void broker_away(void **state)
{
        _cleanup_(freep) char *made = NULL, *id = NULL, *intent = NULL;
        char sql[160];
        long status;

        (void)state;
        nats_fixture_kill(stack->nats);
        made = post_job("broker-1", TEXT_JOB, NULL, &status);
        assert_int_equal(status, 202);
        id = json_at(made, "job.id");
        free(stack_http(stack, false, "GET", "/readyz", NULL, NULL, &status));
        assert_int_equal(status, 200);
        nats_fixture_wipe(stack->nats);
        nats_fixture_restart(stack->nats);
        snprintf(sql, sizeof(sql), "SELECT step FROM chain WHERE id = '%s'", id);
        stack_await(stack, sql, "PAYMENT_INITIATED", 20000);
        free(confirm(id, "{\"reference\":\"after\",\"by\":\"anna\"}", &status));
        assert_true(status == 200 || status == 202);
        await_job(id, "completed");
}

static void database_away(void **state)
{
        long status;

        (void)state;
        pg_fixture_kill(stack->pg);
        free(post_job("database-1", TEXT_JOB, NULL, &status));
        assert_int_equal(status, 503);
        free(stack_http(stack, false, "GET", "/readyz", NULL, NULL, &status));
        assert_int_equal(status, 503);
        pg_fixture_restart(stack->pg);
        stack_wait_ready(stack);
        free(post_job("database-1", TEXT_JOB, NULL, &status));
        assert_true(status == 201 || status == 202);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whole_chain),
                cmocka_unit_test(same_key_same_job),
                cmocka_unit_test(payment_answers),
                cmocka_unit_test(intent_expires),
                cmocka_unit_test(a_refund_by_hand),
                cmocka_unit_test(bad_submissions),
                cmocka_unit_test(broker_away),
                cmocka_unit_test(database_away),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
