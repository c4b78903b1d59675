/* The golden vectors of proto/vectors: the bytes and the JSON of every message, for authors of publishers and workers in other languages. They are
 * made here from the generated structs, go through both encodings in both directions, and must be what is committed: what is on the wire does not
 * change. `test_vectors --write` writes the files anew, when a message was added. */
#include "proto/aethelos.pb-c.h"
#include "proto/pbjson.h"
#include "services/execution/execution_core.h"
#include "services/intake/intake_event.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define DIRECTORY AETHELOS_SOURCE_DIR "/proto/vectors/"
#define RUN       "01890a5d-ac96-774b-bcce-b302099a8057"
#define JOB       "01890a5d-ac96-774b-bcce-b302099a8058"

static bool writes;

/* One file: an array with a vector on each line. */
struct file {
        struct strbuf text;
};

static void begin_vector(struct file *f, const char *message, const char *name)
{
        strbuf_adds(&f->text, f->text.len == 0 ? "[\n" : ",\n");
        strbuf_addf(&f->text, "{\"message\": \"%s\", \"name\": \"%s\"", message, name);
}

static void settle(struct file *f, const char *name)
{
        char path[512];
        _cleanup_(strbuf_done) struct strbuf committed = {0};
        FILE *file;

        strbuf_adds(&f->text, "\n]\n");
        snprintf(path, sizeof(path), DIRECTORY "%s.json", name);
        file = fopen(path, writes ? "w" : "r");
        assert_non_null(file);
        if (writes) {
                assert_int_equal(fwrite(f->text.s, 1, f->text.len, file), f->text.len);
        } else {
                committed.len = fread(strbuf_grow(&committed, 1 << 20), 1, 1 << 20, file);
                committed.s[committed.len] = '\0';
                assert_string_equal(f->text.s, committed.s);
        }
        assert_int_equal(fclose(file), 0);
        strbuf_done(&f->text);
}

static void add_hex(struct strbuf *b, const uint8_t *bytes, size_t len)
{
        for (size_t i = 0; i < len; i++)
                strbuf_addf(b, "%02x", bytes[i]);
}

/* Its ids are bytes, which JSON has not: they are written as what they are. It crosses the bus in protobuf alone. */
static void add_envelope(struct strbuf *b, const Aethelos__Envelope *e)
{
        char id[UUID_TEXT_SIZE];

        strbuf_adds(b, "{\"items\":[");
        for (size_t i = 0; i < e->n_items; i++) {
                assert_int_equal(e->items[i]->chain_id.len, 16);
                uuid_format((const struct uuid *)e->items[i]->chain_id.data, id);
                strbuf_addf(b, "%s{\"chain_id\":\"%s\",\"version\":%u}", i > 0 ? "," : "", id, e->items[i]->version);
        }
        strbuf_adds(b, "]}");
}

static void add_json(struct strbuf *b, const ProtobufCMessage *m)
{
        if (m->descriptor == &aethelos__envelope__descriptor)
                add_envelope(b, (const Aethelos__Envelope *)m);
        else
                pbjson_add(b, m);
}

static void assert_reads(const ProtobufCMessageDescriptor *d, const uint8_t *bytes, size_t len, const char *json)
{
        _cleanup_(strbuf_done) struct strbuf text = {0};
        ProtobufCMessage *m = protobuf_c_message_unpack(d, NULL, len, bytes);

        assert_non_null(m);
        add_json(&text, m);
        assert_string_equal(text.s, json);
        protobuf_c_message_free_unpacked(m, NULL);
}

static void assert_writes(const ProtobufCMessageDescriptor *d, const char *json, const uint8_t *bytes, size_t len)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        _cleanup_(strbuf_done) struct strbuf field = {0};
        struct json_error error;
        const char *why;
        ProtobufCMessage *m;
        uint8_t packed[1024];

        assert_int_equal(json_parse(json, strlen(json), &doc, &error), 0);
        assert_int_equal(pbjson_parse(d, &doc, json_root(&doc), &m, &why, &field), 0);
        assert_int_equal(protobuf_c_message_get_packed_size(m), len);
        protobuf_c_message_pack(m, packed);
        assert_memory_equal(packed, bytes, len);
        protobuf_c_message_free_unpacked(m, NULL);
}

