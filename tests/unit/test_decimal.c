/* Exact decimals: every price goes through these. Values around 2^127 are built by multiplying, because nothing that large can be parsed. */
#include "base/decimal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct decimal dec(const char *s)
{
        struct decimal d;
        assert_int_equal(decimal_parse(s, strlen(s), &d), 0);
        return d;
}

static void assert_text(struct decimal d, const char *text)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        decimal_add_text(&b, d);
        assert_string_equal(b.s, text);
}

static void assert_round(struct decimal d, int exponent, int64_t minor)
{
        int64_t got = minor ^ 1;
        assert_int_equal(decimal_round_minor(d, exponent, &got), 0);
        assert_true(got == minor);
}

static void parses(void **state)
{
        (void)state;
        static const struct {
                const char *in, *text;
                int scale;
        } cases[] = {
                {"0", "0", 0},
                {"12", "12", 0},
                {"0.05", "0.05", 2},
                {"-1.5", "-1.5", 1},
                {"25.878", "25.878", 3},
                {"1.500000", "1.5", 6},
                {"-0", "0", 0},
                {"-0.00", "0", 2},
                {"007", "7", 0},
                {"100", "100", 0},
                {"999999999999999999.999999", "999999999999999999.999999", 6},
                {"-999999999999999999.999999", "-999999999999999999.999999", 6},
                {"0.000001", "0.000001", 6},
                {"-0.000001", "-0.000001", 6},
        };
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct decimal d = dec(cases[i].in);
                assert_int_equal(d.scale, cases[i].scale);
                assert_text(d, cases[i].text);
        }
}

static void refuses(void **state)
{
        (void)state;
        static const char *const bad[] = {"", "-", ".", ".5", "1.", "-.5", "-1.", "+1", "1e5", "1E5", " 1", "1 ", "1,5", "1.2.3", "--1", "0x10",
                "1_000", "NaN", "inf", "1234567890123456789", "0000000000000000001", "0.0000001", "1.0000000"};
        struct decimal d = {.mantissa = 77};
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(decimal_parse(bad[i], strlen(bad[i]), &d), -EINVAL);
        assert_int_equal(decimal_parse("1\0", 2, &d), -EINVAL);
        assert_true(d.mantissa == 77); /* set on success only */
        /* The length counts, not what stands behind it. */
        assert_int_equal(decimal_parse("12x", 2, &d), 0);
        assert_text(d, "12");
}

static void adds_and_multiplies(void **state)
{
        (void)state;
        static const struct {
                const char *a, *b, *sum, *product;
        } cases[] = {
                {"1", "2", "3", "2"},
                {"0.1", "0.2", "0.3", "0.02"},
                {"12.5", "-0.05", "12.45", "-0.625"},
                {"-1.5", "-1.5", "-3", "2.25"},
                {"99.99", "0.01", "100", "0.9999"},
                {"8.626", "3", "11.626", "25.878"},
                {"0", "-7.5", "-7.5", "0"},
                {"999999999999999999.999999", "0.000001", "1000000000000000000", "999999999999.999999999999"},
        };
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct decimal a = dec(cases[i].a), b = dec(cases[i].b), r;
                assert_int_equal(decimal_add(a, b, &r), 0);
                assert_text(r, cases[i].sum);
                assert_int_equal(decimal_add(b, a, &r), 0);
                assert_text(r, cases[i].sum);
                assert_int_equal(decimal_mul(a, b, &r), 0);
                assert_text(r, cases[i].product);
                assert_int_equal(decimal_mul(b, a, &r), 0);
                assert_text(r, cases[i].product);
        }
        assert_text(decimal_of_int(INT64_MIN), "-9223372036854775808");
        assert_text(decimal_of_int(INT64_MAX), "9223372036854775807");
}

static struct decimal largest(void)
{
        return (struct decimal){.mantissa = (__int128)(~(unsigned __int128)0 >> 1)};
}

static void overflow_is_told(void **state)
{
        (void)state;
        struct decimal max = largest(), one = decimal_of_int(1), tenth = dec("0.1"), r = {.mantissa = 77};
        struct decimal min = {.mantissa = -max.mantissa - 1};
        assert_text(max, "170141183460469231731687303715884105727");
        assert_text(min, "-170141183460469231731687303715884105728");
        assert_int_equal(decimal_add(max, one, &r), -ERANGE);
        assert_int_equal(decimal_add(min, decimal_of_int(-1), &r), -ERANGE);
        assert_int_equal(decimal_add(max, tenth, &r), -ERANGE); /* aligning overflows */
        assert_int_equal(decimal_add(tenth, max, &r), -ERANGE);
        assert_int_equal(decimal_mul(max, decimal_of_int(2), &r), -ERANGE);
        assert_int_equal(decimal_mul(min, decimal_of_int(-1), &r), -ERANGE);
        assert_true(r.mantissa == 77);
        assert_int_equal(decimal_add(max, min, &r), 0);
        assert_text(r, "-1");
        assert_int_equal(decimal_mul(max, one, &r), 0);

        /* Scales beyond what a power of ten in 128 bits can align. */
        struct decimal fine = {.mantissa = 1, .scale = 60}, zero = {.scale = 0};
        assert_int_equal(decimal_add(one, fine, &r), -ERANGE);
        assert_int_equal(decimal_add(zero, fine, &r), 0);
        assert_int_equal(r.scale, 60);
        assert_int_equal(decimal_mul((struct decimal){1, INT32_MAX}, fine, &r), -ERANGE);
}

