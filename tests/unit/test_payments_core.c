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
                const char *kind, *step;
                enum payments_action plain, expired, evidence;
        } rows[] = {
                {"job", "JOB_CREATED", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_NOTHING},
                {"job", "PRICED", PAYMENTS_CREATE, PAYMENTS_CREATE, PAYMENTS_CREATE},
                {"job", "PAYMENT_REQUIRED", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_NOTHING},
                {"job", "PAYMENT_INITIATED", PAYMENTS_NOTHING, PAYMENTS_EXPIRE, PAYMENTS_CONFIRM},
                {"job", "PAYMENT_CONFIRMED", PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN},
                {"job", "REFUND_REQUIRED", PAYMENTS_REFUND, PAYMENTS_REFUND, PAYMENTS_REFUND},
                {"job", "REFUND_INITIATED", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_REFUNDED},
                {"job", "REFUND_CONFIRMED", PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN},
                {"job", "PAYMENT_EXPIRED", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_NOTHING},
                {"job", "EXECUTION_COMPLETED", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_NOTHING},
                {"job", "REVENUE_BOOKED", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_NOTHING},
                {"system", "TASK_CREATED", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_NOTHING},
                {"system", "PRICED", PAYMENTS_TRANSFER, PAYMENTS_TRANSFER, PAYMENTS_TRANSFER},
                {"system", "PAYMENT_CONFIRMED", PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN},
                {"system", "EXECUTION_FAILED", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_NOTHING},
                {"payout", "PAYOUT_READY", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_NOTHING},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                assert_int_equal(payments_decide(rows[i].kind, rows[i].step, false, false), rows[i].plain);
                assert_int_equal(payments_decide(rows[i].kind, rows[i].step, false, true), rows[i].expired);
                assert_int_equal(payments_decide(rows[i].kind, rows[i].step, true, false), rows[i].evidence);
                assert_int_equal(payments_decide(rows[i].kind, rows[i].step, true, true), rows[i].evidence); /* paid beats late */
        }
}

static void data_is_json(void **state)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        (void)state;
        payments_evidence_data(&b, (struct amount){2588, "EUR"}, "person", "an\"na", "bank\n1");
        assert_string_equal(b.s, "{\"amount\":{\"minor\":2588,\"currency\":\"EUR\"},\"evidence\":{\"kind\":\"person\",\"who\":\"an\\\"na\","
                                 "\"reference\":\"bank\\n1\"}}");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_step),
                cmocka_unit_test(data_is_json),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
