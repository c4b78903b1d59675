/* Strict JSON: what is accepted, what is refused and where, and that the text comes out as it went in.
 * Every input is parsed from a block of exactly its size, so that the address sanitizer sees a read behind it. */
#include "base/json.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int parse_exact(const char *text, size_t len, struct json_doc *ret_doc, struct json_error *ret_error)
{
        char *exact = malloc(len ? len : 1);
        if (len)
                memcpy(exact, text, len);
        int r = json_parse(exact, len, ret_doc, ret_error);
        free(exact);
        return r;
}

static void parse_ok(const char *text, size_t len, struct json_doc *ret_doc)
{
        struct json_error e = {0};
        int r = parse_exact(text, len, ret_doc, &e);
        if (r != 0)
                print_error("%.*s: %s at %zu\n", (int)len, text, e.why, e.offset);
        assert_int_equal(r, 0);
        assert_int_equal(strlen(ret_doc->text), ret_doc->len);
        assert_int_equal(ret_doc->tokens[0].next, ret_doc->n_tokens);
}

static void doc_of(const char *text, struct json_doc *ret_doc)
{
        parse_ok(text, strlen(text), ret_doc);
}

static void assert_refused(const char *text, size_t len, size_t offset, const char *why)
{
        struct json_doc doc = {.len = 77};
        struct json_error e = {.offset = SIZE_MAX, .why = "?"};
        int r = parse_exact(text, len, &doc, &e);
        if (r != -EINVAL || e.offset != offset || strcmp(e.why, why) != 0)
                print_error("%.*s: got %d, %s at %zu\n", (int)len, text, r, e.why, e.offset);
        assert_int_equal(r, -EINVAL);
        assert_int_equal(e.offset, offset);
        assert_string_equal(e.why, why);
        assert_int_equal(doc.len, 77);
}

#define REFUSED(text, offset, why) assert_refused((text), sizeof(text) - 1, (offset), (why))

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

static void control_characters_and_nul(void **state)
{
        (void)state;
        for (int c = 0; c < 0x20; c++) {
                char text[] = "[\"ab?\"]";
                text[4] = (char)c;
                assert_refused(text, sizeof text - 1, 4, "control character in a string");
                char long_text[] = "\"0123456789?123456789\""; /* in the middle of a run of eight */
                long_text[11] = (char)c;
                assert_refused(long_text, sizeof long_text - 1, 11, "control character in a string");
        }
        REFUSED("\"\\u0000\"", 1, "NUL in a string");
        REFUSED("\"ab\\u0000\"", 3, "NUL in a string");
        REFUSED("{\"\\u0000\":1}", 2, "NUL in a string");
        /* Written as an escape, every other control character is fine; and a backslash before u0000 makes it text. */
        _cleanup_(json_done) struct json_doc doc = {0};
        doc_of("\"\\u0001\\u001f\\u007f\\\\u0000\"", &doc);
        assert_true(json_string_is(&doc, json_root(&doc), "\x01\x1f\x7f\\u0000"));
}

static void strings_without_an_end(void **state)
{
        (void)state;
        REFUSED("\"", 1, "string without an end");
        REFUSED("\"abc", 4, "string without an end");
        REFUSED("\"abcdefghijklmnop", 17, "string without an end");
        REFUSED("\"abc\\\"", 6, "string without an end");
        REFUSED("\"abc\\", 5, "string without an end");
        REFUSED("{\"a", 3, "string without an end");
        REFUSED("[\"a]", 4, "string without an end");
}

