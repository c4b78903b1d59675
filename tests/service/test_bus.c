/* Connections, subscriptions, requests and calls of the bus against a real nats-server. Every test has a server of its own. */
#include "base/util.h"
#include "bus/bus.h"
#include "bus/bus_private.h"
#include "tests/support/bus_party.h"

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
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_buffered_connection(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_source(nats, &party_hop_memory);
        char text[16];

        (void)state;
        for (int i = 0; i < 1000; i++) {
                snprintf(text, sizeof(text), "%d", i);
                assert_int_equal(bus_publish(p.bus, "hop.test.low", NULL, NULL, 0, text, strlen(text)), 0);
        }
        assert_int_equal(bus_flush(p.bus), 0);
        for (int i = 0; i < 1000; i++) {
                snprintf(text, sizeof(text), "%d", i);
                party_expect_message(&p, text, 1);
        }
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
natsStatus __real_natsSubscription_SetPendingLimits(natsSubscription *sub, int messages, int bytes);
natsStatus __wrap_natsSubscription_SetPendingLimits(natsSubscription *sub, int messages, int bytes);

natsStatus __wrap_natsSubscription_SetPendingLimits(natsSubscription *sub, int messages, int bytes)
{
        if (late) {
                late = false;
                return NATS_INVALID_SUBSCRIPTION;
        }
        return __real_natsSubscription_SetPendingLimits(sub, messages, bytes);
}

/* Found by the fault suite: a service that was started while connections to the bus were reset ended, instead of trying again. */
static void test_hung_up_on_at_start(void **state)
{
        struct nats_fixture *nats = nats_fixture_new(NULL);
        struct hanger_up h = {0};
        struct party p;

        (void)state;
        hanger_up_start(&h, nats_fixture_port(nats));
        p = party_open(nats, (struct bus_config){0});
        late = true;
        assert_int_equal(bus_subscribe(p.bus, "kept", NULL), 0);
        TURN_UNTIL(&p, atomic_load(&h.n) >= 4);
        hanger_up_stop(&h);
        assert_false(bus_connected(p.bus));
        nats_fixture_restart(nats);
        TURN_UNTIL(&p, bus_connected(p.bus));
        party_say(&p, "kept", "heard");
        bus_drop(p.bus, party_next_plain(&p));
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
        struct party p = party_open(nats, (struct bus_config){.user = "worker", .password = "secret", .inbox_prefix = "_INBOX_worker"});
        struct party q = party_open(nats, (struct bus_config){.user = "stranger", .password = "other", .inbox_prefix = "_INBOX_stranger"});
        struct bus_message *reply;
        int64_t until;

        (void)state;
        assert_int_equal(bus_source(p.bus, &party_hop, party_lanes), 0);
        TURN_UNTIL(&p, bus_source_ready(p.bus));
        assert_int_equal(bus_subscribe(p.bus, "forbidden.>", NULL), 0);
        for (int i = 0; i < 100; i++)
                party_say(&p, "forbidden.subject", "x");
        assert_int_equal(bus_request(p.bus, "forbidden.request", "x", 1, 200, &reply), -ETIMEDOUT);
        party_say(&p, "hop.test.high", "allowed");
        party_expect_message(&p, "allowed", 1);

        /* one that may declare nothing lives on, and a permission granted later is enough */
        assert_int_equal(bus_source(q.bus, &party_hop, party_lanes), 0);
        for (until = now_mono_ms() + 3000; now_mono_ms() < until;)
                party_turn(&q, 100);
        assert_true(bus_connected(q.bus));
        assert_false(bus_source_ready(q.bus));
        party_close(&p);
        party_close(&q);
        nats_fixture_free(nats);
}

static void restart_under(struct nats_fixture *nats, struct party *a, struct party *b)
{
        int64_t until = now_mono_ms() + PATIENCE_MS;

        nats_fixture_kill(nats);
        TURN_UNTIL(a, !bus_connected(a->bus));
        TURN_UNTIL(b, !bus_connected(b->bus));
        nats_fixture_restart(nats);
        while (!bus_connected(a->bus) || !bus_connected(b->bus)) {
                party_turn(a, 5);
                party_turn(b, 5);
                assert_true(now_mono_ms() < until);
        }
}

/* Until the server has read what the party said before. */
static void await_server(struct party *p)
{
        struct bus_message *m;

        assert_int_equal(bus_request(p->bus, "nobody.there", "", 0, PATIENCE_MS, &m), -EHOSTUNREACH);
}

static void test_queue_is_bounded(void **state)
{
        enum { SENT = BUS_PLAIN_MAX + 3000 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_open(nats, (struct bus_config){0});
        struct party w = party_open(nats, (struct bus_config){0});
        struct bus_message *m;
        int64_t dropped = 0;
        int n = 0;

        (void)state;
        assert_int_equal(bus_subscribe(p.bus, "flood", NULL), 0);
        assert_int_equal(bus_subscribe(p.bus, "end", NULL), 0);
        await_server(&p); /* what is sent before it has heard of the subscription is not counted */
        party_fill(&w, "flood", SENT);
        TURN_UNTIL(&p, natsSubscription_GetDropped(p.bus->subs[0]->sub, &dropped) == NATS_OK && dropped == SENT - BUS_PLAIN_MAX);
        assert_int_equal(bus_queued(p.bus), BUS_PLAIN_MAX);
        while ((m = bus_next_plain(p.bus))) {
                bus_drop(p.bus, m);
                n++;
        }
        assert_int_equal(n, BUS_PLAIN_MAX);
        party_say(&w, "end", "still there");
        m = party_next_plain(&p);
        assert_string_equal(m->data, "still there");
        bus_drop(p.bus, m);
        party_close(&p);
        party_close(&w);
        nats_fixture_free(nats);
}

static void test_headers(void **state)
{
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_source(nats, &party_hop);
        const struct bus_header headers[] = {{"Idempotency-Key", "k-1"}, {"Content-Type", "application/json"}, {"Status", "409"}};
        const struct bus_header broken[] = {{"X", "a\r\nPUB x 1"}};
        const struct bus_header named[] = {{"X: y", "z"}};
        static const char binary[] = "a\0b\n", *const played[] = {"409", "503"};
        struct bus_message *m;

        (void)state;
        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, headers, 3, binary, 4), 0);
        m = party_next(&p);
        assert_string_equal(bus_message_header(m, "Idempotency-Key"), "k-1");
        assert_string_equal(bus_message_header(m, "Content-Type"), "application/json");
        assert_null(bus_message_header(m, "idempotency-key"));
        assert_null(bus_message_header(m, "Other"));
        assert_int_equal(m->len, 4);
        assert_memory_equal(m->data, binary, 5);
        bus_ack(p.bus, m);

        /* a message that plays a status is still a message, also with the one that libnats hides */
        for (size_t i = 0; i < ARRAY_SIZE(played); i++) {
                assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, &(struct bus_header){"Status", played[i]}, 1, "", 0), 0);
                m = party_next(&p);
                assert_int_equal(m->len, 0);
                assert_string_equal(m->data, "");
                assert_true(bus_source_ready(p.bus));
                bus_ack(p.bus, m);
        }

        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, broken, 1, "", 0), -EINVAL);
        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, named, 1, "", 0), -EINVAL);
        assert_int_equal(bus_publish(p.bus, "hop.test.high x", NULL, NULL, 0, "", 0), -EINVAL);
        assert_int_equal(bus_publish(p.bus, "a\r\nPING", NULL, NULL, 0, "", 0), -EINVAL);
        assert_int_equal(bus_publish(p.bus, "", NULL, NULL, 0, "", 0), -EINVAL);
        assert_int_equal(bus_publish(p.bus, "a", "b c", NULL, 0, "", 0), -EINVAL);
        party_expect_silence(&p, 50);
        party_close(&p);
        nats_fixture_free(nats);
}

