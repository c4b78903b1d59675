/* Prices, exactly, and the rules of admission. */
#include "services/pricing/pricing_core.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct pricing_rule text_rule = {.base = "20.00", .per_unit = "0.05", .currency = "EUR"};

/* Prices `payload`; yields the slug of the refusal, or NULL. */
static const char *price_of(const struct pricing_rule *rule, const char *payload, enum pricing_priority priority, struct price *ret_price)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;
        struct refusal refusal = {0};

        assert_int_equal(json_parse(payload, strlen(payload), &doc, &error), 0);
        if (pricing_price(rule, &doc, json_root(&doc), priority, ret_price, &refusal))
                return NULL;
        assert_int_equal(refusal.status, 422);
        assert_true(refusal.field[0] == '/' && refusal.detail[0]);
        return refusal.slug;
}

static void exact_is(const struct price *p, const char *expected)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        decimal_add_text(&b, p->exact);
        assert_string_equal(b.s, expected);
}

static void example_of_the_contract(void **state)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct price p;

        (void)state;
        assert_null(price_of(&text_rule, " { \"text\" : \"Code 19: Initial global activation payload.\"}\n", PRICING_HIGH, &p));
        assert_int_equal(p.size, 54);
        exact_is(&p, "25.878");
        assert_int_equal(p.amount.minor, 2588);
        assert_string_equal(p.amount.currency, "EUR");
        pricing_add_derivation(&b, &p);
        assert_string_equal(b.s, "{\"base\":\"20.00\",\"per_unit\":\"0.05\",\"size\":54,\"complexity\":54,\"priority\":\"1.2\",\"size_factor\":\"0."
                                 "95\",\"offer\":\"1\","
                                 "\"exact\":\"25.878\",\"rounding\":\"half_away_from_zero\"}");
}

static void sizes(void **state)
{
        static const struct {
                size_t size;
                const char *factor;
        } cases[] = {{4, "0.95"}, {199, "0.95"}, {200, "1"}, {2000, "1"}, {2001, "1.1"}};
        struct price p;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char payload[2100];

                memset(payload, 'x', sizeof(payload));
                payload[0] = payload[cases[i].size - 1] = '"';
                payload[cases[i].size] = '\0';
                assert_null(price_of(&text_rule, payload, PRICING_NORMAL, &p));
                assert_int_equal(p.size, cases[i].size);
                assert_string_equal(p.size_factor, cases[i].factor);
        }
        /* Characters, not bytes; escapes as they are written. */
        assert_null(price_of(&text_rule, "\"\xc3\xa4\xf0\x9f\x98\x80\"", PRICING_NORMAL, &p));
        assert_int_equal(p.size, 4);
        assert_null(price_of(&text_rule, "\"\\u00e4\"", PRICING_NORMAL, &p));
        assert_int_equal(p.size, 8);
}

static void complexity(void **state)
{
        static const struct {
                const char *payload;
                const char *slug;
                int64_t complexity;
        } cases[] = {
                {"{\"complexity\":0}", NULL, 16}, {"{\"complexity\":-0}", NULL, 17}, {"{\"complexity\":1000}", NULL, 1019},
                {"{\"complexity\":-1}", "invalid-complexity"}, {"{\"complexity\":1.0}", "invalid-complexity"},
                {"{\"complexity\":1e3}", "invalid-complexity"}, {"{\"complexity\":\"5\"}", "invalid-complexity"},
                {"{\"complexity\":null}", "invalid-complexity"}, {"{\"complexity\":true}", "invalid-complexity"},
                {"{\"complexity\":9223372036854775807}", "invalid-complexity"}, /* with the size it does not fit */
                {"{\"complexity\":9223372036854775808}", "invalid-complexity"},
                {"{\"complexity\":99999999999999999999999999999999999999}", "invalid-complexity"},
                {"{\"complexity\":9223372036854775000}", "amount-too-large"},
                {"[{\"complexity\":-1}]", NULL, 19}, /* only payload.complexity counts */
        };
        struct price p;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const struct pricing_rule rule = {.base = "0", .per_unit = "1", .currency = "EUR"};
                const char *slug = price_of(&rule, cases[i].payload, PRICING_NORMAL, &p);

                if (cases[i].slug)
                        assert_string_equal(slug ? slug : "none", cases[i].slug);
                else
                        assert_null(slug);
                if (!slug)
                        assert_int_equal(p.complexity, cases[i].complexity);
        }
}

