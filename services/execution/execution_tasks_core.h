/* What the operators of system tasks decide from what they have read. Pure. */
#ifndef AETHELOS_EXECUTION_TASKS_CORE_H
#define AETHELOS_EXECUTION_TASKS_CORE_H

#include "services/execution/execution_core.h"

/* --- OPERATOR_TUNING --- */

#define EXECUTION_TUNING_RUNS   5  /* with fewer known outcomes nothing is said */
#define EXECUTION_TUNING_LATEST 20 /* it is judged by the latest ones, so that what is over is forgotten */

enum execution_tuning {
        EXECUTION_TUNE_KEEP,    /* less than half of its runs failed */
        EXECUTION_TUNE_TOO_FEW, /* too few runs to say */
        EXECUTION_TUNE_AVOIDED, /* it fails too often, and is avoided already */
        EXECUTION_TUNE_AVOID,   /* it fails too often, and others stand in for each of its tags: it is avoided for a while */
        EXECUTION_TUNE_ALONE    /* it fails too often, and nobody stands in: a person must look */
};
const char *execution_tuning_name(enum execution_tuning tuning);

struct execution_stats {
        int64_t done, failed; /* of the latest runs whose outcome is known */
        bool avoided;         /* in a pause, or with its probe due */
};
/* others: whether somebody else could be chosen for each of its tags. */
enum execution_tuning execution_tune(const struct execution_stats *stats, bool others);
bool execution_others(const struct execution_operators *ops, const struct execution_operator *op);

/* --- FLOW_AUDIT --- */

/* Adds {"tag", "operator", "health", "avoided", "proven"}: who would be chosen for the tag now, and whether he is healthy and not avoided. */
bool execution_audit_tag(const struct execution_operators *ops, const char *tag, struct strbuf *b);

#endif
