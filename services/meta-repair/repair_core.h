/* What the bell-ringer decides: when a bell is due again, and when ringing would only feed an overload. Pure. */
#ifndef AETHELOS_META_REPAIR_CORE_H
#define AETHELOS_META_REPAIR_CORE_H

#include <stdbool.h>
#include <stdint.h>

#define RING_FIRST_MS 2000  /* a bell not heard for so long counts as lost */
#define RING_LAST_MS  60000 /* the longest time between two bells */

/* Bells are due at the ages 2, 6, 14, 30 and 60 s, then every 60 s. True when one of them lies above age_before_ms and not above age_now_ms. A ringer
 * that has just started says 0 for before: whatever is older than 2 s is rung once. */
bool ring_due(int64_t age_before_ms, int64_t age_now_ms);

/* What a service's consumers had before them, all lanes together. */
struct ring_backlog {
        uint64_t waiting; /* not delivered, or delivered and not acknowledged */
        uint64_t acked;   /* rises while the service works */
};

/* True while `now` shows a backlog that moves; `before` is the last look, NULL: there was none, so that one look must pass before it can be told. */
bool ring_withheld(const struct ring_backlog *before, const struct ring_backlog *now);

#endif
