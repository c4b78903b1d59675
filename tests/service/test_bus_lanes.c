/* How a source hands out what comes: by weight, no more at once than its window, to one of several instances, and not while it is paused. Against a
 * real nats-server, every test a server of its own. */
#include "base/util.h"
#include "bus/bus.h"
#include "bus/bus_source.h"
#include "tests/support/bus_party.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_two_instances_share(void **state)
{
        enum { MESSAGES = 400 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party a = party_open(nats, (struct bus_config){0});
        struct party b = party_open(nats, (struct bus_config){0});
        int seen[MESSAGES] = {0}, from_a = 0, from_b = 0;
        int64_t until = now_mono_ms() + PATIENCE_MS;
        struct bus_message *m;
        char text[16];

        (void)state;
        /* both declare at once */
        assert_int_equal(bus_source(a.bus, &party_hop, party_lanes), 0);
        assert_int_equal(bus_source(b.bus, &party_hop, party_lanes), 0);
        while (!bus_source_ready(a.bus) || !bus_source_ready(b.bus)) {
                party_turn(&a, 5);
                party_turn(&b, 5);
                assert_true(now_mono_ms() < until);
        }
        for (int i = 0; i < MESSAGES; i++) {
                snprintf(text, sizeof(text), "%d", i);
                party_say(&a, "hop.test.high", text);
        }
        while (from_a + from_b < MESSAGES && now_mono_ms() < until) {
                party_turn(&a, 1);
                if ((m = bus_next(a.bus))) {
                        seen[atoi(m->data)]++;
                        from_a++;
                        bus_ack(a.bus, m);
                }
                party_turn(&b, 1);
                if ((m = bus_next(b.bus))) {
                        seen[atoi(m->data)]++;
                        from_b++;
                        bus_ack(b.bus, m);
                }
        }
        print_message("shared %d to %d\n", from_a, from_b);
        for (int i = 0; i < MESSAGES; i++)
                assert_int_equal(seen[i], 1);
        assert_true(from_a > MESSAGES / 4 && from_b > MESSAGES / 4);
        party_close(&a);
        party_close(&b);
        nats_fixture_free(nats);
}

/* What a leaving instance has queued but not handed out goes to another one soon, not after the ack wait of 30 s. */
static void test_leaver_gives_back(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party a = party_source(nats, &party_hop_memory);
        struct party b;

        (void)state;
        party_say(&a, "hop.test.high", "one");
        party_say(&a, "hop.test.high", "two");
        TURN_UNTIL(&a, bus_queued(a.bus) == 2);
        party_close(&a);
        b = party_source(nats, &party_hop_memory);
        for (int i = 0; i < 2; i++) {
                struct bus_message *m = party_next_within(&b, 5000);

                assert_non_null(m);

                assert_int_equal(m->delivered, 2);
                assert_true(m->data[0] == 'o' || m->data[0] == 't');
                bus_ack(b.bus, m);
        }
        party_close(&b);
        nats_fixture_free(nats);
}

/* Each lane holds what two of its turns take. */
static bool all_lanes_have_work(const struct bus *b)
{
        for (size_t i = 0; i < b->source->n_lanes; i++)
                if (b->source->lanes[i].queue.n < 2 * (size_t)b->source->lanes[i].def->weight)
                        return false;
        return true;
}

static void test_weights(void **state)
{
        enum { EACH = 1000, TAKEN = 1200 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party w = party_open(nats, (struct bus_config){0});
        struct party p = party_source(nats, &party_hop_memory);
        int taken[3] = {0};

        (void)state;
        bus_source_pause(p.bus); /* the standing pulls may bring a first window; all lanes have their share of it */
        party_fill(&w, "hop.test.low", EACH);
        party_fill(&w, "hop.test.normal", EACH);
        party_fill(&w, "hop.test.high", EACH);
        bus_source_resume(p.bus);
        for (int i = 0; i < TAKEN; i++) {
                struct bus_message *m;

                /* Weights are for lanes that have work: between batches the pulls get the time they have while a service commits. */
                if (i % 24 == 0)
                        TURN_UNTIL(&p, all_lanes_have_work(p.bus));
                m = party_next(&p);
                taken[m->lane]++;
                bus_ack(p.bus, m);
        }
        print_message("taken %d : %d : %d\n", taken[0], taken[1], taken[2]);
        assert_int_equal(taken[0], 800);
        assert_int_equal(taken[1], 300);
        assert_int_equal(taken[2], 100);
        party_close(&p);
        party_close(&w);
        nats_fixture_free(nats);
}

static void test_one_busy_lane_runs_at_full_speed(void **state)
{
        enum { EACH = 20000 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party w = party_open(nats, (struct bus_config){0});
        struct party p = party_source(nats, &party_hop_memory);
        int64_t took[2];

        (void)state;
        for (int lane = 0; lane < 2; lane++) {
                int64_t start;

                bus_source_pause(p.bus);
                party_fill(&w, lane ? "hop.test.low" : "hop.test.high", EACH);
                start = now_mono_ms();
                bus_source_resume(p.bus);
                for (int i = 0; i < EACH; i++)
                        bus_ack(p.bus, party_next(&p));
                took[lane] = now_mono_ms() - start;
        }
        print_message("%d messages: high %lld ms, low %lld ms\n", EACH, (long long)took[0], (long long)took[1]);
        /* The low lane alone is not held to a twelfth. Its smaller window costs some round trips. */
        assert_true(took[1] < 10 * (took[0] + 100));
        party_close(&p);
        party_close(&w);
        nats_fixture_free(nats);
}

static void test_window(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        static const struct bus_stream narrow = {.name = "HOP_TEST", .subjects = {"hop.test.*"}, .memory = true, .max_bytes = 1 << 20, .window = 2};
        struct party p = party_source(nats, &narrow);
        struct bus_message *held[16];
        int n = 0;

        (void)state;
        party_fill(&p, "hop.test.high", 100);
        while (n < 16)
                held[n++] = party_next(&p);
        party_expect_silence(&p, 300);
        for (int i = 0; i < 7; i++)
                bus_ack(p.bus, held[--n]);
        party_expect_silence(&p, 100); /* half of the window must be free */
        bus_ack(p.bus, held[--n]);
        for (int i = 0; i < 8; i++)
                bus_ack(p.bus, party_next(&p));
        while (n > 0)
                bus_drop(p.bus, held[--n]);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_pause(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        static const struct bus_stream narrow = {.name = "HOP_TEST", .subjects = {"hop.test.*"}, .memory = true, .max_bytes = 1 << 20, .window = 1};
        struct party p = party_source(nats, &narrow);

        (void)state;
        bus_source_pause(p.bus);
        party_fill(&p, "hop.test.low", 3);
        bus_ack(p.bus, party_next(&p)); /* the pull that was standing */
        party_expect_silence(&p, 300);
        bus_source_resume(p.bus);
        bus_ack(p.bus, party_next(&p));
        bus_ack(p.bus, party_next(&p));
        party_close(&p);
        nats_fixture_free(nats);
}

int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_two_instances_share),
                cmocka_unit_test(test_leaver_gives_back),
                cmocka_unit_test(test_weights),
                cmocka_unit_test(test_one_busy_lane_runs_at_full_speed),
                cmocka_unit_test(test_window),
                cmocka_unit_test(test_pause),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
