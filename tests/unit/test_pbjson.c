/* The JSON form of the messages, there and back. */
#include "proto/aethelos.pb-c.h"
#include "proto/encoding.h"
#include "proto/pbjson.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static ProtobufCMessage *parse(const ProtobufCMessageDescriptor *d, const char *text, const char **ret_error, struct strbuf *ret_field)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;
        ProtobufCMessage *m;

        assert_int_equal(json_parse(text, strlen(text), &doc, &error), 0);
        return pbjson_parse(d, &doc, json_root(&doc), &m, ret_error, ret_field) == 0 ? m : NULL;
}

static void there_and_back(void **state)
{
        static const struct {
                const ProtobufCMessageDescriptor *d;
                const char *text;
        } cases[] = {
                {&aethelos__submission__descriptor, "{\"type\":\"t\",\"payload\":{\"a\":[1.50,\"\\u00e4\"]},\"context\":{},\"key\":\"k\"}"},
                {&aethelos__submission__descriptor, "{\"type\":\"t\",\"payload\":null}"},
                {&aethelos__receipt__descriptor,
                        "{\"status\":\"accepted\",\"job_id\":\"j\",\"price\":{\"minor\":9223372036854775807,\"currency\":\"EUR\"}}"},
                {&aethelos__receipt__descriptor,
                        "{\"status\":\"rejected\",\"problem\":{\"type\":\"/problems/x\",\"title\":\"X\",\"status\":422,\"field\":\"/payload\"}}"},
                {&aethelos__event__descriptor, "{\"id\":-5,\"type\":\"PRICED\",\"chain_id\":\"c\",\"version\":3,\"time\":\"t\",\"data\":{\"x\":1}}"},
                {&aethelos__envelope__descriptor, "{\"items\":[{\"chain_id\":1,\"version\":4294967295},{\"chain_id\":2,\"version\":0}]}"},
                {&aethelos__envelope__descriptor, "{\"items\":[]}"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(strbuf_done) struct strbuf field = {0}, text = {0};
                const char *error = NULL;
                ProtobufCMessage *m = parse(cases[i].d, cases[i].text, &error, &field), *again;
                uint8_t packed[512];
                size_t len;

                assert_non_null(m);
                len = protobuf_c_message_get_packed_size(m);
                assert_true(len <= sizeof(packed));
                protobuf_c_message_pack(m, packed);
                protobuf_c_message_free_unpacked(m, NULL);
                again = protobuf_c_message_unpack(cases[i].d, NULL, len, packed);
                assert_non_null(again);
                pbjson_add(&text, again);
                assert_string_equal(text.s, cases[i].text);
                protobuf_c_message_free_unpacked(again, NULL);
        }
}

static void refusals(void **state)
{
        static const struct {
                const ProtobufCMessageDescriptor *d;
                const char *text, *error, *field;
        } cases[] = {
                {&aethelos__submission__descriptor, "[]", "must be an object", ""},
                {&aethelos__submission__descriptor, "{\"type\":\"t\"}", "is missing", "/payload"},
                {&aethelos__submission__descriptor, "{\"payload\":1}", "is missing", "/type"},
                {&aethelos__submission__descriptor, "{\"type\":1,\"payload\":1}", "must be a string", "/type"},
                {&aethelos__submission__descriptor, "{\"type\":\"t\",\"payload\":1,\"a/b~\":1}", "unknown member", "/a~1b~0"},
                {&aethelos__receipt__descriptor, "{\"status\":\"ACCEPTED\"}", "not one of the known values", "/status"},
                {&aethelos__receipt__descriptor, "{\"status\":\"accepted\",\"price\":{\"minor\":1.5,\"currency\":\"EUR\"}}", "must be an integer",
                        "/price/minor"},
                {&aethelos__receipt__descriptor, "{\"status\":\"accepted\",\"price\":{\"minor\":1}}", "is missing", "/price/currency"},
                {&aethelos__envelope__descriptor, "{\"items\":[{\"chain_id\":1,\"version\":1},{\"chain_id\":1,\"version\":-1}]}", "out of range",
                        "/items/1/version"},
                {&aethelos__envelope__descriptor, "{\"items\":{}}", "must be an array", "/items"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(strbuf_done) struct strbuf field = {0};
                const char *error = NULL;

                assert_null(parse(cases[i].d, cases[i].text, &error, &field));
                assert_string_equal(error, cases[i].error);
                assert_string_equal(field.s ? field.s : "", cases[i].field);
        }
}

/* Whatever comes from outside is as strict as JSON is: the texts that it embeds cannot say more than they are. */
static void from_outside(void **state)
{
#define BYTES(s) (s), sizeof(s) - 1
        static const struct {
                const ProtobufCMessageDescriptor *d;
                const char *bytes;
                size_t len;
                const char *json; /* NULL: refused */
        } cases[] = {
                {&aethelos__reply__descriptor, BYTES("\x08\x00\x12\x0b{ \"a\" : 1 }"), "{\"status\":\"done\",\"output\":{ \"a\" : 1 }}"},
                {&aethelos__reply__descriptor, BYTES("\x08\x01\x1a\x02no"), "{\"status\":\"failed\",\"error\":\"no\"}"},
                {&aethelos__reply__descriptor, BYTES("\x08\x07"), "{\"status\":7}"},
                {&aethelos__reply__descriptor, BYTES("\x08\x02\x92\x03\x01x"), "{\"status\":\"accepted\"}"}, /* a field of tomorrow */
                {&aethelos__reply__descriptor, BYTES(""), NULL}, {&aethelos__reply__descriptor, BYTES("\xff\xff"), NULL},
                {&aethelos__reply__descriptor, BYTES("\x08\x00\x12\x0b{ \"a\" :"), NULL}, /* not whole */
                {&aethelos__reply__descriptor, BYTES("\x12\x01\x31"), NULL},              /* no status */
                {&aethelos__reply__descriptor, BYTES("\x08\x00\x12\x00"), NULL},          /* an output that is no JSON */
                {&aethelos__reply__descriptor,
                        BYTES("\x08\x00\x12\x0c"
                              "1,\"status\":0"),
                        NULL}, /* nor is this */
                {&aethelos__reply__descriptor,
                        BYTES("\x08\x00\x12\x06"
                              "{\"\xff\":1"),
                        NULL},
                {&aethelos__reply__descriptor, BYTES("\x08\x01\x1a\x01\xff"), NULL}, /* not UTF-8 */
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(strbuf_done) struct strbuf json = {0};
                const char *why = pbjson_unpack(&json, cases[i].d, cases[i].bytes, cases[i].len);

                print_message("%zu: %s\n", i, why ? why : json.s);
                assert_int_equal(why == NULL, cases[i].json != NULL);
                assert_string_equal(json.s ? json.s : "", cases[i].json ? cases[i].json : "");
        }
}

/* Whatever arrives is refused, or is JSON: bytes of a message turned, cut off and repeated, always the same ones. */
static void whatever_arrives(void **state)
{
        static const char message[] = "\x0a\x24"
                                      "01890a5d-ac96-774b-bcce-b302099a8057"
                                      "\x10\x01\x1a\x06"
                                      "desk 1"
                                      "\x20\x00\x2a\x05[1,2]\x32\x02no\x38\x01";
        unsigned short seed[3] = {1, 2, 3};
        int taken = 0, refused = 0;

        (void)state;
        for (int i = 0; i < 20000; i++) {
                _cleanup_(strbuf_done) struct strbuf bytes = {0}, text = {0};
                _cleanup_(json_done) struct json_doc doc = {0};
                struct json_error error;

                strbuf_add(&bytes, message, (size_t)nrand48(seed) % sizeof(message));
                if (i % 3 == 0)
                        strbuf_add(&bytes, message, sizeof(message) - 1);
                for (long k = nrand48(seed) % 4; k > 0 && bytes.len > 0; k--) {
                        size_t at = (size_t)nrand48(seed) % bytes.len;

                        bytes.s[at] ^= (char)(1 << nrand48(seed) % 8);
                }
                if (pbjson_unpack(&text, &aethelos__result__descriptor, bytes.s, bytes.len)) {
                        assert_int_equal(text.len, 0);
                        refused++;
                } else {
                        assert_int_equal(json_parse_own(text.s, text.len, &doc, &error), 0);
                        taken++;
                }
        }
        print_message("%d taken, %d refused\n", taken, refused);
        assert_true(taken > 1000 && refused > 1000);
}

static void which_encoding(void **state)
{
        (void)state;
        assert_false(encoding_is_protobuf("application/json", "\x0a", 1));
        assert_false(encoding_is_protobuf("Application/JSON; charset=utf-8", "", 0));
        assert_true(encoding_is_protobuf("application/protobuf", "{", 1));
        assert_false(encoding_is_protobuf(NULL, "{", 1));
        assert_false(encoding_is_protobuf("application/jsonlines", "{", 1));
        assert_true(encoding_is_protobuf(NULL, "\x0a", 1));
        assert_true(encoding_is_protobuf("text/plain", "", 0));
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back), cmocka_unit_test(refusals), cmocka_unit_test(from_outside),
                cmocka_unit_test(whatever_arrives), cmocka_unit_test(which_encoding)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