static void escapes(void **state)
{
        (void)state;
        for (int c = 0; c < 256; c++) {
                char text[] = "\"\\?\"";
                text[2] = (char)c;
                if (c && strchr("\"\\/bfnrt", c)) {
                        struct json_doc doc;
                        parse_ok(text, 4, &doc);
                        json_done(&doc);
                } else if (c != 'u') {
                        assert_refused(text, 4, 1, "unknown escape");
                }
        }
        REFUSED("\"\\u\"", 1, "\\u without four hex digits");
        REFUSED("\"\\u12\"", 1, "\\u without four hex digits");
        REFUSED("\"\\u123\"", 1, "\\u without four hex digits");
        REFUSED("\"\\u12g4\"", 1, "\\u without four hex digits");
        REFUSED("\"\\u 123\"", 1, "\\u without four hex digits");
        REFUSED("\"\\u+123\"", 1, "\\u without four hex digits");
        REFUSED("\"\\u0x12\"", 1, "\\u without four hex digits");
        REFUSED("\"\\uD83", 1, "\\u without four hex digits");
        REFUSED("\"\\U0041\"", 1, "unknown escape");
        REFUSED("\"\\x41\"", 1, "unknown escape");
}

static void surrogates(void **state)
{
        (void)state;
        REFUSED("\"\\ud800\"", 1, "lone surrogate");
        REFUSED("\"\\uDBFF\"", 1, "lone surrogate");
        REFUSED("\"\\udc00\"", 1, "lone surrogate");
        REFUSED("\"\\uDFFF\"", 1, "lone surrogate");
        REFUSED("\"\\ud83dx\"", 1, "lone surrogate");
        REFUSED("\"\\ud83d\\n\"", 1, "lone surrogate");
        REFUSED("\"\\ud83d\\u0041\"", 1, "lone surrogate");
        REFUSED("\"\\ud83d\\ud83d\"", 1, "lone surrogate");
        REFUSED("\"\\ude00\\ud83d\"", 1, "lone surrogate");
        REFUSED("\"\\ud83d\\ude0", 1, "lone surrogate");
        REFUSED("\"\\ud83d\\ude0g\"", 1, "lone surrogate");
        REFUSED("\"\\ud83d\\", 1, "lone surrogate");
        REFUSED("\"\\ud83d\xed\xb8\x80\"", 1, "lone surrogate");
        REFUSED("\"ab\\ud83d\\ude00\\ude00\"", 15, "lone surrogate");
        static const struct {
                const char *in, *text;
        } cases[] = {
                {"\"\\ud800\\udc00\"", "\xf0\x90\x80\x80"},         /* U+10000 */
                {"\"\\uD83D\\uDE00\"", "\xf0\x9f\x98\x80"},         /* U+1F600 */
                {"\"\\udbff\\udfff\"", "\xf4\x8f\xbf\xbf"},         /* U+10FFFF */
                {"\"\\ud7ff\\ue000\"", "\xed\x9f\xbf\xee\x80\x80"}, /* the neighbours of the surrogates */
        };
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(json_done) struct json_doc doc = {0};
                doc_of(cases[i].in, &doc);
                assert_true(json_string_is(&doc, json_root(&doc), cases[i].text));
        }
}

/* ---- UTF-8 ---- */

static size_t encode(uint32_t c, char *out)
{
        if (c < 0x80) {
                out[0] = (char)c;
                return 1;
        }
        size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        for (size_t i = len - 1; i > 0; i--, c >>= 6)
                out[i] = (char)(0x80 | (c & 0x3f));
        static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
        out[0] = (char)(lead[len] | c);
        return len;
}

