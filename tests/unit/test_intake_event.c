/* CloudEvents as submissions: the same event gives the same job and key however it is written; what is none is refused with the attribute's name. */
#include "services/intake/intake_event.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define EVENT(more) "{\"specversion\":\"1.0\",\"id\":\"a-1\",\"source\":\"/orders\",\"type\":\"t\"" more "}"

struct headers {
        const char *v[8][2];
};

static const char *header(const void *arg, const char *name)
{
        const struct headers *h = arg;

        for (size_t i = 0; i < 8 && h->v[i][0]; i++)
                if (strcmp(h->v[i][0], name) == 0)
                        return h->v[i][1];
        return NULL;
}

static void assert_raw(const struct intake_submitted *s, json_value v, const char *text)
{
        struct slice raw = json_raw(&s->doc, v);

        assert_int_equal(raw.len, strlen(text));
        assert_memory_equal(raw.s, text, raw.len);
}

static void forms(void **state)
{
        (void)state;
        assert_int_equal(intake_form_of(NULL, NULL), INTAKE_PLAIN);
        assert_int_equal(intake_form_of("application/json", NULL), INTAKE_PLAIN);
        assert_int_equal(intake_form_of("application/json", "1.0"), INTAKE_BINARY);
        assert_int_equal(intake_form_of("Application/CloudEvents+JSON; charset=UTF-8", NULL), INTAKE_STRUCTURED);
        assert_int_equal(intake_form_of("application/cloudevents+json", "1.0"), INTAKE_STRUCTURED);
        assert_int_equal(intake_form_of("application/cloudevents+avro", NULL), INTAKE_FOREIGN);
        assert_int_equal(intake_form_of("application/cloudevents-batch+json", NULL), INTAKE_FOREIGN);
        assert_true(intake_looks_like_event(EVENT(""), strlen(EVENT(""))));
        assert_false(intake_looks_like_event("{\"type\":\"specversion\"}", 22));
        assert_false(intake_looks_like_event("{\"specversion\"", 14));
}

static void the_same_in_both_modes(void **state)
{
        static const char structured[] = EVENT(",\"priority\":\"high\",\"label\":\"l\",\"time\":\"2026-01-31T08:00:00Z\",\"subject\":null,\"other\":"
                                               "5,\"datacontenttype\":\"text/json\","
                                               "\"data\": {\"a\": [1.50, \"\xc3\xa4\"]}");
        static const struct headers binary = {{{"ce-specversion", "1.0"}, {"ce-id", "a%2d1"}, {"ce-source", "\"/orders\""}, {"ce-type", "t"},
                {"ce-priority", "high"}, {"ce-label", "l"}, {"Content-Type", "application/vnd.x+json; charset=utf-8"}}};
        _cleanup_(intake_submitted_done) struct intake_submitted one = {0}, other = {0};
        struct refusal refusal;
        char key[INTAKE_EVENT_KEY_SIZE];

        (void)state;
        assert_true(intake_read_structured(structured, strlen(structured), &one, &refusal));
        assert_true(intake_read_binary(header, &binary, slice_of("{\"a\":[1.50,\"\xc3\xa4\"]}"), &other, &refusal));
        intake_event_key("/orders", "a-1", key);
        assert_int_equal(strlen(key), INTAKE_EVENT_KEY_SIZE - 1);
        assert_string_equal(one.key, key);
        assert_string_equal(other.key, key);
        assert_string_equal(one.type, "t");
        assert_raw(&one, one.payload, "{\"a\":[1.50,\"\xc3\xa4\"]}");
        assert_raw(&one, one.context, "{\"priority\":\"high\",\"label\":\"l\",\"event\":{\"id\":\"a-1\",\"source\":\"/orders\"}}");
        assert_memory_equal(one.hash, other.hash, SHA256_SIZE);
}

