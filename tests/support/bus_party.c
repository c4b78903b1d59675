/* What a service's loop does with a bus, by hand: a test turns it until what it waits for has happened. */
#include "tests/support/bus_party.h"

#include "base/util.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

const struct bus_stream party_hop = {
        .name = "HOP_TEST", .subjects = {"hop.test.*"}, .max_bytes = 64 << 20, .max_age_ms = 3600000, .ack_wait_ms = ACK_WAIT_MS, .strangers = true};
const struct bus_stream party_hop_memory = {
        .name = "HOP_TEST", .subjects = {"hop.test.*"}, .memory = true, .max_bytes = 64 << 20, .max_age_ms = 3600000, .ack_wait_ms = 30000};
const struct bus_lane party_lanes[] = {
        {.durable = "high", .filter = "hop.test.high", .weight = 8},
        {.durable = "normal", .filter = "hop.test.normal", .weight = 3},
        {.durable = "low", .filter = "hop.test.low", .weight = 1},
        {0},
};

struct party party_open(const struct nats_fixture *nats, struct bus_config config)
{
        struct party p = {0};

        if (!config.url)
                config.url = nats_fixture_url(nats);
        if (!config.inbox_prefix)
                config.inbox_prefix = "_INBOX_test";
        if (!config.name)
                config.name = "aethelos-test/1";
        assert_int_equal(bus_open(&config, &p.bus), 0);
        return p;
}

void party_close(struct party *p)
{
        p->bus = bus_free(p->bus);
}

void party_turn(struct party *p, int64_t max_ms)
{
        int64_t ms = bus_maintain(p->bus);
        struct pollfd f = {.fd = bus_fd(p->bus), .events = POLLIN};

        assert_true(ms >= 0 && ms <= 5000);
        if (bus_queued(p->bus) == 0)
                poll(&f, 1, (int)(ms < max_ms ? ms : max_ms));
}

struct party party_source(const struct nats_fixture *nats, const struct bus_stream *stream)
{
        struct party p = party_open(nats, (struct bus_config){0});

        assert_int_equal(bus_source(p.bus, stream, party_lanes), 0);
        TURN_UNTIL(&p, bus_source_ready(p.bus));
        return p;
}

struct bus_message *party_next_within(struct party *p, int64_t ms)
{
        struct bus_message *m;
        int64_t until = now_mono_ms() + ms;

        while (!(m = bus_next(p->bus)) && now_mono_ms() < until)
                party_turn(p, 10);
        return m;
}

struct bus_message *party_next(struct party *p)
{
        struct bus_message *m = party_next_within(p, PATIENCE_MS);

        assert_non_null(m);
        return m;
}

struct bus_message *party_next_plain(struct party *p)
{
        struct bus_message *m;

        TURN_UNTIL(p, (m = bus_next_plain(p->bus)));
        return m;
}

void party_expect_silence(struct party *p, int64_t ms)
{
        struct bus_message *m = party_next_within(p, ms);

        if (m)
                fail_msg("unexpected message on %s: %s, delivered %u", m->subject, m->data, m->delivered);
}

void party_say(struct party *p, const char *subject, const char *text)
{
        assert_int_equal(bus_publish(p->bus, subject, NULL, NULL, 0, text, strlen(text)), 0);
        bus_flush(p->bus);
}

void party_fill(struct party *p, const char *subject, int n)
{
        for (int i = 0; i < n; i++)
                assert_int_equal(bus_publish(p->bus, subject, NULL, NULL, 0, "x", 1), 0);
        bus_flush(p->bus);
}

void party_expect_message(struct party *p, const char *text, unsigned delivered)
{
        struct bus_message *m = party_next(p);

        assert_string_equal(m->data, text);
        assert_int_equal(m->delivered, delivered);
        bus_ack(p->bus, m);
}

void party_api(struct party *p, const char *subject, const char *body)
{
        struct bus_message *reply;

        assert_int_equal(bus_request(p->bus, subject, body, strlen(body), 2000, &reply), 0);
        assert_null(strstr(reply->data, "\"error\""));
        bus_drop(p->bus, reply);
}
