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

#endif