static void largest_amounts(void **state)
{
        struct pricing_rule rule = {.base = "0", .per_unit = "1", .currency = "JPY"};
        struct price p;

        (void)state;
        /* 34 characters; together 2^63 - 1 units at 0.95 */
        assert_null(price_of(&rule, "{\"complexity\":9223372036854775773}", PRICING_NORMAL, &p));
        assert_int_equal(p.complexity, INT64_MAX);
        exact_is(&p, "8762203435012037016.65");
        assert_int_equal(p.amount.minor, 8762203435012037017);
        assert_string_equal(price_of(&rule, "{\"complexity\":9223372036854775773}", PRICING_HIGH, &p), "amount-too-large");
        rule.per_unit = "999999999999999.999999";
        rule.multiplier = "999999.999999";
        assert_string_equal(price_of(&rule, "{\"complexity\":9223372036854775773}", PRICING_HIGH, &p), "amount-too-large");
}

static void rounding(void **state)
{
        static const struct {
                const char *base, *currency, *multiplier;
                int64_t minor;
        } cases[] = {
                {"10.005", "EUR", NULL, 1001}, /* a 200-character payload: no size factor */
                {"10.004999", "EUR", NULL, 1000},
                {"10.005", "JPY", NULL, 10},
                {"10.5", "JPY", NULL, 11},
                {"10.0005", "BHD", NULL, 10001},
                {"10", "EUR", "0.333333", 333},
                {"10", "EUR", "0", 0},
        };
        char payload[201];
        struct price p;

        (void)state;
        memset(payload, 'x', sizeof(payload));
        payload[0] = payload[199] = '"';
        payload[200] = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const struct pricing_rule rule = {
                        .base = cases[i].base, .per_unit = "0", .currency = cases[i].currency, .multiplier = cases[i].multiplier};

                assert_null(price_of(&rule, payload, PRICING_NORMAL, &p));
                assert_int_equal(p.amount.minor, cases[i].minor);
        }
}

