/* Intake, pricing and payments as real processes: batches, repeats and duplicates on both ways in, what is held, and what is refused. */
#include "base/util.h"
#include "bus/bus.h"
#include "proto/aethelos.pb-c.h"
#include "proto/subjects.h"
#include "tests/support/stack.h"

#include <poll.h>
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

#define TEXT_JOB                                                                                                                                     \
        "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"Code 19: Initial global activation "                                              \
        "payload.\"},\"context\":{\"priority\":\"high\"}}"

static struct stack *stack;
static struct bus *bus;

static char *post(const char *path, const char *key, const char *prefer, const char *body, long *ret_status)
{
        char header[200];

        snprintf(header, sizeof(header), "Idempotency-Key: %s", key);
        return stack_http(stack, false, "POST", path, (const char *const[]){header, prefer, NULL}, body, ret_status);
}

static void assert_asked(const char *sql, const char *answer)
{
        _cleanup_(freep) char *got = pg_fixture_ask(stack->pg, sql);

        assert_string_equal(got, answer);
}

static void publish(const char *subject, const char *key, const char *type, const void *body, size_t len)
{
        const struct bus_header headers[] = {{"Content-Type", type}, {"Idempotency-Key", key}};

        assert_int_equal(bus_publish(bus, subject, NULL, headers, key ? 2 : 1, body, len), 0);
        (void)bus_flush(bus);
}

static struct bus_message *next_plain(int ms)
{
        int64_t until = now_mono_ms() + ms;

        do {
                struct pollfd p = {.fd = bus_fd(bus), .events = POLLIN};
                struct bus_message *m;

                (void)bus_maintain(bus);
                (void)bus_flush(bus);
                m = bus_next_plain(bus);
                if (m)
                        return m;
                (void)poll(&p, 1, 5);
        } while (now_mono_ms() < until);
        return NULL;
}

/* A hundred jobs, each sent five times in one go, shuffled: a hundred jobs, and every repeat of a priced one has its receipt. */
static void shuffled_duplicates(void **state)
{
        int order[500], receipts = 0;

        (void)state;
        srandom(1);
        for (int i = 0; i < 500; i++)
                order[i] = i % 100;
        for (int i = 499; i > 0; i--) {
                int k = (int)(random() % (i + 1)), t = order[i];
                order[i] = order[k], order[k] = t;
        }
        for (int i = 0; i < 500; i++) {
                char key[32], body[200];

                snprintf(key, sizeof(key), "many-%d", order[i]);
                snprintf(body, sizeof(body), "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"job %d\"}}", order[i]);
                publish("aethelos.job.submit.shuffler", key, "application/json", body, strlen(body));
        }
        (void)bus_flush(bus);
        stack_await(stack, "SELECT count(*) FROM chain WHERE client = 'shuffler' AND step = 'PAYMENT_INITIATED'", "100", 20000);
        assert_asked("SELECT count(*) FROM submission WHERE client = 'shuffler'", "100");
        for (int i = 0; i < 100; i++) {
                char key[32], subject[80], body[200];
                struct bus_message *m;

                snprintf(key, sizeof(key), "many-%d", i);
                snprintf(subject, sizeof(subject), "aethelos.receipt.shuffler.%s", key);
                snprintf(body, sizeof(body), "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"job %d\"}}", i);
                publish("aethelos.job.submit.shuffler", key, "application/json", body, strlen(body));
                while ((m = next_plain(5000)) != NULL) {
                        bool mine = strcmp(m->subject, subject) == 0;
                        if (mine)
                                assert_at(m->data, "status", "accepted");
                        bus_drop(bus, m);
                        if (mine)
                                break;
                }
                receipts += m != NULL;
        }
        assert_int_equal(receipts, 100);
        stack_assert_sound(stack);
}

struct caller {
        pthread_t thread;
        const char *key, *body;
        long status;
        char *answer;
};

static void *call(void *arg)
{
        struct caller *c = arg;

        c->answer = post("/jobs", c->key, NULL, c->body, &c->status);
        return NULL;
}

/* Many clients at once under one key: one 201, the others 200, all of them with the same job and its intent. */
static void concurrent_duplicates(void **state)
{
        struct caller callers[16] = {0};
        _cleanup_(freep) char *id = NULL;
        int created = 0;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
                callers[i].key = "same";
                callers[i].body = TEXT_JOB;
                assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
        }
        for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
                pthread_join(callers[i].thread, NULL);
                if (!id)
                        id = json_at(callers[i].answer, "job.id");
                assert_at(callers[i].answer, "job.id", id);
                assert_at(callers[i].answer, "payment_intent.id", id);
                created += callers[i].status == 201;
                assert_true(callers[i].status == 201 || callers[i].status == 200);
                free(callers[i].answer);
        }
        assert_int_equal(created, 1);
}

