/* Strict JSON, its grammar: which documents are accepted, which are refused and where, and that the text comes out as it went in. */
#include "base/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/support/json_exact.h"

/* ---- what is accepted, and its minified form ---- */

static void accepts_and_minifies(void **state)
{
        (void)state;
        static const struct {
                const char *in, *out;
        } cases[] = {
                {"null", "null"},
                {"true", "true"},
                {"false", "false"},
                {"0", "0"},
                {"\"\"", "\"\""},
                {"[]", "[]"},
                {"{}", "{}"},
                {" \t\r\n0 \t\r\n", "0"},
                {"[ ]", "[]"},
                {"{ }", "{}"},
                {" [ 1 , 2 ,\n3 ] ", "[1,2,3]"},
                {"{ \"a\" : 1 , \"b\" : { \"c\" : [ ] } }", "{\"a\":1,\"b\":{\"c\":[]}}"},
                {"\" a \\t b \"", "\" a \\t b \""}, /* white space in strings stays */
                {"[\" [ 1 , 2 ] \"]", "[\" [ 1 , 2 ] \"]"},
                {"{\"a b\" : \"c  d\"}", "{\"a b\":\"c  d\"}"},
                {"[\"\\\" \", 1]", "[\"\\\" \",1]"}, /* an escaped quote does not end the string */
                {"[\"\\\\\" , 1]", "[\"\\\\\",1]"},
                {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\"", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\""},
                {"\"/\x7f\"", "\"/\x7f\""},
                {"[1.0, 1e5, 1E+05 ,-0, -0.0e-0]", "[1.0,1e5,1E+05,-0,-0.0e-0]"}, /* numbers keep their text */
                {"123456789012345678901234567890", "123456789012345678901234567890"},
                {"{\"\":0}", "{\"\":0}"},
                {"{\"a\":{\"a\":{\"a\":1}}}", "{\"a\":{\"a\":{\"a\":1}}}"}, /* the same name at other depths */
                {"[{\"a\":1},{\"a\":1}]", "[{\"a\":1},{\"a\":1}]"},         /* or in other objects */
                {"{\"a\":\"a\",\"A\":0,\"a \":0,\"\\\\u0061\":0}", "{\"a\":\"a\",\"A\":0,\"a \":0,\"\\\\u0061\":0}"},
        };
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(json_done) struct json_doc doc = {0}, again = {0};
                doc_of(cases[i].in, &doc);
                assert_string_equal(doc.text, cases[i].out);
                doc_of(doc.text, &again); /* a fixed point */
                assert_string_equal(again.text, doc.text);
                assert_int_equal(again.n_tokens, doc.n_tokens);
                assert_memory_equal(again.tokens, doc.tokens, doc.n_tokens * sizeof *doc.tokens);
        }
}

/* ---- what is refused ---- */

static void refuses_broken_structure(void **state)
{
        (void)state;
        assert_refused(NULL, 0, 0, "value expected");
        REFUSED("", 0, "value expected");
        REFUSED("  ", 2, "value expected");
        REFUSED("[", 1, "value expected");
        REFUSED("[1", 2, "',' or ']' expected");
        REFUSED("[1,", 3, "value expected");
        REFUSED("[1,]", 3, "value expected");
        REFUSED("[,1]", 1, "value expected");
        REFUSED("[1 2]", 3, "',' or ']' expected");
        REFUSED("[1}", 2, "',' or ']' expected");
        REFUSED("]", 0, "value expected");
        REFUSED("}", 0, "value expected");
        REFUSED(",", 0, "value expected");
        REFUSED("{", 1, "member name expected");
        REFUSED("{\"a\"", 4, "':' expected");
        REFUSED("{\"a\":", 5, "value expected");
        REFUSED("{\"a\":}", 5, "value expected");
        REFUSED("{\"a\" 1}", 5, "':' expected");
        REFUSED("{\"a\":1", 6, "',' or '}' expected");
        REFUSED("{\"a\":1,", 7, "member name expected");
        REFUSED("{\"a\":1,}", 7, "member name expected");
        REFUSED("{\"a\":1]", 6, "',' or '}' expected");
        REFUSED("{\"a\":1 \"b\":2}", 7, "',' or '}' expected");
        REFUSED("{1:2}", 1, "member name expected");
        REFUSED("{a:2}", 1, "member name expected");
        REFUSED("{'a':2}", 1, "member name expected");
        REFUSED("{null:2}", 1, "member name expected");
        REFUSED("{,}", 1, "member name expected");
        REFUSED("[\"a\":1]", 4, "',' or ']' expected");
}

