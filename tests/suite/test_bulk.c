/* Many payments in one request: each has its own outcome, in the order of the request, and nothing is called stored that is not. */
#include "base/strbuf.h"
#include "base/util.h"
#include "tests/support/whole_stack.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/asserts.h"

#define JOB                                                                                                                                          \
        "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"Code 19: Initial global activation "                                              \
        "payload.\"},\"context\":{\"priority\":\"high\"}}"
#define BULK   "/payment-intents/confirm"
#define NOBODY "01890000-0000-7000-8000-000000000000"
#define EUR(n) "{\"minor\":" #n ",\"currency\":\"EUR\"}"

/* A job that waits for its payment, or has had the time for it; its id, which is its intent's too. */
static char *new_job(const char *key)
{
        _cleanup_(freep) char *made = NULL;
        char header[100], sql[200];
        char *id;
        long status;

        snprintf(header, sizeof(header), "Idempotency-Key: bulk-%s", key);
        made = stack_http(stack, false, "POST", "/jobs", (const char *const[]){header, NULL}, JOB, &status);
        assert_true(status == 201 || status == 202);
        id = json_at(made, "job.id");
        snprintf(sql, sizeof(sql), "SELECT step IN ('PAYMENT_INITIATED', 'PAYMENT_EXPIRED') FROM chain WHERE id = '%s'", id);
        stack_await(stack, sql, "t", 20000);
        return id;
}

static void add_item(struct strbuf *b, const char *id, const char *reference, const char *more)
{
        strbuf_adds(b, b->len > 0 ? "," : "{\"by\":\"anna\",\"items\":[");
        strbuf_addf(b, "{\"id\":\"%s\",\"reference\":\"%s\"%s}", id, reference, more);
}

/* Ends the body of add_item, and sends it. */
static char *confirm(struct strbuf *b, const char *prefer, long wanted)
{
        strbuf_adds(b, "]}");
        return ask_stack(stack, true, "POST", BULK, (const char *const[]){prefer, NULL}, b->s, wanted);
}

/* problem: the slug of a refusal; NULL: none. */
static void assert_item(const char *answer, size_t i, const char *status, const char *problem)
{
        char path[64], type[64];
        _cleanup_(freep) char *got = NULL;

        snprintf(path, sizeof(path), "items.%zu.status", i);
        assert_at(answer, path, status);
        snprintf(path, sizeof(path), "items.%zu.problem.type", i);
        snprintf(type, sizeof(type), "/problems/%s", problem ? problem : "");
        if (problem) {
                assert_at(answer, path, type);
        } else {
                got = json_at(answer, path);
                assert_null(got);
        }
}

static void assert_stored(const char *id, const char *reference)
{
        char sql[160];

        snprintf(sql, sizeof(sql), "SELECT string_agg(reference, ' ') FROM evidence WHERE chain_id = '%s' AND event = 'PAYMENT_CONFIRMED'", id);
        stack_await(stack, sql, reference, 1000);
}