static void test_sizes(void **state)
{
        enum { MIB = 1 << 20 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_source(nats, &party_hop);
        _cleanup_(freep) char *large = xmalloc(3 * MIB);
        const struct bus_header header = {"Idempotency-Key", "large"};
        struct bus_message *m;

        (void)state;
        memset(large, 'x', 3 * MIB);
        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, NULL, 0, large, 3 * MIB), -EMSGSIZE);
        assert_int_equal(bus_publish(p.bus, "hop.test.high", NULL, &header, 1, large, MIB), 0);
        m = party_next(&p);
        assert_int_equal(m->len, MIB);
        assert_memory_equal(m->data, large, MIB);
        assert_int_equal(m->data[MIB], 0);
        bus_ack(p.bus, m);
        party_close(&p);
        nats_fixture_free(nats);
}

/* libnats forgets the half of a message when its connection ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
        return "leak:natsBuf_Create";
}

/* A connection that breaks off in the middle of a message: what comes over the next one begins anew. */
static void test_cut_in_a_message(void **state)
{
        enum { LARGE = 1000000, MESSAGES = 16 /* more than the kernel keeps for us */ };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party p = party_open(nats, (struct bus_config){0}), w = party_open(nats, (struct bus_config){0});
        _cleanup_(freep) char *large = xcalloc(LARGE, 1);
        struct bus_message *m;
        size_t len;

        (void)state;
        assert_int_equal(bus_subscribe(p.bus, "cut", NULL), 0);
        await_server(&p);
        for (int i = 0; i < MESSAGES; i++)
                assert_int_equal(bus_publish(w.bus, "cut", NULL, NULL, 0, large, LARGE), 0);
        await_server(&w);
        party_turn(&p, 1000);
        restart_under(nats, &p, &w);
        await_server(&p);
        party_say(&w, "cut", "whole");
        do {
                m = party_next_plain(&p);
                len = m->len;
                if (len != LARGE)
                        assert_string_equal(m->data, "whole");
                bus_drop(p.bus, m);
        } while (len == LARGE);
        party_close(&p);
        party_close(&w);
        nats_fixture_free(nats);
}

