/* Fuzz target of json_parse (libFuzzer). Beside what the sanitizers see, it holds the parser to its promises:
 * the minified text parses, to itself and to the same tokens; every span, count and next fits its neighbours; strings unescape to the length told,
 * are valid UTF-8 without NUL, and written anew and parsed they are the same strings; an error is inside the input. */
#include "base/json.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_string(const struct json_doc *doc, json_value v)
{
        size_t len;
        char *s = json_string(doc, v, &len);
        assert(len == v->n && strlen(s) == len && utf8_valid(s, len) && json_string_is(doc, v, s));
        _cleanup_(strbuf_done) struct strbuf b = {0};
        strbuf_add_json(&b, s, len);
        struct json_doc again;
        struct json_error e;
        assert(json_parse(b.s, b.len, &again, &e) == 0 && json_string_is(&again, json_root(&again), s));
        json_done(&again);
        free(s);
}

static void check_number(const struct json_doc *doc, json_value v)
{
        int64_t n;
        double d;
        if (json_double(doc, v, &d) == 0) {
                _cleanup_(strbuf_done) struct strbuf b = {0};
                json_add_double(&b, d);
                struct json_doc again;
                struct json_error e;
                double back;
                assert(json_parse(b.s, b.len, &again, &e) == 0 && json_double(&again, json_root(&again), &back) == 0 && back == d);
                json_done(&again);
        }
        if (json_int64(doc, v, &n) == 0)
                assert(json_double(doc, v, &d) == 0 && d == (double)n);
}

/* Recursion is bounded by JSON_DEPTH_MAX. */
static void check_value(const struct json_doc *doc, json_value v)
{
        assert(v->start < v->end && v->end <= doc->len && v->next <= doc->n_tokens);
        uint32_t index = (uint32_t)(v - doc->tokens), count = 0;
        switch (v->kind) {
        case JSON_NULL:
        case JSON_FALSE:
        case JSON_TRUE:
                break;
        case JSON_NUMBER:
                check_number(doc, v);
                break;
        case JSON_STRING:
                check_string(doc, v);
                break;
        case JSON_ARRAY:
        case JSON_OBJECT:
                for (json_value i = json_first(doc, v); i; i = json_after(doc, v, i), count++) {
                        if (v->kind == JSON_OBJECT && count % 2 == 0) {
                                char *name = json_string(doc, i, NULL);
                                assert(json_get(doc, v, name) == i + 1); /* the first of that name, so names differ */
                                free(name);
                        }
                        check_value(doc, i);
                }
                assert(count == (v->kind == JSON_OBJECT ? 2 * v->n : v->n));
                return;
        }
        assert(v->next == index + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct json_doc doc, again;
        struct json_error e = {.offset = SIZE_MAX};
        if (json_parse((const char *)data, size, &doc, &e) != 0) {
                assert(e.offset <= size && e.why && *e.why);
                return 0;
        }
        assert(doc.len <= size && strlen(doc.text) == doc.len && utf8_valid(doc.text, doc.len));
        check_value(&doc, json_root(&doc));
        assert(json_parse(doc.text, doc.len, &again, &e) == 0);
        assert(again.len == doc.len && memcmp(again.text, doc.text, doc.len) == 0);
        assert(again.n_tokens == doc.n_tokens && memcmp(again.tokens, doc.tokens, doc.n_tokens * sizeof *doc.tokens) == 0);
        json_done(&again);
        json_done(&doc);
        return 0;
}
