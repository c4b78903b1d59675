/* What is read out of a parsed document: its tokens, walks along them, numbers; and that doubles come back as they were written. */
#include "base/json.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/json_exact.h"

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
                cmocka_unit_test(tokens),
                cmocka_unit_test(walks),
                cmocka_unit_test(empty_document),
                cmocka_unit_test(integers),
                cmocka_unit_test(doubles),
                cmocka_unit_test(writes_doubles),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
