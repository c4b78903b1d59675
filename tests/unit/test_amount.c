/* Currencies and amounts. The lists here are typed from ISO 4217 by exponent, independently of the table's order. */
#include "base/amount.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const zero[] = {
        "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"};
static const char *const three[] = {"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"};
static const char *const four[] = {"CLF", "UYW"};
static const char *const not_money[] = {"XAG", "XAU", "XBA", "XBB", "XBC", "XBD", "XDR", "XPD", "XPT", "XSU", "XTS", "XUA", "XXX", "XAD"};

static void exponents(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(zero); i++)
                assert_int_equal(currency_exponent(zero[i]), 0);
        for (size_t i = 0; i < ARRAY_SIZE(three); i++)
                assert_int_equal(currency_exponent(three[i]), 3);
        for (size_t i = 0; i < ARRAY_SIZE(four); i++)
                assert_int_equal(currency_exponent(four[i]), 4);
        for (size_t i = 0; i < ARRAY_SIZE(not_money); i++)
                assert_int_equal(currency_exponent(not_money[i]), -ENOENT);
        assert_int_equal(currency_exponent("EUR"), 2);
        assert_int_equal(currency_exponent("USD"), 2);
        assert_int_equal(currency_exponent("AED"), 2); /* the first and the last of the table */
        assert_int_equal(currency_exponent("ZWG"), 2);
}

static void other_codes_are_unknown(void **state)
{
        (void)state;
        static const char *const bad[] = {"", "E", "EU", "EURO", "eur", "Eur", "EUR ", "AAA", "ZZZ", "DEM", "HRK", "ZWL", "BTC", "\xe2\x82\xac"};
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(currency_exponent(bad[i]), -ENOENT);
        assert_int_equal(currency_exponent(NULL), -ENOENT);
}

/* All 17,576 codes: what is found by bsearch is all there is, so the table must be sorted to count 166. */
static void counts(void **state)
{
        (void)state;
        int found[5] = {0};
        for (int i = 0; i < 26 * 26 * 26; i++) {
                char code[4] = {(char)('A' + i / 676), (char)('A' + i / 26 % 26), (char)('A' + i % 26), '\0'};
                int exponent = currency_exponent(code);
                if (exponent >= 0)
                        found[exponent]++;
        }
        assert_int_equal(found[0], ARRAY_SIZE(zero));
        assert_int_equal(found[1], 0);
        assert_int_equal(found[2], 140);
        assert_int_equal(found[3], ARRAY_SIZE(three));
        assert_int_equal(found[4], ARRAY_SIZE(four));
}

static void equality(void **state)
{
        (void)state;
        assert_true(amount_equal((struct amount){5, "EUR"}, (struct amount){5, "EUR"}));
        assert_false(amount_equal((struct amount){5, "EUR"}, (struct amount){6, "EUR"}));
        assert_false(amount_equal((struct amount){5, "EUR"}, (struct amount){5, "USD"}));
        assert_false(amount_equal((struct amount){0, "EUR"}, (struct amount){0}));
        assert_true(amount_equal((struct amount){0}, (struct amount){0}));
}

static void texts(void **state)
{
        (void)state;
        static const struct {
                struct amount a;
                const char *json, *human;
        } cases[] = {
                {{2588, "EUR"}, "{\"minor\":2588,\"currency\":\"EUR\"}", "EUR 25.88"},
                {{5, "EUR"}, "{\"minor\":5,\"currency\":\"EUR\"}", "EUR 0.05"},
                {{-5, "EUR"}, "{\"minor\":-5,\"currency\":\"EUR\"}", "EUR -0.05"},
                {{0, "EUR"}, "{\"minor\":0,\"currency\":\"EUR\"}", "EUR 0.00"},
                {{2588, "JPY"}, "{\"minor\":2588,\"currency\":\"JPY\"}", "JPY 2588"},
                {{2588, "BHD"}, "{\"minor\":2588,\"currency\":\"BHD\"}", "BHD 2.588"},
                {{-2588, "CLF"}, "{\"minor\":-2588,\"currency\":\"CLF\"}", "CLF -0.2588"},
                {{INT64_MAX, "EUR"}, "{\"minor\":9223372036854775807,\"currency\":\"EUR\"}", "EUR 92233720368547758.07"},
                {{INT64_MIN, "EUR"}, "{\"minor\":-9223372036854775808,\"currency\":\"EUR\"}", "EUR -92233720368547758.08"},
                {{7, "QQQ"}, "{\"minor\":7,\"currency\":\"QQQ\"}", "QQQ 7 minor"},
                {{0, ""}, "{\"minor\":0,\"currency\":\"\"}", "? 0 minor"},
        };
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(strbuf_done) struct strbuf b = {0};
                amount_add_json(&b, cases[i].a);
                assert_string_equal(b.s, cases[i].json);
                strbuf_reset(&b);
                amount_add_human(&b, cases[i].a);
                assert_string_equal(b.s, cases[i].human);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(exponents),
                cmocka_unit_test(other_codes_are_unknown),
                cmocka_unit_test(counts),
                cmocka_unit_test(equality),
                cmocka_unit_test(texts),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