static void test_plain_and_groups(void **state)
{
        enum { MESSAGES = 100 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party a = party_open(nats, (struct bus_config){0});
        struct party b = party_open(nats, (struct bus_config){0});
        int alone = 0, group_a = 0, group_b = 0;
        int64_t until;
        struct bus_message *m;

        (void)state;
        assert_int_equal(bus_subscribe(a.bus, "work.>", "workers"), 0);
        assert_int_equal(bus_subscribe(b.bus, "work.>", "workers"), 0);
        assert_int_equal(bus_subscribe(b.bus, "live.*", NULL), 0);
        assert_int_equal(bus_subscribe(b.bus, "not a subject", NULL), -EINVAL);
        restart_under(nats, &a, &b);
        await_server(&b); /* connected again is not yet subscribed again */
        until = now_mono_ms() + PATIENCE_MS;
        party_fill(&a, "work.x", MESSAGES);
        party_fill(&a, "live.x", MESSAGES);
        while (group_a + group_b + alone < 2 * MESSAGES && now_mono_ms() < until) {
                party_turn(&a, 1);
                party_turn(&b, 1);
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
                        party_turn(&a, 1);
                        party_turn(&b, 1);
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
        m = party_next_plain(&b);
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
        party_api(&a, "$JS.API.INFO", "");

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
        bus_flush(p->bus);
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
        one = party_next_plain(&b);
        two = party_next_plain(&b);
        bus_publish(b.bus, two->reply, NULL, NULL, 0, "two", 3);
        bus_publish(b.bus, one->reply, NULL, NULL, 0, "one", 3);
        bus_publish(b.bus, one->reply, NULL, NULL, 0, "more", 4);
        bus_flush(b.bus);
        bus_drop(b.bus, one);
        bus_drop(b.bus, two);
        one = party_next_plain(&b);
        TURN_UNTIL(&a, first.times && second.times && silent.times);
        assert_string_equal(first.text, "one");
        assert_string_equal(second.text, "two");
        assert_int_equal(silent.outcome, BUS_LOST);
        bus_publish(b.bus, one->reply, NULL, NULL, 0, "late", 4); /* nobody's */
        bus_drop(b.bus, one);

        call(&a, "ask", "before the cut", 300, &cut);
        bus_drop(b.bus, party_next_plain(&b));
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

/* Whoever was held up elsewhere longer than its calls may take finds the answers that have come meanwhile. */
static void test_answers_to_an_absent_caller(void **state)
{
        enum { CALLS = 300 };
        struct nats_fixture *nats = nats_fixture_start(NULL);
        struct party a = party_open(nats, (struct bus_config){0}), b = party_open(nats, (struct bus_config){0});
        static struct ended ended[CALLS];
        struct bus_message *m;

        (void)state;
        assert_int_equal(bus_subscribe(b.bus, "ask", NULL), 0);
        await_server(&b);
        await_server(&a);
        for (int i = 0; i < CALLS; i++)
                call(&a, "ask", "x", 1000, &ended[i]);
        for (int i = 0; i < CALLS; i++) {
                m = party_next_plain(&b);
                assert_int_equal(bus_publish(b.bus, m->reply, NULL, NULL, 0, "in time", 7), 0);
                bus_drop(b.bus, m);
        }
        await_server(&b);
        poll(NULL, 0, 1500); /* the absence itself */
        TURN_UNTIL(&a, bus_calls(a.bus) == 0);
        for (int i = 0; i < CALLS; i++) {
                assert_int_equal(ended[i].outcome, BUS_ANSWERED);
                assert_string_equal(ended[i].text, "in time");
        }
        party_close(&a);
        party_close(&b);
        nats_fixture_free(nats);
}

/* What test_wrong_password runs: a bus that is refused. It may already see so in bus_open; else it ends by die(), which no test survives. */
static int refused_bus(const char *url)
{
        struct bus_config config = {.url = url, .user = "worker", .password = "wrong"};
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
                cmocka_unit_test(test_buffered_connection),
                cmocka_unit_test(test_hung_up_on_at_start),
                cmocka_unit_test(test_permissions),
                cmocka_unit_test(test_wrong_password),
                cmocka_unit_test(test_queue_is_bounded),
                cmocka_unit_test(test_headers),
                cmocka_unit_test(test_sizes),
                cmocka_unit_test(test_cut_in_a_message),
                cmocka_unit_test(test_plain_and_groups),
                cmocka_unit_test(test_requests),
                cmocka_unit_test(test_calls),
                cmocka_unit_test(test_answers_to_an_absent_caller),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
