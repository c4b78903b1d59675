/* What the events of meta-repair hold. Members are only ever added. */
#include "repair_texts.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static void member(struct strbuf *b, const char *name)
{
        if (b->len > 0 && b->s[b->len - 1] != '{')
                strbuf_addc(b, ',');
        strbuf_addf(b, "\"%s\":", name);
}

static void number(struct strbuf *b, const char *name, int64_t n)
{
        member(b, name);
        strbuf_addi(b, n);
}

static void id(struct strbuf *b, const char *name, const struct uuid *u)
{
        char text[UUID_TEXT_SIZE];

        uuid_format(u, text);
        strbuf_add_member(b, name, text);
}

static void stamp(struct strbuf *b, const char *name, int64_t unix_ms)
{
        time_t seconds = (time_t)(unix_ms / 1000);
        struct tm tm;
        char text[40];

        gmtime_r(&seconds, &tm);
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
        member(b, name);
        strbuf_addf(b, "\"%s.%03dZ\"", text, (int)(unix_ms % 1000));
}

void repair_text_rule(struct strbuf *b, const struct repair_rule *rule)
{
        strbuf_addc(b, '{');
        strbuf_add_member(b, "kind", rule->kind);
        strbuf_add_member(b, "step", rule->step);
        number(b, "version", rule->version);
        strbuf_addc(b, '}');
}

void repair_text_issue(struct strbuf *b, const struct repair_rule *rule, const char *grade, const struct uuid *chain, const char *operator,
        const struct uuid * webhook, const char *step, int64_t since_ms)
{
        strbuf_addc(b, '{');
        strbuf_add_member(b, "issue", rule->issue);
        strbuf_add_member(b, "grade", grade);
        if (chain) {
                id(b, "chain_id", chain);
                strbuf_add_member(b, "step", step);
        } else if (webhook) {
                id(b, "webhook_id", webhook);
        } else {
                strbuf_add_member(b, "operator", operator);
        }
        stamp(b, "since", since_ms);
        strbuf_add_member(b, "antibody", rule->antibody);
        strbuf_addc(b, '}');
}

void repair_text_repair(struct strbuf *b, int attempt, const char *action, const char *outcome)
{
        strbuf_addc(b, '{');
        number(b, "attempt", attempt);
        strbuf_add_member(b, "action", action);
        strbuf_add_member(b, "outcome", outcome);
        strbuf_addc(b, '}');
}

void repair_text_resolved(struct strbuf *b, const char *outcome, int attempts)
{
        strbuf_addc(b, '{');
        strbuf_add_member(b, "outcome", outcome);
        number(b, "attempts", attempts);
        strbuf_addc(b, '}');
}

void repair_text_resolved_by(struct strbuf *b, const char *outcome, int attempts, const char *by, const char *reference)
{
        repair_text_resolved(b, outcome, attempts);
        b->len--;
        strbuf_add_member(b, "by", by);
        strbuf_add_member(b, "reference", reference);
        strbuf_addc(b, '}');
}

void repair_text_execution(struct strbuf *b, int step, const struct uuid *issue, const char *by, const char *reference)
{
        strbuf_addc(b, '{');
        strbuf_add_member(b, "cause", by ? "redrive" : "retry");
        number(b, "step", step);
        if (issue)
                id(b, "issue_id", issue);
        if (by) {
                strbuf_add_member(b, "by", by);
                strbuf_add_member(b, "reference", reference);
        }
        strbuf_addc(b, '}');
}

void repair_text_refund(
        struct strbuf *b, struct amount amount, const char *reason, const struct repair_rule *rule, const struct uuid *issue, const char *by)
{
        strbuf_addc(b, '{');
        member(b, "amount");
        amount_add_json(b, amount);
        strbuf_add_member(b, "reason", reason);
        if (rule) {
                member(b, "rule");
                repair_text_rule(b, rule);
        }
        if (issue)
                id(b, "issue_id", issue);
        if (by)
                strbuf_add_member(b, "by", by);
        strbuf_addc(b, '}');
}

void repair_text_fail(struct strbuf *b, const char *reason, const char *step, int attempts, const struct repair_rule *rule, const struct uuid *issue,
        const char *by, const struct amount *reversed)
{
        strbuf_adds(b, "{\"error\":{");
        strbuf_add_member(b, "reason", reason);
        strbuf_add_member(b, "step", step);
        number(b, "attempts", attempts);
        strbuf_addc(b, '}');
        if (rule) {
                member(b, "rule");
                repair_text_rule(b, rule);
        }
        strbuf_adds(b, ",\"compensation\":{\"kind\":");
        strbuf_adds(b, reversed ? "\"internal\",\"amount\":" : "\"none\"");
        if (reversed)
                amount_add_json(b, *reversed);
        strbuf_addc(b, '}');
        if (issue)
                id(b, "issue_id", issue);
        if (by)
                strbuf_add_member(b, "by", by);
        strbuf_addc(b, '}');
}

void repair_text_reversed(struct strbuf *b, struct amount amount, const char *reason, const struct uuid *issue)
{
        char reference[UUID_TEXT_SIZE];

        uuid_format(issue, reference);
        strbuf_addc(b, '{');
        member(b, "amount");
        amount_add_json(b, amount);
        strbuf_add_member(b, "reason", reason);
        strbuf_addf(b, ",\"evidence\":{\"kind\":\"internal\",\"who\":\"" REPAIR_REVERSES "\",\"reference\":\"%s\"}}", reference);
}

void repair_text_reopened(struct strbuf *b, const char *by, const char *reference, int64_t deadline_ms)
{
        strbuf_addc(b, '{');
        strbuf_add_member(b, "cause", "redrive");
        strbuf_add_member(b, "by", by);
        strbuf_add_member(b, "reference", reference);
        stamp(b, "deadline", deadline_ms);
        strbuf_addc(b, '}');
}