static void add(struct file *f, const char *name, const ProtobufCMessage *m)
{
        size_t len = protobuf_c_message_get_packed_size(m);
        _cleanup_(strbuf_done) struct strbuf json = {0};
        uint8_t bytes[1024];

        assert_true(len <= sizeof(bytes));
        protobuf_c_message_pack(m, bytes);
        add_json(&json, m);
        assert_reads(m->descriptor, bytes, len, json.s);
        if (m->descriptor != &aethelos__envelope__descriptor)
                assert_writes(m->descriptor, json.s, bytes, len);
        begin_vector(f, m->descriptor->short_name, name);
        strbuf_adds(&f->text, ", \"protobuf\": \"");
        add_hex(&f->text, bytes, len);
        strbuf_addf(&f->text, "\", \"json\": %s}", json.s);
}

/* Bytes that must be understood, although nobody of ours would write them so. */
static void add_read(struct file *f, const char *name, const ProtobufCMessageDescriptor *d, const char *bytes, size_t len, const char *json)
{
        assert_reads(d, (const uint8_t *)bytes, len, json);
        begin_vector(f, d->short_name, name);
        strbuf_adds(&f->text, ", \"only\": \"read\", \"protobuf\": \"");
        add_hex(&f->text, (const uint8_t *)bytes, len);
        strbuf_addf(&f->text, "\", \"json\": %s}", json);
}

#define TEXT(s)                                                                                                                                      \
        {                                                                                                                                            \
                .len = sizeof(s) - 1, .data = (uint8_t *)(s)                                                                                         \
        }
#define VECTOR(T, ...) (&(T){__VA_ARGS__}.base)
#define BASE(name)     .base = PROTOBUF_C_MESSAGE_INIT(&aethelos__##name##__descriptor)

static void submissions(void **state)
{
        static const char other_order[] = "\x12\x02{}\x0a\x01t", of_tomorrow[] = "\x0a\x01t\x12\x02{}\xfa\x01\x05later";
        struct file f = {0};

        (void)state;
        add(&f, "the least", VECTOR(Aethelos__Submission, BASE(submission), .type = (char *)"t", .payload = TEXT("null")));
        add(&f, "a job",
                VECTOR(Aethelos__Submission, BASE(submission), .type = (char *)"puz19:text_analysis", .payload = TEXT("{\"text\":\"hello\"}")));
        add(&f, "with a context",
                VECTOR(Aethelos__Submission, BASE(submission), .type = (char *)"puz19:text_analysis", .payload = TEXT("{\"text\":\"hello\"}"),
                        .has_context = true, .context = TEXT("{\"priority\":\"high\"}")));
        add(&f, "with its key",
                VECTOR(Aethelos__Submission, BASE(submission), .type = (char *)"t", .payload = TEXT("[1,2]"), .has_context = true,
                        .context = TEXT("{}"), .key = (char *)"order-4711"));
        add(&f, "beyond ASCII, and what JSON escapes",
                VECTOR(Aethelos__Submission, BASE(submission), .type = (char *)"quote \" backslash \\ tab \t",
                        .payload = TEXT("{\"text\":\"K\xc3\xa4se \xe2\x82\xac \xf0\x9f\x9a\x80\"}")));
        add_read(&f, "fields in another order", &aethelos__submission__descriptor, other_order, sizeof(other_order) - 1,
                "{\"type\":\"t\",\"payload\":{}}");
        add_read(&f, "a field of tomorrow is passed over", &aethelos__submission__descriptor, of_tomorrow, sizeof(of_tomorrow) - 1,
                "{\"type\":\"t\",\"payload\":{}}");
        settle(&f, "submission");
}

static void receipts(void **state)
{
        Aethelos__Amount price = {BASE(amount), .minor = 2588, .currency = (char *)"EUR"};
        Aethelos__Amount most = {BASE(amount), .minor = INT64_MAX, .currency = (char *)"JPY"};
        Aethelos__Problem problem = {BASE(problem), .type = (char *)"/problems/unknown-type", .title = (char *)"Unknown type", .status = 422,
                .detail = (char *)"there is no flow for this type", .field = (char *)"/type"};
        Aethelos__Problem bare = {BASE(problem), .type = (char *)"/problems/invalid-json", .title = (char *)"Invalid json", .status = 400};
        struct file f = {0};

        (void)state;
        add(&f, "accepted",
                VECTOR(Aethelos__Receipt, BASE(receipt), .status = AETHELOS__RECEIPT_STATUS__ACCEPTED, .job_id = (char *)JOB, .price = &price));
        add(&f, "accepted, not priced yet",
                VECTOR(Aethelos__Receipt, BASE(receipt), .status = AETHELOS__RECEIPT_STATUS__ACCEPTED, .job_id = (char *)JOB));
        add(&f, "accepted, the greatest price",
                VECTOR(Aethelos__Receipt, BASE(receipt), .status = AETHELOS__RECEIPT_STATUS__ACCEPTED, .job_id = (char *)JOB, .price = &most));
        add(&f, "rejected", VECTOR(Aethelos__Receipt, BASE(receipt), .status = AETHELOS__RECEIPT_STATUS__REJECTED, .problem = &problem));
        add(&f, "rejected, with what there always is",
                VECTOR(Aethelos__Receipt, BASE(receipt), .status = AETHELOS__RECEIPT_STATUS__REJECTED, .problem = &bare));
        settle(&f, "receipt");
}