/* Every code point once, raw and as an escape; and that no string of up to three bytes is valid that is not one of them. */
static void utf8_is_exact(void **state)
{
        (void)state;
        static bool valid3[1 << 24];
        for (uint32_t c = 0; c <= 0x110100; c++) {
                bool good = c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff);
                char raw[4];
                size_t len = encode(c, raw);
                assert_int_equal(utf8_valid(raw, len), good);
                if (good) {
                        assert_int_equal(utf8_length(raw, len), 1);
                        for (size_t cut = 1; cut < len; cut++)
                                assert_false(utf8_valid(raw, cut));
                        if (len == 3)
                                valid3[(unsigned char)raw[0] << 16 | (unsigned char)raw[1] << 8 | (unsigned char)raw[2]] = true;
                }
        }
        size_t three = 0;
        for (uint32_t i = 0x800000; i < 1 << 24; i++) {
                char s[3] = {(char)(i >> 16), (char)(i >> 8), (char)i};
                if ((unsigned char)s[0] < 0xe0)
                        continue;
                bool valid = utf8_valid(s, 3);
                three += valid;
                if (valid != valid3[i])
                        fail_msg("%06x", i);
        }
        assert_int_equal(three, 0x10000 - 0x800 - 2048);
        for (uint32_t i = 0; i < 1 << 16; i++) {
                char s[2] = {(char)(i >> 8), (char)i};
                uint32_t a = i >> 8, b = i & 0xff;
                assert_int_equal(utf8_valid(s, 2), (a < 0x80 && b < 0x80) || (a >= 0xc2 && a <= 0xdf && b >= 0x80 && b <= 0xbf));
        }
        assert_true(utf8_valid("", 0));
        assert_int_equal(utf8_length("", 0), 0);
        assert_int_equal(utf8_length("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", 11), 5);
        assert_true(utf8_valid("a\0b", 3)); /* NUL is a character; that strings have none is JSON's rule here */
}

static void refuses_bad_utf8(void **state)
{
        (void)state;
        static const char *const bad[] = {
                "\x80", /* continuation without a lead */
                "\xbf",
                "\xc0\x80", /* overlong NUL */
                "\xc1\xbf", /* overlong */
                "\xe0\x80\x80",
                "\xe0\x9f\xbf",
                "\xf0\x80\x80\x80",
                "\xf0\x8f\xbf\xbf",
                "\xed\xa0\x80", /* surrogates */
                "\xed\xbf\xbf",
                "\xf4\x90\x80\x80", /* above U+10FFFF */
                "\xf5\x80\x80\x80",
                "\xf8\x88\x80\x80\x80",
                "\xfe",
                "\xff",
                "\xc3", /* cut off */
                "\xe2\x82",
                "\xf0\x9f\x98",
                "\xc3\x28",
                "\xe2\x28\xa1",
                "\xe2\x82\x28",
                "\xf0\x28\x8c\xbc",
                "\xf0\x90\x28\xbc",
                "\xf0\x9f\x98\x28",
        };
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                char text[80];
                int len = snprintf(text, sizeof text, "[\"ab%s\"]", bad[i]);
                assert_refused(text, (size_t)len, 4, "not UTF-8");
                len = snprintf(text, sizeof text, "{\"0123456789%s\":1}", bad[i]);
                assert_refused(text, (size_t)len, 12, "not UTF-8");
                len = snprintf(text, sizeof text, "\"\xc3\xa9%s", bad[i]); /* at the very end */
                assert_refused(text, (size_t)len, 3, "not UTF-8");
                /* Anywhere else it is no JSON either. */
                len = snprintf(text, sizeof text, "[1,%s]", bad[i]);
                assert_refused(text, (size_t)len, 3, "value expected");
        }
        _cleanup_(json_done) struct json_doc doc = {0};
        doc_of("\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf \xef\xbb\xbf\"", &doc); /* a BOM inside is text */
        assert_int_equal(utf8_length(doc.text, doc.len), 10);
}