static void refuses_other_words(void **state)
{
        (void)state;
        REFUSED("nul", 0, "value expected");
        REFUSED("NULL", 0, "value expected");
        REFUSED("True", 0, "value expected");
        REFUSED("tru", 0, "value expected");
        REFUSED("fals", 0, "value expected");
        REFUSED("nan", 0, "value expected");
        REFUSED("NaN", 0, "value expected");
        REFUSED("Infinity", 0, "value expected");
        REFUSED("'a'", 0, "value expected");
        REFUSED("undefined", 0, "value expected");
        REFUSED("nullx", 4, "text behind the document");
        REFUSED("[truefalse]", 5, "',' or ']' expected");
        REFUSED("/* */ 1", 0, "value expected");
        REFUSED("1 // x", 2, "text behind the document");
        REFUSED("\f1", 0, "value expected"); /* white space is four characters only */
        REFUSED("\v1", 0, "value expected");
        REFUSED("\xc2\xa0"
                "1",
                0, "value expected");
        REFUSED("\xe2\x80\xa8"
                "1",
                0, "value expected");
}

static void refuses_what_stands_around(void **state)
{
        (void)state;
        REFUSED("1 2", 2, "text behind the document");
        REFUSED("{}{}", 2, "text behind the document");
        REFUSED("[]]", 2, "text behind the document");
        REFUSED("{}}", 2, "text behind the document");
        REFUSED("\"a\"\"b\"", 3, "text behind the document");
        REFUSED("0\0", 1, "text behind the document");
        REFUSED("{} \0 ", 3, "text behind the document");
        REFUSED("\0", 0, "value expected");
        REFUSED("1,", 1, "text behind the document");
        REFUSED("\xef\xbb\xbf{}", 0, "byte-order mark");
        REFUSED("\xef\xbb\xbf", 0, "byte-order mark");
        REFUSED("\xef\xbb", 0, "value expected");
        REFUSED(" \xef\xbb\xbf{}", 1, "value expected");
        REFUSED("{}\xef\xbb\xbf", 2, "text behind the document");
        REFUSED("\xfe\xff\0{\0}", 0, "value expected"); /* UTF-16 */
        REFUSED("{\0}\0", 1, "member name expected");
}

static void numbers_of_the_grammar(void **state)
{
        (void)state;
        static const char *const good[] = {"0", "-0", "1", "-1", "10", "0.5", "-0.5", "1.0", "0.10", "1e5", "1E5", "1e+5", "1e-5", "1e00", "0e0",
                "0E-0", "1.5e10", "123456789", "1e400", "1.00000000000000000000000000000000000001"};
        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                _cleanup_(json_done) struct json_doc doc = {0};
                doc_of(good[i], &doc);
                assert_true(json_is(json_root(&doc), JSON_NUMBER));
                assert_string_equal(doc.text, good[i]);
        }
        REFUSED("01", 0, "number with a leading zero");
        REFUSED("-01", 1, "number with a leading zero");
        REFUSED("00", 0, "number with a leading zero");
        REFUSED("[1,00.5]", 3, "number with a leading zero");
        REFUSED("1.", 2, "digit expected");
        REFUSED("[1.]", 3, "digit expected");
        REFUSED(".5", 0, "value expected");
        REFUSED("-", 1, "digit expected");
        REFUSED("-.5", 1, "digit expected");
        REFUSED("--1", 1, "digit expected");
        REFUSED("-a", 1, "digit expected");
        REFUSED("- 1", 1, "digit expected");
        REFUSED("+1", 0, "value expected");
        REFUSED("1e", 2, "digit expected");
        REFUSED("1e+", 3, "digit expected");
        REFUSED("1e-", 3, "digit expected");
        REFUSED("1e5.5", 3, "text behind the document");
        REFUSED("1.e5", 2, "digit expected");
        REFUSED("1.5.5", 3, "text behind the document");
        REFUSED("0x10", 1, "text behind the document");
        REFUSED("1f", 1, "text behind the document");
        REFUSED("1_0", 1, "text behind the document");
        REFUSED("-Infinity", 1, "digit expected");
        REFUSED("\xd9\xa1", 0, "value expected"); /* an Arabic digit */
}

