/* What meta-repair decides by ages and counts alone: when a bell is due again, when ringing would only feed an overload, how late a chain is, and how
 * long to pause. Pure. */
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

/* A rule: how long a chain may stand somewhere, and what is done when it stands longer (table `rule`, newest version). */
struct repair_rule {
        char kind[16], step[32], issue[32], antibody[24];
        char label[32]; /* of the hasty jobs that it is for; "": for all others */
        int version;
        bool since_created; /* the clock runs from the first event, not from the last */
        int64_t late_ms, deadline_ms, backoff_first_ms, backoff_max_ms;
        int attempts;
};

enum repair_grade { REPAIR_IN_TIME, REPAIR_LATE, REPAIR_BEYOND };
const char *repair_grade_name(enum repair_grade grade); /* late, repair; NULL in time */
enum repair_grade repair_grade(const struct repair_rule *rule, int64_t age_ms);

/* The pause after attempt n (from 1): first, doubling up to max; jitter within [0, 1) takes up to a quarter off, so that what failed together does
 * not come back together. */
int64_t repair_backoff_ms(const struct repair_rule *rule, int attempt, double jitter);

#endif