/* Every outcome in one request. */
static void mixed_outcomes(void **state)
{
        _cleanup_(strbuf_done) struct strbuf body = {0}, again = {0};
        _cleanup_(freep) char *paid = new_job("paid"), *other = new_job("other"), *amount = new_job("amount"), *currency = new_job("currency"),
                              *expired = NULL, *first = NULL, *second = NULL, *by = NULL, *payout = NULL;
        char sql[160];

        (void)state;
        stack_stop(stack, "payments", SIGTERM);
        stack_spawn(stack, "payments", (const char *const[]){"AETHELOS_INTENT_EXPIRY_MS=100", NULL});
        expired = new_job("expired");
        await_step(expired, "PAYMENT_EXPIRED");
        stack_stop(stack, "payments", SIGTERM);
        stack_spawn(stack, "payments", NULL);
        add_item(&again, paid, "bank 1", ",\"amount\":" EUR(2588));
        add_item(&again, other, "bank 2", ",\"by\":\"berta\"");
        first = confirm(&again, NULL, 200);
        assert_item(first, 0, "confirmed", NULL);
        assert_at(first, "items.0.id", paid);
        assert_item(first, 1, "confirmed", NULL);
        assert_at(first, "items.1.id", other);
        snprintf(sql, sizeof(sql), "SELECT string_agg(who, ' ' ORDER BY who) FROM evidence WHERE reference IN ('bank 1', 'bank 2')");
        by = pg_fixture_ask(stack->pg, sql);
        assert_string_equal(by, "anna berta");

        add_item(&body, paid, "bank 1", "");
        add_item(&body, other, "another", "");
        add_item(&body, amount, "bank 3", ",\"amount\":" EUR(1));
        add_item(&body, currency, "bank 4", ",\"amount\":{\"minor\":2588,\"currency\":\"USD\"}");
        add_item(&body, NOBODY, "bank 5", "");
        add_item(&body, "no \\\"uuid\\\"", "bank 6", "");
        add_item(&body, expired, "bank 7", "");
        add_item(&body, amount, "bank 3", ",\"amount\":" EUR(2588));
        /* The id of a payout is that of no payment intent, whether or not an amount is named. */
        await_step(paid, "REVENUE_BOOKED");
        snprintf(sql, sizeof(sql), "SELECT id FROM chain WHERE parent = '%s'", paid);
        payout = pg_fixture_ask(stack->pg, sql);
        add_item(&body, payout, "bank 8", "");
        add_item(&body, payout, "bank 9", ",\"amount\":" EUR(2588));
        second = confirm(&body, NULL, 200);
        assert_item(second, 0, "confirmed", NULL);
        assert_item(second, 1, "refused", "already-confirmed");
        assert_at(second, "items.1.problem.status", "409");
        assert_at(second, "items.1.problem.title", "Already confirmed");
        assert_at(second, "items.1.problem.field", "/items/1/reference");
        assert_item(second, 2, "refused", "wrong-amount");
        assert_item(second, 3, "refused", "wrong-amount");
        assert_item(second, 4, "refused", "unknown-payment-intent");
        assert_item(second, 5, "refused", "unknown-payment-intent");
        assert_at(second, "items.5.id", "no \"uuid\"");
        assert_item(second, 6, "refused", "payment-expired");
        assert_item(second, 8, "refused", "unknown-payment-intent");
        assert_item(second, 9, "refused", "unknown-payment-intent");
        assert_item(second, 7, "confirmed", NULL); /* the right amount of the one that was refused */
        await_step(amount, "REVENUE_BOOKED");
        await_step(currency, "PAYMENT_INITIATED");
}

/* One that is wrong, and nothing of the whole request is stored. */
static void all_or_nothing(void **state)
{
        _cleanup_(strbuf_done) struct strbuf body = {0}, few = {0};
        _cleanup_(freep) char *id = new_job("nothing"), *answer = NULL, *few_answer = NULL, *stored = NULL;
        long status;

        (void)state;
        add_item(&body, id, "bank", "");
        add_item(&body, id, "", "");
        answer = confirm(&body, NULL, 422);
        assert_at(answer, "type", "/problems/invalid-value");
        assert_at(answer, "field", "/items/1/reference");
        free(stack_http(stack, true, "POST", BULK, NULL, "{", &status));
        assert_int_equal(status, 400);
        stored = pg_fixture_ask(stack->pg, "SELECT count(*) FROM evidence WHERE reference = 'bank'");
        assert_string_equal(stored, "0");
        add_item(&few, "none", "bank", ""); /* nothing of it is for the store */
        few_answer = confirm(&few, NULL, 200);
        assert_item(few_answer, 0, "refused", "unknown-payment-intent");
        free(stack_http(stack, true, "GET", BULK, NULL, NULL, &status));
        assert_int_equal(status, 405);
}

/* The same id twice is as two requests at once. */
static void twins(void **state)
{
        _cleanup_(strbuf_done) struct strbuf body = {0};
        _cleanup_(freep) char *same = new_job("same"), *differ = new_job("differ"), *answer = NULL;

        (void)state;
        add_item(&body, same, "one", "");
        add_item(&body, differ, "one", "");
        for (int i = 0; i < 50; i++)
                add_item(&body, same, "one", "");
        add_item(&body, differ, "two", "");
        answer = confirm(&body, NULL, 200);
        for (size_t i = 0; i < 52; i++)
                assert_item(answer, i, "confirmed", NULL);
        assert_item(answer, 52, "refused", "already-confirmed");
        assert_stored(same, "one");
        assert_stored(differ, "one");
}