static void events(void **state)
{
        struct file f = {0};

        (void)state;
        add(&f, "an event",
                VECTOR(Aethelos__Event, BASE(event), .id = 912, .type = (char *)"REVENUE_BOOKED", .chain_id = (char *)JOB, .version = 10,
                        .time = (char *)"2026-01-31T08:00:00.000001Z", .data = TEXT("{\"amount\":{\"minor\":2588,\"currency\":\"EUR\"}}")));
        add(&f, "numbers that need all their bytes",
                VECTOR(Aethelos__Event, BASE(event), .id = INT64_MAX, .type = (char *)"PAYMENT_EXPIRED", .chain_id = (char *)JOB,
                        .version = INT32_MAX, .time = (char *)"2026-01-31T08:00:00.000000Z",
                        .data = TEXT("{\"error\":{\"reason\":\"payment_expired\"}}")));
        settle(&f, "event");
}

static void envelopes(void **state)
{
        struct uuid first, second;
        Aethelos__Envelope__Item items[2] = {
                {PROTOBUF_C_MESSAGE_INIT(&aethelos__envelope__item__descriptor), .version = 1},
                {PROTOBUF_C_MESSAGE_INIT(&aethelos__envelope__item__descriptor), .version = UINT32_MAX},
        };
        Aethelos__Envelope__Item *both[] = {&items[0], &items[1]};
        struct file f = {0};

        (void)state;
        assert_true(uuid_parse(RUN, strlen(RUN), &first) && uuid_parse(JOB, strlen(JOB), &second));
        items[0].chain_id = (ProtobufCBinaryData){sizeof(first.b), first.b};
        items[1].chain_id = (ProtobufCBinaryData){sizeof(second.b), second.b};
        add(&f, "nobody", VECTOR(Aethelos__Envelope, BASE(envelope)));
        add(&f, "one chain", VECTOR(Aethelos__Envelope, BASE(envelope), .n_items = 1, .items = both));
        add(&f, "two chains", VECTOR(Aethelos__Envelope, BASE(envelope), .n_items = 2, .items = both));
        settle(&f, "envelope");
}

static void heartbeats(void **state)
{
        struct file f = {0};

        (void)state;
        add(&f, "a beat",
                VECTOR(Aethelos__Heartbeat, BASE(heartbeat), .service = (char *)"meta-repair", .instance = (char *)"host-4711", .pid = 4711,
                        .rounds = INT64_C(1) << 40));
        settle(&f, "heartbeat");
}

/* --- workers: what breaks the contract has no form in protobuf --- */

static const ProtobufCMessageDescriptor *const worker_messages[] = {&aethelos__call__descriptor, &aethelos__question__descriptor,
        &aethelos__reply__descriptor, &aethelos__answer__descriptor, &aethelos__beat__descriptor, &aethelos__beat_answer__descriptor,
        &aethelos__result__descriptor, &aethelos__result_answer__descriptor};

/* The same in protobuf; false: there is none. */
static bool in_protobuf(const char *message, const char *json, struct strbuf *b)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        _cleanup_(strbuf_done) struct strbuf field = {0}, back = {0};
        const ProtobufCMessageDescriptor *d = NULL;
        struct json_error error;
        const char *why;
        ProtobufCMessage *m;

        for (size_t i = 0; i < ARRAY_SIZE(worker_messages); i++)
                if (strcmp(worker_messages[i]->short_name, message) == 0)
                        d = worker_messages[i];
        assert_non_null(d);
        assert_int_equal(json_parse(json, strlen(json), &doc, &error), 0);
        if (pbjson_parse(d, &doc, json_root(&doc), &m, &why, &field) < 0)
                return false;
        pbjson_add_packed(b, m);
        protobuf_c_message_free_unpacked(m, NULL);
        assert_null(pbjson_unpack(&back, d, b->s, b->len));
        assert_string_equal(back.s, json);
        return true;
}