/* A stop at every place of strings of every small length, for the part that looks at eight bytes together. */
static void every_alignment(void **state)
{
        (void)state;
        for (size_t len = 0; len < 40; len++) {
                for (size_t at = 0; at <= len; at++) {
                        char text[64] = "\"";
                        memset(text + 1, 'x', len);
                        text[1 + len] = '"';
                        struct json_doc doc;
                        parse_ok(text, len + 2, &doc);
                        assert_int_equal(doc.tokens[0].n, len);
                        json_done(&doc);
                        if (at == len)
                                continue;
                        text[1 + at] = '\x1f';
                        assert_refused(text, len + 2, 1 + at, "control character in a string");
                        text[1 + at] = '\xff';
                        assert_refused(text, len + 2, 1 + at, "not UTF-8");
                        text[1 + at] = '"';
                        struct json_error e;
                        assert_int_equal(parse_exact(text, at + 2, &doc, &e), 0);
                        json_done(&doc);
                        text[1 + at] = '\x7f';
                        parse_ok(text, len + 2, &doc);
                        json_done(&doc);
                        text[1 + at] = ' ';
                        parse_ok(text, len + 2, &doc);
                        json_done(&doc);
                }
        }
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

/* ---- walking ---- */

static void tokens(void **state)
{
        (void)state;
        _cleanup_(json_done) struct json_doc doc = {0};
        doc_of(" { \"a\" : [ 1 , \"x\\ty\" , { } ] , \"b\" : null } ", &doc);
        assert_string_equal(doc.text, "{\"a\":[1,\"x\\ty\",{}],\"b\":null}");
        static const struct json_token expected[] = {
                {JSON_OBJECT, 0, 28, 2, 8},
                {JSON_STRING, 1, 4, 1, 2},
                {JSON_ARRAY, 5, 18, 3, 6},
                {JSON_NUMBER, 6, 7, 0, 4},
                {JSON_STRING, 8, 14, 3, 5},
                {JSON_OBJECT, 15, 17, 0, 6},
                {JSON_STRING, 19, 22, 1, 7},
                {JSON_NULL, 23, 27, 0, 8},
        };
        assert_int_equal(doc.n_tokens, ARRAY_SIZE(expected));
        for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
                const struct json_token *t = &doc.tokens[i], *e = &expected[i];
                if (t->kind != e->kind || t->start != e->start || t->end != e->end || t->n != e->n || t->next != e->next)
                        fail_msg("token %zu: kind %d, %u to %u, n %u, next %u", i, t->kind, t->start, t->end, t->n, t->next);
        }
}

static void walks(void **state)
{
        (void)state;
        _cleanup_(json_done) struct json_doc doc = {0};
        doc_of("{\"list\": [1, [2, 3], {\"x\": 4}, \"five\"], \"empty\": [], \"none\": {}, \"k\\u0065y\": true}", &doc);
        json_value root = json_root(&doc), list = json_get(&doc, root, "list");

        static const char *const raw[] = {"1", "[2,3]", "{\"x\":4}", "\"five\""};
        size_t i = 0;
        for (json_value v = json_first(&doc, list); v; v = json_after(&doc, list, v), i++) {
                struct slice s = json_raw(&doc, v);
                assert_true(i < ARRAY_SIZE(raw) && slice_equal(s, raw[i]));
        }
        assert_int_equal(i, ARRAY_SIZE(raw));

        static const char *const names[] = {"list", "empty", "none", "key"};
        i = 0;
        for (json_value name = json_first(&doc, root); name; i++) {
                assert_true(i < ARRAY_SIZE(names) && json_string_is(&doc, name, names[i]));
                json_value value = json_after(&doc, root, name);
                assert_ptr_equal(value, json_get(&doc, root, names[i]));
                name = json_after(&doc, root, value);
        }
        assert_int_equal(i, ARRAY_SIZE(names));

        assert_true(json_is(json_get(&doc, root, "key"), JSON_TRUE));
        assert_null(json_get(&doc, root, "ke"));
        assert_null(json_get(&doc, root, "five")); /* not in this object */
        assert_null(json_get(&doc, root, ""));
        assert_null(json_get(&doc, list, "x"));
        assert_null(json_get(&doc, NULL, "x"));
        assert_null(json_get(&doc, json_get(&doc, root, "none"), "x"));
        assert_null(json_first(&doc, json_get(&doc, root, "empty")));
        assert_null(json_first(&doc, json_get(&doc, root, "none")));
        assert_null(json_first(&doc, json_get(&doc, root, "key")));
        assert_null(json_first(&doc, NULL));
        assert_null(json_after(&doc, NULL, NULL));
        assert_null(json_raw(&doc, NULL).s);
        assert_int_equal(json_raw(&doc, NULL).len, 0);
        assert_false(json_is(NULL, JSON_NULL));
}

