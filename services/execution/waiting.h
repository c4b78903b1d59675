/* Chains that wait for room at an operator: first in, first out, each at most once, bounded. Pure. */
#ifndef AETHELOS_EXECUTION_WAITING_H
#define AETHELOS_EXECUTION_WAITING_H

#include "base/uuid.h"

#define WAITING_MAX 16384

struct waiting;

struct waiting *waiting_new(void);
struct waiting *waiting_free(struct waiting *w);                           /* NULL allowed; returns NULL */
bool waiting_put(struct waiting *w, const struct uuid *id);                /* false: it is there already, or there is no place */
size_t waiting_take(struct waiting *w, struct uuid ret_ids[], size_t max); /* the oldest */
size_t waiting_count(const struct waiting *w);                             /* NULL: 0 */

/* One such list for each lane, high first. */
#define WAITING_LANES 3
struct waiting_lanes {
        struct waiting *v[WAITING_LANES]; /* NULL: nobody ever had to */
        unsigned credit[WAITING_LANES];   /* what is left of this round */
};
void waiting_lanes_done(struct waiting_lanes *w);
bool waiting_lanes_put(struct waiting_lanes *w, size_t lane, const struct uuid *id);
/* By 8:3:1 where all have some: who hurries waits for few, and nobody waits for ever. */
size_t waiting_lanes_take(struct waiting_lanes *w, struct uuid ret_ids[], size_t max);
size_t waiting_lanes_count(const struct waiting_lanes *w);

#endif