static void keys(void **state)
{
        char a[INTAKE_EVENT_KEY_SIZE], b[INTAKE_EVENT_KEY_SIZE];

        (void)state;
        intake_event_key("/a", "b", a);
        intake_event_key("/ab", "", b);
        assert_string_not_equal(a, b);
        intake_event_key("/orders", "a-1", a); /* printf '/orders\na-1' | sha256sum */
        assert_string_equal(a, "ce_2ecd22cbc5d7efcb9371a90b7d5e001671818fc59e9566969ee76cb5ec8e6fdc");
}

static void refusals(void **state)
{
        static const struct {
                const char *text, *field;
                int status;
        } cases[] = {
                {"{", "", 400},
                {"[]", "", 422},
                {"{\"specversion\":\"1.0\",\"source\":\"/s\",\"type\":\"t\",\"data\":1}", "/id", 422},
                {"{\"specversion\":\"1.0\",\"id\":\"\",\"source\":\"/s\",\"type\":\"t\",\"data\":1}", "/id", 422},
                {"{\"specversion\":\"1.0\",\"id\":7,\"source\":\"/s\",\"type\":\"t\",\"data\":1}", "/id", 422},
                {"{\"specversion\":\"1.0\",\"id\":\"a\\n\",\"source\":\"/s\",\"type\":\"t\",\"data\":1}", "/id", 422},
                {"{\"specversion\":\"1.0\",\"id\":\"a\\u0085\",\"source\":\"/s\",\"type\":\"t\",\"data\":1}", "/id", 422},
                {"{\"specversion\":\"1.0\",\"id\":\"a\",\"source\":null,\"type\":\"t\",\"data\":1}", "/source", 422},
                {"{\"specversion\":\"1.0\",\"id\":\"a\",\"source\":\"/s\",\"data\":1}", "/type", 422},
                {"{\"specversion\":\"0.3\",\"id\":\"a\",\"source\":\"/s\",\"type\":\"t\",\"data\":1}", "/specversion", 422},
                {EVENT(""), "/data", 422},
                {EVENT(",\"data_base64\":\"AAAA\""), "/data_base64", 422},
                {EVENT(",\"datacontenttype\":\"text/plain\",\"data\":\"x\""), "/datacontenttype", 422},
        };
        static const struct headers no_utf8 = {{{"ce-specversion", "1.0"}, {"ce-id", "%C0%A0"}, {"ce-source", "/s"}, {"ce-type", "t"}}};
        static const struct headers nul = {{{"ce-specversion", "1.0"}, {"ce-id", "a%00"}, {"ce-source", "/s"}, {"ce-type", "t"}}};
        static const struct headers sound = {{{"ce-specversion", "1.0"}, {"ce-id", "a"}, {"ce-source", "/s"}, {"ce-type", "t"}}};
        struct refusal refusal;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(intake_submitted_done) struct intake_submitted s = {0};

                assert_false(intake_read_structured(cases[i].text, strlen(cases[i].text), &s, &refusal));
                assert_string_equal(refusal.field, cases[i].field);
                assert_int_equal(refusal.status, cases[i].status);
        }
        for (size_t i = 0; i < 3; i++) {
                _cleanup_(intake_submitted_done) struct intake_submitted s = {0};
                const struct headers *h = i == 0 ? &no_utf8 : i == 1 ? &nul : &sound;

                assert_false(intake_read_binary(header, h, slice_of(i == 2 ? "no JSON" : "1"), &s, &refusal));
                assert_string_equal(refusal.field, i == 2 ? "" : "/id");
        }
        assert_false(intake_refuse_foreign(&refusal));
        assert_int_equal(refusal.status, 415);
}

static void fields(void **state)
{
        static const char *const cases[][2] = {{"/payload", "/data"}, {"/payload/text", "/data/text"}, {"/context/priority", "/priority"},
                {"/type", "/type"}, {"/payloads", "/payloads"}, {"", ""}};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct refusal refusal = {0};

                snprintf(refusal.field, sizeof(refusal.field), "%s", cases[i][0]);
                intake_event_field(&refusal);
                assert_string_equal(refusal.field, cases[i][1]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(forms), cmocka_unit_test(the_same_in_both_modes), cmocka_unit_test(keys),
                cmocka_unit_test(refusals), cmocka_unit_test(fields)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
