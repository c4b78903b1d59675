/* The table of what people may decide: where a chain must stand, and the event that follows. Everything else is refused with its reason. */
#include "repair_decisions.h"

#include "base/util.h"

#include <string.h>

static const struct row {
        enum repair_wish wish;
        const char *step, *event;
        bool evidence;
} rows[] = {
        {REPAIR_WISH_REDRIVE, "EXECUTION_FAILED", "EXECUTION_REQUIRED", false},
        {REPAIR_WISH_REDRIVE, "REFUND_INITIATED", "EXECUTION_REQUIRED", true},
        {REPAIR_WISH_REDRIVE, "FINAL_FAIL", "CHAIN_REOPENED", true},
        {REPAIR_WISH_REDRIVE, "PAYMENT_EXPIRED", "CHAIN_REOPENED", true},
        {REPAIR_WISH_REFUND, "PAYMENT_CONFIRMED", "REFUND_REQUIRED", false},
        {REPAIR_WISH_REFUND, "EXECUTION_REQUIRED", "REFUND_REQUIRED", false},
        {REPAIR_WISH_REFUND, "EXECUTION_STARTED", "REFUND_REQUIRED", false},
        {REPAIR_WISH_REFUND, "STEP_COMPLETED", "REFUND_REQUIRED", false},
        {REPAIR_WISH_REFUND, "EXECUTION_FAILED", "REFUND_REQUIRED", false},
        {REPAIR_WISH_CLOSE, "JOB_CREATED", "FINAL_FAIL", false},
        {REPAIR_WISH_CLOSE, "FLOW_CHOSEN", "FINAL_FAIL", false},
        {REPAIR_WISH_CLOSE, "PRICED", "FINAL_FAIL", false},
        {REPAIR_WISH_CLOSE, "PAYMENT_REQUIRED", "FINAL_FAIL", true},
        {REPAIR_WISH_CLOSE, "CHAIN_REOPENED", "FINAL_FAIL", false},
        {REPAIR_WISH_CLOSE, "PAYMENT_INITIATED", "FINAL_FAIL", true},
};

static const char *refused(enum repair_wish wish, const struct repair_place *p)
{
        if (strcmp(p->status, "completed") == 0)
                return "completed";
        if (strcmp(p->status, "final_fail") == 0)
                return p->paid ? "refunded" : "final_fail";
        if (wish == REPAIR_WISH_REFUND && !p->paid)
                return "not_paid";
        if (wish == REPAIR_WISH_CLOSE && p->paid)
                return "paid";
        return "under_way";
}

void repair_wish(enum repair_wish wish, const struct repair_place *p, struct repair_decision *ret_decision)
{
        *ret_decision = (struct repair_decision){0};
        if (strcmp(p->kind, "job") != 0) {
                ret_decision->why = "not_a_job";
                return;
        }
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                const struct row *r = &rows[i];

                if (r->wish != wish || strcmp(r->step, p->step) != 0)
                        continue;
                if (strcmp(r->event, "CHAIN_REOPENED") == 0 && p->paid)
                        break;
                if (strcmp(r->event, "EXECUTION_REQUIRED") == 0 && p->refunding) {
                        ret_decision->why = repair_refusal(r->event);
                        return;
                }
                *ret_decision = (struct repair_decision){.event = r->event, .evidence = r->evidence};
                return;
        }
        ret_decision->why = refused(wish, p);
}

const char *repair_refusal(const char *event)
{
        static const struct {
                const char *event, *why;
        } why[] = {
                {"EXECUTION_REQUIRED", "refund_under_way"},
                {"REFUND_REQUIRED", "operator_at_it"},
                {"CHAIN_REOPENED", "refunded"},
                {"FINAL_FAIL", "held_by_provider"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(why); i++)
                if (strcmp(why[i].event, event) == 0)
                        return why[i].why;
        return "refused";
}
