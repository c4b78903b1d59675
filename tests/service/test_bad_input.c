/* Whatever is wrong with a submission is refused in the same way on every way in (HTTP, an offer, the bus in JSON and in protobuf), stores nothing
 * and blocks nothing behind it. */
#include "base/json.h"
#include "base/strbuf.h"
#include "base/util.h"
#include "bus/bus.h"
#include "proto/aethelos.pb-c.h"
#include "tests/support/stack.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define OFFER "/buy/offer/offer_p19_text_basic"
#define BYTES (1 << 20)
#define TEXT(s)                                                                                                                                      \
        {                                                                                                                                            \
                s, sizeof(s) - 1                                                                                                                     \
        }

static struct stack *stack;
static struct bus *bus;

enum way { HTTP, OFFERED, BUS_JSON, BUS_PROTOBUF, N_WAYS };
static const char *const way_names[] = {"HTTP", "offer", "bus, JSON", "bus, protobuf"};

struct outcome {
        long status;    /* of HTTP, or of the problem in the receipt; 0: accepted */
        char field[64]; /* of the problem */
        char job[64];
};

/* --- the ways in --- */

static void job_of(struct strbuf *b, struct slice payload, const char *context)
{
        strbuf_adds(b, "{\"type\":\"puz19:text_analysis\",\"payload\":");
        strbuf_add(b, payload.s, payload.len);
        if (context)
                strbuf_addf(b, ",\"context\":%s", context);
        strbuf_addc(b, '}');
}

static void copy_member(const char *json, const char *path, char *to, size_t size)
{
        _cleanup_(freep) char *text = json_at(json, path);

        snprintf(to, size, "%s", text ? text : "");
}

static struct outcome over_http(const char *path, const char *key, struct slice body)
{
        char header[200];
        struct outcome o = {0};

        snprintf(header, sizeof(header), "Idempotency-Key: %s", key);
        _cleanup_(freep) char *answer = stack_send(stack, false, "POST", path, (const char *const[]){header, NULL}, body, &o.status, NULL);
        if (o.status == 200 || o.status == 201)
                o.status = 0;
        copy_member(answer, "field", o.field, sizeof(o.field));
        copy_member(answer, "job.id", o.job, sizeof(o.job));
        return o;
}

static struct bus_message *next_receipt(const char *key)
{
        char subject[200];

        snprintf(subject, sizeof(subject), "aethelos.receipt.default.%s", key);
        for (int64_t until = now_mono_ms() + 10000; now_mono_ms() < until;) {
                struct pollfd p = {.fd = bus_fd(bus), .events = POLLIN};
                struct bus_message *m;

                (void)bus_maintain(bus);
                (void)bus_flush(bus);
                while ((m = bus_next_plain(bus)) != NULL) {
                        if (strcmp(m->subject, subject) == 0)
                                return m;
                        bus_drop(bus, m);
                }
                (void)poll(&p, 1, 5);
        }
        fail_msg("no receipt for %s", key);
        return NULL;
}

static struct outcome over_bus(const char *type, const char *key, struct slice body)
{
        const struct bus_header headers[] = {{"Content-Type", type}, {"Idempotency-Key", key}};
        struct outcome o = {0};
        struct bus_message *m;

        assert_int_equal(bus_publish(bus, "aethelos.job.submit.default", NULL, headers, 2, body.s, body.len), 0);
        (void)bus_flush(bus);
        m = next_receipt(key);
        if (strcmp(bus_message_header(m, "Content-Type"), "application/json") == 0) {
                _cleanup_(freep) char *status = json_at(m->data, "problem.status");

                o.status = status ? atol(status) : 0;
                copy_member(m->data, "problem.field", o.field, sizeof(o.field));
                copy_member(m->data, "job_id", o.job, sizeof(o.job));
        } else {
                Aethelos__Receipt *r = aethelos__receipt__unpack(NULL, m->len, (const uint8_t *)m->data);

                assert_non_null(r);
                o.status = r->problem ? r->problem->status : 0;
                snprintf(o.field, sizeof(o.field), "%s", r->problem && r->problem->field ? r->problem->field : "");
                snprintf(o.job, sizeof(o.job), "%s", r->job_id ? r->job_id : "");
                aethelos__receipt__free_unpacked(r, NULL);
        }
        bus_drop(bus, m);
        return o;
}