static void admission(void **state)
{
        static const struct {
                const char *job, *tag, *slug, *field;
                enum pricing_priority priority;
        } cases[] = {
                {"{\"payload\":{\"text\":\"\"}}", "puz19_text", NULL, NULL, PRICING_NORMAL},
                {"{\"payload\":{\"text\":\"a\"},\"context\":{\"priority\":\"high\"}}", "puz19_text", NULL, NULL, PRICING_HIGH},
                {"{\"payload\":{\"text\":\"a\"},\"context\":{\"priority\":\"l\\u006fw\",\"more\":1}}", "puz19_text", NULL, NULL, PRICING_LOW},
                {"{\"payload\":{\"text\":\"a\"},\"context\":{}}", "puz19_text", NULL, NULL, PRICING_NORMAL},
                {"{\"payload\":{\"text\":\"a\"},\"context\":{\"label\":\"code19_issue\",\"priority\":\"low\"}}", "code19", NULL, NULL, PRICING_HIGH},
                {"{\"payload\":{\"text\":\"a\"},\"context\":{\"label\":\"code20_issue\"}}", "code19", NULL, NULL, PRICING_NORMAL},
                {"{\"payload\":{},\"context\":{\"label\":\"code19_issue\"}}", "code19", "invalid-payload", "/payload/text"},
                {"{\"payload\":{\"text\":\"a\"},\"context\":{\"priority\":\"urgent\"}}", "puz19_text", "unknown-priority", "/context/priority"},
                {"{\"payload\":{\"text\":\"a\"},\"context\":{\"priority\":null}}", "puz19_text", "unknown-priority", "/context/priority"},
                {"{\"payload\":{\"text\":\"a\"},\"context\":[]}", "puz19_text", "invalid-context", "/context"},
                {"{\"payload\":{\"text\":\"a\"},\"context\":null}", "puz19_text", "invalid-context", "/context"},
                {"{\"context\":{}}", "puz19_text", "invalid-payload", "/payload"},
                {"{\"payload\":{}}", "puz19_text", "invalid-payload", "/payload/text"},
                {"{\"payload\":{\"text\":5}}", "puz19_text", "invalid-payload", "/payload/text"},
                {"{\"payload\":\"text\"}", "puz19_text", "invalid-payload", "/payload"},
                {"{\"payload\":{\"numbers\":[]}}", "puz19_numeric", NULL, NULL, PRICING_NORMAL},
                {"{\"payload\":{\"numbers\":[1,-2.5,1e3]}}", "puz19_numeric", NULL, NULL, PRICING_NORMAL},
                {"{\"payload\":{\"numbers\":[1,\"2\"]}}", "puz19_numeric", "invalid-payload", "/payload/numbers/1"},
                {"{\"payload\":{\"numbers\":[1e999]}}", "puz19_numeric", "invalid-payload", "/payload/numbers/0"},
                {"{\"payload\":{\"numbers\":{}}}", "puz19_numeric", "invalid-payload", "/payload/numbers"},
                {"{\"payload\":7}", "translate", NULL, NULL, PRICING_NORMAL},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(json_done) struct json_doc doc = {0};
                struct json_error error;
                struct refusal refusal = {0};
                enum pricing_priority priority = PRICING_PRIORITY_COUNT;
                bool ok;

                assert_int_equal(json_parse(cases[i].job, strlen(cases[i].job), &doc, &error), 0);
                ok = pricing_admit(&doc, json_get(&doc, json_root(&doc), "payload"), json_get(&doc, json_root(&doc), "context"), cases[i].tag,
                        &priority, &refusal);
                assert_int_equal(ok, !cases[i].slug);
                if (ok) {
                        assert_int_equal(priority, cases[i].priority);
                } else {
                        assert_string_equal(refusal.slug, cases[i].slug);
                        assert_string_equal(refusal.field, cases[i].field);
                }
        }
}

static void events_of_pricing(void **state)
{
        static const char created[] =
                "{\"client\":\"default\",\"key\":\"k1\",\"source\":\"bus\",\"encoding\":\"protobuf\",\"type\":\"puz19:text_analysis\","
                "\"payload\":{\"text\":\"Code 19: Initial global activation payload.\"},\"context\":{\"priority\":\"high\"},"
                "\"flow\":{\"id\":\"f\",\"version\":3,\"base\":\"20.00\",\"per_unit\":\"0.05\",\"currency\":\"EUR\",\"steps\":[\"puz19_text\"]},"
                "\"offer\":{\"id\":\"o\",\"version\":1,\"multiplier\":\"2\"}}";
        struct pricing_result r;
        const char *why;

        (void)state;
        assert_int_equal(pricing_decide(created, strlen(created), &r, &why), 0);
        assert_string_equal(r.flow_chosen.s, "{\"flow\":\"f\",\"version\":3}");
        assert_non_null(strstr(r.priced.s, "{\"amount\":{\"minor\":5176,\"currency\":\"EUR\"},\"derivation\":{\"base\":\"20.00\""));
        assert_non_null(strstr(r.priced.s, "\"offer\":\"2\",\"exact\":\"51.756\""));
        assert_true(r.wants_receipt && r.protobuf);
        assert_string_equal(r.client, "default");
        assert_string_equal(r.key, "k1");
        assert_int_equal(r.amount.minor, 5176);
        pricing_result_done(&r);
        assert_true(pricing_decide("{}", 2, &r, &why) < 0);
        assert_true(pricing_decide("x", 1, &r, &why) < 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(example_of_the_contract),
                cmocka_unit_test(sizes),
                cmocka_unit_test(complexity),
                cmocka_unit_test(largest_amounts),
                cmocka_unit_test(rounding),
                cmocka_unit_test(admission),
                cmocka_unit_test(events_of_pricing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
