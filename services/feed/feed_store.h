/* All SQL of feed. */
#ifndef AETHELOS_FEED_STORE_H
#define AETHELOS_FEED_STORE_H

#include "store/db.h"

#define FEED_PAGE 2000

/* Inside a transaction: takes the checkpoint, for this instance alone. 0; -EBUSY when another instance has it. */
int feed_take_checkpoint(struct db *db);
/* The next page behind the checkpoint. Columns: id, type, chain_id, version, time, client, data. */
int feed_page(struct db *db, PGresult **ret_events);
/* Adds the page just read to the figures and moves the checkpoint behind it. */
int feed_count(struct db *db);

#endif
