/* One function and one row per antibody. They keep I7: a time-out or a count of attempts never makes a payment, a refund or a payout; it rings, asks,
 * or goes the way that the specification of the chains allows, and what a party outside must say is waited for. Nothing here remembers: the same
 * facts give the same plan. */
#include "repair_antibodies.h"

#include <string.h>

static bool is(const char *a, const char *b)
{
        return strcmp(a, b) == 0;
}

const char *repair_state_name(enum repair_issue_state state)
{
        static const char *const names[] = {[REPAIR_OPEN] = "open",
                [REPAIR_WAITING] = "waiting_evidence",
                [REPAIR_QUARANTINED] = "quarantined",
                [REPAIR_RESOLVED] = "resolved",
                [REPAIR_FAILED] = "final_fail"};

        return names[state];
}

/* --- where a chain goes when its hearer does not move it within the attempts of its rule; at any other step it is rung on --- */

static const struct end {
        const char *step;
        enum repair_move move;
        const char *reason;
} ends[] = {
        {"JOB_CREATED", REPAIR_FAIL, "could_not_be_priced"},
        {"FLOW_CHOSEN", REPAIR_FAIL, "could_not_be_priced"},
        {"CHAIN_REOPENED", REPAIR_FAIL, "could_not_be_priced"},
        {"PRICED", REPAIR_FAIL, "payment_could_not_be_asked_for"},
        {"TASK_CREATED", REPAIR_FAIL, "could_not_be_priced"},
        {"PAYMENT_CONFIRMED", REPAIR_REFUND, "execution_did_not_begin"},
        {"EXECUTION_REQUIRED", REPAIR_REFUND, "execution_did_not_begin"},
        {"EXECUTION_STARTED", REPAIR_REFUND, "execution_did_not_go_on"},
        {"STEP_COMPLETED", REPAIR_REFUND, "execution_did_not_go_on"},
};

static const struct end *end_of(const char *step)
{
        for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
                if (is(ends[i].step, step))
                        return &ends[i];
        return NULL;
}

const char *repair_end_reason(const char *step)
{
        const struct end *end = end_of(step);

        return end ? end->reason : "execution_failed";
}

/* --- the antibodies --- */

#define ASKED_BEFORE_CLEANUP 3

/* What was paid for work that is not done: a customer's payment goes back, the internal transfer of a task is reversed. */
static void refund(const struct repair_facts *f, struct repair_plan *p)
{
        if (f->task)
                *p = (struct repair_plan){.move = REPAIR_REVERSE, .state = REPAIR_FAILED, .outcome = "final_fail", .counts = true, .told = true};
        else
                *p = (struct repair_plan){
                        .move = REPAIR_REFUND, .state = REPAIR_RESOLVED, .outcome = "refund_required", .counts = true, .told = true};
}

static void await(const struct repair_facts *f, const char *party, const char *outcome, struct repair_plan *p)
{
        *p = (struct repair_plan){.state = REPAIR_WAITING, .waits_for = party, .outcome = outcome, .told = !is(f->outcome, outcome), .longest = true};
}

static void ask(const struct repair_facts *f, enum repair_move move, const char *party, const char *outcome, struct repair_plan *p)
{
        await(f, party, outcome, p);
        p->move = move;
        p->counts = true;
        p->longest = false;
        /* Once: what stands although it was asked about so often is worth a task of its own, with its price, its result and its dossier. */
        if (f->attempts == ASKED_BEFORE_CLEANUP && !f->early && !f->task)
                p->task = "CLEANUP";
}

static void ring_again(const struct repair_facts *f, struct repair_plan *p)
{
        const struct end *end = end_of(f->step);
        bool used_up = f->attempts >= f->rule->attempts;

        if (f->bell_held)
                *p = (struct repair_plan){.state = REPAIR_OPEN, .outcome = "bell_held"};
        else if (used_up && !f->early && end && end->move == REPAIR_REFUND)
                refund(f, p);
        else if (used_up && !f->early && end)
                *p = (struct repair_plan){.move = REPAIR_FAIL, .state = REPAIR_FAILED, .outcome = "final_fail", .counts = true, .told = true};
        else
                *p = (struct repair_plan){
                        .move = REPAIR_RING, .state = REPAIR_OPEN, .outcome = "rang_again", .counts = true, .told = !used_up, .longest = used_up};
}

static void ask_provider(const struct repair_facts *f, struct repair_plan *p)
{
        if (!*f->driver)
                ring_again(f, p);
        else if (!is(f->driver, "manual"))
                ask(f, REPAIR_ASK_PROVIDER, "provider", "asked_provider", p);
        else if (is(f->step, "REFUND_INITIATED"))
                await(f, "person", "waits_for_refund", p);
        else
                await(f, "payer", "waits_for_payment", p);
}

static void ask_operator(const struct repair_facts *f, struct repair_plan *p)
{
        if (*f->run_operator)
                ask(f, REPAIR_ASK_OPERATOR, "operator", "asked_operator", p);
        else
                ring_again(f, p);
}

