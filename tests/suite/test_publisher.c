/* Publishing jobs from another system: receipts in the encoding of the submission, repeats, refusals, what cannot be used, and live events. */
#include "base/strbuf.h"
#include "base/util.h"
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

#include "tests/support/asserts.h"

#define TEXT_JOB                                                                                                                                     \
        "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"Code 19: Initial global activation "                                              \
        "payload.\"},\"context\":{\"priority\":\"high\"}}"

static struct stack *stack;
static struct bus *bus;

static int set_up(void **state)
{
        struct bus_config config = {.name = "test", .inbox_prefix = "_INBOX"};

        (void)state;
        stack = stack_start();
        config.url = nats_fixture_url(stack->nats);
        assert_int_equal(bus_open(&config, &bus), 0);
        assert_int_equal(bus_subscribe(bus, "aethelos.receipt.default.>", NULL), 0);
        assert_int_equal(bus_subscribe(bus, "aethelos.event.default.>", NULL), 0);
        assert_int_equal(bus_subscribe(bus, "aethelos.event.system.TASK_CREATED.*", NULL), 0);
        for (int i = 0; i < 500 && !bus_connected(bus); i++)
                poll(NULL, 0, 10);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        bus = bus_free(bus);
        stack_assert_sound(stack);
        stack = stack_free(stack);
        return 0;
}

/* The next message on a subject, others are passed over; NULL after ms. */
static struct bus_message *next_on(const char *subject, int ms)
{
        int64_t until = now_mono_ms() + ms;

        do {
                (void)bus_maintain(bus);
                struct bus_message *m = bus_next_plain(bus);

                if (m && strcmp(m->subject, subject) == 0)
                        return m;
                if (m)
                        bus_drop(bus, m);
                else
                        poll(NULL, 0, 2);
        } while (now_mono_ms() < until);
        return NULL;
}

static void publish(const char *key, const char *type, const void *body, size_t len)
{
        const struct bus_header headers[] = {{"Idempotency-Key", key}, {"Content-Type", type}};

        assert_int_equal(bus_publish(bus, "aethelos.job.submit.default", NULL, headers, 2, body, len), 0);
        (void)bus_flush(bus);
}

/* As the contract says: repeats until there is a receipt. */
static struct bus_message *receipt(const char *key, const char *type, const void *body, size_t len)
{
        char subject[200];

        snprintf(subject, sizeof(subject), "aethelos.receipt.default.%s", key);
        for (int i = 0; i < 10; i++) {
                struct bus_message *m;

                publish(key, type, body, len);
                m = next_on(subject, 2000);
                if (m)
                        return m;
        }
        fail_msg("no receipt for %s", key);
        return NULL;
}

static char *json_receipt(const char *key, const char *body)
{
        struct bus_message *m = receipt(key, "application/json", body, strlen(body));
        char *text = xstrndup(m->data, m->len);

        bus_drop(bus, m);
        return text;
}

static void json_submission(void **state)
{
        _cleanup_(freep) char *first = json_receipt("bus-1", TEXT_JOB), *again = json_receipt("bus-1", TEXT_JOB), *other = NULL,
                              *id = json_at(first, "job_id"), *http = NULL;
        long status;

        (void)state;
        assert_at(first, "status", "accepted");
        assert_at(first, "price.minor", "2588");
        assert_at(again, "job_id", id);
        other = json_receipt("bus-1", "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"other\"}}");
        assert_at(other, "status", "rejected");
        assert_at(other, "problem.status", "422");
        /* one key space: the same key over HTTP is the same job */
        http = stack_http(stack, false, "POST", "/jobs", (const char *const[]){"Idempotency-Key: bus-1", NULL}, TEXT_JOB, &status);
        assert_int_equal(status, 200);
        assert_at(http, "job.id", id);
        free(http);
        http = stack_http(stack, false, "GET", "/receipts/bus-1", NULL, NULL, &status);
        assert_int_equal(status, 200);
        assert_at(http, "job_id", id);
}

static void protobuf_submission(void **state)
{
        Aethelos__Submission submission = AETHELOS__SUBMISSION__INIT;
        static char payload[] = "{\"numbers\":[1,2,3]}";
        uint8_t packed[512];
        size_t len;
        struct bus_message *m;
        Aethelos__Receipt *answer;

        (void)state;
        submission.type = (char *)"puz19:numeric_analysis";
        submission.payload.data = (uint8_t *)payload;
        submission.payload.len = strlen(payload);
        len = aethelos__submission__pack(&submission, packed);
        m = receipt("bus-2", "application/protobuf", packed, len);
        answer = aethelos__receipt__unpack(NULL, m->len, (const uint8_t *)m->data);
        assert_non_null(answer);
        assert_int_equal(answer->status, AETHELOS__RECEIPT_STATUS__ACCEPTED);
        assert_non_null(answer->price);
        aethelos__receipt__free_unpacked(answer, NULL);
        bus_drop(bus, m);
}

