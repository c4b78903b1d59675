/* Outgoing webhooks against a real receiver, which checks every signature by itself: it answers, fails, hangs, dies, and wants no more; the sender is
 * killed; and nothing is lost. */
#include "base/strbuf.h"
#include "base/util.h"
#include "tests/support/hook_receiver.h"
#include "tests/support/stack.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/asserts.h"

#define PATIENCE 20000
#define TEXT_JOB "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"Code 19\"}}"

static struct stack *stack;

/* --- the stack --- */

static const char *const settings[] = {"AETHELOS_WEBHOOK_PRIVATE_ADDRESSES=true", "AETHELOS_WEBHOOK_FIRST_RETRY_MS=20",
        "AETHELOS_WEBHOOK_TIMEOUT_MS=300", "AETHELOS_WEBHOOK_DISABLE_AFTER_S=86400", NULL};

static int set_up(void **state)
{
        static const char *const services[] = {"pricing", "payments", "intake", "board"};

        (void)state;
        stack = stack_start_bare();
        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                stack_spawn(stack, services[i], NULL);
        stack_spawn(stack, "webhooks", settings);
        stack_wait_ready(stack);
        receiver_start();
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        stack_assert_sound(stack);
        stack = stack_free(stack);
        receiver_die();
        assert_int_equal(receiver.n_bad, 0);
        strbuf_done(&receiver.ids);
        strbuf_done(&receiver.types);
        return 0;
}

static char *ask(const char *method, const char *path, const char *body, long wanted)
{
        long status = 0;
        char *answer = stack_http(stack, true, method, path, NULL, body, &status);

        if (status != wanted)
                fail_msg("%s %s: %ld, not %ld: %s", method, path, status, wanted, answer);
        return answer;
}

static void new_job(const char *key)
{
        char header[80];
        long status = 0;

        snprintf(header, sizeof(header), "Idempotency-Key: %s", key);
        free(stack_http(stack, false, "POST", "/jobs", (const char *const[]){header, NULL}, TEXT_JOB, &status));
        assert_int_equal(status, 201);
}

/* Subscribes the receiver; its id, malloc'ed. */
static char *subscribe(const char *types, const char *format)
{
        char body[300];

        snprintf(body, sizeof(body), "{\"url\":\"http://127.0.0.1:%lld/hook\",\"types\":%s,\"format\":%s}", (long long)receiver.port, types, format);
        _cleanup_(freep) char *made = ask("POST", "/webhooks", body, 201), *secret = json_at(made, "secret");
        pthread_mutex_lock(&receiver.lock);
        snprintf(receiver.secret, sizeof(receiver.secret), "%s", secret);
        pthread_mutex_unlock(&receiver.lock);
        return json_at(made, "id");
}

static void unsubscribe(const char *id)
{
        char path[100];

        snprintf(path, sizeof(path), "/webhooks/%s", id);
        free(ask("DELETE", path, NULL, 200));
        free(ask("DELETE", path, NULL, 404));
}

static void await_deliveries(const char *state_counts)
{
        stack_await(stack,
                "SELECT coalesce(string_agg(s || ' ' || n, ', ' ORDER BY s), '') FROM (SELECT state AS s, count(*) AS n FROM webhook_delivery GROUP "
                "BY 1) x",
                state_counts, PATIENCE);
}

/* Every id that came stands for a delivery, and every delivery came. */
static void assert_all_came(void)
{
        _cleanup_(freep) char *all = pg_fixture_ask(stack->pg, "SELECT coalesce(string_agg(message::text, ' '), '') FROM webhook_delivery"),
                              *ids = NULL;
        char *rest = all;

        pthread_mutex_lock(&receiver.lock);
        ids = xstrdup(receiver.ids.s ? receiver.ids.s : "");
        pthread_mutex_unlock(&receiver.lock);
        for (const char *id; (id = strsep(&rest, " "));)
                if (!strstr(ids, id))
                        fail_msg("%s never came", id);
}

/* --- tests --- */

