/* The auditor's SQL. */
#ifndef AETHELOS_TESTS_FAULT_AUDITOR_STORE_H
#define AETHELOS_TESTS_FAULT_AUDITOR_STORE_H

#include "store/db.h"

/* What a check is given: ms back from now, the jobs that the load knows, the runs that the operators know, the events
 * that the receiver of webhooks has taken and the types that it wants. */
enum audit_input { AUDIT_TIME, AUDIT_JOBS, AUDIT_RUNS, AUDIT_TOLD };

/* Yields (chain, fault) for each breach. whole: asked only when everything is looked at, and nothing moves any more. */
struct audit_check {
        const char *invariant;
        enum audit_input input;
        bool whole;
        const char *sql;
};
extern const struct audit_check audit_checks[];
extern const size_t audit_n_checks;
extern const struct audit_check audit_standing, audit_untold;

/* Payments and refunds that are confirmed. */
int auditor_store_counts(struct db *db, int64_t *ret_paid, int64_t *ret_refunded);
/* Outside operators without a success. */
int auditor_store_unproven(struct db *db, int64_t *ret_n);
/* All that is stored about a chain, for people. */
int auditor_store_history(struct db *db, const char *chain, struct strbuf *text);

#endif