/* context NULL: none; an offer has its own. */
static struct outcome submit(enum way way, const char *key, struct slice payload, const char *context)
{
        _cleanup_(strbuf_done) struct strbuf body = {0};

        if (way == OFFERED)
                return over_http(OFFER, key, payload);
        if (way == BUS_PROTOBUF) {
                Aethelos__Submission p = AETHELOS__SUBMISSION__INIT;
                _cleanup_(freep) char *packed = NULL;

                p.type = (char *)"puz19:text_analysis";
                p.payload = (ProtobufCBinaryData){payload.len, (uint8_t *)payload.s};
                p.has_context = context != NULL;
                if (context)
                        p.context = (ProtobufCBinaryData){strlen(context), (uint8_t *)context};
                packed = xmalloc(aethelos__submission__get_packed_size(&p));
                return over_bus("application/protobuf", key, (struct slice){packed, aethelos__submission__pack(&p, (uint8_t *)packed)});
        }
        job_of(&body, payload, context);
        return way == HTTP ? over_http("/jobs", key, (struct slice){body.s, body.len})
                           : over_bus("application/json", key, (struct slice){body.s, body.len});
}

static char *new_key(void)
{
        static int n;
        struct strbuf b = {0};

        strbuf_addf(&b, "bad-%d", ++n);
        return strbuf_take(&b);
}

static void expect(enum way way, struct slice payload, const char *context, long status, const char *field)
{
        _cleanup_(freep) char *key = new_key();
        struct outcome o = submit(way, key, payload, context);

        if (way == OFFERED && field)
                field += strlen("/payload"); /* its body is the payload */
        if (o.status != status || (field && strcmp(o.field, field) != 0))
                fail_msg("%s: %ld at '%s', not %ld at '%s': %.*s%s", way_names[way], o.status, o.field, status, field ? field : "",
                        (int)(payload.len < 300 ? payload.len : 300), payload.s, context ? context : "");
}

/* --- tests --- */

static void assert_nothing_stored(void)
{
        _cleanup_(freep) char *n = pg_fixture_ask(stack->pg, "SELECT (SELECT count(*) FROM chain) + (SELECT count(*) FROM submission)"
                                                             " + (SELECT count(*) FROM quarantine)");

        assert_string_equal(n, "0");
}