static void only_what_is_wanted(void **state)
{
        _cleanup_(freep) char *id = NULL, *list = NULL, *deliveries = NULL;
        char path[100];

        (void)state;
        new_job("before"); /* is not told */
        receiver_feels(ANSWERS);
        id = subscribe("[\"PRICED\",\"JOB_CREATED\"]", "null");
        new_job("wanted");
        await_deliveries("delivered 2");
        assert_int_equal(received(), 2);
        assert_non_null(strstr(receiver.types.s, "JOB_CREATED\n"));
        assert_non_null(strstr(receiver.types.s, "PRICED\n"));
        list = ask("GET", "/webhooks", NULL, 200);
        assert_at(list, "items.0.id", id);
        assert_at(list, "items.0.state", "active");
        assert_at(list, "items.0.format", "event");
        assert_string_equal(receiver.content_type, "application/json");
        assert_at(list, "items.0.pending", "0");
        assert_null(strstr(list, "whsec_"));
        snprintf(path, sizeof(path), "/webhooks/%s/deliveries?limit=1", id);
        deliveries = ask("GET", path, NULL, 200);
        assert_at(deliveries, "items.0.type", "PRICED");
        assert_at(deliveries, "items.0.state", "delivered");
        assert_at(deliveries, "items.0.last_status", "204");
        assert_at(deliveries, "items.0.attempts", "1");
        unsubscribe(id);
        await_deliveries("");
}

static void as_cloudevents(void **state)
{
        _cleanup_(freep) char *id = subscribe("[\"PRICED\"]", "\"cloudevents\""), *job = NULL, *source = NULL;

        (void)state;
        receiver_feels(ANSWERS);
        new_job("cloud");
        await_deliveries("delivered 1");
        job = pg_fixture_ask(stack->pg, "SELECT job_id FROM submission WHERE key = 'cloud'");
        source = pg_fixture_ask(stack->pg, "SELECT 'urn:uuid:' || source FROM generation");
        assert_string_equal(receiver.content_type, "application/cloudevents+json");
        assert_at(receiver.body, "specversion", "1.0");
        assert_at(receiver.body, "type", "aethelos.PRICED");
        assert_at(receiver.body, "source", source);
        assert_at(receiver.body, "subject", job);
        assert_at(receiver.body, "chainversion", "3");
        assert_at(receiver.body, "data.amount.minor", "1986");
        unsubscribe(id);
}

static void wrong_subscriptions(void **state)
{
        static const char *const bodies[] = {"{}", "[]", "{\"url\":\"ftp://x\"}", "{\"url\":\"http://u@x/\"}",
                "{\"url\":\"http://x/\",\"types\":\"PRICED\"}", "{\"url\":\"http://x/\",\"types\":[\"PAID\"]}",
                "{\"url\":\"http://x/\",\"client\":\"\"}", "{\"url\":\"http://x/\",\"format\":\"xml\"}",
                "{\"url\":\"http://x/\",\"secret\":\"mine\"}"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bodies); i++)
                free(ask("POST", "/webhooks", bodies[i], 422));
        free(ask("POST", "/webhooks", "{", 400));
        free(ask("GET", "/webhooks/01890000-0000-7000-8000-000000000000/deliveries", NULL, 404));
        free(ask("POST", "/webhooks/none/enable", NULL, 404));
        free(ask("POST", "/webhooks/none/deliveries/1/redeliver", NULL, 404));
}

/* Errors, silence, redirects and a receiver that is not there: it comes again, as the same message, until it is answered; the sender dies as well. */
static void until_it_is_there(void **state)
{
        static const enum mood moods[] = {FAILS, HANGS, REDIRECTS};
        _cleanup_(freep) char *id = subscribe("[\"PRICED\"]", "\"event\""), *counts = NULL;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(moods); i++) {
                char key[32];

                receiver_feels(moods[i]);
                snprintf(key, sizeof(key), "mood-%zu", i);
                new_job(key);
                await_received(2, PATIENCE);
        }
        stack_stop(stack, "webhooks", SIGKILL);
        receiver_die();
        stack_spawn(stack, "webhooks", settings);
        new_job("nobody-there");
        stack_await(stack, "SELECT count(*) > 0 FROM webhook_delivery WHERE last_status IS NULL AND last_error IS NOT NULL AND attempts > 1", "t",
                PATIENCE);
        receiver_feels(ANSWERS);
        receiver_start();
        await_deliveries("delivered 4");
        assert_all_came();
        counts = pg_fixture_ask(stack->pg, "SELECT state || coalesce(failing_since::text, '') FROM webhook");
        assert_string_equal(counts, "active");
        unsubscribe(id);
}