/* ---- depth ---- */

static void nest(struct strbuf *b, const char *open, const char *inside, const char *close, int depth)
{
        strbuf_reset(b);
        for (int i = 0; i < depth; i++)
                strbuf_adds(b, open);
        strbuf_adds(b, inside);
        for (int i = 0; i < depth; i++)
                strbuf_adds(b, close);
}

static void depth_limit(void **state)
{
        (void)state;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        _cleanup_(json_done) struct json_doc arrays = {0}, objects = {0}, scalar = {0};
        nest(&b, "[", "", "]", 32);
        parse_ok(b.s, b.len, &arrays);
        nest(&b, "[", "1", "]", 32); /* scalars do not nest */
        parse_ok(b.s, b.len, &scalar);
        nest(&b, "{\"a\":", "0", "}", 32);
        parse_ok(b.s, b.len, &objects);
        json_value v = json_root(&objects);
        for (int i = 0; i < 32; i++)
                v = json_get(&objects, v, "a");
        assert_true(json_is(v, JSON_NUMBER));
        nest(&b, "[", "", "]", 33);
        assert_refused(b.s, b.len, 32, "nested too deep");
        nest(&b, "{\"a\":", "0", "}", 33);
        assert_refused(b.s, b.len, 32 * 5, "nested too deep");
        nest(&b, "[", "{}", "]", 32);
        assert_refused(b.s, b.len, 32, "nested too deep");
        nest(&b, "[", "", "", 1000000);
        assert_refused(b.s, b.len, 32, "nested too deep");

        /* Our own documents hold such ones. */
        struct json_doc own;
        struct json_error error;
        nest(&b, "[", "", "]", JSON_DEPTH_OWN);
        assert_int_equal(json_parse_own(b.s, b.len, &own, &error), 0);
        json_done(&own);
        nest(&b, "[", "", "]", JSON_DEPTH_OWN + 1);
        assert_int_equal(json_parse_own(b.s, b.len, &own, &error), -EINVAL);
        assert_int_equal(error.offset, JSON_DEPTH_OWN);

        /* The limit is of depth at a time, not of containers. */
        strbuf_reset(&b);
        strbuf_addc(&b, '[');
        for (int i = 0; i < 1000; i++)
                strbuf_adds(&b, i ? ",[[],{}]" : "[[],{}]");
        strbuf_addc(&b, ']');
        struct json_doc wide;
        parse_ok(b.s, b.len, &wide);
        assert_int_equal(wide.n_tokens, 3001);
        json_done(&wide);
}

/* ---- duplicates ---- */