/* Different jobs under one key, at once: one wins, the others are refused. */
static void concurrent_conflict(void **state)
{
        struct caller callers[8] = {0};
        char bodies[8][100];
        int created = 0, refused = 0;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
                snprintf(bodies[i], sizeof(bodies[i]), "{\"type\":\"puz19:numeric_analysis\",\"payload\":{\"numbers\":[%zu]}}", i);
                callers[i].key = "fight";
                callers[i].body = bodies[i];
                assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
        }
        for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
                pthread_join(callers[i].thread, NULL);
                created += callers[i].status == 201;
                refused += callers[i].status == 422;
                free(callers[i].answer);
        }
        assert_int_equal(created, 1);
        assert_int_equal(refused, 7);
}

static void purchases(void **state)
{
        _cleanup_(freep) char *bought = NULL, *again = NULL, *id = NULL, *withdrawn = NULL, *offers = NULL, *wrong = NULL;
        long status;

        (void)state;
        free(pg_fixture_ask(stack->pg,
                "INSERT INTO offer VALUES ('twice', 1, 'P', 'Twice the price', 'puz19:text_analysis', '{\"priority\":\"low\"}', '2', true)"));
        bought = post("/buy/offer/twice", "buy-1", NULL, "{\"text\":\"hi\"}", &status); /* an offer that intake has not seen yet */
        assert_int_equal(status, 201);
        assert_at(bought, "job.price.minor", "3531"); /* (20 + 0.05 * 13) * 0.9 * 0.95 * 2 = 35.3115 */
        id = json_at(bought, "job.id");
        wrong = post("/buy/offer/twice", "buy-2", NULL, "{\"text\":5}", &status);
        assert_int_equal(status, 422);
        assert_at(wrong, "field", "/text");
        free(post("/buy/offer/none", "buy-2", NULL, "{\"text\":\"hi\"}", &status));
        assert_int_equal(status, 404);
        /* withdrawn: new ones are refused, the old one is answered as ever */
        free(pg_fixture_ask(
                stack->pg, "INSERT INTO offer VALUES ('twice', 2, 'P', 'Gone', 'puz19:text_analysis', '{\"priority\":\"low\"}', '2', false)"));
        poll(NULL, 0, 1100);
        withdrawn = post("/buy/offer/twice", "buy-3", NULL, "{\"text\":\"hi\"}", &status);
        assert_int_equal(status, 404);
        again = post("/buy/offer/twice", "buy-1", NULL, "{\"text\":\"hi\"}", &status);
        assert_int_equal(status, 200);
        assert_at(again, "job.id", id);
        offers = stack_http(stack, false, "GET", "/offers", NULL, NULL, &status);
        assert_null(strstr(offers, "twice"));
        assert_non_null(strstr(offers, "offer_p19_text_basic"));
}

static void new_flow_at_once(void **state)
{
        _cleanup_(freep) char *made = NULL;
        long status;

        (void)state;
        free(post("/jobs", "flow-1", NULL, "{\"type\":\"late:type\",\"payload\":[1,2]}", &status));
        assert_int_equal(status, 422);
        free(pg_fixture_ask(stack->pg, "INSERT INTO flow VALUES ('late', 1, 'late:type', '1', '0', 'JPY', '{anything}')"));
        made = post("/jobs", "flow-1", NULL, "{\"type\":\"late:type\",\"payload\":[1,2]}", &status);
        assert_int_equal(status, 201);
        assert_at(made, "job.price.currency", "JPY");
        assert_at(made, "job.price.minor", "1");
}

