/* Decisions by ages and counts. The ringer's depend on ages alone, so that it needs no memory of what it rang and a crash of it loses nothing. */
#include "repair_core.h"

#include <stddef.h>

/* How many bells were due up to this age. */
static int64_t bells(int64_t age_ms)
{
        int64_t n = 0, at = RING_FIRST_MS, step = RING_FIRST_MS;

        if (age_ms >= RING_LAST_MS)
                return 4 + age_ms / RING_LAST_MS; /* 2, 6, 14, 30 s came before */
        for (; at < RING_LAST_MS && at <= age_ms; n++) {
                step *= 2;
                at += step;
        }
        return n;
}

bool ring_due(int64_t age_before_ms, int64_t age_now_ms)
{
        return bells(age_now_ms) > bells(age_before_ms);
}

bool ring_withheld(const struct ring_backlog *before, const struct ring_backlog *now)
{
        return now->waiting > 0 && (!before || now->acked > before->acked);
}

const char *repair_grade_name(enum repair_grade grade)
{
        static const char *const names[] = {[REPAIR_IN_TIME] = NULL, [REPAIR_LATE] = "late", [REPAIR_BEYOND] = "repair"};

        return names[grade];
}

enum repair_grade repair_grade(const struct repair_rule *rule, int64_t age_ms)
{
        if (age_ms >= rule->deadline_ms)
                return REPAIR_BEYOND;
        return age_ms >= rule->late_ms ? REPAIR_LATE : REPAIR_IN_TIME;
}

int64_t repair_backoff_ms(const struct repair_rule *rule, int attempt, double jitter)
{
        int64_t pause = rule->backoff_first_ms;

        for (int i = 1; i < attempt && pause < rule->backoff_max_ms; i++)
                pause *= 2;
        if (pause > rule->backoff_max_ms)
                pause = rule->backoff_max_ms;
        return pause - (int64_t)((double)pause / 4 * jitter);
}
