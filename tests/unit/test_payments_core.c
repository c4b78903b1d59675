/* The decisions of payments over every step, with and without evidence, before and after the time is over. */
#include "services/payments/payments_core.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void every_step(void **state)
{
        static const struct {
                const char *step, *hearer;
                enum payments_action plain, expired, evidence;
        } rows[] = {
                {"JOB_CREATED", "pricing", PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN},
                {"PRICED", "payments", PAYMENTS_CREATE, PAYMENTS_CREATE, PAYMENTS_CREATE},
                {"PAYMENT_REQUIRED", "payments", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_NOTHING},
                {"PAYMENT_INITIATED", "payments", PAYMENTS_NOTHING, PAYMENTS_EXPIRE, PAYMENTS_CONFIRM},
                {"PAYMENT_CONFIRMED", "execution", PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN},
                {"PAYMENT_EXPIRED", "", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_NOTHING},
                {"EXECUTION_COMPLETED", "ledger", PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN},
                {"REVENUE_BOOKED", "", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_NOTHING},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                assert_int_equal(payments_decide(rows[i].step, rows[i].hearer, false, false), rows[i].plain);
                assert_int_equal(payments_decide(rows[i].step, rows[i].hearer, false, true), rows[i].expired);
                assert_int_equal(payments_decide(rows[i].step, rows[i].hearer, true, false), rows[i].evidence);
                assert_int_equal(payments_decide(rows[i].step, rows[i].hearer, true, true), rows[i].evidence); /* paid beats late */
        }
}

static void data_is_json(void **state)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        (void)state;
        payments_confirmed_data(&b, (struct amount){2588, "EUR"}, "person", "an\"na", "bank\n1");
        assert_string_equal(b.s, "{\"amount\":{\"minor\":2588,\"currency\":\"EUR\"},\"evidence\":{\"kind\":\"person\",\"who\":\"an\\\"na\",\"reference\":\"bank\\n1\"}}");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_step),
                cmocka_unit_test(data_is_json),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
