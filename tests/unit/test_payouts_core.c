/* The decisions of payouts and of the ledger over every step. */
#include "services/ledger/ledger_core.h"
#include "services/payouts/payouts_core.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void every_payout_step(void **state)
{
        (void)state;
        assert_int_equal(payouts_decide("PAYOUT_EARNED", false), PAYOUTS_READY);
        assert_int_equal(payouts_decide("PAYOUT_EARNED", true), PAYOUTS_READY);
        assert_int_equal(payouts_decide("PAYOUT_READY", false), PAYOUTS_NOTHING);
        assert_int_equal(payouts_decide("PAYOUT_READY", true), PAYOUTS_DONE);
        assert_int_equal(payouts_decide("PAYOUT_DONE", true), PAYOUTS_NOTHING);
}

static void only_executed_jobs_are_booked(void **state)
{
        static const char *const others[] = {"JOB_CREATED", "PRICED", "PAYMENT_INITIATED", "PAYMENT_CONFIRMED", "PAYMENT_EXPIRED",
                "EXECUTION_STARTED", "STEP_COMPLETED", "EXECUTION_FAILED", "REVENUE_BOOKED", "PAYOUT_EARNED"};

        (void)state;
        assert_true(ledger_books("EXECUTION_COMPLETED"));
        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
                assert_false(ledger_books(others[i]));
}

static void data_is_json(void **state)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        (void)state;
        ledger_earned_data(&b, "j", (struct amount){5, "JPY"});
        assert_string_equal(b.s, "{\"job_id\":\"j\",\"amount\":{\"minor\":5,\"currency\":\"JPY\"}}");
        strbuf_reset(&b);
        payouts_done_data(&b, (struct amount){5, "JPY"}, "person", "o", "r");
        assert_string_equal(
                b.s, "{\"amount\":{\"minor\":5,\"currency\":\"JPY\"},\"evidence\":{\"kind\":\"person\",\"who\":\"o\",\"reference\":\"r\"}}");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_payout_step),
                cmocka_unit_test(only_executed_jobs_are_booked),
                cmocka_unit_test(data_is_json),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
