/* Workers on the bus that speak protobuf: calls, questions, beats and results and the answers that execution gives; what is malformed is refused with
 * its reason, and the run stands as it stood. What the words mean is tested in JSON (test_bus_operator), into which these are read. */
#include "proto/aethelos.pb-c.h"
#include "proto/pbjson.h"
#include "tests/support/bus_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TYPE_PROTOBUF (&(struct bus_header){"Content-Type", "application/protobuf"}), 1

static void reply_packed(struct bus *bus, const char *to, const ProtobufCMessage *m)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        pbjson_add_packed(&b, m);
        assert_int_equal(bus_publish(bus, to, NULL, TYPE_PROTOBUF, b.s, b.len), 0);
        bus_flush(bus);
}

static struct bus_message *hear_packed(struct bus *bus)
{
        struct bus_message *m;

        for (int64_t until = now_mono_ms() + PATIENCE_MS; bus_maintain(bus), !(m = bus_next_plain(bus)); usleep(2000))
                if (now_mono_ms() > until)
                        fail_msg("the worker hears nothing");
        assert_string_equal(bus_message_header(m, "Content-Type"), "application/protobuf");
        return m;
}

/* Says it until it is answered; the answer in its JSON form. NULL: malformed on purpose. */
static void expect_packed(struct bus *bus, const char *what, const ProtobufCMessage *m, const char *is)
{
        const ProtobufCMessageDescriptor *d = strcmp(what, "beat") == 0 ? &aethelos__beat_answer__descriptor : &aethelos__result_answer__descriptor;
        _cleanup_(strbuf_done) struct strbuf b = {0}, json = {0};
        struct bus_message *answer = NULL;
        char subject[96];

        snprintf(subject, sizeof(subject), "aethelos.operator.packed.%s", what);
        if (m)
                pbjson_add_packed(&b, m);
        else
                strbuf_adds(&b, "\x0a\x7f");
        for (int64_t until = now_mono_ms() + PATIENCE_MS; !answer && now_mono_ms() < until; bus_maintain(bus))
                if (bus_request(bus, subject, b.s, b.len, 500, &answer) < 0)
                        usleep(20000);
        assert_non_null(answer);
        assert_string_equal(bus_message_header(answer, "Content-Type"), "application/protobuf");
        assert_null(pbjson_unpack(&json, d, answer->data, answer->len));
        assert_string_equal(json.s, is);
        bus_drop(bus, answer);
}

static void assert_text(const ProtobufCBinaryData *is, const char *wanted)
{
        assert_int_equal(is->len, strlen(wanted));
        assert_memory_equal(is->data, wanted, is->len);
}

#define JSON_BYTES(s)                                                                                                                                \
        {                                                                                                                                            \
                .len = sizeof(s) - 1, .data = (uint8_t *)(s)                                                                                         \
        }

/* The whole contract once; what cannot be read costs nothing but another question. */
static void a_worker_speaks_protobuf(void **state)
{
        static const char invalid[] = "{\"status\":\"invalid\",\"error\":\"not the protobuf message that it must be, or not whole\"}";
        struct bus_world *w = *state;
        struct bus *bus = bus_world_worker(w, "packed");
        Aethelos__Answer running = AETHELOS__ANSWER__INIT;
        Aethelos__Beat beat = AETHELOS__BEAT__INIT;
        Aethelos__Result result = AETHELOS__RESULT__INIT, wrong = AETHELOS__RESULT__INIT, failed = AETHELOS__RESULT__INIT;
        Aethelos__Reply done = AETHELOS__REPLY__INIT;

        bus_world_operator(w, "packed", ",\"encoding\":\"protobuf\",\"answers_status\":true,\"timeout_ms\":2000");
        bus_world_job(w, "packed");
        struct bus_message *m = hear_packed(bus);
        Aethelos__Call *call = aethelos__call__unpack(NULL, m->len, (const uint8_t *)m->data);
        assert_non_null(call);
        assert_text(&call->input, "{\"text\":\"one two\"}");
        assert_text(&call->context, "{}");
        assert_int_equal(call->token, 1);
        assert_int_equal(call->lease_ms, 10000);
        assert_int_equal(bus_publish(bus, m->reply, NULL, NULL, 0, "\xff\xff", 2), 0);
        (void)bus_flush(bus);
        bus_drop(bus, m);
        bus_world_await_runs(
                w, "packed", "state || ': ' || error", "unknown: the answer is unusable: not the protobuf message that it must be, or not whole");
        m = hear_packed(bus);
        Aethelos__Question *question = aethelos__question__unpack(NULL, m->len, (const uint8_t *)m->data);
        assert_non_null(question);
        assert_string_equal(question->run_id, call->run_id);
        running.status = AETHELOS__ANSWER__ANSWER_STATUS__RUNNING;
        running.worker = (char *)"desk 1";
        reply_packed(bus, m->reply, &running.base);
        bus_drop(bus, m);
        bus_world_await_runs(w, "packed", "state || ' ' || worker", "accepted desk 1");
        beat.run_id = result.run_id = wrong.run_id = call->run_id;
        beat.token = result.token = wrong.token = call->token;
        beat.has_percent = true;
        beat.percent = 40;
        expect_packed(bus, "beat", &beat.base, "{\"status\":\"held\"}");
        expect_packed(bus, "beat", NULL, invalid);
        expect_packed(bus, "result", NULL, invalid);
        wrong.has_output = result.has_output = true;
        wrong.output = (ProtobufCBinaryData)JSON_BYTES("{\"text\":");
        expect_packed(bus, "result", &wrong.base, "{\"status\":\"invalid\",\"error\":\"a field that must be JSON text is not\"}");
        bus_world_await_runs(w, "packed", "state || sends || percent", "accepted140");
        result.output = (ProtobufCBinaryData)JSON_BYTES("{\"text\":\"a b\"}");
        expect_packed(bus, "result", &result.base, "{\"status\":\"committed\"}");
        expect_packed(bus, "result", &result.base, "{\"status\":\"committed\"}");
        failed.run_id = call->run_id;
        failed.token = call->token;
        failed.status = AETHELOS__RESULT__RESULT_STATUS__FAILED;
        expect_packed(bus, "result", &failed.base, "{\"status\":\"over\"}");
        expect_packed(bus, "beat", &beat.base, "{\"status\":\"over\"}");
        bus_world_await_runs(w, "packed", "state || sends", "done1");
        bus_world_job(w, "packed");
        m = hear_packed(bus);
        done.has_output = true;
        done.output = result.output;
        reply_packed(bus, m->reply, &done.base);
        bus_drop(bus, m);
        bus_world_await_runs(w, "packed", "state || sends", "done1 done1");
        aethelos__question__free_unpacked(question, NULL);
        aethelos__call__free_unpacked(call, NULL);
        bus_free(bus);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(a_worker_speaks_protobuf, bus_world_finished)};

        return cmocka_run_group_tests(tests, bus_world_setup, bus_world_teardown);
}