/* Pricing is away: 202 after the hold, pending receipt, and the chain goes on later. */
static void held_until_due(void **state)
{
        _cleanup_(freep) char *made = NULL, *async = NULL, *again = NULL, *pending = NULL, *id = NULL, *page = NULL;
        char path[100];
        int64_t began;
        long status;

        (void)state;
        stack_stop(stack, "pricing", SIGTERM);
        began = now_mono_ms();
        made = post("/jobs", "held-1", NULL, TEXT_JOB, &status);
        assert_int_equal(status, 202);
        assert_true(now_mono_ms() - began >= 290);
        assert_at(made, "job.step", "JOB_CREATED");
        assert_at(made, "job.price", "null");
        id = json_at(made, "job.id");
        async = post("/jobs", "held-2", "Prefer: respond-async", TEXT_JOB, &status);
        assert_int_equal(status, 202);
        again = post("/jobs", "held-1", "Prefer: respond-async", TEXT_JOB, &status);
        assert_int_equal(status, 200);
        assert_at(again, "payment_intent", "null");
        pending = stack_http(stack, false, "GET", "/receipts/held-1", NULL, NULL, &status);
        assert_int_equal(status, 202);
        assert_at(pending, "status", "pending");
        snprintf(path, sizeof(path), "/payment-intents/%s", id);
        free(stack_http(stack, false, "GET", path, NULL, NULL, &status));
        assert_int_equal(status, 404);
        snprintf(path, sizeof(path), "/jobs/%s/events?limit=1", id);
        page = stack_http(stack, false, "GET", path, NULL, NULL, &status);
        assert_at(page, "items.0.type", "JOB_CREATED");
        assert_at(page, "next", "1");
        stack_spawn(stack, "pricing", NULL);
        stack_await(stack,
                "SELECT count(*) FROM chain c JOIN submission s ON s.job_id = c.id WHERE s.key LIKE 'held-_' AND c.step = 'PAYMENT_INITIATED'", "2",
                20000);
}

static struct bus_message *query(const char *client, const char *key)
{
        char subject[100];
        struct bus_message *m = NULL;

        snprintf(subject, sizeof(subject), "aethelos.query.receipt.%s", client);
        assert_int_equal(bus_request(bus, subject, key, strlen(key), 3000, &m), 0);
        return m;
}

static void refusals_on_the_bus(void **state)
{
        static const char with_key[] = "{\"type\":\"nope\",\"payload\":1,\"key\":\"in-body\"}";
        struct bus_message *m;

        (void)state;
        while ((m = next_plain(200)) != NULL)
                bus_drop(bus, m);
        publish("aethelos.job.submit.rough", NULL, "application/json", with_key, strlen(with_key));
        m = next_plain(5000);
        assert_non_null(m);
        assert_string_equal(m->subject, "aethelos.receipt.rough.in-body");
        assert_at(m->data, "status", "rejected");
        assert_at(m->data, "problem.field", "/type");
        bus_drop(bus, m);

        publish("aethelos.job.submit.rough", "pb", "application/protobuf", "\xff\xff", 2);
        m = next_plain(5000);
        assert_non_null(m);
        Aethelos__Receipt *r = aethelos__receipt__unpack(NULL, m->len, (const uint8_t *)m->data);
        assert_non_null(r);
        assert_int_equal(r->status, AETHELOS__RECEIPT_STATUS__REJECTED);
        assert_int_equal(r->problem->status, 400);
        aethelos__receipt__free_unpacked(r, NULL);
        bus_drop(bus, m);

        publish("aethelos.job.submit.rough", "bad key", "application/json", TEXT_JOB, strlen(TEXT_JOB));
        stack_await(stack, "SELECT count(*) FROM quarantine WHERE service = 'intake'", "1", 5000);
        assert_asked("SELECT count(*) FROM submission WHERE client = 'rough'", "0");

        m = query("rough", "pb");
        assert_at(m->data, "problem.status", "404");
        bus_drop(bus, m);
        m = query("shuffler", "many-7");
        assert_at(m->data, "status", "accepted");
        bus_drop(bus, m);
}

/* The store is away: submissions on the bus wait, and are admitted once. */
static void store_away(void **state)
{
        long status;

        (void)state;
        pg_fixture_kill(stack->pg);
        publish("aethelos.job.submit.patient", "p-1", "application/json", TEXT_JOB, strlen(TEXT_JOB));
        (void)bus_flush(bus);
        free(post("/jobs", "away-1", NULL, TEXT_JOB, &status));
        assert_int_equal(status, 503);
        poll(NULL, 0, 500);
        pg_fixture_restart(stack->pg);
        stack_await(stack, "SELECT count(*) FROM chain WHERE client = 'patient' AND step = 'PAYMENT_INITIATED'", "1", 20000);
        stack_assert_sound(stack);
}

