/* The data of the events that meta-repair writes (proto/events.md). Pure. */
#ifndef AETHELOS_META_REPAIR_TEXTS_H
#define AETHELOS_META_REPAIR_TEXTS_H

#include "base/amount.h"
#include "base/uuid.h"
#include "repair_core.h"

#define REPAIR_REVERSES "meta-repair" /* who reverses an internal transfer */

void repair_text_rule(struct strbuf *b, const struct repair_rule *rule); /* {"kind","step","version"} */
/* Exactly one of chain (else NULL), webhook (else NULL) and operator. */
void repair_text_issue(struct strbuf *b, const struct repair_rule *rule, const char *grade, const struct uuid *chain, const char *operator,
        const struct uuid * webhook, const char *step, int64_t since_ms);
void repair_text_repair(struct strbuf *b, int attempt, const char *action, const char *outcome);
void repair_text_resolved(struct strbuf *b, const char *outcome, int attempts);
void repair_text_resolved_by(struct strbuf *b, const char *outcome, int attempts, const char *by, const char *reference);

/* issue NULL: by a person (by, reference); by NULL: by itself. */
void repair_text_execution(struct strbuf *b, int step, const struct uuid *issue, const char *by, const char *reference);
void repair_text_refund(
        struct strbuf *b, struct amount amount, const char *reason, const struct repair_rule *rule, const struct uuid *issue, const char *by);
/* Nothing is owed: unpaid, or (a task) its internal transfer, `reversed`, was taken back. */
void repair_text_fail(struct strbuf *b, const char *reason, const char *step, int attempts, const struct repair_rule *rule, const struct uuid *issue,
        const char *by, const struct amount *reversed);
void repair_text_reversed(struct strbuf *b, struct amount amount, const char *reason, const struct uuid *issue);
void repair_text_reopened(struct strbuf *b, const char *by, const char *reference, int64_t deadline_ms);

#endif
