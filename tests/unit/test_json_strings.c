/* Strings of strict JSON: escapes, surrogates and UTF-8, what is refused in them and where, and the text that they stand for. */
#include "base/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/json_exact.h"

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
        assert_true(utf8_line("a \xc3\xa9", 4, 3));
        assert_false(utf8_line("a \xc3\xa9", 4, 2));
        assert_false(utf8_line("", 0, 3));
        assert_false(utf8_line("\xc3", 1, 3));
        assert_false(utf8_line("a\0b", 3, 3) || utf8_line("\t", 1, 3) || utf8_line("\x7f", 1, 3));
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

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(control_characters_and_nul),
                cmocka_unit_test(strings_without_an_end),
                cmocka_unit_test(escapes),
                cmocka_unit_test(surrogates),
                cmocka_unit_test(strings),
                cmocka_unit_test(utf8_is_exact),
                cmocka_unit_test(refuses_bad_utf8),
                cmocka_unit_test(every_alignment),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
