/* The independent auditor: reads PostgreSQL under a role that can only read, and the ground truth of load and fakes, and says which invariant is
 * broken. It knows the histories that are allowed and what each event books from its own tables, not from the product's. */
#ifndef AETHELOS_TESTS_FAULT_AUDITOR_H
#define AETHELOS_TESTS_FAULT_AUDITOR_H

#include "hooks.h"
#include "load.h"
#include "tests/support/fake_operator.h"

struct audit_operator {
        const char *name;
        struct fake_operator *fake; /* NULL: the desk */
        bool asked;                 /* has a status query */
};

struct auditor {
        struct db *db;
        const struct load *load;
        const struct hooks *hooks;
        const struct audit_operator *operators;
        size_t n_operators;
        int64_t looked_ms; /* when the last look succeeded */
        unsigned looks;
        struct strbuf found; /* what is broken, one line each; empty: nothing */
};

void auditor_open(struct auditor *a, struct stack *stack, const struct load *load, const struct hooks *hooks, const struct audit_operator operators[],
        size_t n);
void auditor_done(struct auditor *a);
/* Looks at what moved since the last look, or at everything. True when it could look (PostgreSQL may be away); a->found says what it saw. */
bool auditor_look(struct auditor *a, bool whole);
/* Whether every operator has done something well. One that has not is DISABLED after three failures, and its jobs fail rightly. */
bool auditor_all_proven(struct auditor *a);
/* At the end, when nothing moves: the counts of the provider and the operators' own complaints. False when PostgreSQL is away. */
bool auditor_compare(struct auditor *a);
/* Chains that are neither final nor waiting for a party that keeps them waiting: how many, and the first few in *text. -1: PostgreSQL is away. */
int auditor_standing(struct auditor *a, struct strbuf *text);

#endif
