/* The SQL of system tasks. Results are 0 or a negative errno of db_run unless said otherwise. */
#ifndef AETHELOS_BOARD_TASKS_STORE_H
#define AETHELOS_BOARD_TASKS_STORE_H

#include "board_core.h"
#include "store/db.h"

/* The latest first, as {"items", "next"}; kind, state, after: NULL. */
int board_tasks(struct db *db, const char *kind, const char *state, const struct uuid *after, int64_t limit, struct strbuf *b);
int board_task_kind_known(struct db *db, const char *kind, bool *ret_known);
int board_task(struct db *db, const struct uuid *id, struct strbuf *b); /* with its result and its journal; -ENOENT */

/* The payouts that a settlement gathered: rows of payout, job, minor, currency, earned, ready or done, since when. */
int board_settlement(struct db *db, const struct uuid *task, PGresult **ret_result);

#endif
