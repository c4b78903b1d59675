/* Pure decisions of the bell-ringer. They depend on ages alone, so that a ringer needs no memory of what it rang and a crash of it loses nothing. */
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
