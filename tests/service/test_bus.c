/* The bus against a real nats-server, which is killed, wiped, stopped and vandalised. Every test has a server of its own.
 *
 * A test turns its buses itself, as a service's loop does, until what it waits for has happened or PATIENCE_MS is over; nothing sleeps for luck.
 * Where something must NOT happen (a redelivery), it turns for the time in which it would have. */
#include "base/strbuf.h"
#include "base/util.h"
#include "bus/bus.h"
#include "bus/bus_private.h"
#include "tests/support/nats_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 15000
#define ACK_WAIT_MS 600

static const struct bus_stream hop = {
        .name = "HOP_TEST", .subjects = {"hop.test.*"}, .max_bytes = 64 << 20, .max_age_ms = 3600000, .ack_wait_ms = ACK_WAIT_MS};
static const struct bus_stream hop_memory = {
        .name = "HOP_TEST", .subjects = {"hop.test.*"}, .memory = true, .max_bytes = 64 << 20, .max_age_ms = 3600000, .ack_wait_ms = 30000};
static const struct bus_lane lanes[] = {
        {.durable = "high", .filter = "hop.test.high", .weight = 8},
        {.durable = "normal", .filter = "hop.test.normal", .weight = 3},
        {.durable = "low", .filter = "hop.test.low", .weight = 1},
        {0},
};

/* One bus with the eventfd of its loop. */
struct party {
        struct bus *bus;
        int fd;
};

static struct party party_open(const struct nats_fixture *nats, struct bus_config config)
{
        struct party p = {.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};

        config.url = nats_fixture_url(nats);
        config.wake_fd = p.fd;
        if (!config.inbox_prefix)
                config.inbox_prefix = "_INBOX_test";
        if (!config.name)
                config.name = "aethelos-test/1";
        assert_int_equal(bus_open(&config, &p.bus), 0);
        return p;
}

static void party_close(struct party *p)
{
        p->bus = bus_free(p->bus);
        close(p->fd);
}

/* One round of the loop: looks after the bus and sleeps until it wakes, at most max_ms. */
static void turn(struct party *p, int64_t max_ms)
{
        int64_t ms = bus_maintain(p->bus);
        struct pollfd f = {.fd = p->fd, .events = POLLIN};
        uint64_t n;

        assert_true(ms >= 0 && ms <= 5000);
        if (bus_queued(p->bus) == 0)
                poll(&f, 1, (int)(ms < max_ms ? ms : max_ms));
        if (read(p->fd, &n, sizeof(n)) < 0)
                assert_int_equal(errno, EAGAIN);
}

#define TURN_UNTIL(p, condition)                                                                                                                     \
        do {                                                                                                                                         \
                int64_t until_ = now_mono_ms() + PATIENCE_MS;                                                                                        \
                while (!(condition)) {                                                                                                               \
                        if (now_mono_ms() > until_)                                                                                                  \
                                fail_msg("waited %d ms for: %s", PATIENCE_MS, #condition);                                                           \
                        turn((p), 10);                                                                                                               \
                }                                                                                                                                    \
        } while (0)

static struct party source_open(const struct nats_fixture *nats, const struct bus_stream *stream, bool asap)
{
        struct party p = party_open(nats, (struct bus_config){.send_asap = asap});

        assert_int_equal(bus_source(p.bus, stream, lanes), 0);
        TURN_UNTIL(&p, bus_source_ready(p.bus));
        return p;
}

static struct bus_message *next_within(struct party *p, int64_t ms)
{
        struct bus_message *m;
        int64_t until = now_mono_ms() + ms;

        while (!(m = bus_next(p->bus)) && now_mono_ms() < until)
                turn(p, 10);
        return m;
}

static struct bus_message *next(struct party *p)
{
        struct bus_message *m = next_within(p, PATIENCE_MS);

        assert_non_null(m);
        return m;
}

static struct bus_message *next_plain(struct party *p)
{
        struct bus_message *m;

        TURN_UNTIL(p, (m = bus_next_plain(p->bus)));
        return m;
}

static void expect_silence(struct party *p, int64_t ms)
{
        struct bus_message *m = next_within(p, ms);

        if (m)
                fail_msg("unexpected message on %s: %s, delivered %u", m->subject, m->data, m->delivered);
}

static void say(struct party *p, const char *subject, const char *text)
{
        assert_int_equal(bus_publish(p->bus, subject, NULL, NULL, 0, text, strlen(text)), 0);
        bus_flush(p->bus);
}

static void fill(struct party *p, const char *subject, int n)
{
        for (int i = 0; i < n; i++)
                assert_int_equal(bus_publish(p->bus, subject, NULL, NULL, 0, "x", 1), 0);
        bus_flush(p->bus);
}

static void expect_message(struct party *p, const char *text, unsigned delivered)
{
        struct bus_message *m = next(p);

        assert_string_equal(m->data, text);
        assert_int_equal(m->delivered, delivered);
        bus_ack(p->bus, m);
}

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
                turn(p, 10);
                while ((m = bus_next(p->bus))) {
                        heard |= strcmp(m->data, text) == 0;
                        bus_ack(p->bus, m);
                }
                if (now_mono_ms() - start > PATIENCE_MS)
                        fail_msg("%s was never heard", text);
        }
        return now_mono_ms() - start;
}

