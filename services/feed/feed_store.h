/* All SQL of feed. */
#ifndef AETHELOS_FEED_STORE_H
#define AETHELOS_FEED_STORE_H

#include "feed_known.h"

#include "store/db.h"

#define FEED_PAGE 2000

/* Where a reader of the tail stands: behind this event. */
struct feed_position {
        int64_t generation, xid, id;
};

/* What is added to a row of `figure`. */
struct feed_figure {
        const char *name, *currency; /* borrowed from the page */
        bool system;                 /* of a task: counted apart */
        int64_t minor, count;
};

int feed_checkpoint(struct db *db, struct feed_position *ret_at); /* zeros when there is none yet */
int feed_page(struct db *db, const struct feed_position *from, PGresult **ret_events);

struct feed_event {
        struct feed_position at;
        struct uuid chain_id;
        const char *type, *figure; /* figure: under which it counts; its type, or of CHAIN_REOPENED what it takes back */
        int64_t version, time_us;  /* since 1970 */
        struct slice data;
};
void feed_event(const PGresult *events, int row, struct feed_event *ret_event);

/* A row for each of the ids, in their order. */
int feed_chains(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_chains);
void feed_chain(const PGresult *chains, int row, struct feed_chain *ret_chain); /* borrows from the result */

/* Moves the checkpoint from `from` to `to` and adds the figures, together. 0; -EBUSY when another instance has moved it meanwhile: nothing is done.
 */
int feed_count(struct db *db, const struct feed_position *from, const struct feed_position *to, const struct feed_figure figures[], size_t n);

#endif
