/* All SQL of the operators of system tasks. Each runs in the transaction that writes its result. */
#ifndef AETHELOS_EXECUTION_TASKS_STORE_H
#define AETHELOS_EXECUTION_TASKS_STORE_H

#include "services/execution/execution_tasks_core.h"
#include "store/db.h"

/* The health of the stack as the store and this instance see it, as JSON. */
int execution_tasks_health(struct db *db, bool broker, struct strbuf *b);

/* The newest version of each flow: id, version, type, JSON list of tags. */
int execution_tasks_flows(struct db *db, PGresult **ret_result);

/* An operator's runs since `since` (a UUIDv7 of that time), out of the latest 100000 runs of all; adds the members of a JSON object. */
int execution_tasks_runs(struct db *db, const char *name, const struct uuid *since, struct execution_stats *ret_stats, struct strbuf *b);
int execution_tasks_avoid(struct db *db, const char *name, int64_t ms); /* not chosen before, while there is another */

#define EXECUTION_SETTLEMENT_MAX 20000 /* payouts in one settlement; those in none so far come first */
/* Gathers the payouts that are ready under the task; adds its report. */
int execution_tasks_settle(struct db *db, const struct uuid *task, struct strbuf *b);

/* Has meta-repair handle the issue that the task is about: a command under the id of the task, stored once. */
int execution_tasks_command(struct db *db, const struct uuid *task);
/* What came of it: the answer, and how the issue stands; *ret_done false: it is not carried out yet. */
int execution_tasks_answer(struct db *db, const struct uuid *task, const char *issue, bool *ret_done, struct strbuf *b);

#endif