/* What the header promises: five factors with at most 19 decimal places are exact while the result fits into 64 bits of minor units. */
static void five_factors(void **state)
{
        (void)state;
        struct decimal r = dec("1234567.891234");
        static const char *const factors[] = {"1.000001", "0.999", "12.25", "1.5"};
        for (size_t i = 0; i < ARRAY_SIZE(factors); i++)
                assert_int_equal(decimal_mul(r, dec(factors[i]), &r), 0);
        assert_int_equal(r.scale, 18);
        assert_text(r, "22662522.47892314167332525");
        assert_round(r, 2, 2266252248);
}

static void rounds_half_away_from_zero(void **state)
{
        (void)state;
        static const struct {
                const char *d;
                int exponent;
                int64_t minor;
        } cases[] = {
                {"25.878", 2, 2588},
                {"-25.878", 2, -2588},
                {"25.874", 2, 2587},
                {"25.875", 2, 2588},
                {"-25.875", 2, -2588},
                {"25.865", 2, 2587}, /* not to even */
                {"-25.865", 2, -2587},
                {"25.874999", 2, 2587},
                {"-25.874999", 2, -2587},
                {"0.005", 2, 1},
                {"-0.005", 2, -1},
                {"0.004999", 2, 0},
                {"-0.004999", 2, 0},
                {"0.5", 0, 1},
                {"-0.5", 0, -1},
                {"1.5", 0, 2},
                {"2.5", 0, 3},
                {"-2.5", 0, -3},
                {"0.4", 0, 0},
                {"7", 2, 700},
                {"-7", 3, -7000},
                {"1.2345", 4, 12345},
                {"1.2345", 3, 1235},
                {"1.23", 4, 12300},
                {"99.995", 2, 10000},
                {"0", 2, 0},
                {"92233720368547758.07", 2, INT64_MAX},
                {"-92233720368547758.08", 2, INT64_MIN},
                {"92233720368547758.074", 2, INT64_MAX},
                {"-92233720368547758.084", 2, INT64_MIN},
        };
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_round(dec(cases[i].d), cases[i].exponent, cases[i].minor);
}

/* Every thousandth from -12 to 12, against arithmetic on small integers. */
static void rounds_like_small_integers(void **state)
{
        (void)state;
        for (int n = -12000; n <= 12000; n++) {
                int size = abs(n), rounded = (size + 5) / 10;
                assert_round((struct decimal){.mantissa = n, .scale = 3}, 2, n < 0 ? -rounded : rounded);
        }
}

static void rounding_out_of_range(void **state)
{
        (void)state;
        int64_t minor = 77;
        assert_int_equal(decimal_round_minor(dec("92233720368547758.08"), 2, &minor), -ERANGE);
        assert_int_equal(decimal_round_minor(dec("-92233720368547758.09"), 2, &minor), -ERANGE);
        assert_int_equal(decimal_round_minor(dec("92233720368547758.075"), 2, &minor), -ERANGE); /* only rounding takes it out */
        assert_int_equal(decimal_round_minor(dec("-92233720368547758.085"), 2, &minor), -ERANGE);
        assert_int_equal(decimal_round_minor(dec("999999999999999999"), 2, &minor), -ERANGE);
        assert_int_equal(decimal_round_minor(largest(), 0, &minor), -ERANGE);
        assert_int_equal(decimal_round_minor(largest(), 4, &minor), -ERANGE); /* the shift overflows */
        assert_int_equal(decimal_round_minor(decimal_of_int(1), 60, &minor), -ERANGE);
        assert_int_equal(minor, 77);

        /* Dropping as many digits as 128 bits have, and more. */
        struct decimal max = largest(), min = {.mantissa = -max.mantissa - 1};
        max.scale = min.scale = 38;
        assert_round(max, 0, 2); /* 1.70 */
        assert_round(min, 0, -2);
        max.scale = min.scale = 39;
        assert_round(max, 0, 0);
        assert_round(min, 0, 0);
        max.scale = min.scale = 40;
        assert_round(max, 2, 2); /* exponent counts */
        assert_round((struct decimal){.scale = 100}, 2, 0);
        assert_round((struct decimal){.mantissa = 5, .scale = 1000000}, 2, 0);
}

static void text(void **state)
{
        (void)state;
        assert_text((struct decimal){.mantissa = 5, .scale = 10}, "0.0000000005");
        assert_text((struct decimal){.mantissa = -50, .scale = 1}, "-5");
        assert_text((struct decimal){.mantissa = 1200, .scale = 3}, "1.2");
        assert_text((struct decimal){.mantissa = 1000, .scale = 3}, "1");
        assert_text((struct decimal){.mantissa = 0, .scale = 300}, "0");
        assert_text((struct decimal){.mantissa = 105, .scale = 2}, "1.05");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(parses),
                cmocka_unit_test(refuses),
                cmocka_unit_test(adds_and_multiplies),
                cmocka_unit_test(overflow_is_told),
                cmocka_unit_test(five_factors),
                cmocka_unit_test(rounds_half_away_from_zero),
                cmocka_unit_test(rounds_like_small_integers),
                cmocka_unit_test(rounding_out_of_range),
                cmocka_unit_test(text),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
