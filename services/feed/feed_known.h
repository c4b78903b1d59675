/* The chains whose events feed has told last: a chain has a dozen events within a second, and what feed must know of it is said by three of them.
 * Memory only, and one thread. */
#ifndef AETHELOS_FEED_KNOWN_H
#define AETHELOS_FEED_KNOWN_H

#include "base/uuid.h"

#include <stdbool.h>
#include <stdint.h>

/* What feed must know of a chain to tell its events and to add them up. */
struct feed_chain {
        const char *client; /* borrowed */
        char currency[4];   /* "" before the chain is priced */
        int64_t minor;
        bool system;
};

struct feed_known;

struct feed_known *feed_known_new(void);
struct feed_known *feed_known_free(struct feed_known *k); /* returns NULL */
void feed_known_forget(struct feed_known *k);             /* every chain: another instance may have told the price of one */

bool feed_known_get(
        const struct feed_known *k, const struct uuid *id, struct feed_chain *ret_chain); /* its client is borrowed from k, as long as k is */
void feed_known_drop(struct feed_known *k, const struct uuid *id);
void feed_known_put(struct feed_known *k, const struct uuid *id, const struct feed_chain *chain); /* copies */

/* Takes from an event what it says of its chain: JOB_CREATED whose it is, PRICED its price, PAYOUT_EARNED whose payout it is. `data` as it was
 * written by us, whose documents begin with it. What a price cannot be taken from, or not be told whose it is, is no longer known: it is to be looked
 * up. */
void feed_known_learn(struct feed_known *k, const struct uuid *id, const char *type, const char *data);

#endif
