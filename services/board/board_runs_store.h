/* SQL about runs at operators. Results are 0 or a negative errno of db_run. */
#ifndef AETHELOS_BOARD_RUNS_STORE_H
#define AETHELOS_BOARD_RUNS_STORE_H

#include "board_core.h"
#include "store/db.h"

/* Open runs, oldest first, as {"items", "next"}; state, operator, job, after: NULL. */
int board_runs(
        struct db *db, const char *state, const char *operator, const struct uuid * job, const struct uuid *after, int64_t limit, struct strbuf *b);
/* Committed. ret_verdict: what decide_run() answers. */
int board_decide_run(struct db *db, const struct uuid *run, const struct board_decision *d, char ret_verdict[16]);

#endif