static void without_waiting(void **state)
{
        static const char prefer[] = "Prefer: respond-async";
        _cleanup_(strbuf_done) struct strbuf body = {0}, repeat = {0}, part = {0};
        _cleanup_(freep) char *id = new_job("async"), *open = NULL, *answer = NULL, *again = NULL, *both = NULL;

        (void)state;
        open = new_job("async-open");
        stack_stop(stack, "payments", SIGTERM);
        add_item(&body, id, "r", "");
        add_item(&body, id, "r", "");
        answer = confirm(&body, prefer, 202);
        assert_item(answer, 0, "stored", NULL);
        assert_item(answer, 1, "stored", NULL);
        assert_stored(id, "r");
        stack_spawn(stack, "payments", NULL);
        await_step(id, "REVENUE_BOOKED");
        add_item(&repeat, id, "r", "");
        add_item(&repeat, NOBODY, "r", "");
        again = confirm(&repeat, prefer, 200); /* it had moved before */
        assert_item(again, 0, "confirmed", NULL);
        assert_item(again, 1, "refused", "unknown-payment-intent");
        stack_stop(stack, "payments", SIGTERM);
        add_item(&part, id, "r", "");
        add_item(&part, open, "r", "");
        both = confirm(&part, prefer, 202);
        assert_item(both, 0, "confirmed", NULL);
        assert_item(both, 1, "stored", NULL);
        stack_spawn(stack, "payments", NULL);
        await_step(open, "REVENUE_BOOKED");
}

/* A request on a thread of its own. */
struct call {
        struct stack *stack;
        pthread_t thread;
        struct strbuf body;
        char *answer;
        long status;
};

static void *send_call(void *arg)
{
        struct call *c = arg;

        c->answer = stack_http(c->stack, true, "POST", BULK, NULL, c->body.s, &c->status);
        return NULL;
}

static void start(struct call *c)
{
        strbuf_adds(&c->body, "]}");
        assert_int_equal(pthread_create(&c->thread, NULL, send_call, c), 0);
}

static void end(struct call *c, long wanted)
{
        pthread_join(c->thread, NULL);
        if (c->status != wanted)
                fail_msg("%ld, not %ld: %s", c->status, wanted, c->answer ? c->answer : "no answer");
        strbuf_done(&c->body);
}

/* The stack as who knows of the first board alone; another one is there from now on. */
static struct stack with_first_board(void)
{
        struct stack first = *stack;
        long port = stack_port(stack, true);
        char path[128];
        FILE *f;

        snprintf(first.dir, sizeof(first.dir), "%.50s/first", stack->dir);
        assert_int_equal(mkdir(first.dir, 0755), 0);
        snprintf(path, sizeof(path), "%s/board.port", first.dir);
        f = fopen(path, "we");
        assert_non_null(f);
        fprintf(f, "%ld", port);
        assert_int_equal(fclose(f), 0);
        stack_spawn(stack, "board", NULL);
        for (int64_t until = now_mono_ms() + 10000; stack_port(stack, true) == port && now_mono_ms() < until;)
                usleep(10000);
        assert_true(stack_port(stack, true) != port);
        return first;
}

