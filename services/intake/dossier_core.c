/* Both answers are tables over the step; the first row that fits says who is waited for. The database and meta-repair judge again when somebody acts,
 * so a row here promises nothing: it says what is worth trying. */
#include "services/intake/dossier_core.h"

#include "base/util.h"

#include <string.h>

/* Conditions beyond the step. */
enum {
        MANUAL = 1 << 0,
        RUN = 1 << 1,
        NO_RUN = 1 << 2,
        CALL = 1 << 3,
        ISSUE = 1 << 4,
        UNPAID = 1 << 5,
        NO_REFUND = 1 << 6,
        INTENT = 1 << 7,
        REFUSED = 1 << 8,
};

static bool fits(const struct dossier_facts *f, const char *kind, const char *step, unsigned conditions)
{
        unsigned true_now = (f->manual ? MANUAL : 0) | (f->run ? RUN : NO_RUN) | (f->call ? CALL : 0) | (f->issue ? ISSUE : 0) |
                            (f->paid ? 0 : UNPAID) | (f->refund_asked ? 0 : NO_REFUND) | (f->intent_alive ? INTENT : 0) | (f->refused ? REFUSED : 0);

        return strcmp(kind, f->kind) == 0 && (!step || strcmp(step, f->step) == 0) && (conditions & ~true_now) == 0;
}

bool dossier_waits(const struct dossier_facts *f, struct dossier_waits *ret_waits)
{
        static const struct {
                const char *kind, *step;
                unsigned conditions;
                const char *who, *next; /* who NULL: as the chain says */
                enum dossier_clock clock;
        } rows[] = {
                {"job", "PAYMENT_INITIATED", MANUAL | INTENT, NULL, "the payment is confirmed, or the intent runs out", DOSSIER_EXPIRY},
                {"job", "PAYMENT_INITIATED", MANUAL, NULL, "the intent has run out: the job ends unpaid within seconds", DOSSIER_EXPIRY},
                {"job", "PAYMENT_INITIATED", CALL, "provider", "the payment provider is asked again", DOSSIER_CALL},
                {"job", "PAYMENT_INITIATED", ISSUE, "provider", "repair has the payment provider asked", DOSSIER_ISSUE},
                {"job", "PAYMENT_INITIATED", 0, NULL, "the payment provider is asked", DOSSIER_EXPIRY},
                {"job", "EXECUTION_STARTED", RUN, "operator", "the operator is asked what came of the run", DOSSIER_RUN},
                {"job", "STEP_COMPLETED", RUN, "operator", "the operator is asked what came of the run", DOSSIER_RUN},
                {"job", "PAYMENT_REQUIRED", CALL, "provider", "the payment provider is asked for the intent", DOSSIER_CALL},
                {"job", "REFUND_INITIATED", CALL, "provider", "the payment provider is asked about the refund", DOSSIER_CALL},
                {"job", "REFUND_INITIATED", 0, "person", "the refund is confirmed with its reference", DOSSIER_NO_TIME},
                {"job", "EXECUTION_FAILED", ISSUE, NULL, "the failed step is run again, or the payment goes back", DOSSIER_ISSUE},
                {"job", "EXECUTION_FAILED", 0, NULL, "the failed step is run again, or the payment goes back: within 60 s", DOSSIER_NO_TIME},
                {"payout", "PAYOUT_READY", 0, NULL, "the transfer is recorded with its reference", DOSSIER_NO_TIME},
                {"system", "EXECUTION_FAILED", ISSUE, NULL, "the work is done again, or its internal transfer is reversed", DOSSIER_ISSUE},
                {"job", NULL, ISSUE, NULL, "repair acts", DOSSIER_ISSUE},
                {"system", NULL, ISSUE, NULL, "repair acts", DOSSIER_ISSUE},
                {"payout", NULL, ISSUE, NULL, "repair acts", DOSSIER_ISSUE},
                {"job", NULL, 0, NULL, "rung again within 60 s", DOSSIER_NO_TIME},
                {"system", NULL, 0, NULL, "rung again within 60 s", DOSSIER_NO_TIME},
                {"payout", NULL, 0, NULL, "rung again within 60 s", DOSSIER_NO_TIME},
        };

        if (!f->open)
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                if (!fits(f, rows[i].kind, rows[i].step, rows[i].conditions))
                        continue;
                *ret_waits = (struct dossier_waits){rows[i].who    ? rows[i].who
                                                    : f->waits_for ? f->waits_for
                                                    : f->hearer    ? f->hearer
                                                                   : "nobody",
                        rows[i].next, rows[i].clock};
                return true;
        }
        return false;
}

size_t dossier_may(const struct dossier_facts *f, struct dossier_act ret_acts[DOSSIER_ACTS_MAX])
{
        static const struct {
                const char *kind, *step;
                unsigned conditions;
                struct dossier_act act;
        } rows[] = {
                {"job", "PAYMENT_INITIATED", INTENT, {"confirm_payment", "POST /payment-intents/{id}/confirm"}},
                {"job", "JOB_CREATED", UNPAID, {"close", "POST /jobs/{id}/close"}},
                {"job", "FLOW_CHOSEN", UNPAID, {"close", "POST /jobs/{id}/close"}},
                {"job", "PRICED", UNPAID, {"close", "POST /jobs/{id}/close"}},
                {"job", "PAYMENT_REQUIRED", REFUSED, {"close", "POST /jobs/{id}/close"}},
                {"job", "CHAIN_REOPENED", UNPAID, {"close", "POST /jobs/{id}/close"}},
                {"job", "PAYMENT_INITIATED", MANUAL | UNPAID, {"close", "POST /jobs/{id}/close"}},
                {"job", "EXECUTION_STARTED", RUN, {"resolve_run", "POST /runs/{run_id}/resolve"}},
                {"job", "STEP_COMPLETED", RUN, {"resolve_run", "POST /runs/{run_id}/resolve"}},
                {"job", "EXECUTION_FAILED", 0, {"redrive", "POST /meta/redrive"}},
                {"job", "REFUND_INITIATED", NO_REFUND, {"redrive", "POST /meta/redrive"}},
                {"job", "FINAL_FAIL", UNPAID, {"redrive", "POST /meta/redrive"}},
                {"job", "PAYMENT_EXPIRED", UNPAID, {"redrive", "POST /meta/redrive"}},
                {"job", "PAYMENT_CONFIRMED", NO_RUN, {"refund", "POST /jobs/{id}/refund"}},
                {"job", "EXECUTION_REQUIRED", NO_RUN, {"refund", "POST /jobs/{id}/refund"}},
                {"job", "EXECUTION_STARTED", NO_RUN, {"refund", "POST /jobs/{id}/refund"}},
                {"job", "STEP_COMPLETED", NO_RUN, {"refund", "POST /jobs/{id}/refund"}},
                {"job", "EXECUTION_FAILED", NO_RUN, {"refund", "POST /jobs/{id}/refund"}},
                {"job", "REFUND_INITIATED", NO_REFUND, {"confirm_refund", "POST /refunds/{id}/confirm"}},
                {"payout", "PAYOUT_READY", 0, {"mark_payout", "POST /payouts/mark"}},
                {"system", NULL, 0, {"run_task", "POST /system/tasks/{id}/run"}},
        };
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(rows) && n < DOSSIER_ACTS_MAX; i++)
                if (fits(f, rows[i].kind, rows[i].step, rows[i].conditions))
                        ret_acts[n++] = rows[i].act;
        return n;
}