static void add_worker(struct file *f, const char *message, const char *name, const char *json, const char *means)
{
        _cleanup_(strbuf_done) struct strbuf packed = {0};

        begin_vector(f, message, name);
        if (in_protobuf(message, json, &packed)) {
                strbuf_adds(&f->text, ", \"protobuf\": \"");
                add_hex(&f->text, (const uint8_t *)packed.s, packed.len);
                strbuf_addc(&f->text, '"');
        }
        strbuf_addf(&f->text, ", \"json\": %s", json);
        if (means)
                strbuf_addf(&f->text, ", \"means\": \"%s\"", means);
        strbuf_addc(&f->text, '}');
}

/* What was written in protobuf is the JSON, and the other way round. */
static void assert_same(const char *message, const char *json, const struct strbuf *packed)
{
        _cleanup_(strbuf_done) struct strbuf other = {0};

        assert_true(in_protobuf(message, json, &other));
        assert_int_equal(packed->len, other.len);
        assert_memory_equal(packed->s, other.s, other.len);
}

static void add_call(struct file *f, const char *name, const struct execution_call *call)
{
        _cleanup_(strbuf_done) struct strbuf json = {0}, packed = {0};

        execution_call_body(&json, call);
        execution_call_message(&packed, call);
        assert_same("Call", json.s, &packed);
        add_worker(f, "Call", name, json.s, NULL);
}

/* What execution makes of what a worker says. */
static const char *meaning(const char *message, struct slice body, bool protobuf)
{
        static const char *const means[] = {[EXECUTION_DONE] = "done",
                [EXECUTION_ACCEPTED] = "accepted",
                [EXECUTION_FAILED] = "failed",
                [EXECUTION_UNKNOWN] = "not known: asked about, never sent again blindly",
                [EXECUTION_NOT_KNOWN] = "sent again"};
        static const char refused[] = "failed, no fault of the operator";
        struct execution_reply reply = {.kind = EXECUTION_REPLY_ANSWERED, .status = 200, .protobuf = protobuf, .body = body};
        struct execution_answer answer = {0};
        struct execution_word word = {0};
        const char *what;

        if (strcmp(message, "Reply") == 0 || strcmp(message, "Answer") == 0) {
                if (message[0] == 'R')
                        execution_read_bus_call(&reply, true, &answer);
                else
                        execution_read_status(&reply, true, &answer);
                what = answer.refused ? refused : means[answer.verdict];
                execution_answer_done(&answer);
        } else if (execution_read_worker(body, protobuf, strcmp(message, "Result") == 0, &word)) {
                what = "invalid";
        } else {
                what = message[0] == 'B' ? "it has the run" : word.answer.refused ? refused : means[word.answer.verdict];
                execution_word_done(&word);
        }
        return what;
}

