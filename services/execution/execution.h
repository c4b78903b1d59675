/* What the parts of execution share: its state, and how bells, calls and the store hang together. */
#ifndef AETHELOS_EXECUTION_H
#define AETHELOS_EXECUTION_H

#include "http/httpc.h"
#include "service/service.h"
#include "services/execution/execution_plan.h"
#include "services/execution/execution_store.h"
#include "services/execution/waiting.h"

struct execution_config {
        int64_t resend_tries; /* of a run that is certainly not done */
        int64_t status_timeout_ms;
        int64_t output_max; /* bytes */
        int64_t take_over;  /* due runs looked at in one go */
        struct execution_breaker breaker;
};

#define EXECUTION_LEASE_MARGIN_MS 5000 /* beyond the time-out of a call */

/* What this instance knows of an operator beyond its row; kept as long as the process lives. */
struct execution_slot {
        struct execution_slot *next;
        char *name;
        bool warned;  /* about a row that cannot be used */
        bool avoided; /* when its row was read last */
        bool answers; /* the last status query was answered, and that since it is avoided */
        int64_t in_flight;
        int64_t queries;                 /* status queries under way */
        int64_t probed_ms;               /* operators_read_ms at the last probe of an open run: one for each time the rows are read */
        int64_t limit;                   /* calls at once: 1 while it is avoided, and one more with each success until max_in_flight */
        struct waiting_lanes waiting;    /* for room */
        size_t unsettled[WAITING_LANES]; /* the oldest of them, who waited before it was avoided, and may be done by another */
};

/* A run that this instance holds. */
struct execution_run {
        struct execution_run *next;
        struct service *service;
        struct uuid id, chain_id;
        int step, attempt, epoch, probes;
        int sends;                     /* this one included */
        char *who;                     /* the operator */
        bool protobuf;                 /* its answer is */
        struct execution_slot *slot;   /* counted in its in_flight; NULL: a status query */
        bool clean;                    /* before this call it was certainly not done */
        bool call_over;                /* see execution_read_status */
        int64_t age_ms, taken_mono_ms; /* how long it had been open when it was taken, and when that was */
        int64_t lease_mono_ms;         /* not later than the beginning of the lease of its call */
        int64_t took_ms;               /* set when it ended */
        char *evidence;                /* JSON text, when its answer is a person's word */
        char *reply;                   /* where a worker on the bus waits to hear that its result is committed */
        int tries;                     /* how often its outcome could not be committed */
        struct execution_answer answer;
};

struct execution_state {
        struct httpc *http;
        struct execution_operators operators;
        int64_t operators_read_ms; /* 0: never */
        struct execution_slot *slots;
        struct execution_run *ended, **ended_tail; /* answers that are not committed yet, oldest first */
        size_t n_ended;
        size_t outcome_batch;   /* 1 while a batch that failed is tried one by one */
        int64_t outcomes_at_ms; /* not before */
        /* Runs whose commit was not answered, so that they were never sent although they may stand in the store. */
        struct uuid *unsent;
        size_t n_unsent;
        int64_t hears_since_ms;           /* since when workers on the bus can be heard without a break */
        unsigned bus_epoch;               /* of the connection that is since then */
        int64_t ticked_ms;                /* when execution looked last */
        int64_t stood_ms, stood_until_ms; /* how long this process stood still last, and until when */
        struct execution_said *said;      /* by workers, not dealt with yet */
        size_t n_said;
        unsigned short jitter[3];
};

/* One chain on its way through a batch. */
struct execution_item {
        struct execution_chain c;
        struct execution_plan p;
        enum lane lane;
        struct execution_run *run; /* whose answer moves it; NULL: a bell */
        struct execution_outcome outcome;
        char *outcome_error;
        struct uuid run_id; /* of p.call */
        bool task;          /* of kind system: planned within the transaction that commits it, because the work is done there */
        bool broker;        /* whether the broker answered just before */
        bool planned;       /* there is a plan (else only the run's row changes) */
        bool in;            /* takes part: its fence held, or it needs none */
        bool starts;        /* its run is in the store and belongs to us */
        size_t t;           /* its transition; SIZE_MAX: none */
};

/* execution_handlers.c */
/* Reads the operators when they are older than 1 s; *ret_fresh: just now. */
int execution_refresh(struct service *s, bool *ret_fresh);
int execution_on_bells(struct service *s, const struct uuid ids[], size_t n);
void execution_serve_waiting(struct service *s);

/* execution_commit.c */
void execution_item_plan(struct service *s, struct execution_item *item, const struct execution_result *done);
/* Commits the plans of a batch, rings, and starts the calls. On failure nothing has happened and the room taken by plans is free again. */
int execution_commit(struct service *s, struct execution_item items[], size_t n);
/* Whether a job fails, or a task looks at the operators: neither is decided on what has been read a while ago. Cancelled plans are made again on
 * fresh rows. */
bool execution_items_want_fresh(const struct execution_item items[], size_t n);
void execution_items_cancel(struct service *s, struct execution_item items[], size_t n);
void execution_items_done(struct execution_item items[], size_t n);

/* execution_tasks.c */
bool execution_task_operator(const char *name); /* a built-in operator of system tasks */
/* Does the work of a task and makes its plan, in the caller's transaction; again when that is tried again. */
int execution_task_plan(struct service *s, struct db *db, struct execution_item *item);

/* execution_calls.c */
struct execution_slot *execution_slot(struct execution_state *state, const char *name);
void execution_start_call(struct service *s, const struct execution_operator *op, struct execution_run *run, const struct execution_call *call);
void execution_start_query(struct service *s, const struct execution_operator *op, struct execution_run *run);
void execution_run_ended(struct execution_run *run); /* its answer waits for execution_commit_outcomes */
struct execution_run *execution_run_free(struct execution_run *run);
int64_t execution_backoff(struct execution_state *state, int probes); /* with jitter */

/* execution_workers.c */
int execution_workers_listen(struct service *s);
void execution_workers_heard(struct service *s, struct bus_message *m);
void execution_workers_serve(struct service *s);                                /* all that was heard */
void execution_workers_committed(struct service *s, struct execution_run *run); /* its worker's result is in the store */
void execution_workers_forget(struct execution_state *state);

/* execution_outcomes.c */
void execution_log_late(const struct execution_run *run); /* its answer came when its outcome was known: nothing changes */
void execution_commit_outcomes(struct service *s);

/* execution_takeover.c */
int64_t execution_on_tick(struct service *s);

#endif
