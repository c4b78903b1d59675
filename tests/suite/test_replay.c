/* Two instances of every service work the same chains, and every bell is rung many times: whole batches again, shuffled, in opposite order, the same
 * chain twice in one envelope, for every service. Each job is still done, and counted, exactly once. */
#include "base/util.h"
#include "base/uuid.h"
#include "bus/bus.h"
#include "proto/aethelos.pb-c.h"
#include "tests/support/stack.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define JOBS 150

static const char *const hearers[] = {"pricing", "payments", "execution", "ledger", "payouts"};
static struct stack *stack;
static struct bus *bus;
static const struct bus_header type = {"Content-Type", "application/json"};

static int set_up(void **state)
{
        struct bus_config config = {.name = "test", .inbox_prefix = "_INBOX"};

        (void)state;
        stack = stack_start();
        for (size_t i = 0; i < ARRAY_SIZE(hearers); i++)
                stack_spawn(stack, hearers[i], NULL);
        stack_spawn(stack, "feed", NULL);
        stack_spawn(stack, "meta-repair", NULL);
        config.url = nats_fixture_url(stack->nats);
        assert_int_equal(bus_open(&config, &bus), 0);
        for (int i = 0; i < 500 && !bus_connected(bus); i++)
                poll(NULL, 0, 10);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        bus = bus_free(bus);
        stack = stack_free(stack);
        return 0;
}

static size_t all_chains(struct uuid ids[], size_t max)
{
        struct db *db = pg_fixture_connect(stack->pg, "board");
        PGresult *r = NULL;
        size_t n;

        assert_int_equal(db_run(db, "SELECT id FROM chain ORDER BY id", NULL, &r), 0);
        for (n = 0; n < (size_t)PQntuples(r) && n < max; n++)
                ids[n] = db_uuid(r, (int)n, 0);
        PQclear(r);
        db_free(db);
        return n;
}

/* One envelope with the chains in this order, each named `times` times. */
static void ring(const char *service, const char *lane, const struct uuid ids[], size_t n, bool backwards, int times)
{
        Aethelos__Envelope envelope = AETHELOS__ENVELOPE__INIT;
        Aethelos__Envelope__Item items[256], *pointers[256];
        uint8_t packed[16384];
        char subject[64];

        for (size_t i = 0; i < n * (size_t)times && i < ARRAY_SIZE(items); i++) {
                size_t at = i % n;

                aethelos__envelope__item__init(&items[i]);
                items[i].chain_id.data = (uint8_t *)ids[backwards ? n - 1 - at : at].b;
                items[i].chain_id.len = sizeof(struct uuid);
                pointers[i] = &items[i];
                envelope.n_items = i + 1;
        }
        envelope.items = pointers;
        snprintf(subject, sizeof(subject), "aethelos.hop.%s.%s", service, lane);
        assert_int_equal(bus_publish(bus, subject, NULL, NULL, 0, packed, aethelos__envelope__pack(&envelope, packed)), 0);
        (void)bus_flush(bus);
}

static void ring_everybody(void)
{
        struct uuid ids[2 * JOBS];
        size_t n = all_chains(ids, ARRAY_SIZE(ids));

        for (size_t i = n; i > 1; i--) { /* shuffled */
                size_t j = (size_t)random() % i;
                struct uuid t = ids[i - 1];

                ids[i - 1] = ids[j], ids[j] = t;
        }
        for (size_t h = 0; h < ARRAY_SIZE(hearers); h++)
                for (size_t at = 0; at < n; at += 100) {
                        size_t part = n - at < 100 ? n - at : 100;

                        ring(hearers[h], "high", ids + at, part, false, 2);
                        ring(hearers[h], "low", ids + at, part, true, 1);
                }
}

static void each_job_once(void **state)
{
        char count[16];

        (void)state;
        srandom(19);
        for (int i = 0; i < JOBS; i++) {
                char key[32], body[160];
                struct bus_header headers[2] = {{"Idempotency-Key", key}, type};

                snprintf(key, sizeof(key), "replay-%d", i);
                snprintf(body, sizeof(body), "{\"type\":\"puz19:numeric_analysis\",\"payload\":{\"numbers\":[%d,1]}}", i);
                for (int twice = 0; twice < 2; twice++)
                        assert_int_equal(bus_publish(bus, "aethelos.job.submit.default", NULL, headers, 2, body, strlen(body)), 0);
                (void)bus_flush(bus);
        }
        snprintf(count, sizeof(count), "%d", JOBS);
        stack_await(stack, "SELECT count(*) FROM chain", count, 20000);
        ring_everybody();
        stack_await(stack, "SELECT count(*) FROM chain WHERE step = 'PAYMENT_INITIATED'", count, 20000);
        ring_everybody();

        struct uuid ids[JOBS];
        size_t n = all_chains(ids, JOBS);
        for (size_t i = 0; i < n; i++) {
                char id[UUID_TEXT_SIZE], path[96];
                long status;

                uuid_format(&ids[i], id);
                snprintf(path, sizeof(path), "/payment-intents/%s/confirm", id);
                free(stack_http(stack, true, "POST", path, (const char *const[]){"Prefer: respond-async", NULL}, "{\"reference\":\"r\",\"by\":\"b\"}",
                        &status));
                assert_true(status == 200 || status == 202);
                if (i % 50 == 0)
                        ring_everybody();
        }
        for (int i = 0; i < 5; i++)
                ring_everybody();
        stack_await(stack, "SELECT count(*) FROM chain WHERE kind = 'job' AND status = 'completed'", count, 30000);
        ring_everybody();
        stack_await(stack, "SELECT count(*) FROM chain WHERE step = 'PAYOUT_READY'", count, 20000);
        ring_everybody();
        stack_assert_sound(stack);
        stack_await(stack, "SELECT count(*) FROM journal", "450", 0);
        stack_await(stack, "SELECT count(*) FROM quarantine", "0", 0);
        stack_await(stack, "SELECT sum(count) FROM figure WHERE name = 'PAYOUT_READY'", count, 5000);
}

/* Whoever takes the checkpoint away has them counted from the first event on, although both instances of feed know where it stood. */
static void figures_are_counted_anew(void **state)
{
        const char *body = "{\"type\":\"puz19:numeric_analysis\",\"payload\":{\"numbers\":[1]}}";
        char count[16];

        (void)state;
        free(pg_fixture_ask(stack->pg, "WITH gone AS (DELETE FROM figure) DELETE FROM reader WHERE name = 'feed'"));
        assert_int_equal(bus_publish(bus, "aethelos.job.submit.default", NULL, (struct bus_header[]){{"Idempotency-Key", "one-more"}, type}, 2, body,
                                 strlen(body)),
                0);
        (void)bus_flush(bus);
        snprintf(count, sizeof(count), "%d", JOBS + 1);
        stack_await(stack, "SELECT sum(count) FROM figure WHERE name = 'JOB_CREATED'", count, 20000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_job_once),
                cmocka_unit_test(figures_are_counted_anew),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
