/* The source against a real nats-server, which is killed, wiped, stopped and vandalised. Every test has a server of its own.
 *
 * Where something must NOT happen (a redelivery), a test turns for the time in which it would have. */
#include "base/util.h"
#include "bus/bus.h"
#include "bus/bus_private.h"
#include "tests/support/bus_party.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Rings until the bell is heard, as a ringer does, and returns how long that took: what a healed source is measured by. */
static int64_t ring_until_heard(struct party *p, const char *text)
{
        int64_t start = now_mono_ms(), rung = 0;
        bool heard = false;

        while (!heard) {
                struct bus_message *m;

                if (now_mono_ms() - rung > 100) {
                        bus_publish(p->bus, "hop.test.high", NULL, NULL, 0, text, strlen(text));
                        bus_flush(p->bus);
                        rung = now_mono_ms();
                }
                party_turn(p, 10);
                while ((m = bus_next(p->bus))) {
                        heard |= strcmp(m->data, text) == 0;
                        bus_ack(p->bus, m);
                }
                if (now_mono_ms() - start > PATIENCE_MS)
                        fail_msg("%s was never heard", text);
        }
        return now_mono_ms() - start;
}

static void test_acked_is_gone(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_source(nats, &party_hop);
        struct bus_backlog backlog;
        struct bus_message *m;

        (void)state;
        assert_true(bus_connected(p.bus));
        party_say(&p, "hop.test.normal", "one");
        m = party_next(&p);
        assert_string_equal(m->subject, "hop.test.normal");
        assert_string_equal(m->data, "one");
        assert_int_equal(m->len, 3);
        assert_int_equal(m->delivered, 1);
        assert_int_equal(m->lane, 1);
        assert_int_equal(bus_backlog(p.bus, "HOP_TEST", "normal", 2000, &backlog), 0);
        assert_int_equal(backlog.ack_pending, 1);
        assert_int_equal(backlog.acked, 0);
        bus_ack(p.bus, m);
        party_expect_silence(&p, 2 * ACK_WAIT_MS);
        assert_int_equal(bus_backlog(p.bus, "HOP_TEST", "normal", 2000, &backlog), 0);
        assert_int_equal(backlog.pending, 0);
        assert_int_equal(backlog.ack_pending, 0);
        assert_int_equal(backlog.acked, 1);
        assert_int_equal(bus_backlog(p.bus, "HOP_TEST", "nobody", 2000, &backlog), -ENOENT);
        assert_int_equal(bus_backlog(p.bus, "NOWHERE", "nobody", 2000, &backlog), -ENOENT);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_dropped_comes_again(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_source(nats, &party_hop);

        (void)state;
        party_say(&p, "hop.test.high", "again");
        bus_drop(p.bus, party_next(&p));
        party_expect_message(&p, "again", 2);
        party_expect_silence(&p, 2 * ACK_WAIT_MS);

        party_say(&p, "hop.test.high", "nak");
        bus_nak(p.bus, party_next(&p), 0);
        bus_nak(p.bus, party_next(&p), 200);
        party_expect_silence(&p, 100);
        party_expect_message(&p, "nak", 3);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_server_killed(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_source(nats, &party_hop);
        struct bus_message *kept;

        (void)state;
        party_say(&p, "hop.test.high", "before");
        kept = party_next(&p);
        nats_fixture_kill(nats);
        TURN_UNTIL(&p, !bus_connected(p.bus));
        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, NULL, 0, "x", 1), -ENOTCONN);
        assert_int_equal(bus_flush(p.bus), -ENOTCONN);
        assert_false(bus_source_ready(p.bus));
        bus_ack(p.bus, kept); /* lost: it comes again */
        nats_fixture_restart(nats);
        TURN_UNTIL(&p, bus_source_ready(p.bus));
        kept = party_next(&p); /* whether it was delivered before, a server that was killed may have forgotten */
        assert_string_equal(kept->data, "before");
        bus_ack(p.bus, kept);
        party_say(&p, "hop.test.high", "after");
        party_expect_message(&p, "after", 1);

        nats_fixture_stop(nats); /* the polite end must not close the connection for good */
        TURN_UNTIL(&p, !bus_connected(p.bus));
        nats_fixture_restart(nats);
        assert_true(ring_until_heard(&p, "stopped") < 5000);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_storage_wiped(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_source(nats, &party_hop);
        struct bus_message *old, *fresh;
        int64_t took;

        (void)state;
        party_say(&p, "hop.test.high", "old");
        old = party_next(&p);
        nats_fixture_wipe(nats);
        nats_fixture_kill(nats);
        nats_fixture_wipe(nats);
        TURN_UNTIL(&p, !bus_connected(p.bus));
        nats_fixture_restart(nats);
        TURN_UNTIL(&p, bus_source_ready(p.bus));
        party_say(&p, "hop.test.high", "fresh");
        fresh = party_next(&p);
        assert_string_equal(fresh->data, "fresh");
        /* Both have stream sequence 1; the ack of the old one must not acknowledge the new one. */
        bus_ack(p.bus, old);
        bus_drop(p.bus, fresh);
        party_expect_message(&p, "fresh", 2);
        took = ring_until_heard(&p, "works");
        print_message("rung again after %lld ms\n", (long long)took);
        assert_true(took < 5000);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_memory_stream_restarted(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_source(nats, &party_hop_memory);

        (void)state;
        party_say(&p, "hop.test.high", "gone");
        party_expect_message(&p, "gone", 1);
        nats_fixture_kill(nats);
        TURN_UNTIL(&p, !bus_connected(p.bus));
        nats_fixture_restart(nats);
        assert_true(ring_until_heard(&p, "new") < 5000);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_server_away_at_start(void **state)
{
        struct nats_fixture *nats = nats_fixture_new(NULL);
        struct party p = party_open(nats, (struct bus_config){0});
        struct bus_message *m;

        (void)state;
        assert_false(bus_connected(p.bus));
        assert_int_equal(bus_source(p.bus, &party_hop, party_lanes), 0);
        assert_int_equal(bus_source(p.bus, &party_hop, party_lanes), -EBUSY);
        assert_int_equal(bus_subscribe(p.bus, "plain.>", NULL), 0);
        for (int i = 0; i < 30; i++)
                party_turn(&p, 10);
        assert_int_equal(bus_publish(p.bus, "plain.x", NULL, NULL, 0, "x", 1), -ENOTCONN);
        nats_fixture_restart(nats);
        TURN_UNTIL(&p, bus_source_ready(p.bus));
        party_say(&p, "hop.test.low", "hello");
        party_expect_message(&p, "hello", 1);
        party_say(&p, "plain.x", "hello");
        m = party_next_plain(&p);
        assert_string_equal(m->data, "hello");
        assert_int_equal(m->lane, -1);
        bus_drop(p.bus, m);
        party_close(&p);

        /* and one that never sees it */
        nats_fixture_kill(nats);
        p = party_open(nats, (struct bus_config){0});
        party_turn(&p, 10);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_deleted_behind_our_back(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_source(nats, &party_hop);

        (void)state;
        party_api(&p, "$JS.API.CONSUMER.DELETE.HOP_TEST.high", "");
        assert_true(ring_until_heard(&p, "consumer deleted") < 5000);
        party_api(&p, "$JS.API.STREAM.DELETE.HOP_TEST", "");
        assert_true(ring_until_heard(&p, "stream deleted") < 5000);
        party_api(&p, "$JS.API.STREAM.DELETE.HOP_TEST", "");
        party_api(&p, "$JS.API.STREAM.CREATE.HOP_TEST", "{\"name\":\"HOP_TEST\",\"subjects\":[\"hop.test.*\",\"hop.other\"],\"storage\":\"memory\"}");
        assert_true(ring_until_heard(&p, "another stream in its place") < 5000);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_declared_differently(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        static const struct bus_stream other = {
                .name = "HOP_TEST", .subjects = {"hop.test.*", "hop.more"}, .max_bytes = 1 << 20, .max_age_ms = 60000};
        struct party p = party_source(nats, &party_hop);
        struct bus_message *reply;

        (void)state;
        party_close(&p);
        p = party_source(nats, &other);
        assert_int_equal(bus_request(p.bus, "$JS.API.STREAM.INFO.HOP_TEST", "", 0, 2000, &reply), 0);
        assert_non_null(strstr(reply->data, "hop.more"));
        assert_non_null(strstr(reply->data, "\"max_bytes\":1048576"));
        bus_drop(p.bus, reply);
        assert_int_equal(bus_request(p.bus, "$JS.API.CONSUMER.INFO.HOP_TEST.low", "", 0, 2000, &reply), 0);
        assert_non_null(strstr(reply->data, "\"ack_wait\":30000000000"));
        assert_non_null(strstr(reply->data, "\"max_ack_pending\":1000"));
        assert_non_null(strstr(reply->data, "\"filter_subject\":\"hop.test.low\""));
        bus_drop(p.bus, reply);
        party_close(&p);

        /* another storage type cannot be changed to; it works as it is */
        p = party_source(nats, &party_hop_memory);
        party_say(&p, "hop.test.high", "works");
        party_expect_message(&p, "works", 1);
        party_close(&p);
        nats_fixture_free(nats);
}

/* A change that cannot be made now is made when it can. */
static void test_a_refused_change_is_asked_for_again(void **state)
{
        static const struct bus_stream more = {.name = "HOP_TEST", .subjects = {"hop.test.*", "hop.more"}, .max_bytes = 1 << 20};
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_source(nats, &party_hop);
        bool changed = false;

        (void)state;
        party_api(&p, "$JS.API.STREAM.CREATE.OTHER", "{\"name\":\"OTHER\",\"subjects\":[\"hop.more\"],\"storage\":\"memory\"}");
        party_close(&p);
        p = party_source(nats, &more);
        party_say(&p, "hop.test.high", "meanwhile");
        party_expect_message(&p, "meanwhile", 1);
        party_api(&p, "$JS.API.STREAM.DELETE.OTHER", "");
        for (int64_t until = now_mono_ms() + PATIENCE_MS; !changed && now_mono_ms() < until;) {
                struct bus_message *reply;

                party_turn(&p, 50);
                assert_int_equal(bus_request(p.bus, "$JS.API.STREAM.INFO.HOP_TEST", "", 0, 2000, &reply), 0);
                changed = strstr(reply->data, "hop.more") != NULL;
                bus_drop(p.bus, reply);
        }
        assert_true(changed);
        party_say(&p, "hop.test.high", "afterwards");
        party_expect_message(&p, "afterwards", 1);
        party_close(&p);
        nats_fixture_free(nats);
}

/* A broker file was damaged: the messages are gone, the consumer remembers them and would wait for their successors for ever. */
static void test_consumer_ahead_of_its_stream(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_source(nats, &party_hop);

        (void)state;
        party_fill(&p, "hop.test.high", 50);
        for (int i = 0; i < 50; i++)
                bus_ack(p.bus, party_next(&p));
        nats_fixture_stop(nats);
        nats_fixture_remove(nats, "storage/jetstream/$G/streams/HOP_TEST/msgs");
        nats_fixture_restart(nats);
        assert_true(ring_until_heard(&p, "successor") < 5000);
        party_close(&p);
        nats_fixture_free(nats);
}

/* A server that takes nothing: what waits for it is bounded, however often it is flushed, and so is the time that a publish takes. */
static void say_until_refused(struct party *p, size_t size)
{
        _cleanup_(freep) char *text = xcalloc(1, size);
        int64_t longest = 0;
        int r = 0;

        for (size_t said = 0; said < ((size_t)64 << 20) && r == 0; said += size) {
                int64_t start = now_mono_ms(), took;

                r = bus_publish(p->bus, "nobody.hears", NULL, NULL, 0, text, size);
                (void)bus_flush(p->bus);
                took = now_mono_ms() - start;
                longest = took > longest ? took : longest;
        }
        assert_int_equal(r, -ENOTCONN);
        assert_true(longest < 3000);
}

/* A paused server is connected but silent. Publishing into it must end, and all must go on when it comes back. */
static void test_server_stalls(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_source(nats, &party_hop);
        static const size_t sizes[] = {1 << 20, 32 << 10};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                nats_fixture_pause(nats);
                say_until_refused(&p, sizes[i]);
                TURN_UNTIL(&p, !bus_connected(p.bus));
                nats_fixture_resume(nats);
                assert_true(ring_until_heard(&p, "resumed") < 8000);
        }

        /* for a while only: the heartbeats are missed, the connection stays */
        nats_fixture_pause(nats);
        for (int64_t until = now_mono_ms() + 3200; now_mono_ms() < until;)
                party_turn(&p, 100);
        assert_true(bus_connected(p.bus));
        assert_false(bus_source_ready(p.bus));
        nats_fixture_resume(nats);
        assert_true(ring_until_heard(&p, "short pause") < 5000);

        /* without traffic the pings notice */
        nats_fixture_pause(nats);
        TURN_UNTIL(&p, !bus_connected(p.bus));
        nats_fixture_resume(nats);
        assert_true(ring_until_heard(&p, "resumed again") < 8000);
        party_close(&p);
        nats_fixture_free(nats);
}

static void expect_ack(const char *reply, const char *stream, const char *durable, unsigned delivered)
{
        struct slice s, d;
        unsigned n;

        assert_int_equal(api_parse_ack(reply, &s, &d, &n), 0);
        assert_true(slice_equal(s, stream));
        assert_true(slice_equal(d, durable));
        assert_int_equal(n, delivered);
}

static void test_ack_subjects(void **state)
{
        static const char *const wrong[] = {
                "",
                "$JS.ACK.",
                "$JS.ACK.S.C.1.2.3.4",
                "$JS.ACK.S.C.0.2.3.4.5",
                "$JS.ACK.S.C.x.2.3.4.5",
                "$JS.ACK.S.C.-1.2.3.4.5",
                "$JS.ACK.S.C.1.2.3.4.5.6",
                "_INBOX.x.l.0.1",
                "$JS.ACK.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17",
        };
        struct slice s, d;
        unsigned n;

        (void)state;
        expect_ack("$JS.ACK.HOP.high.3.17.5.1700000000000000000.12", "HOP", "high", 3);
        expect_ack("$JS.ACK._.ACCT.HOP.high.1.17.5.1700000000000000000.12", "HOP", "high", 1);
        expect_ack("$JS.ACK.dom.ACCT.HOP.high.4294967299.17.5.1700000000000000000.12.rnd", "HOP", "high", UINT32_MAX);
        assert_int_equal(api_parse_ack(NULL, &s, &d, &n), -EINVAL);
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
                if (api_parse_ack(wrong[i], &s, &d, &n) != -EINVAL)
                        fail_msg("taken: %s", wrong[i]);
}

int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ack_subjects),
                cmocka_unit_test(test_acked_is_gone),
                cmocka_unit_test(test_dropped_comes_again),
                cmocka_unit_test(test_server_killed),
                cmocka_unit_test(test_storage_wiped),
                cmocka_unit_test(test_memory_stream_restarted),
                cmocka_unit_test(test_server_away_at_start),
                cmocka_unit_test(test_deleted_behind_our_back),
                cmocka_unit_test(test_declared_differently),
                cmocka_unit_test(test_a_refused_change_is_asked_for_again),
                cmocka_unit_test(test_consumer_ahead_of_its_stream),
                cmocka_unit_test(test_server_stalls),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