/* What has been gathered is admitted when intake is told to end, and does not wait until the broker sends it again. */
static void stopped_while_it_gathers(void **state)
{
        (void)state;
        for (int i = 0; i < 5; i++) {
                char key[32], n[16];

                for (int j = 0; j < 20; j++) {
                        snprintf(key, sizeof(key), "gathered-%d-%d", i, j);
                        publish("aethelos.job.submit.gathered", key, "application/json", TEXT_JOB, strlen(TEXT_JOB));
                        poll(NULL, 0, 1); /* one after another, so that the last ones find the others' round begun */
                }
                stack_stop(stack, "intake", SIGTERM);
                stack_spawn(stack, "intake", (const char *const[]){"AETHELOS_HOLD_MS=3000", NULL});
                snprintf(n, sizeof(n), "%d", 20 * (i + 1));
                stack_await(stack, "SELECT count(*) FROM chain WHERE client = 'gathered' AND step = 'PAYMENT_INITIATED'", n, 10000);
        }
        stack_assert_sound(stack);
}

/* The whole crowd stands in the stream before anybody takes from it. */
static void publish_crowd(const char *client, int jobs, const char *const settings[])
{
        int64_t until = now_mono_ms() + 20000;
        struct bus_backlog backlog = {0};
        char subject[64];

        snprintf(subject, sizeof(subject), "aethelos.job.submit.%s", client);
        for (int i = 0; i < jobs; i++) {
                char key[32];

                snprintf(key, sizeof(key), "crowd-%d", i);
                publish(subject, key, "application/json", TEXT_JOB, strlen(TEXT_JOB));
        }
        while (bus_backlog(bus, "SUBMIT", "intake", 2000, &backlog) < 0 || backlog.pending < (uint64_t)jobs) {
                if (now_mono_ms() > until)
                        fail_msg("the crowd does not come");
                poll(NULL, 0, 10);
        }
        stack_spawn(stack, "intake", settings);
}

/* Of the full batches of a client's jobs that had one before and one behind, of which there are some, none was followed by the one behind before the
 * last job of the one before had come to its payment or a second was over. */
static void assert_crowd(const char *client, int batch)
{
        char sql[1000];

        snprintf(sql, sizeof(sql),
                "WITH b AS (SELECT min(e.at) AS at, count(*) AS n, max(c.id::text)::uuid AS last FROM chain c JOIN event e ON e.chain_id = c.id"
                "   WHERE c.client = '%s' AND e.version = 1 GROUP BY e.xid),"
                " f AS (SELECT b.n, b.at, lag(b.at) OVER o AS before, lag(r.at) OVER o AS required, lead(b.at) OVER o AS next FROM b"
                "   LEFT JOIN event r ON r.chain_id = b.last AND r.type = 'PAYMENT_REQUIRED' WINDOW o AS (ORDER BY b.at))"
                " SELECT (count(*) > 0) || ' ' || count(*) FILTER (WHERE next < least(required, at + interval '0.95 s'))"
                " FROM f WHERE n = %d AND before IS NOT NULL AND next IS NOT NULL",
                client, batch);
        stack_await(stack, sql, "true 0", 0);
}

/* Out of a crowd on the bus one full batch after the other is taken, each when the last but one has come to its payment. When that does not happen,
 * because pricing stands still, all are admitted all the same, a batch a second. */
static void a_crowd_on_the_bus(void **state)
{
        long status = 0;

        (void)state;
        stack_stop(stack, "intake", SIGTERM);
        publish_crowd("crowd", 1300, NULL); /* some full batches, wherever the first begins */
        stack_await(stack, "SELECT count(*) FROM chain WHERE client = 'crowd' AND step = 'PAYMENT_INITIATED'", "1300", 30000);
        assert_crowd("crowd", 256);
        stack_stop(stack, "intake", SIGTERM);
        publish_crowd("small", 700, (const char *const[]){"AETHELOS_BATCH=100", NULL});
        stack_await(stack, "SELECT count(*) FROM chain WHERE client = 'small' AND step = 'PAYMENT_INITIATED'", "700", 30000);
        assert_crowd("small", 100);
        stack_stop(stack, "intake", SIGTERM);
        stack_stop(stack, "pricing", SIGTERM);
        publish_crowd("still", 700, (const char *const[]){"AETHELOS_BATCH=100", NULL});
        stack_await(stack, "SELECT count(*) > 0 FROM chain WHERE client = 'still'", "t", 20000);
        /* A request does not stand in that line. */
        free(stack_http(stack, false, "POST", "/jobs", (const char *const[]){"Idempotency-Key: urgent", "Prefer: respond-async", NULL},
                "{\"type\":\"code19:issue\",\"payload\":{\"text\":\"x\"},\"context\":{\"label\":\"code19_issue\"}}", &status));
        assert_int_equal(status, 202);
        stack_await(stack, "SELECT lane FROM chain WHERE client = 'default' AND label = 'code19_issue'", "high", 0);
        stack_await(stack, "SELECT count(*) < 700 FROM chain WHERE client = 'still'", "t", 0);
        stack_await(stack, "SELECT count(*) FROM chain WHERE client = 'still' AND step = 'JOB_CREATED'", "700", 30000);
        assert_crowd("still", 100);
        stack_spawn(stack, "pricing", NULL);
        stack_await(stack, "SELECT count(*) FROM chain WHERE client = 'still' AND step = 'PAYMENT_INITIATED'", "700", 30000);
        stack_assert_sound(stack);
}