static void run_again(const struct repair_facts *f, struct repair_plan *p)
{
        if (f->retries < f->rule->attempts && f->operator_ready)
                *p = (struct repair_plan){.move = REPAIR_RUN_AGAIN, .state = REPAIR_RESOLVED, .outcome = "run_again", .counts = true, .told = true};
        else
                refund(f, p);
}

static void await_settlement(const struct repair_facts *f, struct repair_plan *p)
{
        await(f, "person", "waits_for_transfer", p);
        if (!f->listed)
                p->task = "PAYOUT_SETTLEMENT";
}

static void refold(const struct repair_facts *f, struct repair_plan *p)
{
        (void)f;
        *p = (struct repair_plan){.move = REPAIR_REFOLD, .state = REPAIR_OPEN, .outcome = "", .counts = true};
}

void repair_refolded(const struct repair_facts *f, const char *answer, struct repair_plan *ret_plan)
{
        if (is(answer, "broken"))
                *ret_plan = (struct repair_plan){.move = REPAIR_REFOLD,
                        .state = REPAIR_QUARANTINED,
                        .waits_for = "person",
                        .outcome = "events_broken",
                        .counts = true,
                        .told = !is(f->outcome, "events_broken"),
                        .longest = true};
        else
                *ret_plan = (struct repair_plan){.move = REPAIR_REFOLD,
                        .state = REPAIR_RESOLVED,
                        .outcome = is(answer, "refolded") ? "refolded" : "sound",
                        .counts = true,
                        .told = is(answer, "refolded")};
}

bool repair_operator_fails(int64_t calls, int64_t failures, int64_t streak)
{
        return calls >= 5 && 2 * failures >= calls && streak > 0;
}

static void avoid_operator(const struct repair_facts *f, struct repair_plan *p)
{
        if (repair_operator_fails(f->calls, f->failures, f->streak))
                await(f, "operator", f->avoided ? "avoided" : "watched", p);
        else
                *p = (struct repair_plan){.state = REPAIR_RESOLVED, .outcome = f->streak > 0 ? "rate_fell" : "taken_back"};
        p->longest = false;
        if (p->state == REPAIR_WAITING && !*f->outcome)
                p->task = "OPERATOR_TUNING";
}

static void await_enabling(const struct repair_facts *f, struct repair_plan *p)
{
        if (is(f->webhook, "disabled"))
                await(f, "person", "disabled", p);
        else
                *p = (struct repair_plan){.state = REPAIR_RESOLVED, .outcome = *f->webhook ? "enabled" : "removed"};
        p->longest = false;
}

static void quarantine(const struct repair_facts *f, struct repair_plan *p)
{
        await(f, "person", "quarantined", p);
        p->state = REPAIR_QUARANTINED;
}

static const struct antibody {
        const char *name, *what, *ends;
        void (*act)(const struct repair_facts *f, struct repair_plan *p);
        bool of_standing; /* it ends when the chain has moved */
} antibodies[] = {
        {"ring_again",
                "Rings the service that must move the chain, within the attempts of the rule; a bell that cannot be rung, or is held back while the "
                "backlog of its hearer moves, is no attempt",
                "moved on; unpaid and not priced or not asked for: FINAL_FAIL, nothing owed; paid and not executed: REFUND_REQUIRED; booked, "
                "refunded or "
                "earned: rung on at the longest pause; a task: FINAL_FAIL, its internal transfer reversed",
                ring_again, true},
        {"ask_provider",
                "Has payments ask the provider at once, and opens a CLEANUP when three questions did not help; with driver manual the payer, or for "
                "a refund a person, "
                "is waited for",
                "moved on by the provider's or a person's evidence; PAYMENT_EXPIRED; unpaid, closed by a person; never by a time-out", ask_provider,
                true},
        {"ask_operator",
                "Has execution ask the operator of the live run at once, and opens a CLEANUP when three questions did not help; without a live run "
                "it rings again",
                "moved on by the operator's answer or a person's decision; without a live run REFUND_REQUIRED", ask_operator, true},
        {"run_again",
                "Has the failed step run again (EXECUTION_REQUIRED) within the attempts of the rule and when there is an operator that may be "
                "chosen; else "
                "the payment goes back",
                "run again; REFUND_REQUIRED, which ends in FINAL_FAIL after the evidence of the refund; a task: FINAL_FAIL, its internal transfer "
                "reversed",
                run_again, true},
        {"await_settlement", "Waits for the evidence of the transfer; opens a PAYOUT_SETTLEMENT when the payout was in none so far", "PAYOUT_DONE",
                await_settlement, true},
        {"refold", "Makes the chain's row the fold of its events again",
                "refolded; sound after all; events that are broken themselves: a person must look", refold, false},
        {"avoid_operator", "Shows an operator that execution avoids, probes and takes back; opens an OPERATOR_TUNING at once",
                "taken back after a success; the rate has fallen", avoid_operator, false},
        {"await_enabling", "Shows who is told nothing any more; a person enables it, and what it missed is told then", "enabled; removed",
                await_enabling, false},
        {"quarantine", "Keeps what a provider said and the chain cannot take; it moves nothing", "closed by a person", quarantine, false},
};