static void refused_everywhere(void **state)
{
        static const struct {
                struct slice payload;
                const char *context;
                long status;
                const char *field;
        } cases[] = {
                {TEXT("{"), NULL, 400, NULL},
                {TEXT("{\"text\":\"a\\u0000\"}"), NULL, 400, NULL},
                {TEXT("{\"text\":\"a\0\"}"), NULL, 400, NULL},
                {TEXT("{\"text\":\"a\"}\0"), NULL, 400, NULL},
                {TEXT("{\"text\":\"\xff\"}"), NULL, 400, NULL},
                {TEXT("{\"text\":\"\xc0\x80\"}"), NULL, 400, NULL},
                {TEXT("{\"text\":\"\xed\xa0\x80\"}"), NULL, 400, NULL},
                {TEXT("{\"text\":\"\\ud800\"}"), NULL, 400, NULL},
                {TEXT("{\"text\":\"a\",\"te\\u0078t\":\"b\"}"), NULL, 400, NULL},
                {TEXT("{\"text\":\"a\"}}"), NULL, 400, NULL},
                {TEXT("{\"text\":\"a\"}{}"), NULL, 400, NULL},
                {TEXT("{\"text\":\"a\",}"), NULL, 400, NULL},
                {TEXT("{\"text\":\"a\",\"n\":01}"), NULL, 400, NULL},
                {TEXT("null"), NULL, 422, "/payload"},
                {TEXT("[]"), NULL, 422, "/payload"},
                {TEXT("{}"), NULL, 422, "/payload/text"},
                {TEXT("{\"text\":5}"), NULL, 422, "/payload/text"},
                {TEXT("{\"text\":\"a\",\"complexity\":-1}"), NULL, 422, "/payload/complexity"},
                {TEXT("{\"text\":\"a\",\"complexity\":1.0}"), NULL, 422, "/payload/complexity"},
                {TEXT("{\"text\":\"a\",\"complexity\":1e2}"), NULL, 422, "/payload/complexity"},
                {TEXT("{\"text\":\"a\",\"complexity\":\"5\"}"), NULL, 422, "/payload/complexity"},
                {TEXT("{\"text\":\"a\",\"complexity\":null}"), NULL, 422, "/payload/complexity"},
                {TEXT("{\"text\":\"a\",\"complexity\":true}"), NULL, 422, "/payload/complexity"},
                {TEXT("{\"text\":\"a\",\"complexity\":[1]}"), NULL, 422, "/payload/complexity"},
                {TEXT("{\"text\":\"a\",\"complexity\":9223372036854775807}"), NULL, 422, "/payload/complexity"},
                {TEXT("{\"text\":\"a\",\"complexity\":9223372036854775808}"), NULL, 422, "/payload/complexity"},
                {TEXT("{\"text\":\"a\",\"complexity\":2000000000000000000}"), NULL, 422, "/payload/complexity"},
                {TEXT("{\"text\":\"a\"}"), "{", 400, NULL},
                {TEXT("{\"text\":\"a\"}"), "[]", 422, "/context"},
                {TEXT("{\"text\":\"a\"}"), "null", 422, "/context"},
                {TEXT("{\"text\":\"a\"}"), "{\"priority\":\"urgent\"}", 422, "/context/priority"},
                {TEXT("{\"text\":\"a\"}"), "{\"priority\":1}", 422, "/context/priority"},
                {TEXT("{\"text\":\"a\"}"), "{\"priority\":null}", 422, "/context/priority"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                for (enum way way = 0; way < N_WAYS; way++)
                        if (way != OFFERED || !cases[i].context)
                                expect(way, cases[i].payload, cases[i].context, cases[i].status, cases[i].field);
        assert_nothing_stored();
}

static void bodies_that_are_no_job(void **state)
{
        static const struct {
                struct slice body;
                long status;
                const char *field;
        } cases[] = {
                {TEXT(""), 400, ""},
                {TEXT(" \n"), 400, ""},
                {TEXT("\xef\xbb\xbf{}"), 400, ""},
                {TEXT("[]"), 422, ""},
                {TEXT("{\"payload\":{}}"), 422, "/type"},
                {TEXT("{\"type\":5,\"payload\":{}}"), 422, "/type"},
                {TEXT("{\"type\":\"none\",\"payload\":{}}"), 422, "/type"},
                {TEXT("{\"type\":\"puz19:text_analysis\"}"), 422, "/payload"},
                {TEXT("{\"type\":\"a\",\"type\":\"b\",\"payload\":{}}"), 400, ""},
                {TEXT("{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\"},\"pri/ority\":1}"), 422, "/pri~1ority"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                for (int on_bus = 0; on_bus < 2; on_bus++) {
                        _cleanup_(freep) char *key = new_key();
                        struct outcome o = on_bus ? over_bus("application/json", key, cases[i].body) : over_http("/jobs", key, cases[i].body);

                        if (o.status != cases[i].status || strcmp(o.field, cases[i].field) != 0)
                                fail_msg("%ld at '%s': %s", o.status, o.field, cases[i].body.s);
                }
        assert_nothing_stored();
}

static void keys_and_addresses(void **state)
{
        static const struct slice body = TEXT("{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\"}}");
        static const char *const lost[] = {"/jobs/x", "/jobs/01890000-0000-7000-8000-000000000000",
                "/jobs/01890000-0000-7000-8000-000000000000/events", "/payment-intents/01890000-0000-7000-8000-000000000000", "/receipts/never",
                "/receipts/a%20b", "/nowhere"};
        _cleanup_(strbuf_done) struct strbuf key = {0};
        long status;

        (void)state;
        assert_int_equal(over_http("/jobs", "", body).status, 400);
        assert_int_equal(over_http("/jobs", "a b", body).status, 400);
        assert_int_equal(over_http("/jobs", "a.b", body).status, 400);
        for (int i = 0; i < 129; i++)
                strbuf_addc(&key, 'k');
        assert_int_equal(over_http("/jobs", key.s, body).status, 400);
        assert_int_equal(over_http("/buy/offer/none", "k", body).status, 404);
        for (size_t i = 0; i < ARRAY_SIZE(lost); i++) {
                free(stack_http(stack, false, "GET", lost[i], NULL, NULL, &status));
                assert_int_equal(status, 404);
        }
        assert_nothing_stored();
}

/* The text that is sent may be nested 32 deep, the payload being that text where it comes alone. */
static void depth(void **state)
{
        static const int left[] = {[HTTP] = 30, [OFFERED] = 31, [BUS_JSON] = 30, [BUS_PROTOBUF] = 31}; /* beside the object around it */

        (void)state;
        for (enum way way = 0; way < N_WAYS; way++)
                for (int over = 0; over < 2; over++) {
                        _cleanup_(strbuf_done) struct strbuf payload = {0};

                        strbuf_adds(&payload, "{\"text\":\"a\",\"deep\":");
                        for (int i = 0; i < left[way] + over; i++)
                                strbuf_addc(&payload, '[');
                        for (int i = 0; i < left[way] + over; i++)
                                strbuf_addc(&payload, ']');
                        strbuf_addc(&payload, '}');
                        expect(way, (struct slice){payload.s, payload.len}, NULL, over ? 400 : 0, NULL);
                }
}

static void size(void **state)
{
        (void)state;
        for (enum way way = 0; way < N_WAYS; way++)
                for (int over = 0; over < 2; over++) {
                        _cleanup_(strbuf_done) struct strbuf payload = {0};
                        _cleanup_(freep) char *key = new_key();
                        struct outcome o;
                        size_t around = way == OFFERED ? 0 : strlen("{\"type\":\"puz19:text_analysis\",\"payload\":}");

                        /* type and payload of the protobuf form: a tag and a length of 1 and 3 bytes */
                        if (way == BUS_PROTOBUF)
                                around = 2 + strlen("puz19:text_analysis") + 4;
                        strbuf_adds(&payload, "{\"text\":\"");
                        while (payload.len + 2 + around < BYTES + (size_t)over)
                                strbuf_addc(&payload, 'x');
                        strbuf_adds(&payload, "\"}");
                        o = submit(way, key, (struct slice){payload.s, payload.len}, NULL);
                        if (o.status != (over ? 413 : 0))
                                fail_msg("%s: %ld for 1 MiB and %d", way_names[way], o.status, over);
                }
}

/* A submission that says neither JSON nor protobuf is told by its first byte. */
static void other_content_types(void **state)
{
        static const struct slice good = TEXT("{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\"}}"), bad = TEXT("nonsense");

        (void)state;
        assert_int_equal(over_bus("text/plain", "plain", good).status, 0);
        assert_int_equal(over_bus("text/plain", "plain-2", bad).status, 400);
        assert_int_equal(over_bus("application/json; charset=utf-8", "plain-3", good).status, 0);
        assert_int_equal(over_bus("application/protobuf", "plain-4", good).status, 400);
}

/* One key space: the same job under one key is one job, whichever way it comes. */
static void one_key_for_all_ways(void **state)
{
        static const struct slice payload = TEXT("{\"text\":\"once\"}"), other = TEXT("{\"text\":\"twice\"}");
        struct outcome first = submit(HTTP, "once", payload, NULL);

        (void)state;
        assert_int_equal(first.status, 0);
        for (enum way way = 0; way < N_WAYS; way++) {
                struct outcome again = submit(way, "once", payload, NULL);

                assert_int_equal(again.status, 0);
                assert_string_equal(again.job, first.job);
                assert_int_equal(submit(way, "once", other, NULL).status, 422);
        }
        stack_assert_sound(stack);
}

static char *header_of(const char *method, const char *path, const char *key, const char *body, const char *name, long want)
{
        _cleanup_(freep) char *lines = NULL;
        char line[200];
        long status;
        char *at;

        snprintf(line, sizeof(line), "Idempotency-Key: %s", key);
        free(stack_send(stack, false, method, path, (const char *const[]){line, NULL}, body ? slice_of(body) : (struct slice){0}, &status, &lines));
        assert_int_equal(status, want);
        snprintf(line, sizeof(line), "\r\n%s: ", name);
        at = strstr(lines, line);
        if (!at)
                fail_msg("%s %s: no %s in %s", method, path, name, lines);
        at += strlen(line);
        return xstrndup(at, strcspn(at, "\r"));
}

static void headers(void **state)
{
        static const char job[] = "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"once\"}}";
        static const struct {
                const char *method, *path;
        } cases[] = {{"POST", "/jobs"}, {"POST", OFFER}, {"GET", "/jobs/01890000-0000-7000-8000-000000000000"}, {"GET", "/receipts/once"},
                {"GET", "/readyz"}};
        _cleanup_(freep) char *repeated = header_of("POST", "/jobs", "once", job, "Location", 200);
        _cleanup_(freep) char *made = header_of("POST", "/jobs", "new", job, "Location", 201);
        long status;

        (void)state;
        assert_true(strncmp(made, "/jobs/", 6) == 0 && strcmp(made, repeated) != 0);
        free(stack_http(stack, false, "GET", made, NULL, NULL, &status));
        assert_int_equal(status, 200);

        pg_fixture_kill(stack->pg);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                bool post = strcmp(cases[i].method, "POST") == 0;
                _cleanup_(freep) char *after = header_of(cases[i].method, cases[i].path, "away", post ? job : NULL, "Retry-After", 503);

                assert_true(atoi(after) > 0);
        }
        free(stack_http(stack, false, "GET", "/healthz", NULL, NULL, &status));
        assert_int_equal(status, 200);
        pg_fixture_restart(stack->pg);
}

static int start(void **state)
{
        struct bus_config config = {.name = "test", .inbox_prefix = "_INBOX"};
        long status = 0;

        (void)state;
        stack = stack_start_bare();
        stack_spawn(stack, "pricing", NULL);
        stack_spawn(stack, "payments", NULL);
        stack_spawn(stack, "intake", (const char *const[]){"AETHELOS_HOLD_MS=20000", NULL});
        for (int64_t until = now_mono_ms() + 20000; status != 200 && now_mono_ms() < until; poll(NULL, 0, 10))
                free(stack_http(stack, false, "GET", "/readyz", NULL, NULL, &status));
        assert_int_equal(status, 200);
        config.url = nats_fixture_url(stack->nats);
        assert_int_equal(bus_open(&config, &bus), 0);
        for (int i = 0; i < 500 && !bus_connected(bus); i++)
                poll(NULL, 0, 10);
        assert_int_equal(bus_subscribe(bus, "aethelos.receipt.default.>", NULL), 0);
        for (status = 404; status == 404;) { /* until the submit stream is there: nothing that is published before is kept */
                const struct bus_header head[] = {{"Content-Type", "application/json"}, {"Idempotency-Key", "first"}};
                struct bus_message *m;

                assert_int_equal(bus_publish(bus, "aethelos.job.submit.default", NULL, head, 2, "{", 1), 0);
                (void)bus_flush(bus);
                poll(NULL, 0, 50);
                (void)bus_maintain(bus);
                if ((m = bus_next_plain(bus)) != NULL) {
                        bus_drop(bus, m);
                        status = 0;
                }
        }
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
                cmocka_unit_test(refused_everywhere),
                cmocka_unit_test(bodies_that_are_no_job),
                cmocka_unit_test(keys_and_addresses),
                cmocka_unit_test(depth),
                cmocka_unit_test(size),
                cmocka_unit_test(other_content_types),
                cmocka_unit_test(one_key_for_all_ways),
                cmocka_unit_test(headers),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