/* The sender is killed again and again while events come; each delivery is made in the end, and repeats have the id of the first time. */
static void a_sender_that_dies(void **state)
{
        _cleanup_(freep) char *id = subscribe("[]", "null"), *told = NULL;

        (void)state;
        receiver_feels(ANSWERS);
        for (int i = 0; i < 20; i++) {
                char key[32];

                snprintf(key, sizeof(key), "dies-%d", i);
                new_job(key);
                if (i % 5 == 4) {
                        stack_stop(stack, "webhooks", SIGKILL);
                        stack_spawn(stack, "webhooks", settings);
                        stack_spawn(stack, "webhooks", settings); /* two of them share the work */
                }
        }
        await_deliveries("delivered 100");
        assert_all_came();
        told = pg_fixture_ask(stack->pg, "SELECT count(*) FROM event e JOIN submission s ON s.job_id = e.chain_id WHERE s.key LIKE 'dies-%'");
        assert_string_equal(told, "100");
        unsubscribe(id);
        stack_stop(stack, "webhooks", SIGTERM);
        stack_spawn(stack, "webhooks", settings);
}

static void again_on_command(void **state)
{
        _cleanup_(freep) char *id = subscribe("[\"PRICED\"]", "\"event\""), *delivery = NULL;
        char path[160];

        (void)state;
        receiver_feels(ANSWERS);
        new_job("again");
        await_deliveries("delivered 1");
        delivery = pg_fixture_ask(stack->pg, "SELECT id FROM webhook_delivery");
        snprintf(path, sizeof(path), "/webhooks/%s/deliveries/%s/redeliver", id, delivery);
        free(ask("POST", path, NULL, 200));
        await_received(2, PATIENCE);
        await_deliveries("delivered 1");
        pthread_mutex_lock(&receiver.lock);
        _cleanup_(freep) char *ids = xstrdup(receiver.ids.s);
        pthread_mutex_unlock(&receiver.lock);
        assert_memory_equal(ids, ids + 37, 36); /* the same message */
        unsubscribe(id);
}

/* Another secret; malloc'ed. */
static char *rotated(const char *id, const char *body)
{
        char path[100];

        snprintf(path, sizeof(path), "/webhooks/%s/rotate", id);
        _cleanup_(freep) char *answer = ask("POST", path, body, 200);
        return json_at(answer, "secret");
}

static void receiver_knows(const char *secret)
{
        pthread_mutex_lock(&receiver.lock);
        snprintf(receiver.secret, sizeof(receiver.secret), "%s", secret);
        pthread_mutex_unlock(&receiver.lock);
}

static size_t n_bad(void)
{
        size_t n;

        pthread_mutex_lock(&receiver.lock);
        n = receiver.n_bad;
        pthread_mutex_unlock(&receiver.lock);
        return n;
}

/* Old and new sign side by side for a time; with 0 the old ones end at once. */
static void a_secret_is_changed_in_place(void **state)
{
        _cleanup_(freep) char *id = subscribe("[\"PRICED\"]", "\"event\""), *second = NULL, *last = NULL, *list = NULL, *until = NULL;
        char path[100];

        (void)state;
        receiver_feels(ANSWERS);
        second = rotated(id, "{\"keep_s\":600}");
        list = ask("GET", "/webhooks", NULL, 200);
        until = json_at(list, "items.0.old_secret_until");
        assert_string_not_equal(until, "null");
        assert_null(strstr(list, "whsec_"));
        new_job("rotated-1"); /* the receiver has the first one */
        await_received(1, PATIENCE);
        receiver_knows(second);
        new_job("rotated-2");
        await_received(2, PATIENCE);
        free(rotated(id, NULL));
        free(rotated(id, "{}"));
        snprintf(path, sizeof(path), "/webhooks/%s/rotate", id);
        free(ask("POST", path, "{}", 409)); /* three old ones sign */
        free(ask("POST", path, "{\"keep_s\":-1}", 422));
        free(ask("POST", path, "{\"keep\":1}", 422));
        free(ask("POST", path, "{", 400));
        new_job("rotated-3"); /* the receiver has the second one */
        await_received(3, PATIENCE);
        assert_int_equal(n_bad(), 0);
        last = rotated(id, "{\"keep_s\":0}");
        stack_await(stack, "SELECT count(*) FROM webhook_old_secret", "0", PATIENCE);
        new_job("rotated-4");
        await_received(4, PATIENCE);
        assert_int_equal(n_bad(), 1); /* not any more */
        pthread_mutex_lock(&receiver.lock);
        receiver.n_bad = 0;
        pthread_mutex_unlock(&receiver.lock);
        receiver_knows(last);
        new_job("rotated-5");
        await_received(5, PATIENCE);
        assert_int_equal(n_bad(), 0);
        unsubscribe(id);
        free(ask("POST", path, "{}", 404));
}