static void empty_document(void **state)
{
        (void)state;
        struct json_doc doc = {0};
        assert_null(json_root(&doc));
        json_done(&doc);
        json_done(&doc);
}

/* ---- values ---- */

static void strings(void **state)
{
        (void)state;
        static const struct {
                const char *in, *text;
        } cases[] = {
                {"\"\"", ""},
                {"\"plain\"", "plain"},
                {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
                {"\"a\\u0041\\u00e9\\u20AC\\ud83d\\ude00z\"", "aA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z"},
                {"\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"", "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf"},
                {"\"\\\\n\"", "\\n"},
                {"\"\\\\\\\\\"", "\\\\"},
        };
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(json_done) struct json_doc doc = {0};
                doc_of(cases[i].in, &doc);
                size_t len;
                char *s = json_string(&doc, json_root(&doc), &len);
                assert_string_equal(s, cases[i].text);
                assert_int_equal(len, strlen(cases[i].text));
                free(s);
                assert_true(json_string_is(&doc, json_root(&doc), cases[i].text));
                char other[64];
                snprintf(other, sizeof other, "%s!", cases[i].text);
                assert_false(json_string_is(&doc, json_root(&doc), other));
                if (len > 0) {
                        snprintf(other, sizeof other, "%s", cases[i].text);
                        other[len - 1] ^= 1;
                        assert_false(json_string_is(&doc, json_root(&doc), other));
                        other[len - 1] ^= 1;
                        other[0] ^= 1;
                        assert_false(json_string_is(&doc, json_root(&doc), other));
                }
        }
        _cleanup_(json_done) struct json_doc doc = {0};
        doc_of("[1, null]", &doc);
        assert_null(json_string(&doc, json_first(&doc, json_root(&doc)), NULL));
        assert_null(json_string(&doc, NULL, NULL));
        assert_false(json_string_is(&doc, json_first(&doc, json_root(&doc)), "1"));
        assert_false(json_string_is(&doc, NULL, ""));
}

static void integers(void **state)
{
        (void)state;
        static const struct {
                const char *in;
                int result;
                int64_t n;
        } cases[] = {
                {"0", 0, 0},
                {"-0", 0, 0},
                {"42", 0, 42},
                {"-42", 0, -42},
                {"9223372036854775807", 0, INT64_MAX},
                {"-9223372036854775808", 0, INT64_MIN},
                {"9223372036854775808", -ERANGE, 0},
                {"-9223372036854775809", -ERANGE, 0},
                {"92233720368547758070", -ERANGE, 0},
                {"123456789012345678901234567890", -ERANGE, 0},
                {"18446744073709551617", -ERANGE, 0}, /* 2^64 + 1 */
                {"1.0", -EINVAL, 0},
                {"1e2", -EINVAL, 0},
                {"1E2", -EINVAL, 0},
                {"123456789012345678901234567890.5", -EINVAL, 0},
                {"123456789012345678901234567890e1", -EINVAL, 0},
                {"\"1\"", -EINVAL, 0},
                {"null", -EINVAL, 0},
                {"[1]", -EINVAL, 0},
        };
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(json_done) struct json_doc doc = {0};
                int64_t n = 77;
                doc_of(cases[i].in, &doc);
                assert_int_equal(json_int64(&doc, json_root(&doc), &n), cases[i].result);
                assert_true(n == (cases[i].result == 0 ? cases[i].n : 77));
        }
        struct json_doc none = {0};
        int64_t n;
        assert_int_equal(json_int64(&none, NULL, &n), -EINVAL);
}

