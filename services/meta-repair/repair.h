/* What the files of meta-repair share. */
#ifndef AETHELOS_META_REPAIR_H
#define AETHELOS_META_REPAIR_H

#include "repair_store.h"
#include "service/service.h"

struct repair_config {
        int64_t ring_rate, lease_ms, tick_ms;
};

struct repair_state {
        struct ringer *ringer;
        struct repair_sweep *sweep;
        struct repair_rules rules;
        int64_t rules_ms; /* when they were read, monotonic; 0: read them */
        struct repair_turn turn;
        bool look; /* a bell rang: look at the commands and at what is due */
};

/* repair_handlers.c */
int repair_init(struct service *s);
void repair_fini(struct service *s);
int repair_on_bells(struct service *s, const struct uuid ids[], size_t n);
void repair_on_round(struct service *s);
int64_t repair_on_tick(struct service *s);
int repair_rules_fresh(struct service *s); /* reads them when they are old */
/* Chains at REFUND_CONFIRMED end here, with their dossier. */
int repair_finish_refunded(struct service *s, const struct uuid ids[], size_t n);

/* repair_ringer.c */
struct ringer *ringer_new(void);
struct ringer *ringer_free(struct ringer *ringer);
void ringer_tick(struct service *s);
void ringer_look(struct service *s); /* at the backlogs; outside of transactions */
/* Whether a bell for it is held back, as far as the last look says: no network here. */
bool ringer_holds(struct service *s, const char *hearer);

/* repair_sweep.c */
struct repair_sweep *repair_sweep_new(void);
struct repair_sweep *repair_sweep_free(struct repair_sweep *sweep);
void repair_sweep_tick(struct service *s);
/* Opens the issues of candidates, in the caller's transaction. */
int repair_open(struct db *db, struct repair_candidates *found);
int repair_open_now(struct service *s, struct repair_candidates *found); /* in one of its own */

/* repair_issues.c: one batch of issues, from decision to bells */
struct repair_work {
        const char *owner;
        struct repair_issues issues;
        const struct repair_rules *rules;
        bool *bell_held, *fenced; /* of issue i */
        struct advance moves, chains;
        struct repair_task *tasks; /* that were opened, or found active, for its issues */
        size_t n_tasks;
};
void repair_work_prepare(struct service *s, struct repair_work *work); /* after the subjects were read; no network */
void repair_work_decide(struct repair_work *work);
int repair_work_apply(struct db *db, void *work); /* in a transaction; again after -EAGAIN */
void repair_work_ring(struct service *s, const struct repair_work *work);
void repair_work_done(struct repair_work *work);
/* By a person's word; in a transaction that has locked it. */
int repair_issue_close(struct db *db, struct repair_issue *issue, const char *by, const char *reference);
bool repair_due(struct service *s); /* one batch of what is due; true: there may be more */

/* repair_tasks.c: in the transaction of the batch */
int repair_tasks_reverse(struct repair_work *work, struct db *db); /* the evidence of reversed transfers, before the moves */
int repair_tasks_open(struct repair_work *work, struct db *db);
void repair_task_ring(struct service *s, const struct repair_task *task, enum lane lane);

/* repair_commands.c */
bool repair_commands(struct service *s); /* one step of one command; true: there may be more */

#endif