static void rejections_block_nobody(void **state)
{
        _cleanup_(freep) char *bad = json_receipt("bus-3", "{\"type\":"), *unknown = json_receipt("bus-4", "{\"type\":\"none\",\"payload\":{}}"),
                              *good = NULL;

        (void)state;
        assert_at(bad, "status", "rejected");
        assert_at(bad, "problem.status", "400");
        assert_at(unknown, "problem.status", "422");
        /* without a key there is nobody to answer: it is put aside, and what comes behind goes on */
        assert_int_equal(bus_publish(bus, "aethelos.job.submit.default", NULL, NULL, 0, TEXT_JOB, strlen(TEXT_JOB)), 0);
        (void)bus_flush(bus);
        good = json_receipt("bus-5", TEXT_JOB);
        assert_at(good, "status", "accepted");
        stack_await(stack, "SELECT count(*) > 0 FROM quarantine WHERE service = 'intake'", "t", 5000);
}

static void receipt_on_request(void **state)
{
        _cleanup_(freep) char *first = json_receipt("bus-6", TEXT_JOB), *id = json_at(first, "job_id"), *text = NULL;
        struct bus_message *m = NULL;

        (void)state;
        assert_int_equal(bus_request(bus, "aethelos.query.receipt.default", "bus-6", 5, 3000, &m), 0);
        text = xstrndup(m->data, m->len);
        bus_drop(bus, m);
        assert_at(text, "job_id", id);
        assert_at(text, "status", "accepted");
}

/* What is told live on a subject, malloc'ed. */
static char *told_on(const char *subject)
{
        struct bus_message *m = next_on(subject, 5000);
        char *text;

        assert_non_null(m);
        text = xstrndup(m->data, m->len);
        bus_drop(bus, m);
        return text;
}

static void live_events(void **state)
{
        _cleanup_(freep) char *first = json_receipt("bus-7", TEXT_JOB), *id = json_at(first, "job_id"), *text = NULL;
        char subject[200];

        (void)state;
        snprintf(subject, sizeof(subject), "aethelos.event.default.PAYMENT_INITIATED.%s", id);
        text = told_on(subject);
        assert_at(text, "chain_id", id);
        assert_at(text, "data.driver", "manual");
}

/* Clients read their events on the bus: who confirmed, and the slip at the bank, are not theirs to read. */
static void events_without_names(void **state)
{
        static const char word[] = "{\"reference\":\"slip 4711\",\"by\":\"anna\"}";
        _cleanup_(freep) char *first = json_receipt("bus-9", TEXT_JOB), *id = json_at(first, "job_id"), *text = NULL;
        char subject[200], path[100], sql[120];
        long status;

        (void)state;
        snprintf(sql, sizeof(sql), "SELECT step FROM chain WHERE id = '%s'", id);
        stack_await(stack, sql, "PAYMENT_INITIATED", 5000); /* the receipt comes before the intent */
        snprintf(path, sizeof(path), "/payment-intents/%s/confirm", id);
        free(stack_http(stack, true, "POST", path, NULL, word, &status));
        assert_int_equal(status, 200);
        snprintf(subject, sizeof(subject), "aethelos.event.default.PAYMENT_CONFIRMED.%s", id);
        text = told_on(subject);
        assert_at(text, "data.amount.minor", "2588");
        assert_at(text, "data.evidence.kind", "person");
        assert_null(strstr(text, "anna"));
        assert_null(strstr(text, "4711"));
        _cleanup_(freep) char *asked = stack_http(stack, true, "POST", "/system/tasks", NULL, "{\"kind\":\"FLOW_AUDIT\",\"by\":\"anna\"}", &status),
                              *task = json_at(asked, "task_id"), *opened = NULL;
        snprintf(subject, sizeof(subject), "aethelos.event.system.TASK_CREATED.%s", task);
        opened = told_on(subject);
        assert_at(opened, "data.payload.task", "FLOW_AUDIT");
        assert_null(strstr(opened, "anna"));
}

/* Hop messages that no service has said: garbage is put aside, repeats and unknown chains do nothing. */
static void garbage_on_hops(void **state)
{
        _cleanup_(freep) char *first = NULL;

        (void)state;
        for (int i = 0; i < 3; i++)
                assert_int_equal(bus_publish(bus, "aethelos.hop.pricing.high", NULL, NULL, 0, "garbage", 7), 0);
        (void)bus_flush(bus);
        first = json_receipt("bus-8", TEXT_JOB);
        assert_at(first, "status", "accepted");
        stack_await(stack, "SELECT count(*) FROM quarantine WHERE service = 'pricing'", "3", 5000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(json_submission),
                cmocka_unit_test(protobuf_submission),
                cmocka_unit_test(rejections_block_nobody),
                cmocka_unit_test(receipt_on_request),
                cmocka_unit_test(live_events),
                cmocka_unit_test(events_without_names),
                cmocka_unit_test(garbage_on_hops),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