static void api(struct party *p, const char *subject, const char *body)
{
        struct bus_message *reply;

        assert_int_equal(bus_request(p->bus, subject, body, strlen(body), 2000, &reply), 0);
        assert_null(strstr(reply->data, "\"error\""));
        bus_drop(p->bus, reply);
}

/* --- */

static void test_acked_is_gone(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = source_open(nats, &hop, true);
        struct bus_backlog backlog;
        struct bus_message *m;

        (void)state;
        assert_true(bus_connected(p.bus));
        say(&p, "hop.test.normal", "one");
        m = next(&p);
        assert_string_equal(m->subject, "hop.test.normal");
        assert_string_equal(m->data, "one");
        assert_int_equal(m->len, 3);
        assert_int_equal(m->delivered, 1);
        assert_int_equal(m->lane, 1);
        assert_int_equal(bus_backlog(p.bus, "HOP_TEST", "normal", 2000, &backlog), 0);
        assert_int_equal(backlog.ack_pending, 1);
        assert_int_equal(backlog.acked, 0);
        bus_ack(p.bus, m);
        expect_silence(&p, 2 * ACK_WAIT_MS);
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
        struct party p = source_open(nats, &hop, true);

        (void)state;
        say(&p, "hop.test.high", "again");
        bus_drop(p.bus, next(&p));
        expect_message(&p, "again", 2);
        expect_silence(&p, 2 * ACK_WAIT_MS);

        say(&p, "hop.test.high", "nak");
        bus_nak(p.bus, next(&p), 0);
        bus_nak(p.bus, next(&p), 200);
        expect_silence(&p, 100);
        expect_message(&p, "nak", 3);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_buffered_connection(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = source_open(nats, &hop_memory, false);
        char text[16];

        (void)state;
        for (int i = 0; i < 1000; i++) {
                snprintf(text, sizeof(text), "%d", i);
                assert_int_equal(bus_publish(p.bus, "hop.test.low", NULL, NULL, 0, text, strlen(text)), 0);
        }
        assert_int_equal(bus_flush(p.bus), 0);
        for (int i = 0; i < 1000; i++) {
                snprintf(text, sizeof(text), "%d", i);
                expect_message(&p, text, 1);
        }
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_server_killed(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = source_open(nats, &hop, true);
        struct bus_message *kept;

        (void)state;
        say(&p, "hop.test.high", "before");
        kept = next(&p);
        nats_fixture_kill(nats);
        TURN_UNTIL(&p, !bus_connected(p.bus));
        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, NULL, 0, "x", 1), -ENOTCONN);
        assert_int_equal(bus_flush(p.bus), -ENOTCONN);
        assert_false(bus_source_ready(p.bus));
        bus_ack(p.bus, kept); /* lost: it comes again */
        nats_fixture_restart(nats);
        TURN_UNTIL(&p, bus_source_ready(p.bus));
        kept = next(&p); /* whether it was delivered before, a server that was killed may have forgotten */
        assert_string_equal(kept->data, "before");
        bus_ack(p.bus, kept);
        say(&p, "hop.test.high", "after");
        expect_message(&p, "after", 1);

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
        struct party p = source_open(nats, &hop, true);
        struct bus_message *old, *fresh;
        int64_t took;

        (void)state;
        say(&p, "hop.test.high", "old");
        old = next(&p);
        nats_fixture_wipe(nats);
        nats_fixture_kill(nats);
        nats_fixture_wipe(nats);
        TURN_UNTIL(&p, !bus_connected(p.bus));
        nats_fixture_restart(nats);
        TURN_UNTIL(&p, bus_source_ready(p.bus));
        say(&p, "hop.test.high", "fresh");
        fresh = next(&p);
        assert_string_equal(fresh->data, "fresh");
        /* Both have stream sequence 1; the ack of the old one must not acknowledge the new one. */
        bus_ack(p.bus, old);
        bus_drop(p.bus, fresh);
        expect_message(&p, "fresh", 2);
        took = ring_until_heard(&p, "works");
        print_message("rung again after %lld ms\n", (long long)took);
        assert_true(took < 5000);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_memory_stream_restarted(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = source_open(nats, &hop_memory, true);

        (void)state;
        say(&p, "hop.test.high", "gone");
        expect_message(&p, "gone", 1);
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
        struct party p = party_open(nats, (struct bus_config){.send_asap = true});
        struct bus_message *m;

        (void)state;
        assert_false(bus_connected(p.bus));
        assert_int_equal(bus_source(p.bus, &hop, lanes), 0);
        assert_int_equal(bus_source(p.bus, &hop, lanes), -EBUSY);
        assert_int_equal(bus_subscribe(p.bus, "plain.>", NULL), 0);
        for (int i = 0; i < 30; i++)
                turn(&p, 10);
        assert_int_equal(bus_publish(p.bus, "plain.x", NULL, NULL, 0, "x", 1), -ENOTCONN);
        nats_fixture_restart(nats);
        TURN_UNTIL(&p, bus_source_ready(p.bus));
        say(&p, "hop.test.low", "hello");
        expect_message(&p, "hello", 1);
        say(&p, "plain.x", "hello");
        m = next_plain(&p);
        assert_string_equal(m->data, "hello");
        assert_int_equal(m->lane, -1);
        bus_drop(p.bus, m);
        party_close(&p);

        /* and one that never sees it */
        nats_fixture_kill(nats);
        p = party_open(nats, (struct bus_config){0});
        turn(&p, 10);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_deleted_behind_our_back(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = source_open(nats, &hop, true);

        (void)state;
        api(&p, "$JS.API.CONSUMER.DELETE.HOP_TEST.high", "");
        assert_true(ring_until_heard(&p, "consumer deleted") < 5000);
        api(&p, "$JS.API.STREAM.DELETE.HOP_TEST", "");
        assert_true(ring_until_heard(&p, "stream deleted") < 5000);
        api(&p, "$JS.API.STREAM.DELETE.HOP_TEST", "");
        api(&p, "$JS.API.STREAM.CREATE.HOP_TEST", "{\"name\":\"HOP_TEST\",\"subjects\":[\"hop.test.*\",\"hop.other\"],\"storage\":\"memory\"}");
        assert_true(ring_until_heard(&p, "another stream in its place") < 5000);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_declared_differently(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        static const struct bus_stream other = {
                .name = "HOP_TEST", .subjects = {"hop.test.*", "hop.more"}, .max_bytes = 1 << 20, .max_age_ms = 60000};
        struct party p = source_open(nats, &hop, true);
        struct bus_message *reply;

        (void)state;
        party_close(&p);
        p = source_open(nats, &other, true);
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
        p = source_open(nats, &hop_memory, true);
        say(&p, "hop.test.high", "works");
        expect_message(&p, "works", 1);
        party_close(&p);
        nats_fixture_free(nats);
}

/* A broker file was damaged: the messages are gone, the consumer remembers them and would wait for their successors for ever. */
static void test_consumer_ahead_of_its_stream(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = source_open(nats, &hop, true);

        (void)state;
        fill(&p, "hop.test.high", 50);
        for (int i = 0; i < 50; i++)
                bus_ack(p.bus, next(&p));
        nats_fixture_stop(nats);
        nats_fixture_remove(nats, "storage/jetstream/$G/streams/HOP_TEST/msgs");
        nats_fixture_restart(nats);
        assert_true(ring_until_heard(&p, "successor") < 5000);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_two_instances_share(void **state)
{
        enum { MESSAGES = 400 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party a = party_open(nats, (struct bus_config){.send_asap = true});
        struct party b = party_open(nats, (struct bus_config){.send_asap = true});
        int seen[MESSAGES] = {0}, from_a = 0, from_b = 0;
        int64_t until = now_mono_ms() + PATIENCE_MS;
        struct bus_message *m;
        char text[16];

        (void)state;
        /* both declare at once */
        assert_int_equal(bus_source(a.bus, &hop, lanes), 0);
        assert_int_equal(bus_source(b.bus, &hop, lanes), 0);
        while (!bus_source_ready(a.bus) || !bus_source_ready(b.bus)) {
                turn(&a, 5);
                turn(&b, 5);
                assert_true(now_mono_ms() < until);
        }
        for (int i = 0; i < MESSAGES; i++) {
                snprintf(text, sizeof(text), "%d", i);
                say(&a, "hop.test.high", text);
        }
        while (from_a + from_b < MESSAGES && now_mono_ms() < until) {
                turn(&a, 1);
                if ((m = bus_next(a.bus))) {
                        seen[atoi(m->data)]++;
                        from_a++;
                        bus_ack(a.bus, m);
                }
                turn(&b, 1);
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
        struct party a = source_open(nats, &hop_memory, true);
        struct party b;

        (void)state;
        say(&a, "hop.test.high", "one");
        say(&a, "hop.test.high", "two");
        TURN_UNTIL(&a, bus_queued(a.bus) == 2);
        party_close(&a);
        b = source_open(nats, &hop_memory, true);
        for (int i = 0; i < 2; i++) {
                struct bus_message *m = next_within(&b, 5000);

                assert_non_null(m);

                assert_int_equal(m->delivered, 2);
                assert_true(m->data[0] == 'o' || m->data[0] == 't');
                bus_ack(b.bus, m);
        }
        party_close(&b);
        nats_fixture_free(nats);
}

static void test_weights(void **state)
{
        enum { EACH = 1000, TAKEN = 1200 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party w = party_open(nats, (struct bus_config){0});
        struct party p = source_open(nats, &hop_memory, true);
        int taken[3] = {0};

        (void)state;
        bus_source_pause(p.bus); /* the standing pulls may bring a first window; all lanes have their share of it */
        fill(&w, "hop.test.low", EACH);
        fill(&w, "hop.test.normal", EACH);
        fill(&w, "hop.test.high", EACH);
        bus_source_resume(p.bus);
        for (int i = 0; i < TAKEN; i++) {
                struct bus_message *m;

                /* Weights are for lanes that have work: between batches the pulls get the time they have while a service commits. */
                if (i % 24 == 0)
                        TURN_UNTIL(&p, bus_queued(p.bus) >= 90);
                m = next(&p);
                taken[m->lane]++;
                bus_ack(p.bus, m);
        }
        print_message("taken %d : %d : %d\n", taken[0], taken[1], taken[2]);
        assert_in_range(taken[0], 780, 820);
        assert_in_range(taken[1], 285, 315);
        assert_in_range(taken[2], 90, 110);
        party_close(&p);
        party_close(&w);
        nats_fixture_free(nats);
}

static void test_one_busy_lane_runs_at_full_speed(void **state)
{
        enum { EACH = 20000 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party w = party_open(nats, (struct bus_config){0});
        struct party p = source_open(nats, &hop_memory, false);
        int64_t took[2];

        (void)state;
        for (int lane = 0; lane < 2; lane++) {
                int64_t start;

                bus_source_pause(p.bus);
                fill(&w, lane ? "hop.test.low" : "hop.test.high", EACH);
                start = now_mono_ms();
                bus_source_resume(p.bus);
                for (int i = 0; i < EACH; i++)
                        bus_ack(p.bus, next(&p));
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
        struct party p = source_open(nats, &narrow, true);
        struct bus_message *held[16];
        int n = 0;

        (void)state;
        fill(&p, "hop.test.high", 100);
        while (n < 16)
                held[n++] = next(&p);
        expect_silence(&p, 300);
        for (int i = 0; i < 7; i++)
                bus_ack(p.bus, held[--n]);
        expect_silence(&p, 100); /* half of the window must be free */
        bus_ack(p.bus, held[--n]);
        for (int i = 0; i < 8; i++)
                bus_ack(p.bus, next(&p));
        while (n > 0)
                bus_drop(p.bus, held[--n]);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_pause(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        static const struct bus_stream narrow = {.name = "HOP_TEST", .subjects = {"hop.test.*"}, .memory = true, .max_bytes = 1 << 20, .window = 1};
        struct party p = source_open(nats, &narrow, true);

        (void)state;
        bus_source_pause(p.bus);
        fill(&p, "hop.test.low", 3);
        bus_ack(p.bus, next(&p)); /* the pull that was standing */
        expect_silence(&p, 300);
        bus_source_resume(p.bus);
        bus_ack(p.bus, next(&p));
        bus_ack(p.bus, next(&p));
        party_close(&p);
        nats_fixture_free(nats);
}

/* A paused server is connected but silent. Publishing into it must end, and all must go on when it comes back. */
static void test_server_stalls(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = source_open(nats, &hop, true);
        _cleanup_(freep) char *large = xcalloc(1, 1 << 20);
        int64_t longest = 0;
        int r = 0;

        (void)state;
        nats_fixture_pause(nats);
        for (int i = 0; i < 64 && r == 0; i++) {
                int64_t start = now_mono_ms(), took;

                r = bus_publish(p.bus, "nobody.hears", NULL, NULL, 0, large, 1 << 20);
                took = now_mono_ms() - start;
                longest = took > longest ? took : longest;
        }
        assert_int_equal(r, -ENOTCONN);
        assert_true(longest < 3000);
        TURN_UNTIL(&p, !bus_connected(p.bus));
        nats_fixture_resume(nats);
        assert_true(ring_until_heard(&p, "resumed") < 8000);

        /* for a while only: the heartbeats are missed, the connection stays */
        nats_fixture_pause(nats);
        for (int64_t until = now_mono_ms() + 3200; now_mono_ms() < until;)
                turn(&p, 100);
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

/* A listener on the server's port that hangs up on everybody, as a proxy does whose server is away. */
struct hanger_up {
        int fd;
        pthread_t thread;
        atomic_int n;
};

static void *hang_up(void *arg)
{
        struct hanger_up *h = arg;

        for (int fd; (fd = accept(h->fd, NULL, NULL)) >= 0; atomic_fetch_add(&h->n, 1)) {
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
                close(fd);
        }
        return NULL;
}

static void hanger_up_start(struct hanger_up *h, int port)
{
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

        h->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(h->fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        assert_int_equal(bind(h->fd, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(h->fd, 16), 0);
        assert_int_equal(pthread_create(&h->thread, NULL, hang_up, h), 0);
}

static void hanger_up_stop(struct hanger_up *h)
{
        shutdown(h->fd, SHUT_RDWR);
        pthread_join(h->thread, NULL);
        close(h->fd);
}

/* Once, the answer of libnats to who asks when the connection has been given up since it subscribed: a moment that cannot be met on purpose. */
static bool late;
natsStatus __real_natsSubscription_SetOnCompleteCB(natsSubscription *sub, natsOnCompleteCB cb, void *closure);
natsStatus __wrap_natsSubscription_SetOnCompleteCB(natsSubscription *sub, natsOnCompleteCB cb, void *closure);

natsStatus __wrap_natsSubscription_SetOnCompleteCB(natsSubscription *sub, natsOnCompleteCB cb, void *closure)
{
        if (late) {
                late = false;
                return NATS_INVALID_SUBSCRIPTION;
        }
        return __real_natsSubscription_SetOnCompleteCB(sub, cb, closure);
}

/* Found by the fault suite: a service that was started while connections to the bus were reset ended, instead of trying again. */
static void test_hung_up_on_at_start(void **state)
{
        struct nats_fixture *nats = nats_fixture_new(NULL);
        struct hanger_up h = {0};
        struct party p;

        (void)state;
        hanger_up_start(&h, nats_fixture_port(nats));
        late = true;
        p = party_open(nats, (struct bus_config){.send_asap = true});
        TURN_UNTIL(&p, atomic_load(&h.n) >= 4);
        hanger_up_stop(&h);
        assert_false(bus_connected(p.bus));
        nats_fixture_restart(nats);
        TURN_UNTIL(&p, bus_connected(p.bus));
        party_close(&p);
        nats_fixture_free(nats);
}

static const char users[] =
        "authorization { users = ["
        "{ user: worker, password: secret, permissions: {"
        "  publish: [\"$JS.API.STREAM.*.HOP_TEST\", \"$JS.API.CONSUMER.*.HOP_TEST.*\", \"$JS.API.CONSUMER.DURABLE.CREATE.HOP_TEST.*\","
        "    \"$JS.API.CONSUMER.MSG.NEXT.HOP_TEST.*\", \"$JS.ACK.HOP_TEST.>\", \"hop.test.*\"],"
        "  subscribe: [\"_INBOX_worker.>\"] } },"
        "{ user: stranger, password: other, permissions: { publish: [\"nothing\"], subscribe: [\"_INBOX_stranger.>\"] } } ] }";

static void test_permissions(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(users);
        struct party p =
                party_open(nats, (struct bus_config){.user = "worker", .password = "secret", .inbox_prefix = "_INBOX_worker", .send_asap = true});
        struct party q = party_open(nats, (struct bus_config){.user = "stranger", .password = "other", .inbox_prefix = "_INBOX_stranger"});
        struct bus_message *reply;
        int64_t until;

        (void)state;
        assert_int_equal(bus_source(p.bus, &hop, lanes), 0);
        TURN_UNTIL(&p, bus_source_ready(p.bus));
        assert_int_equal(bus_subscribe(p.bus, "forbidden.>", NULL), 0);
        for (int i = 0; i < 100; i++)
                say(&p, "forbidden.subject", "x");
        assert_int_equal(bus_request(p.bus, "forbidden.request", "x", 1, 200, &reply), -ETIMEDOUT);
        say(&p, "hop.test.high", "allowed");
        expect_message(&p, "allowed", 1);

        /* one that may declare nothing lives on, and a permission granted later is enough */
        assert_int_equal(bus_source(q.bus, &hop, lanes), 0);
        for (until = now_mono_ms() + 3000; now_mono_ms() < until;)
                turn(&q, 100);
        assert_true(bus_connected(q.bus));
        assert_false(bus_source_ready(q.bus));
        party_close(&p);
        party_close(&q);
        nats_fixture_free(nats);
}

/* The count is the bus's own business, and it writes it to the log; here it tells when the flood is over. */
static uint64_t take_dropped(struct bus *b)
{
        uint64_t n;

        pthread_mutex_lock(&b->lock);
        n = b->dropped;
        b->dropped = 0;
        pthread_mutex_unlock(&b->lock);
        return n;
}

static void test_queue_is_bounded(void **state)
{
        enum { SENT = BUS_PLAIN_MAX + 3000 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_open(nats, (struct bus_config){0});
        struct party w = party_open(nats, (struct bus_config){0});
        struct bus_message *m;
        uint64_t dropped = 0;
        int n = 0;

        (void)state;
        p.bus->report_at = INT64_MAX;
        assert_int_equal(bus_subscribe(p.bus, "flood", NULL), 0);
        assert_int_equal(bus_subscribe(p.bus, "end", NULL), 0);
        bus_flush(p.bus);
        fill(&w, "flood", SENT);
        TURN_UNTIL(&p, (dropped += take_dropped(p.bus)) == SENT - BUS_PLAIN_MAX);
        assert_int_equal(bus_queued(p.bus), BUS_PLAIN_MAX);
        while ((m = bus_next_plain(p.bus))) {
                bus_drop(p.bus, m);
                n++;
        }
        assert_int_equal(n, BUS_PLAIN_MAX);
        say(&w, "end", "still there");
        m = next_plain(&p);
        assert_string_equal(m->data, "still there");
        bus_drop(p.bus, m);
        party_close(&p);
        party_close(&w);
        nats_fixture_free(nats);
}

static void test_headers(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = source_open(nats, &hop, true);
        const struct bus_header headers[] = {{"Idempotency-Key", "k-1"}, {"Content-Type", "application/json"}, {"Status", "409"}};
        const struct bus_header broken[] = {{"X", "a\r\nPUB x 1"}};
        const struct bus_header named[] = {{"X: y", "z"}};
        static const char binary[] = "a\0b\n";
        struct bus_message *m;

        (void)state;
        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, headers, 3, binary, 4), 0);
        m = next(&p);
        assert_string_equal(bus_message_header(m, "Idempotency-Key"), "k-1");
        assert_string_equal(bus_message_header(m, "Content-Type"), "application/json");
        assert_null(bus_message_header(m, "idempotency-key"));
        assert_null(bus_message_header(m, "Other"));
        assert_int_equal(m->len, 4);
        assert_memory_equal(m->data, binary, 5);
        bus_ack(p.bus, m);

        /* a message that plays a status is still a message */
        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, headers, 3, "", 0), 0);
        m = next(&p);
        assert_int_equal(m->len, 0);
        assert_string_equal(m->data, "");
        bus_ack(p.bus, m);

        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, broken, 1, "", 0), -EINVAL);
        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, named, 1, "", 0), -EINVAL);
        assert_int_equal(bus_publish(p.bus, "hop.test.high x", NULL, NULL, 0, "", 0), -EINVAL);
        assert_int_equal(bus_publish(p.bus, "a\r\nPING", NULL, NULL, 0, "", 0), -EINVAL);
        assert_int_equal(bus_publish(p.bus, "", NULL, NULL, 0, "", 0), -EINVAL);
        assert_int_equal(bus_publish(p.bus, "a", "b c", NULL, 0, "", 0), -EINVAL);
        expect_silence(&p, 50);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_sizes(void **state)
{
        enum { MIB = 1 << 20 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = source_open(nats, &hop, true);
        _cleanup_(freep) char *large = xmalloc(3 * MIB);
        const struct bus_header header = {"Idempotency-Key", "large"};
        struct bus_message *m;

        (void)state;
        memset(large, 'x', 3 * MIB);
        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, NULL, 0, large, 3 * MIB), -EMSGSIZE);
        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, &header, 1, large, MIB), 0);
        m = next(&p);
        assert_int_equal(m->len, MIB);
        assert_memory_equal(m->data, large, MIB);
        assert_int_equal(m->data[MIB], 0);
        bus_ack(p.bus, m);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_plain_and_groups(void **state)
{
        enum { MESSAGES = 100 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party a = party_open(nats, (struct bus_config){0});
        struct party b = party_open(nats, (struct bus_config){0});
        int alone = 0, group_a = 0, group_b = 0;
        int64_t until = now_mono_ms() + PATIENCE_MS;
        struct bus_message *m;

        (void)state;
        assert_int_equal(bus_subscribe(a.bus, "work.>", "workers"), 0);
        assert_int_equal(bus_subscribe(b.bus, "work.>", "workers"), 0);
        assert_int_equal(bus_subscribe(b.bus, "live.*", NULL), 0);
        assert_int_equal(bus_subscribe(b.bus, "not a subject", NULL), -EINVAL);
        nats_fixture_kill(nats);
        TURN_UNTIL(&a, !bus_connected(a.bus));
        TURN_UNTIL(&b, !bus_connected(b.bus));
        nats_fixture_restart(nats);
        while (!bus_connected(a.bus) || !bus_connected(b.bus)) {
                turn(&a, 5);
                turn(&b, 5);
                assert_true(now_mono_ms() < until);
        }
        fill(&a, "work.x", MESSAGES);
        fill(&a, "live.x", MESSAGES);
        while (group_a + group_b + alone < 2 * MESSAGES && now_mono_ms() < until) {
                turn(&a, 1);
                turn(&b, 1);
                while ((m = bus_next_plain(a.bus))) {
                        group_a++;
                        bus_drop(a.bus, m);
                }
                while ((m = bus_next_plain(b.bus))) {
                        *(strncmp(m->subject, "live", 4) == 0 ? &alone : &group_b) += 1;
                        bus_drop(b.bus, m);
                }
        }
        assert_int_equal(alone, MESSAGES);
        assert_int_equal(group_a + group_b, MESSAGES);
        assert_true(group_a > 0 && group_b > 0);
        /* An answer goes to an inbox only, whatever subject the one who asks names. */
        for (int inbox = 0; inbox < 2; inbox++) {
                assert_int_equal(bus_publish(a.bus, "live.asked", inbox ? "_INBOX.me" : "hop.ledger.high", NULL, 0, "x", 1), 0);
                assert_int_equal(bus_flush(a.bus), 0);
                for (until = now_mono_ms() + PATIENCE_MS, m = NULL; !m && now_mono_ms() < until; m = bus_next_plain(b.bus)) {
                        turn(&a, 1);
                        turn(&b, 1);
                }
                assert_non_null(m);
                assert_int_equal(m->reply != NULL, inbox);
                bus_drop(b.bus, m);
        }
        party_close(&a);
        party_close(&b);
        nats_fixture_free(nats);
}

static void test_requests(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party a = party_open(nats, (struct bus_config){0});
        struct party b = party_open(nats, (struct bus_config){0});
        struct bus_message *m, *reply;
        int64_t start;

        (void)state;
        assert_int_equal(bus_request(a.bus, "nobody.there", "x", 1, 2000, &reply), -EHOSTUNREACH);
        assert_int_equal(bus_subscribe(b.bus, "ask", NULL), 0);
        assert_int_equal(bus_request(b.bus, "ask", "to myself", 9, 50, &reply), -ETIMEDOUT);
        m = next_plain(&b);
        assert_string_equal(m->data, "to myself");
        assert_non_null(m->reply);
        /* the late answer of a request that timed out is not the next one's */
        assert_int_equal(bus_publish(b.bus, m->reply, NULL, NULL, 0, "late", 4), 0);
        bus_drop(b.bus, m);
        bus_flush(b.bus);
        assert_int_equal(bus_request(b.bus, "nobody.there", "x", 1, 2000, &reply), -EHOSTUNREACH);

        start = now_mono_ms();
        assert_int_equal(bus_request(a.bus, "ask", "x", 1, 300, &reply), -ETIMEDOUT);
        assert_in_range(now_mono_ms() - start, 299, 2000);
        api(&a, "$JS.API.INFO", "");

        nats_fixture_kill(nats);
        TURN_UNTIL(&a, !bus_connected(a.bus));
        assert_int_equal(bus_request(a.bus, "ask", "x", 1, 300, &reply), -ENOTCONN);
        party_close(&a);
        party_close(&b);
        nats_fixture_free(nats);
}

struct ended {
        int times;
        enum bus_outcome outcome;
        char text[64];
};

static void on_ended(void *arg, const struct bus_reply *reply)
{
        struct ended *e = arg;

        e->times++;
        e->outcome = reply->outcome;
        snprintf(e->text, sizeof(e->text), "%.*s", (int)reply->body.len, reply->body.s ? reply->body.s : "");
}

static void call(struct party *p, const char *subject, const char *body, int64_t timeout_ms, struct ended *ended)
{
        *ended = (struct ended){0};
        bus_call(p->bus, &(struct bus_call){.subject = subject, .body = slice_of(body), .timeout_ms = timeout_ms, .done = on_ended, .arg = ended});
        assert_int_equal(ended->times, 0); /* never inside bus_call */
}

/* Many at once: each ends once, with its own answer, and as "not sent" only when nobody can have it. */
static void test_calls(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party a = party_open(nats, (struct bus_config){0}), b = party_open(nats, (struct bus_config){0});
        struct ended first, second, nobody, silent, bad, over, cut;
        struct bus_message *one, *two;

        (void)state;
        assert_int_equal(bus_subscribe(b.bus, "ask", NULL), 0);
        bus_flush(b.bus);
        call(&a, "nobody.there", "x", 5000, &nobody);
        call(&a, "bad subject", "x", 5000, &bad);
        TURN_UNTIL(&a, nobody.times + bad.times == 2);
        assert_int_equal(nobody.outcome, BUS_NOT_SENT);
        assert_int_equal(bad.outcome, BUS_NOT_SENT);

        call(&a, "ask", "1", 5000, &first);
        call(&a, "ask", "2", 5000, &second);
        call(&a, "ask", "3", 50, &silent);
        assert_int_equal(bus_calls(a.bus), 3);
        one = next_plain(&b);
        two = next_plain(&b);
        bus_publish(b.bus, two->reply, NULL, NULL, 0, "two", 3);
        bus_publish(b.bus, one->reply, NULL, NULL, 0, "one", 3);
        bus_publish(b.bus, one->reply, NULL, NULL, 0, "more", 4);
        bus_drop(b.bus, one);
        bus_drop(b.bus, two);
        one = next_plain(&b);
        TURN_UNTIL(&a, first.times && second.times && silent.times);
        assert_string_equal(first.text, "one");
        assert_string_equal(second.text, "two");
        assert_int_equal(silent.outcome, BUS_LOST);
        bus_publish(b.bus, one->reply, NULL, NULL, 0, "late", 4); /* nobody's */
        bus_drop(b.bus, one);

        call(&a, "ask", "before the cut", 300, &cut);
        bus_drop(b.bus, next_plain(&b));
        nats_fixture_kill(nats);
        TURN_UNTIL(&a, !bus_connected(a.bus));
        call(&a, "ask", "after it", 5000, &over);
        TURN_UNTIL(&a, over.times && cut.times);
        assert_int_equal(over.outcome, BUS_NOT_SENT);
        assert_int_equal(cut.outcome, BUS_LOST);
        assert_int_equal(first.times + second.times + silent.times, 3);
        call(&a, "ask", "never", 60000, &over);
        bus_end_calls(a.bus);
        assert_int_equal(over.times, 1);
        assert_int_equal(bus_calls(a.bus), 0);
        party_close(&a);
        party_close(&b);
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

/* What test_wrong_password runs: a bus that is refused. It may already see so in bus_open; else it ends by die(), which no test survives. */
static int refused_bus(const char *url)
{
        struct bus_config config = {.url = url, .user = "worker", .password = "wrong", .wake_fd = -1};
        struct bus *b;

        if (bus_open(&config, &b) < 0)
                return 2;
        for (int64_t until = now_mono_ms() + PATIENCE_MS; now_mono_ms() < until;) {
                bus_maintain(b);
                poll(NULL, 0, 50);
        }
        return 0;
}

static void test_wrong_password(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(users);
        char self[] = "/proc/self/exe", option[] = "--refused-bus", url[64];
        char *argv[] = {self, option, url, NULL};
        pid_t pid;
        int status;

        (void)state;
        snprintf(url, sizeof(url), "%s", nats_fixture_url(nats));
        assert_int_equal(posix_spawn(&pid, self, NULL, NULL, argv, environ), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        nats_fixture_free(nats);
}

int main(int argc, char *argv[])
{
        if (argc == 3 && strcmp(argv[1], "--refused-bus") == 0)
                return refused_bus(argv[2]);

        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ack_subjects),
                cmocka_unit_test(test_acked_is_gone),
                cmocka_unit_test(test_dropped_comes_again),
                cmocka_unit_test(test_buffered_connection),
                cmocka_unit_test(test_server_killed),
                cmocka_unit_test(test_storage_wiped),
                cmocka_unit_test(test_memory_stream_restarted),
                cmocka_unit_test(test_server_away_at_start),
                cmocka_unit_test(test_deleted_behind_our_back),
                cmocka_unit_test(test_declared_differently),
                cmocka_unit_test(test_consumer_ahead_of_its_stream),
                cmocka_unit_test(test_two_instances_share),
                cmocka_unit_test(test_leaver_gives_back),
                cmocka_unit_test(test_weights),
                cmocka_unit_test(test_one_busy_lane_runs_at_full_speed),
                cmocka_unit_test(test_window),
                cmocka_unit_test(test_pause),
                cmocka_unit_test(test_server_stalls),
                cmocka_unit_test(test_hung_up_on_at_start),
                cmocka_unit_test(test_permissions),
                cmocka_unit_test(test_wrong_password),
                cmocka_unit_test(test_queue_is_bounded),
                cmocka_unit_test(test_headers),
                cmocka_unit_test(test_sizes),
                cmocka_unit_test(test_plain_and_groups),
                cmocka_unit_test(test_requests),
                cmocka_unit_test(test_calls),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