static void workers(void **state)
{
        static const struct {
                const char *message, *name, *json;
        } replies[] = {
                {"Reply", "done", "{\"status\":\"done\",\"output\":{\"text\":\"olleh\"}}"},
                {"Reply", "done, and the output is null", "{\"status\":\"done\",\"output\":null}"},
                {"Reply", "done without an output", "{\"status\":\"done\"}"},
                {"Reply", "failed", "{\"status\":\"failed\",\"error\":\"no such text\"}"},
                {"Reply", "refused: failed, and the input is to blame", "{\"status\":\"failed\",\"error\":\"no text at all\",\"refused\":true}"},
                {"Reply", "accepted", "{\"status\":\"accepted\",\"worker\":\"desk 1\"}"},
                {"Reply", "no status that there is", "{\"status\":\"perhaps\"}"},
                {"Answer", "done", "{\"status\":\"done\",\"output\":{\"text\":\"olleh\"}}"},
                {"Answer", "failed", "{\"status\":\"failed\",\"error\":\"no such text\"}"},
                {"Answer", "under way", "{\"status\":\"running\"}"},
                {"Answer", "never heard of it", "{\"status\":\"unknown\"}"},
                {"Beat", "the least", "{\"run_id\":\"" RUN "\",\"token\":1}"},
                {"Beat", "with all it may say", "{\"run_id\":\"" RUN "\",\"token\":2,\"worker\":\"desk 1\",\"percent\":40,\"progress\":\"reading\"}"},
                {"Beat", "without a token", "{\"run_id\":\"" RUN "\"}"},
                {"Result", "done", "{\"run_id\":\"" RUN "\",\"token\":1,\"status\":\"done\",\"output\":[1,2]}"},
                {"Result", "failed", "{\"run_id\":\"" RUN "\",\"token\":1,\"status\":\"failed\",\"error\":\"no such text\"}"},
                {"Answer", "refused", "{\"status\":\"failed\",\"error\":\"no text at all\",\"refused\":true}"},
                {"Result", "refused", "{\"run_id\":\"" RUN "\",\"token\":1,\"status\":\"failed\",\"error\":\"no text at all\",\"refused\":true}"},
                {"Result", "neither", "{\"run_id\":\"" RUN "\",\"token\":1,\"status\":\"running\"}"},
        };
        static const struct {
                const char *message, *status, *error;
        } answers[] = {
                {"BeatAnswer", "held", NULL},
                {"BeatAnswer", "over", NULL},
                {"BeatAnswer", "invalid", "percent: an integer from 0 to 100"},
                {"ResultAnswer", "committed", NULL},
                {"ResultAnswer", "over", NULL},
                {"ResultAnswer", "invalid", "status: done or failed"},
        };
        _cleanup_(strbuf_done) struct strbuf json = {0}, packed = {0};
        struct execution_call call = {.attempt = 1, .token = 1, .lease_ms = 10000, .input = slice_of("{\"text\":\"hello\"}")};
        struct file f = {0};

        (void)state;
        assert_true(uuid_parse(RUN, strlen(RUN), &call.run_id) && uuid_parse(JOB, strlen(JOB), &call.job_id));
        add_call(&f, "the first", &call);
        call.step = 2;
        call.attempt = 3;
        call.token = 7;
        call.context = slice_of("{\"priority\":\"high\"}");
        add_call(&f, "a later step, sent again", &call);
        execution_question_body(&json, &call.run_id, false);
        add_worker(&f, "Question", "about a run", json.s, NULL);
        execution_question_body(&packed, &call.run_id, true);
        assert_same("Question", json.s, &packed);
        for (size_t i = 0; i < ARRAY_SIZE(replies); i++) {
                const char *what = meaning(replies[i].message, slice_of(replies[i].json), false);

                strbuf_reset(&packed);
                if (in_protobuf(replies[i].message, replies[i].json, &packed))
                        assert_string_equal(meaning(replies[i].message, (struct slice){packed.s, packed.len}, true), what);
                add_worker(&f, replies[i].message, replies[i].name, replies[i].json, what);
        }
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
                bool result = strcmp(answers[i].message, "ResultAnswer") == 0;

                strbuf_reset(&json);
                strbuf_reset(&packed);
                execution_word_answer(&json, result, answers[i].status, answers[i].error, false);
                execution_word_answer(&packed, result, answers[i].status, answers[i].error, true);
                assert_same(answers[i].message, json.s, &packed);
                add_worker(&f, answers[i].message, answers[i].status, json.s, NULL);
        }
        settle(&f, "worker");
}

/* --- CloudEvents: the submission that each is, and its key --- */

static void cloudevents(void **state)
{
#define EVENT "\"specversion\":\"1.0\",\"type\":\"puz19:text_analysis\","
        static const struct {
                const char *name, *json;
        } events[] = {
                {"the least", "{" EVENT "\"source\":\"/orders\",\"id\":\"a-1\",\"data\":{\"text\":\"hello\"}}"},
                {"with priority, and attributes that are passed over",
                        "{" EVENT
                        "\"source\":\"https://example.com/orders\",\"id\":\"a-1\",\"time\":\"2026-01-31T08:00:00Z\",\"subject\":\"order 1\","
                        "\"priority\":\"high\",\"datacontenttype\":\"application/json\",\"data\":{\"text\":\"hello\"}}"},
                {"beyond ASCII", "{" EVENT "\"source\":\"/orders/K%C3%A4se\",\"id\":\"\xe2\x82\xac 1\",\"data\":{\"text\":\"\xf0\x9f\x9a\x80\"}}"},
        };
        struct file f = {0};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
                _cleanup_(intake_submitted_done) struct intake_submitted s = {0};
                struct refusal refusal;

                assert_true(intake_read_structured(events[i].json, strlen(events[i].json), &s, &refusal));
                begin_vector(&f, "CloudEvent", events[i].name);
                strbuf_addf(&f.text, ", \"json\": %s, \"submission\": ", events[i].json);
                strbuf_add(&f.text, s.doc.text, s.doc.len);
                strbuf_addf(&f.text, ", \"key\": \"%s\"}", s.key);
        }
        settle(&f, "cloudevent");
}

int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(submissions), cmocka_unit_test(receipts), cmocka_unit_test(events),
                cmocka_unit_test(envelopes), cmocka_unit_test(heartbeats), cmocka_unit_test(workers), cmocka_unit_test(cloudevents)};

        writes = argc == 2 && strcmp(argv[1], "--write") == 0;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
