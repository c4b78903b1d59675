/* What feed remembers of chains: nothing of one chain is ever said of another, and what events say of their chains is taken from them or not at all.
 */
#include "services/feed/feed_known.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct feed_chain cheap = {.client = "a", .currency = "EUR", .minor = 5}, dear = {.client = "another", .currency = "JPY", .minor = 7},
                               task = {.client = "system", .currency = "EUR", .minor = 9, .system = true}, unpriced = {.client = "a", .currency = ""};

static void expect_known(const struct feed_known *k, const struct uuid *id, const struct feed_chain *as)
{
        struct feed_chain found;

        assert_true(feed_known_get(k, id, &found));
        assert_string_equal(found.client, as->client);
        assert_string_equal(found.currency, as->currency);
        assert_int_equal(found.minor, as->minor);
        assert_int_equal(found.system, as->system);
}

static void chains_are_told_apart(void **state)
{
        struct feed_known *k = feed_known_new();
        struct uuid id = uuid_v7(), beside = id, never = uuid_v7(), none = {0};
        struct feed_chain found;

        (void)state;
        beside.b[0] ^= 1; /* differs only where the place is not taken from */
        assert_false(feed_known_get(k, &id, &found));
        assert_false(feed_known_get(k, &none, &found));
        feed_known_put(k, &id, &cheap);
        expect_known(k, &id, &cheap);
        assert_false(feed_known_get(k, &beside, &found));
        feed_known_put(k, &beside, &task); /* in the same place */
        expect_known(k, &beside, &task);
        assert_false(feed_known_get(k, &id, &found));
        assert_false(feed_known_get(k, &never, &found));
        feed_known_free(k);
}

static void the_last_price_counts(void **state)
{
        struct feed_known *k = feed_known_new();
        struct uuid id = uuid_v7(), other = id;
        struct feed_chain found;

        (void)state;
        other.b[0] ^= 1; /* has the same place */
        feed_known_put(k, &id, &unpriced);
        expect_known(k, &id, &unpriced);
        feed_known_put(k, &id, &cheap);
        feed_known_put(k, &id, &dear);
        expect_known(k, &id, &dear);
        feed_known_drop(k, &other);
        expect_known(k, &id, &dear);
        feed_known_drop(k, &id);
        assert_false(feed_known_get(k, &id, &found));
        feed_known_put(k, &id, &cheap);
        feed_known_forget(k);
        assert_false(feed_known_get(k, &id, &found));
        feed_known_free(k);
}

static void events_say_what_must_be_known(void **state)
{
        static const char created[] = "{\"client\":\"shop-1\",\"key\":\"k\",\"payload\":{}}",
                          priced[] = "{\"amount\":{\"minor\":2588,\"currency\":\"EUR\"}}",
                          nobody[] = "{\"amount\":{\"minor\":25.5,\"currency\":\"EUR\"}}";
        struct feed_known *k = feed_known_new();
        struct uuid job = uuid_v7(), payout = uuid_v7();
        struct feed_chain found;
        char earned[128], id[UUID_TEXT_SIZE];

        (void)state;
        uuid_format(&job, id);
        snprintf(earned, sizeof(earned), "{\"job_id\":\"%s\",\"amount\":{\"minor\":2588,\"currency\":\"EUR\"}}", id);
        feed_known_learn(k, &job, "PRICED", priced); /* whose it is has not been told */
        feed_known_learn(k, &payout, "PAYOUT_EARNED", earned);
        assert_false(feed_known_get(k, &job, &found));
        assert_false(feed_known_get(k, &payout, &found));
        feed_known_learn(k, &job, "JOB_CREATED", created);
        expect_known(k, &job, &(struct feed_chain){.client = "shop-1"});
        feed_known_learn(k, &payout, "PAYOUT_EARNED", earned); /* without a price nothing is earned */
        assert_false(feed_known_get(k, &payout, &found));
        feed_known_learn(k, &job, "PRICED", priced);
        feed_known_learn(k, &job, "PAYMENT_REQUIRED", nobody);
        feed_known_learn(k, &payout, "PAYOUT_EARNED", earned);
        expect_known(k, &job, &(struct feed_chain){.client = "shop-1", .currency = "EUR", .minor = 2588});
        expect_known(k, &payout, &(struct feed_chain){.client = "shop-1", .currency = "EUR", .minor = 2588});
        feed_known_learn(k, &job, "PRICED", nobody);
        assert_false(feed_known_get(k, &job, &found));
        feed_known_free(k);
}

static void what_is_written_otherwise_is_not_taken(void **state)
{
        static const char *const created[] = {"{}", "", "{\"key\":\"k\",\"client\":\"shop\"}", "{\"client\":\"shop\\u0031\"}", "{\"client\":\"\"}",
                "{\"client\":7}", "{\"client\":\"shop"};
        static const char *const earned[] = {"{}", "{\"job_id\":\"1\"}", "{\"job_id\":\"00000000-0000-0000-0000-000000000000"};
        struct feed_known *k = feed_known_new();
        struct uuid id = uuid_v7();
        struct feed_chain found;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(created); i++)
                feed_known_learn(k, &id, "JOB_CREATED", created[i]);
        for (size_t i = 0; i < ARRAY_SIZE(earned); i++)
                feed_known_learn(k, &id, "PAYOUT_EARNED", earned[i]);
        assert_false(feed_known_get(k, &id, &found));
        feed_known_free(k);
}

/* Many more than there are places: each is either known as itself or not at all. */
static void a_crowd(void **state)
{
        enum { CROWD = 50000 };
        struct feed_known *k = feed_known_new();
        struct uuid *ids = xcalloc(CROWD, sizeof(*ids));
        size_t known = 0;

        (void)state;
        for (int i = 0; i < CROWD; i++) {
                ids[i] = uuid_v7();
                feed_known_put(k, &ids[i], &(struct feed_chain){.client = i % 2 ? "odd" : "even", .currency = "EUR", .minor = i});
        }
        for (int i = 0; i < CROWD; i++) {
                struct feed_chain found;

                if (!feed_known_get(k, &ids[i], &found))
                        continue;
                known++;
                assert_int_equal(found.minor, i);
                assert_string_equal(found.client, i % 2 ? "odd" : "even");
        }
        assert_in_range(known, CROWD / 10, CROWD);
        free(ids);
        feed_known_free(k);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(chains_are_told_apart),
                cmocka_unit_test(the_last_price_counts),
                cmocka_unit_test(events_say_what_must_be_known),
                cmocka_unit_test(what_is_written_otherwise_is_not_taken),
                cmocka_unit_test(a_crowd),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