static void await_intake(void)
{
        int64_t until = now_mono_ms() + 20000;
        long status;

        do {
                free(stack_http(stack, false, "GET", "/readyz", NULL, NULL, &status));
                if (status == 200)
                        return;
                usleep(10000);
        } while (now_mono_ms() < until);
        fail_msg("intake does not get ready");
}

/* A publisher repeats until it has its receipt: what is sent before the stream is declared is lost. */
static void await_stream(void)
{
        for (int i = 0; i < 100; i++) {
                struct bus_message *m;

                publish("aethelos.job.submit.first", "first", "application/json", TEXT_JOB, strlen(TEXT_JOB));
                m = next_plain(200);
                if (m) {
                        bus_drop(bus, m);
                        return;
                }
        }
        fail_msg("no receipt");
}

/* Whoever waits for an intent is told when it is made, and a bell that is lost loses nothing: nobody here would be answered for his time being over.
 */
static void told_of_intents(void **state)
{
        _cleanup_(freep) char *rung = NULL, *lost = NULL, *text = NULL;
        struct uuid id;
        bool told = false;
        long status;

        (void)state;
        stack_stop(stack, "intake", SIGTERM);
        stack_spawn(stack, "intake", (const char *const[]){"AETHELOS_HOLD_MS=60000", NULL});
        await_intake();
        assert_int_equal(bus_subscribe(bus, SUBJECT_INTENTS, NULL), 0);
        (void)bus_flush(bus);
        rung = post("/jobs", "rung-1", NULL, TEXT_JOB, &status);
        assert_int_equal(status, 201);
        text = json_at(rung, "job.id");
        assert_true(uuid_parse(text, strlen(text), &id));
        while (!told) {
                struct bus_message *m = next_plain(5000);

                assert_non_null(m);
                told = strcmp(m->subject, "aethelos.hop.intake.high") == 0 && memmem(m->data, m->len, id.b, sizeof(id.b));
                bus_drop(bus, m);
        }

        assert_asked("WITH deaf AS (UPDATE way SET hearer = NULL WHERE hearer = 'intake' RETURNING 1) SELECT count(*) > 0 FROM deaf", "t");
        lost = post("/jobs", "rung-2", NULL, TEXT_JOB, &status);
        assert_int_equal(status, 201);
        assert_asked("SELECT count(*) FROM way WHERE hearer = 'intake'", "0");
        free(pg_fixture_ask(stack->pg, "DELETE FROM way")); /* they are derived anew */
}

static int start(void **state)
{
        struct bus_config config = {.name = "test", .inbox_prefix = "_INBOX"};

        (void)state;
        stack = stack_start_bare();
        stack_spawn(stack, "pricing", NULL);
        stack_spawn(stack, "payments", NULL);
        stack_spawn(stack, "meta-repair", NULL);
        stack_spawn(stack, "intake", (const char *const[]){"AETHELOS_HOLD_MS=3000", NULL});
        stack_spawn(
                stack, "intake", (const char *const[]){"AETHELOS_HOLD_MS=3000", NULL}); /* two take from the bus; the later one is asked over HTTP */
        await_intake();
        config.url = nats_fixture_url(stack->nats);
        assert_int_equal(bus_open(&config, &bus), 0);
        for (int i = 0; i < 500 && !bus_connected(bus); i++)
                poll(NULL, 0, 10);
        assert_int_equal(bus_subscribe(bus, "aethelos.receipt.>", NULL), 0);
        await_stream();
        return 0;
}

static int stop(void **state)
{
        (void)state;
        bus = bus_free(bus);
        stack = stack_free(stack);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(shuffled_duplicates),
                cmocka_unit_test(concurrent_duplicates),
                cmocka_unit_test(concurrent_conflict),
                cmocka_unit_test(purchases),
                cmocka_unit_test(new_flow_at_once),
                cmocka_unit_test(held_until_due),
                cmocka_unit_test(refusals_on_the_bus),
                cmocka_unit_test(store_away),
                cmocka_unit_test(stopped_while_it_gathers),
                cmocka_unit_test(a_crowd_on_the_bus),
                cmocka_unit_test(told_of_intents),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