/* Two requests that share their payments, to two instances: one of them has each, and the other hears which reference stands. */
static void at_the_same_time(void **state)
{
        enum { N = 40 };
        struct stack first = with_first_board();
        struct call calls[2] = {{.stack = stack}, {.stack = &first}};
        char *ids[N];

        (void)state;
        for (int i = 0; i < N; i++) {
                char key[32];

                snprintf(key, sizeof(key), "shared-%d", i);
                ids[i] = new_job(key);
        }
        for (int i = 0; i < N; i++) {
                add_item(&calls[0].body, ids[i], i % 2 ? "first" : "same", "");
                add_item(&calls[1].body, ids[N - 1 - i], (N - 1 - i) % 2 ? "second" : "same", "");
        }
        start(&calls[0]);
        start(&calls[1]);
        end(&calls[0], 200);
        end(&calls[1], 200);
        for (size_t i = 0; i < N; i++) {
                char path[32];

                snprintf(path, sizeof(path), "items.%zu.status", i);
                _cleanup_(freep) char *one = json_at(calls[0].answer, path);
                snprintf(path, sizeof(path), "items.%zu.status", N - 1 - i);
                _cleanup_(freep) char *two = json_at(calls[1].answer, path);
                if (i % 2 == 0)
                        assert_true(strcmp(one, "confirmed") == 0 && strcmp(two, "confirmed") == 0);
                else
                        assert_true((strcmp(one, "confirmed") == 0) != (strcmp(two, "confirmed") == 0));
                assert_stored(ids[i], i % 2 == 0 ? "same" : strcmp(one, "confirmed") == 0 ? "first" : "second");
                free(ids[i]);
        }
        free(calls[0].answer);
        free(calls[1].answer);
}

/* Held for two seconds, and then told that it is stored; also when the store goes away meanwhile. */
static void payments_away(void **state)
{
        _cleanup_(strbuf_done) struct strbuf body = {0}, repeat = {0};
        _cleanup_(freep) char *id = new_job("held"), *cut = new_job("cut"), *answer = NULL, *again = NULL;
        struct call call = {.stack = stack};
        int64_t before;

        (void)state;
        stack_stop(stack, "payments", SIGTERM);
        add_item(&body, id, "r", "");
        add_item(&body, NOBODY, "r", "");
        before = now_mono_ms();
        answer = confirm(&body, NULL, 202);
        assert_true(now_mono_ms() - before >= 1900);
        assert_item(answer, 0, "stored", NULL);
        assert_item(answer, 1, "refused", "unknown-payment-intent");

        add_item(&call.body, cut, "r", "");
        add_item(&call.body, cut, "other", "");
        start(&call);
        stack_await(stack, "SELECT count(*) FROM evidence_inbox", "2", 5000);
        usleep(100000); /* until both of them have their verdict */
        pg_fixture_kill(stack->pg);
        end(&call, 202);
        assert_item(call.answer, 0, "stored", NULL);
        assert_item(call.answer, 1, "refused", "already-confirmed");
        free(call.answer);
        pg_fixture_restart(stack->pg);
        stack_wait_ready(stack);
        stack_spawn(stack, "payments", NULL);
        await_step(id, "REVENUE_BOOKED");
        await_step(cut, "REVENUE_BOOKED");
        add_item(&repeat, id, "r", "");
        add_item(&repeat, cut, "r", "");
        again = confirm(&repeat, NULL, 200);
        assert_item(again, 0, "confirmed", NULL);
        assert_item(again, 1, "confirmed", NULL);
}

/* A row that the database refuses has the others stored one by one, and then the connection is lost at another. */
static void store_fails_midway(void **state)
{
        static const char fails[] = "CREATE SEQUENCE public.met; GRANT USAGE ON SEQUENCE public.met TO PUBLIC;"
                                    "CREATE FUNCTION public.fails() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN"
                                    " IF NEW.reference = 'poison' OR nextval('public.met') = 1 THEN RAISE EXCEPTION 'poison'; END IF;"
                                    " IF NEW.reference = 'cut' THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END IF;"
                                    " RETURN NEW; END $$;"
                                    "CREATE TRIGGER fails BEFORE INSERT ON evidence FOR EACH ROW EXECUTE FUNCTION public.fails()";
        static const char *const references[] = {"good", "poison", "cut", "late"};
        _cleanup_(strbuf_done) struct strbuf body = {0}, alone = {0}, repeat = {0};
        _cleanup_(freep) char *answer = NULL, *refused = NULL, *again = NULL;
        char *ids[4];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
                char key[32];

                snprintf(key, sizeof(key), "midway-%s", references[i]);
                ids[i] = new_job(key);
                add_item(&body, ids[i], references[i], "");
        }
        add_item(&alone, ids[1], "poison", "");
        add_item(&alone, NOBODY, "poison", "");
        free(pg_fixture_ask(stack->pg, fails));
        answer = confirm(&body, NULL, 200);
        assert_item(answer, 0, "confirmed", NULL);
        assert_item(answer, 1, "refused", "internal-error");
        assert_item(answer, 2, "refused", "unavailable");
        assert_at(answer, "items.2.problem.status", "503");
        assert_item(answer, 3, "refused", "unavailable"); /* not asked, or not heard: nothing is claimed */
        stack_wait_ready(stack);
        refused = confirm(&alone, NULL, 500); /* nothing of it is stored, so that is the whole answer */
        assert_at(refused, "type", "/problems/internal-error");
        free(pg_fixture_ask(stack->pg, "DROP TRIGGER fails ON evidence; DROP FUNCTION public.fails; DROP SEQUENCE public.met"));
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
                add_item(&repeat, ids[i], references[i], "");
        again = confirm(&repeat, NULL, 200);
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
                assert_item(again, i, "confirmed", NULL);
                assert_stored(ids[i], references[i]);
                free(ids[i]);
        }
}

