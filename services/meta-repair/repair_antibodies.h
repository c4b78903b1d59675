/* The kinds of issues and the antibodies: what is done about a chain that stands too long, is broken or contradictory. Pure: facts in, plan out. */
#ifndef AETHELOS_META_REPAIR_ANTIBODIES_H
#define AETHELOS_META_REPAIR_ANTIBODIES_H

#include "base/strbuf.h"
#include "repair_core.h"

#define ISSUE_BROKEN_CHAIN      "BROKEN_CHAIN"
#define ISSUE_OPERATOR          "HIGH_OPERATOR_FAIL_RATE"
#define ISSUE_EVIDENCE_MISMATCH "EVIDENCE_MISMATCH"
#define ISSUE_WEBHOOK           "WEBHOOK_DISABLED"

/* What is known of an issue and of what it is about. Strings are borrowed; none is NULL. */
struct repair_facts {
        const struct repair_rule *rule; /* that decides; never NULL */
        const char *antibody;
        int attempts;        /* made so far */
        const char *outcome; /* of the last one, "" before */
        bool early;          /* a person asked, and it was not due yet: nothing is counted and nothing is given up */

        const char *step, *status; /* of its chain; of an operator "" */
        bool moved;                /* the chain stands elsewhere than when the issue was opened, or is final */
        const char *driver;        /* of its payment intent, "" without one */
        const char *run_operator;  /* of its live run, "" without one */
        bool operator_ready;       /* one that may be chosen for its failed step */
        int retries;               /* made by themselves since its first failure or the last person's redrive */
        bool bell_held;            /* its hearer cannot be rung now: the bus is away, or its backlog moves */

        int64_t calls, failures, streak; /* of an operator */
        bool avoided;

        const char *webhook; /* state of the subscription it is about; "" when that is gone, or for other issues */

        bool task;   /* its chain is a system task */
        bool listed; /* a payout that a settlement has gathered already */
};

enum repair_move {
        REPAIR_STAY,
        REPAIR_RING,
        REPAIR_ASK_PROVIDER,
        REPAIR_ASK_OPERATOR,
        REPAIR_RUN_AGAIN, /* EXECUTION_REQUIRED */
        REPAIR_REFUND,    /* REFUND_REQUIRED */
        REPAIR_FAIL,      /* FINAL_FAIL */
        REPAIR_REVERSE,   /* of a paid task: PAYMENT_REVERSED, FINAL_FAIL */
        REPAIR_REFOLD
};

enum repair_issue_state { REPAIR_OPEN, REPAIR_WAITING, REPAIR_QUARANTINED, REPAIR_RESOLVED, REPAIR_FAILED };
const char *repair_state_name(enum repair_issue_state state); /* open, waiting_evidence, quarantined, resolved, final_fail */

struct repair_plan {
        enum repair_move move;
        enum repair_issue_state state; /* of the issue afterwards */
        const char *waits_for;         /* static; NULL: nobody outside */
        const char *outcome;           /* static */
        bool counts;                   /* it is an attempt */
        bool told;                     /* META_REPAIR is written: something was done, or it is new */
        bool longest;                  /* the next look comes after the longest pause */
        const char *task;              /* static; the kind of system task to be opened for it; NULL: none */
};

void repair_decide(const struct repair_facts *f, struct repair_plan *ret_plan);
/* What becomes of a BROKEN_CHAIN after refold() has answered sound, refolded, broken or unknown. */
void repair_refolded(const struct repair_facts *f, const char *answer, struct repair_plan *ret_plan);

/* The reason in the dossier of a chain that ends at this step. */
const char *repair_end_reason(const char *step);
bool repair_operator_fails(int64_t calls, int64_t failures, int64_t streak); /* HIGH_OPERATOR_FAIL_RATE */
bool repair_antibody_known(const char *name);
bool repair_kind_known(const char *issue);
/* The rule of a kind that has no rows in the table: BROKEN_CHAIN, HIGH_OPERATOR_FAIL_RATE, EVIDENCE_MISMATCH, WEBHOOK_DISABLED. */
const struct repair_rule *repair_fixed_rule(const char *issue);
/* The tables of docs/repair.md. */
void repair_print(struct strbuf *b);

#endif