static void duplicate_names(void **state)
{
        (void)state;
        REFUSED("{\"a\":1,\"a\":2}", 7, "duplicate member name");
        REFUSED("{\"a\":1,\"b\":1,\"a\":2}", 13, "duplicate member name");
        REFUSED("{\"\":1,\"\":2}", 6, "duplicate member name");
        REFUSED("{\"a\":1,\"\\u0061\":2}", 7, "duplicate member name");
        REFUSED("{\"\\u0061\":1,\"a\":2}", 12, "duplicate member name");
        REFUSED("{\"\\u00e9\":1,\"\\u00E9\":2}", 12, "duplicate member name");
        REFUSED("{\"\\u00e9\":1,\"\xc3\xa9\":2}", 12, "duplicate member name");
        REFUSED("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}", 18, "duplicate member name");
        REFUSED("{\"/\":1,\"\\/\":2}", 7, "duplicate member name");
        REFUSED("{\"\\n\":1,\"\\u000a\":2}", 8, "duplicate member name");
        REFUSED("{\"a\\\"b\":1,\"a\\u0022b\":2}", 10, "duplicate member name");
        REFUSED("[0,{\"x\":{\"a\":[1,{\"b\":2}],\"a\":3}}]", 25, "duplicate member name");
        /* The offset counts in the text as received: with white space, and with blanks, quotes and backslashes in strings before it. */
        REFUSED("{ \"a\" : 1 ,\n \"a\" : 2 }", 13, "duplicate member name");
        REFUSED(" [ \" \\\" \\\\\" , { \"a \" : 1 , \"a \" : 2 } ]", 27, "duplicate member name");

        _cleanup_(json_done) struct json_doc doc = {0};
        doc_of("{\"a\":1,\"A\":2,\"\\u0061b\":3,\"ab \":4,\"e\xcc\x81\":5,\"\xc3\xa9\":6}", &doc); /* no normalisation */
        assert_int_equal(doc.tokens[0].n, 6);
}

/* {"n0":0, ...}; names are escaped when `escape`, as \u006e0. */
static void many_members(struct strbuf *b, int n, bool escape)
{
        strbuf_reset(b);
        for (int i = 0; i < n; i++)
                strbuf_addf(b, escape ? "%s\"\\u006e%d\":%d" : "%s\"n%d\":%d", i ? ", " : "{", i, i);
}

/* Around the size where comparing pairs gives way to the table, a duplicate of every member is found. */
static void duplicates_of_few_and_many(void **state)
{
        (void)state;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        for (int n = 1; n < 70; n++) {
                for (int escape = 0; escape < 2; escape++) {
                        many_members(&b, n, escape);
                        size_t len = b.len;
                        strbuf_addc(&b, '}');
                        _cleanup_(json_done) struct json_doc doc = {0};
                        parse_ok(b.s, b.len, &doc);
                        assert_int_equal(doc.tokens[0].n, n);
                        for (int twice = 0; twice < n; twice++) {
                                b.len = len;
                                strbuf_addf(&b, ",\"n%d\":0}", twice);
                                assert_refused(b.s, b.len, len + 1, "duplicate member name");
                        }
                }
        }
}

static void large_object_is_no_denial_of_service(void **state)
{
        (void)state;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        int64_t start = now_mono_ms();
        for (int escape = 0; escape < 2; escape++) {
                many_members(&b, 200000, escape);
                size_t len = b.len;
                strbuf_addc(&b, '}');
                struct json_doc doc;
                parse_ok(b.s, b.len, &doc);
                int64_t n;
                assert_int_equal(json_int64(&doc, json_get(&doc, json_root(&doc), "n199999"), &n), 0);
                assert_int_equal(n, 199999);
                json_done(&doc);
                b.len = len;
                strbuf_adds(&b, ",\"n100000\":0}");
                assert_refused(b.s, b.len, len + 1, "duplicate member name");
        }
        /* Pairwise it would be 4 * 2 * 10^10 comparisons: minutes. Four parses take some tenths of a second, more under a sanitizer. */
        assert_true(now_mono_ms() - start < 10000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(accepts_and_minifies),
                cmocka_unit_test(refuses_broken_structure),
                cmocka_unit_test(refuses_other_words),
                cmocka_unit_test(refuses_what_stands_around),
                cmocka_unit_test(numbers_of_the_grammar),
                cmocka_unit_test(depth_limit),
                cmocka_unit_test(duplicate_names),
                cmocka_unit_test(duplicates_of_few_and_many),
                cmocka_unit_test(large_object_is_no_denial_of_service),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