/* More than one statement stores at once comes in a round; its last payment has its turn in the next. */
static void more_than_a_statement(void **state)
{
        enum { REQUESTS = 3, ITEMS = 1000 };
        struct db *db = pg_fixture_connect(stack->pg, NULL);
        _cleanup_(freep) char *first = new_job("crowd-first"), *last = new_job("crowd-last");
        struct call ahead = {.stack = stack}, crowd[REQUESTS] = {{.stack = stack}, {.stack = stack}, {.stack = stack}};

        (void)state;
        assert_int_equal(db_run(db, "BEGIN", NULL, NULL), 0);
        assert_int_equal(db_run(db, "LOCK TABLE evidence", NULL, NULL), 0);
        add_item(&ahead.body, first, "r", "");
        start(&ahead); /* holds the board in the store while the others come */
        stack_await(stack, "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'evidence'::regclass AND NOT granted", "t", 10000);
        for (size_t r = 0; r < REQUESTS; r++) {
                for (size_t i = 1; i < ITEMS; i++)
                        add_item(&crowd[r].body, NOBODY, "r", "");
                add_item(&crowd[r].body, last, "r", "");
                start(&crowd[r]);
        }
        usleep(300000); /* until the requests are with the board; where they are late, they need no second statement */
        assert_int_equal(db_run(db, "COMMIT", NULL, NULL), 0);
        db_free(db);
        end(&ahead, 200);
        free(ahead.answer);
        for (size_t r = 0; r < REQUESTS; r++) {
                end(&crowd[r], 200);
                assert_item(crowd[r].answer, 0, "refused", "unknown-payment-intent");
                assert_item(crowd[r].answer, ITEMS - 2, "refused", "unknown-payment-intent");
                assert_item(crowd[r].answer, ITEMS - 1, "confirmed", NULL);
                free(crowd[r].answer);
        }
        assert_stored(last, "r");
}

static void database_away(void **state)
{
        _cleanup_(strbuf_done) struct strbuf body = {0};
        _cleanup_(freep) char *id = new_job("away"), *answer = NULL, *headers = NULL, *again = NULL;
        long status;

        (void)state;
        add_item(&body, id, "r", "");
        add_item(&body, "none", "r", "");
        strbuf_adds(&body, "]}");
        pg_fixture_kill(stack->pg);
        answer = stack_send(stack, true, "POST", BULK, NULL, (struct slice){body.s, body.len}, &status, &headers);
        assert_int_equal(status, 503);
        assert_at(answer, "type", "/problems/unavailable");
        assert_non_null(strstr(headers, "Retry-After: 1"));
        pg_fixture_restart(stack->pg);
        stack_wait_ready(stack);
        again = ask_stack(stack, true, "POST", BULK, NULL, body.s, 200);
        assert_item(again, 0, "confirmed", NULL);
        assert_item(again, 1, "refused", "unknown-payment-intent");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(mixed_outcomes),
                cmocka_unit_test(all_or_nothing),
                cmocka_unit_test(twins),
                cmocka_unit_test(without_waiting),
                cmocka_unit_test(payments_away),
                cmocka_unit_test(more_than_a_statement),
                cmocka_unit_test(store_fails_midway),
                cmocka_unit_test(database_away),
                cmocka_unit_test(at_the_same_time),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