static void *subscribe_one_more(void *ret_status)
{
        free(stack_http(stack, true, "POST", "/webhooks", NULL, "{\"url\":\"http://127.0.0.1:9/\"}", ret_status));
        return NULL;
}

/* Two boards that make the last one at the same time: one of them does. */
static void not_one_too_many(void **state)
{
        struct db *other = pg_fixture_connect(stack->pg, NULL);
        pthread_t thread;
        long status = 0;

        (void)state;
        free(pg_fixture_ask(stack->pg, "INSERT INTO webhook (id, url, types, secret, state, reason, generation, xid, event_id)"
                                       " SELECT gen_random_uuid(), 'http://127.0.0.1:9/', '{}', 'x', 'disabled', 'test', 0, 0, 0 FROM "
                                       "generate_series(1, 63)"));
        assert_int_equal(db_begin(other), 0);
        assert_int_equal(db_run(other, "SELECT pg_advisory_xact_lock(hashtext('aethelos.webhook'))", NULL, NULL), 0);
        assert_int_equal(db_run(other,
                                 "INSERT INTO webhook (id, url, types, secret, state, reason, generation, xid, event_id)"
                                 " SELECT gen_random_uuid(), url, types, secret, state, reason, 0, 0, 0 FROM webhook LIMIT 1",
                                 NULL, NULL),
                0);
        assert_int_equal(pthread_create(&thread, NULL, subscribe_one_more, &status), 0);
        stack_await(stack, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", "1", PATIENCE);
        assert_int_equal(db_commit(other), 0);
        pthread_join(thread, NULL);
        assert_int_equal(status, 409);
        db_free(other);
        free(pg_fixture_ask(stack->pg, "DELETE FROM webhook"));
}

/* 2xx is what counts, whatever is said beside it. */
static void a_long_answer_is_an_answer(void **state)
{
        _cleanup_(freep) char *id = subscribe("[\"PRICED\"]", "null"), *tried = NULL;

        (void)state;
        receiver_feels(CHATTERS);
        new_job("chatter");
        await_deliveries("delivered 1");
        tried = pg_fixture_ask(stack->pg, "SELECT attempts || ' ' || last_status FROM webhook_delivery");
        assert_string_equal(tried, "1 200");
        receiver_feels(ANSWERS);
        unsubscribe(id);
}

/* A delivery was given up days ago, and nothing happened since: the next one has all its time, and not a single attempt. */
static void a_failure_after_quiet_days_disables_nothing(void **state)
{
        _cleanup_(freep) char *id = subscribe("[\"PRICED\"]", "null");

        (void)state;
        free(pg_fixture_ask(stack->pg, "UPDATE webhook SET failing_since = now() - interval '4 days'"));
        receiver_feels(FAILS);
        new_job("blip");
        await_received(1, PATIENCE);
        stack_await(stack, "SELECT last_status FROM webhook_delivery", "500", PATIENCE);
        receiver_feels(ANSWERS);
        await_deliveries("delivered 1");
        stack_await(stack, "SELECT state || (failing_since IS NULL) FROM webhook", "activetrue", PATIENCE);
        unsubscribe(id);
}

/* What wants no more, or fails for too long, is disabled, and says why; enabled again it goes on where it was. */
static void disabled_and_enabled(void **state)
{
        static const char *const short_settings[] = {"AETHELOS_WEBHOOK_PRIVATE_ADDRESSES=true", "AETHELOS_WEBHOOK_FIRST_RETRY_MS=200",
                "AETHELOS_WEBHOOK_DISABLE_AFTER_S=1", "AETHELOS_WEBHOOK_KEEP_S=1", NULL};
        _cleanup_(freep) char *id = subscribe("[\"PRICED\"]", "\"event\""), *overview = NULL, *list = NULL, *reason = NULL, *issues = NULL;
        char path[100];

        (void)state;
        snprintf(path, sizeof(path), "/webhooks/%s/enable", id);
        receiver_feels(GONE);
        new_job("gone");
        stack_await(stack, "SELECT state FROM webhook", "disabled", PATIENCE);
        overview = ask("GET", "/status/overview", NULL, 200);
        assert_at(overview, "webhooks_disabled", "1");
        list = ask("GET", "/webhooks", NULL, 200);
        reason = json_at(list, "items.0.reason");
        assert_non_null(strstr(reason, "410"));
        new_job("meanwhile");
        /* An issue waits for a person. */
        stack_spawn(stack, "meta-repair", NULL);
        stack_await(stack,
                "SELECT string_agg(kind || ' ' || state || ' ' || waits_for || ' ' || (webhook_id = (SELECT id FROM webhook)), ', ') FROM issue",
                "WEBHOOK_DISABLED waiting_evidence person true", PATIENCE);
        issues = ask("GET", "/meta/issues?kind=WEBHOOK_DISABLED", NULL, 200);
        assert_at(issues, "items.0.webhook_id", id);

        stack_stop(stack, "webhooks", SIGTERM);
        stack_spawn(stack, "webhooks", short_settings);
        receiver_feels(FAILS);
        free(ask("POST", path, NULL, 200));
        stack_await(stack, "SELECT state || (reason LIKE 'every delivery has failed since %: the receiver answered with status 500') FROM webhook",
                "disabledtrue", PATIENCE);
        receiver_feels(ANSWERS);
        free(ask("POST", path, NULL, 200));
        await_received(2, PATIENCE);
        assert_all_came();
        stack_await(stack, "SELECT count(*) FROM issue WHERE closed_at IS NULL", "0", PATIENCE);
        stack_await(stack, "SELECT string_agg(DISTINCT outcome, ', ') FROM issue", "enabled", PATIENCE);
        stack_stop(stack, "meta-repair", SIGTERM);
        /* What is done is pruned. */
        stack_stop(stack, "webhooks", SIGTERM);
        stack_await(stack, "SELECT count(*) FROM webhook_delivery WHERE done_at < now() - interval '1 s'", "2", PATIENCE);
        stack_spawn(stack, "webhooks", short_settings);
        await_deliveries("");
        unsubscribe(id);
}

/* As it comes, nothing goes to loopback, by whatever name. */
static void private_addresses(void **state)
{
        static const char *const hosts[] = {"127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"};
        _cleanup_(freep) char *errors = NULL;

        (void)state;
        receiver_feels(ANSWERS);
        stack_stop(stack, "webhooks", SIGTERM);
        stack_spawn(stack, "webhooks", NULL);
        for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
                char body[200];

                snprintf(body, sizeof(body), "{\"url\":\"http://%s:%lld/hook\",\"types\":[\"PRICED\"]}", hosts[i], (long long)receiver.port);
                free(ask("POST", "/webhooks", body, 201));
        }
        new_job("private");
        stack_await(stack, "SELECT count(*) FROM webhook_delivery WHERE last_error IS NOT NULL", "5", PATIENCE);
        errors = pg_fixture_ask(stack->pg, "SELECT string_agg(DISTINCT last_error, ';') FROM webhook_delivery");
        assert_string_equal(errors, "the address is not a public one");
        assert_int_equal(received(), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(only_what_is_wanted),
                cmocka_unit_test(as_cloudevents),
                cmocka_unit_test(wrong_subscriptions),
                cmocka_unit_test(until_it_is_there),
                cmocka_unit_test(a_sender_that_dies),
                cmocka_unit_test(again_on_command),
                cmocka_unit_test(a_secret_is_changed_in_place),
                cmocka_unit_test(not_one_too_many),
                cmocka_unit_test(a_long_answer_is_an_answer),
                cmocka_unit_test(a_failure_after_quiet_days_disables_nothing),
                cmocka_unit_test(disabled_and_enabled),
                cmocka_unit_test(private_addresses),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
