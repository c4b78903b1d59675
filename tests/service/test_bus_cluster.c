/* The bus on a broker of three nodes: streams are kept by all of them, and when a node is killed the same consumer goes on at another one.
 *
 * The test turns its bus as a service's loop does, until what it waits for has happened or CLUSTER_MS is over. */
#include "base/strbuf.h"
#include "base/util.h"
#include "bus/bus.h"
#include "tests/support/bus_party.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define NODES      3
#define CLUSTER_MS 40000
#define MESSAGES   20

static const struct bus_stream three = {
        .name = "SUBMIT_TEST", .subjects = {"submit.test.*"}, .max_bytes = 64 << 20, .ack_wait_ms = 2000, .replicas = NODES};
static const struct bus_lane lanes[] = {{.durable = "all", .filter = "submit.test.*", .weight = 1}, {0}};

struct cluster {
        struct nats_fixture *nodes[NODES];
        char urls[256];
        struct party p;
};

static void cluster_start(struct cluster *c)
{
        _cleanup_(strbuf_done) struct strbuf routes = {0}, config = {0}, urls = {0};
        int ports[NODES];

        for (int i = 0; i < NODES; i++) {
                ports[i] = nats_fixture_free_port();
                strbuf_addf(&routes, "%s\"nats://127.0.0.1:%d\"", i ? ", " : "", ports[i]);
                c->nodes[i] = nats_fixture_new(NULL);
                strbuf_addf(&urls, "%s%s", i ? "," : "", nats_fixture_url(c->nodes[i]));
        }
        for (int i = 0; i < NODES; i++) {
                strbuf_reset(&config);
                strbuf_addf(&config, "server_name: \"n%d\"\ncluster { name: \"test%d\", listen: \"127.0.0.1:%d\", routes: [ %s ] }", i, (int)getpid(),
                        ports[i], routes.s);
                nats_fixture_set_config(c->nodes[i], config.s);
                nats_fixture_restart(c->nodes[i]);
        }
        snprintf(c->urls, sizeof(c->urls), "%s", urls.s);
}

static void connect_with(struct cluster *c, const struct bus_stream *stream)
{
        int64_t until = now_mono_ms() + CLUSTER_MS;

        c->p = party_open(NULL, (struct bus_config){.url = c->urls});
        assert_int_equal(bus_source(c->p.bus, stream, lanes), 0);
        while (!bus_source_ready(c->p.bus)) {
                assert_true(now_mono_ms() < until);
                party_turn(&c->p, 10);
        }
}

static void cluster_end(struct cluster *c)
{
        party_close(&c->p);
        for (int i = 0; i < NODES; i++)
                nats_fixture_free(c->nodes[i]);
}

static size_t count(const char *text, const char *part)
{
        size_t n = 0;

        for (; (text = strstr(text, part)) != NULL; text += strlen(part))
                n++;
        return n;
}

/* Until the stream is kept by three nodes, of which those that follow the leader have all that it has. */
static void wait_kept_by_all(struct cluster *c)
{
        int64_t until = now_mono_ms() + CLUSTER_MS;
        bool kept = false;

        while (!kept) {
                struct bus_message *m;

                assert_true(now_mono_ms() < until);
                party_turn(&c->p, 50);
                if (bus_request(c->p.bus, "$JS.API.STREAM.INFO.SUBMIT_TEST", "", 0, 1000, &m) < 0)
                        continue;
                kept = strstr(m->data, "\"num_replicas\":3") && count(m->data, "\"current\":true") == NODES - 1 &&
                       !strstr(m->data, "\"offline\":true");
                bus_drop(c->p.bus, m);
        }
}

/* As a publisher does: says it again until the stream has it. */
static void submit(struct cluster *c, int n)
{
        int64_t until = now_mono_ms() + CLUSTER_MS;
        char text[16];

        snprintf(text, sizeof(text), "%d", n);
        for (bool stored = false; !stored;) {
                struct bus_message *m;

                assert_true(now_mono_ms() < until);
                party_turn(&c->p, 5);
                if (bus_request(c->p.bus, "submit.test.default", text, strlen(text), 500, &m) < 0)
                        continue;
                stored = strstr(m->data, "\"seq\":") != NULL;
                bus_drop(c->p.bus, m);
        }
}

static void hear_all(struct cluster *c, int from, int to)
{
        int64_t until = now_mono_ms() + CLUSTER_MS;
        bool heard[MESSAGES] = {false};

        for (int n = from; n < to;) {
                struct bus_message *m = bus_next(c->p.bus);

                assert_true(now_mono_ms() < until);
                if (!m) {
                        party_turn(&c->p, 10);
                        continue;
                }
                heard[atoi(m->data)] = true;
                bus_ack(c->p.bus, m);
                while (n < to && heard[n])
                        n++;
        }
}

/* One of the nodes is killed, and comes back without its storage. */
static void test_a_node_is_killed(void **state)
{
        struct cluster c = {0};

        (void)state;
        cluster_start(&c);
        connect_with(&c, &three);
        wait_kept_by_all(&c);
        for (int i = 0; i < MESSAGES / 2; i++)
                submit(&c, i);
        nats_fixture_kill(c.nodes[0]);
        for (int i = MESSAGES / 2; i < MESSAGES; i++)
                submit(&c, i);
        hear_all(&c, 0, MESSAGES);
        nats_fixture_wipe(c.nodes[0]);
        nats_fixture_restart(c.nodes[0]);
        wait_kept_by_all(&c);
        cluster_end(&c);
}

/* An instance with a setting of before joins: what the others have raised stays, and what somebody lowers is raised again. */
static void test_copies_are_not_lowered(void **state)
{
        static const char one_copy[] = "{\"name\":\"SUBMIT_TEST\",\"subjects\":[\"submit.test.*\"],\"max_bytes\":67108864,\"num_replicas\":1}";
        struct bus_stream one = three;
        struct cluster c = {0};
        struct bus_message *m;

        (void)state;
        one.replicas = 1;
        cluster_start(&c);
        connect_with(&c, &three);
        wait_kept_by_all(&c);
        party_close(&c.p);
        connect_with(&c, &one);
        assert_int_equal(bus_request(c.p.bus, "$JS.API.STREAM.INFO.SUBMIT_TEST", "", 0, 2000, &m), 0);
        assert_non_null(strstr(m->data, "\"num_replicas\":3"));
        bus_drop(c.p.bus, m);
        party_close(&c.p);

        connect_with(&c, &three);
        assert_int_equal(bus_request(c.p.bus, "$JS.API.STREAM.UPDATE.SUBMIT_TEST", one_copy, strlen(one_copy), 2000, &m), 0);
        assert_non_null(strstr(m->data, "\"num_replicas\":1"));
        bus_drop(c.p.bus, m);
        wait_kept_by_all(&c);
        cluster_end(&c);
}

int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_node_is_killed),
                cmocka_unit_test(test_copies_are_not_lowered),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
