/* The same facts give the same answer: whoever does a task again after a crash finds the same. Nothing here changes anything. */
#include "services/execution/execution_tasks_core.h"

#include <string.h>

const char *execution_tuning_name(enum execution_tuning tuning)
{
        static const char *const names[] = {[EXECUTION_TUNE_KEEP] = "keep",
                [EXECUTION_TUNE_TOO_FEW] = "too_few_runs",
                [EXECUTION_TUNE_AVOIDED] = "avoided_already",
                [EXECUTION_TUNE_AVOID] = "avoid",
                [EXECUTION_TUNE_ALONE] = "nobody_stands_in"};

        return names[tuning];
}

enum execution_tuning execution_tune(const struct execution_stats *stats, bool others)
{
        if (stats->done + stats->failed < EXECUTION_TUNING_RUNS)
                return EXECUTION_TUNE_TOO_FEW;
        if (stats->failed < stats->done)
                return EXECUTION_TUNE_KEEP;
        if (stats->avoided)
                return EXECUTION_TUNE_AVOIDED;
        return others ? EXECUTION_TUNE_AVOID : EXECUTION_TUNE_ALONE;
}

bool execution_others(const struct execution_operators *ops, const struct execution_operator *op)
{
        const struct execution_attempt out = {.who = op->name, .error = (char *)""};

        for (size_t i = 0; i < op->n_tags; i++)
                if (!execution_other(ops, op->tags[i], &out, 1))
                        return false;
        return true;
}

bool execution_audit_tag(const struct execution_operators *ops, const char *tag, struct strbuf *b)
{
        const struct execution_operator *op = execution_choose(ops, tag, NULL, 0);
        bool proven = op && execution_health(op) == EXECUTION_HEALTHY && !execution_avoided(op);

        strbuf_adds(b, "{\"tag\":");
        strbuf_add_json(b, tag, strlen(tag));
        if (op) {
                strbuf_adds(b, ",\"operator\":");
                strbuf_add_json(b, op->name, strlen(op->name));
                strbuf_addf(b, ",\"health\":\"%s\",\"avoided\":%s", execution_health_name(op), execution_avoided(op) ? "true" : "false");
        } else {
                strbuf_adds(b, ",\"operator\":null,\"health\":null,\"avoided\":null");
        }
        strbuf_addf(b, ",\"proven\":%s}", proven ? "true" : "false");
        return proven;
}
