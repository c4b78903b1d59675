/* The chains whose events feed has told last: a chain has a dozen events within a second, and what feed must know of it changes only with its price.
 * Memory only, and one thread. */
#ifndef AETHELOS_FEED_KNOWN_H
#define AETHELOS_FEED_KNOWN_H

#include "base/uuid.h"

#include <stdbool.h>
#include <stdint.h>

/* What feed must know of a chain to tell its events and to add them up. */
struct feed_chain {
        const char *client, *currency; /* borrowed; currency "" before the chain is priced */
        int64_t minor;
        bool system;
};

struct feed_known;

struct feed_known *feed_known_new(void);
struct feed_known *feed_known_free(struct feed_known *k); /* returns NULL */
void feed_known_forget(struct feed_known *k);             /* everything: another instance may have told the price of a chain */

/* False: not known, or not priced yet. What is found is borrowed until something is put, dropped or forgotten. */
bool feed_known_get(const struct feed_known *k, const struct uuid *id, struct feed_chain *ret_chain);
void feed_known_drop(struct feed_known *k, const struct uuid *id);                                /* its price may be another */
void feed_known_put(struct feed_known *k, const struct uuid *id, const struct feed_chain *chain); /* a chain without a price is not kept */

#endif