static const struct antibody *antibody_of(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(antibodies); i++)
                if (is(antibodies[i].name, name))
                        return &antibodies[i];
        return NULL;
}

bool repair_antibody_known(const char *name)
{
        return antibody_of(name) != NULL;
}

void repair_decide(const struct repair_facts *f, struct repair_plan *ret_plan)
{
        const struct antibody *a = antibody_of(f->antibody);

        if (!a)
                a = antibody_of("quarantine"); /* a rule of a later version of this program: a person must look */
        if (a->of_standing && f->moved) {
                *ret_plan = (struct repair_plan){.state = is(f->status, "final_fail") ? REPAIR_FAILED : REPAIR_RESOLVED,
                        .outcome = is(f->status, "final_fail") ? "final_fail" : "moved_on"};
                return;
        }
        a->act(f, ret_plan);
}

/* --- the kinds --- */

static const struct kind {
        const char *name, *detector, *antibodies;
        struct repair_rule rule; /* of a kind that has no rows */
} kinds[] = {
        {"MISSING_STEP", "a rule: an unpaid job stands before its payment is asked for", "ring_again"},
        {"STUCK_AT_STEP", "a rule: a refund stands", "ring_again, ask_provider"},
        {"STUCK_PAYMENT", "a rule: a job is not paid so long after its creation", "ask_provider"},
        {"MISSING_EXECUTION", "a rule: paid and not executed, or its execution failed", "ring_again, run_again"},
        {"STUCK_EXECUTION", "a rule: an execution does not go on", "ask_operator"},
        {"MISSING_PAYOUT", "a rule: executed and not booked, or earned and not transferred", "ring_again, await_settlement"},
        {"SYSTEM_TASK_UNANSWERED", "a rule: a system task stands, or its work failed", "ring_again, run_again"},
        {ISSUE_BROKEN_CHAIN, "the row of an open chain differs from the fold of its events; compared at a slow rate, and when a person asks",
                "refold", {.issue = ISSUE_BROKEN_CHAIN, .antibody = "refold", .attempts = 1, .backoff_first_ms = 60000, .backoff_max_ms = 3600000}},
        {ISSUE_OPERATOR, "table operator: 5 calls or more, half of them or more failed, and none succeeded since the last failure", "avoid_operator",
                {.issue = ISSUE_OPERATOR, .antibody = "avoid_operator", .attempts = 0, .backoff_first_ms = 5000, .backoff_max_ms = 60000}},
        {ISSUE_EVIDENCE_MISMATCH, "table evidence_mismatch: a provider said what does not go with the chain", "quarantine",
                {.issue = ISSUE_EVIDENCE_MISMATCH, .antibody = "quarantine", .attempts = 0, .backoff_first_ms = 3600000, .backoff_max_ms = 3600000}},
        {ISSUE_WEBHOOK, "table webhook: a subscription is disabled, after days of failure or because its receiver wants no more", "await_enabling",
                {.issue = ISSUE_WEBHOOK, .antibody = "await_enabling", .attempts = 0, .backoff_first_ms = 5000, .backoff_max_ms = 60000}},
};

bool repair_kind_known(const char *issue)
{
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (is(kinds[i].name, issue))
                        return true;
        return false;
}

const struct repair_rule *repair_fixed_rule(const char *issue)
{
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (is(kinds[i].name, issue) && kinds[i].rule.issue[0])
                        return &kinds[i].rule;
        return NULL;
}

static void print_ends(struct strbuf *b, const char *of)
{
        const char *name = of;

        while (*name) {
                size_t len = strcspn(name, ",");

                for (size_t i = 0; i < ARRAY_SIZE(antibodies); i++)
                        if (strlen(antibodies[i].name) == len && strncmp(antibodies[i].name, name, len) == 0)
                                strbuf_addf(b, "%s%s", name == of ? "" : "; or ", antibodies[i].ends);
                name += len + strspn(name + len, ", ");
        }
}

void repair_print(struct strbuf *b)
{
        strbuf_adds(b, "| Kind | Detector | Antibody | Possible ends |\n|---|---|---|---|\n");
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                strbuf_addf(b, "| %s | %s | %s | ", kinds[i].name, kinds[i].detector, kinds[i].antibodies);
                print_ends(b, kinds[i].antibodies);
                strbuf_adds(b, " |\n");
        }
        strbuf_adds(b, "\n| Antibody | What it does |\n|---|---|\n");
        for (size_t i = 0; i < ARRAY_SIZE(antibodies); i++)
                strbuf_addf(b, "| %s | %s |\n", antibodies[i].name, antibodies[i].what);
}