static void doubles(void **state)
{
        (void)state;
        static const struct {
                const char *in;
                int result;
                double d;
        } cases[] = {
                {"0", 0, 0},
                {"1.5", 0, 1.5},
                {"-2.5e3", 0, -2500},
                {"1E+2", 0, 100},
                {"1e-400", 0, 0}, /* too small is zero, not an error */
                {"5e-324", 0, 5e-324},
                {"1.7976931348623157e308", 0, DBL_MAX},
                {"1e309", -ERANGE, 0},
                {"-1e400", -ERANGE, 0},
                {"123456789012345678901234567890", 0, 123456789012345678901234567890.0},
                {"\"1\"", -EINVAL, 0},
                {"true", -EINVAL, 0},
        };
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(json_done) struct json_doc doc = {0};
                double d = 77;
                doc_of(cases[i].in, &doc);
                assert_int_equal(json_double(&doc, json_root(&doc), &d), cases[i].result);
                assert_true(d == (cases[i].result == 0 ? cases[i].d : 77));
        }
        /* In the middle of a text, what follows must not be read as part of the number. */
        _cleanup_(json_done) struct json_doc doc = {0};
        doc_of("[0,1e1,0]", &doc);
        double d = 77;
        assert_int_equal(json_double(&doc, json_first(&doc, json_root(&doc)), &d), 0);
        assert_true(d == 0);
        assert_int_equal(json_double(&doc, NULL, &d), -EINVAL);
}

static void assert_double(double d, const char *text)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        json_add_double(&b, d);
        if (text)
                assert_string_equal(b.s, text);
        _cleanup_(json_done) struct json_doc doc = {0};
        doc_of(b.s, &doc);
        double back;
        assert_int_equal(json_double(&doc, json_root(&doc), &back), 0);
        assert_memory_equal(&back, &d, sizeof d); /* down to the sign of zero */
}

static void writes_doubles(void **state)
{
        (void)state;
        assert_double(0, "0");
        assert_double(-0.0, "-0");
        assert_double(1, "1");
        assert_double(-7, "-7");
        assert_double(1e15, "1000000000000000");
        assert_double(9007199254740991, "9007199254740991");
        assert_double(-9007199254740991, "-9007199254740991");
        assert_double(9007199254740992, NULL);
        assert_double(0.1, "0.1");
        assert_double(0.1 + 0.2, "0.30000000000000004");
        assert_double(1.0 / 3, "0.3333333333333333");
        assert_double(-2.5, "-2.5");
        assert_double(1e20, "1e20");
        assert_double(1e100, "1e100");
        assert_double(1e-7, "1e-7");
        assert_double(1.5e-10, "1.5e-10");
        assert_double(123456789.125, "123456789.125");
        assert_double(DBL_MAX, "1.7976931348623157e308");
        assert_double(DBL_MIN, "2.2250738585072014e-308");
        assert_double(5e-324, "5e-324");
        assert_double(1.2e-310, "1.2e-310");
        /* Bit patterns spread over the whole range. */
        uint64_t bits = 0x9e3779b97f4a7c15;
        for (int i = 0; i < 20000; i++) {
                bits = bits * 6364136223846793005 + 1442695040888963407;
                double d;
                memcpy(&d, &bits, sizeof d);
                if (isfinite(d))
                        assert_double(d, NULL);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(accepts_and_minifies),
                cmocka_unit_test(refuses_broken_structure),
                cmocka_unit_test(refuses_other_words),
                cmocka_unit_test(refuses_what_stands_around),
                cmocka_unit_test(numbers_of_the_grammar),
                cmocka_unit_test(control_characters_and_nul),
                cmocka_unit_test(strings_without_an_end),
                cmocka_unit_test(escapes),
                cmocka_unit_test(surrogates),
                cmocka_unit_test(utf8_is_exact),
                cmocka_unit_test(refuses_bad_utf8),
                cmocka_unit_test(every_alignment),
                cmocka_unit_test(depth_limit),
                cmocka_unit_test(duplicate_names),
                cmocka_unit_test(duplicates_of_few_and_many),
                cmocka_unit_test(large_object_is_no_denial_of_service),
                cmocka_unit_test(tokens),
                cmocka_unit_test(walks),
                cmocka_unit_test(empty_document),
                cmocka_unit_test(strings),
                cmocka_unit_test(integers),
                cmocka_unit_test(doubles),
                cmocka_unit_test(writes_doubles),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
