/* What the public sees of an event: what evidence there was, and neither names of people nor their references; everything else. */
#include "services/intake/public_data.h"

#include "base/json.h"
#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void shows(const char *type, const char *data, const char *expected)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        public_data_add(&b, type, slice_of(data));
        assert_string_equal(b.s, expected);
}

static void evidence_without_whose(void **state)
{
        static const char *const types[] = {"PAYMENT_CONFIRMED", "REFUND_CONFIRMED", "PAYOUT_DONE"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                shows(types[i],
                        "{\"amount\":{\"minor\":1,\"currency\":\"EUR\"},\"evidence\":{\"kind\":\"person\",\"who\":\"Eva\",\"reference\":\"R 1\"}}",
                        "{\"amount\":{\"minor\":1,\"currency\":\"EUR\"},\"evidence\":{\"kind\":\"person\"}}");
        shows("PAYMENT_CONFIRMED", "{\"evidence\":{\"who\":\"Eva\"}}", "{\"evidence\":{\"kind\":null}}");
        shows("PAYMENT_CONFIRMED", "{\"evidence\":\"Eva\"}", "{\"evidence\":{\"kind\":null}}");
        shows("PAYMENT_CONFIRMED", "{\"evidence\":null}", "{\"evidence\":{\"kind\":null}}");
        shows("REFUND_REQUIRED", "{\"compensation\":{\"by\":\"Eva\"}}", "{\"compensation\":{\"kind\":null,\"amount\":null}}");
        shows("REFUND_REQUIRED", "{\"compensation\":{\"kind\":\"person\",\"by\":\"Eva\",\"amount\":{\"minor\":2}},\"reason\":\"x\"}",
                "{\"compensation\":{\"kind\":\"person\",\"amount\":{\"minor\":2}},\"reason\":\"x\"}");
}

static void nobody_by_name(void **state)
{
        (void)state;
        shows("CHAIN_REOPENED", "{\"by\":\"Eva\",\"reference\":\"R 1\",\"n\":[1, 2]}", "{\"n\":[1,2]}");
        shows("CHAIN_REOPENED", "{\"by\":\"Eva\"}", "{}");
        shows("TASK_CREATED", "{\"cause\":{\"by\":\"Eva\",\"issue_id\":\"i\"},\"kind\":\"k\"}", "{\"cause\":{\"issue_id\":\"i\"},\"kind\":\"k\"}");
        shows("TASK_CREATED", "{\"cause\":{\"by\":\"Eva\"}}", "{\"cause\":{}}");
        shows("TASK_CREATED", "{\"cause\":[{\"by\":\"a word\"}]}", "{\"cause\":[{\"by\":\"a word\"}]}");
        shows("TASK_CREATED", "{\"cause\":\"retry\",\"by\":\"Eva\"}", "{\"cause\":\"retry\"}");
        shows("CHAIN_REOPENED", "{\"b\\u0079\":\"Eva\",\"evidence\":{}}", "{\"evidence\":{\"kind\":null}}");
        shows("A_TYPE_OF_TOMORROW", "{\"by\":\"Eva\",\"x\":1}", "{\"x\":1}");
}

static void what_others_wrote_stays(void **state)
{
        (void)state;
        shows("JOB_CREATED", "{\"client\":\"c\",\"payload\":{\"by\":\"a poet\"}}", "{\"client\":\"c\",\"payload\":{\"by\":\"a poet\"}}");
        shows("STEP_COMPLETED", "{\"output\":{\"by\":\"a poet\",\"reference\":1},\"by\":\"Eva\"}",
                "{\"output\":{\"by\":\"a poet\",\"reference\":1}}");
        shows("STEP_COMPLETED", "{ \"output\" : {} }", "{ \"output\" : {} }");
}

static void what_is_spoiled_shows_nothing(void **state)
{
        (void)state;
        shows("PAYMENT_CONFIRMED", "{\"evidence\":{\"who\":\"Eva\"", "{}");
        shows("PAYMENT_CONFIRMED", "[\"evidence\"]", "{}");
        shows("PAYMENT_CONFIRMED", "{\"evidence\":{\"kind\":\"a\"},\"evidence\":{\"kind\":\"b\"}}", "{}");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(evidence_without_whose),
                cmocka_unit_test(nobody_by_name),
                cmocka_unit_test(what_others_wrote_stays),
                cmocka_unit_test(what_is_spoiled_shows_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
