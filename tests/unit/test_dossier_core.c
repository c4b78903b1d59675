/* What a dossier says of every place: somebody is always waited for, and only what can be done is offered. */
#include "services/intake/dossier_core.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void who_is_waited_for(void **state)
{
        static const struct {
                struct dossier_facts f;
                const char *who;
                enum dossier_clock clock;
        } cases[] = {
                {{"job", "JOB_CREATED", "pricing", NULL, .open = true}, "pricing", DOSSIER_NO_TIME},
                {{"job", "JOB_CREATED", "pricing", NULL, .open = true, .issue = true}, "pricing", DOSSIER_ISSUE},
                {{"job", "PAYMENT_INITIATED", "payments", "payer", .open = true, .manual = true, .intent_alive = true}, "payer", DOSSIER_EXPIRY},
                {{"job", "PAYMENT_INITIATED", "payments", "payer", .open = true, .manual = true}, "payer", DOSSIER_EXPIRY},
                {{"job", "PAYMENT_INITIATED", "payments", "payer", .open = true, .call = true}, "provider", DOSSIER_CALL},
                {{"job", "PAYMENT_INITIATED", "payments", "payer", .open = true, .issue = true}, "provider", DOSSIER_ISSUE},
                {{"system", "TASK_CREATED", "pricing", NULL, .open = true}, "pricing", DOSSIER_NO_TIME},
                {{"system", "EXECUTION_FAILED", "meta-repair", NULL, .open = true, .issue = true}, "meta-repair", DOSSIER_ISSUE},
                {{"system", "STEP_COMPLETED", "execution", NULL, .open = true, .issue = true}, "execution", DOSSIER_ISSUE},
                {{"job", "EXECUTION_STARTED", "execution", "operator", .open = true, .run = true, .issue = true}, "operator", DOSSIER_RUN},
                {{"job", "STEP_COMPLETED", "execution", NULL, .open = true}, "execution", DOSSIER_NO_TIME},
                {{"job", "EXECUTION_FAILED", "meta-repair", NULL, .open = true}, "meta-repair", DOSSIER_NO_TIME},
                {{"job", "EXECUTION_FAILED", "meta-repair", NULL, .open = true, .issue = true}, "meta-repair", DOSSIER_ISSUE},
                {{"job", "REFUND_INITIATED", "payments", "provider", .open = true, .manual = true}, "person", DOSSIER_NO_TIME},
                {{"job", "REFUND_INITIATED", "payments", "provider", .open = true, .call = true}, "provider", DOSSIER_CALL},
                {{"job", "REFUND_INITIATED", "payments", "provider", .open = true, .issue = true}, "person", DOSSIER_NO_TIME}, /* refused */
                {{"job", "PAYMENT_REQUIRED", "payments", NULL, .open = true, .call = true, .issue = true}, "provider", DOSSIER_CALL},
                {{"payout", "PAYOUT_EARNED", "payouts", NULL, .open = true}, "payouts", DOSSIER_NO_TIME},
                {{"payout", "PAYOUT_READY", "payouts", "person", .open = true, .issue = true}, "person", DOSSIER_NO_TIME},
        };
        struct dossier_waits w;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_true(dossier_waits(&cases[i].f, &w));
                assert_string_equal(w.who, cases[i].who);
                assert_int_equal(w.clock, cases[i].clock);
        }
        assert_false(dossier_waits(&(struct dossier_facts){.kind = "job", .step = "FINAL_FAIL"}, &w));
}

static void what_may_be_done(void **state)
{
        static const struct {
                struct dossier_facts f;
                const char *acts; /* separated by blanks */
        } cases[] = {
                {{"job", "JOB_CREATED"}, "close"},
                {{"job", "PAYMENT_REQUIRED", .call = true}, ""},
                {{"job", "PAYMENT_REQUIRED", .call = true, .refused = true}, "close"},
                {{"job", "PAYMENT_INITIATED", .manual = true, .intent_alive = true}, "confirm_payment close"},
                {{"job", "PAYMENT_INITIATED", .manual = true}, "close"},
                {{"job", "PAYMENT_INITIATED", .intent_alive = true}, "confirm_payment"},
                {{"job", "PAYMENT_CONFIRMED", .paid = true}, "refund"},
                {{"job", "EXECUTION_STARTED", .paid = true, .run = true}, "resolve_run"},
                {{"job", "EXECUTION_STARTED", .paid = true}, "refund"},
                {{"job", "EXECUTION_FAILED", .paid = true}, "redrive refund"},
                {{"job", "REFUND_INITIATED", .paid = true, .manual = true}, "redrive confirm_refund"},
                {{"job", "REFUND_INITIATED", .paid = true}, "redrive confirm_refund"}, /* the provider has refused it */
                {{"job", "REFUND_INITIATED", .paid = true, .refund_asked = true}, ""},
                {{"job", "FINAL_FAIL"}, "redrive"},
                {{"system", "FINAL_FAIL"}, "run_task"},
                {{"system", "EXECUTION_FAILED", .paid = true}, "run_task"},
                {{"job", "FINAL_FAIL", .paid = true}, ""},
                {{"job", "PAYMENT_EXPIRED"}, "redrive"},
                {{"payout", "PAYOUT_READY", .paid = true}, "mark_payout"},
                {{"payout", "PAYOUT_DONE", .paid = true}, ""},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct dossier_act acts[DOSSIER_ACTS_MAX];
                size_t n = dossier_may(&cases[i].f, acts);
                char got[200] = "";

                for (size_t k = 0; k < n; k++) {
                        strcat(got, k > 0 ? " " : "");
                        strcat(got, acts[k].what);
                        assert_memory_equal(acts[k].route, "POST /", 6);
                }
                assert_string_equal(got, cases[i].acts);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(who_is_waited_for),
                cmocka_unit_test(what_may_be_done),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
