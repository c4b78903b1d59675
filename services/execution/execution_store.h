/* All SQL of execution. Errors as in store/db.h. */
#ifndef AETHELOS_EXECUTION_STORE_H
#define AETHELOS_EXECUTION_STORE_H

#include "services/execution/execution_plan.h"
#include "store/chain.h"

int execution_store_operators(struct db *db, struct execution_operators *ret_operators);

/* Chains with what a plan needs; one row per existing id, in no particular order. */
struct execution_stand {
        struct uuid id;
        int version;
        enum lane lane;
        bool ours;                      /* it is execution's turn: there is a record */
        const char *hearer;             /* empty: nobody's turn */
        bool task;                      /* of kind system */
        struct execution_record record; /* into the result, as hearer */
};
int execution_store_read(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_result);
struct execution_stand execution_store_stand(const PGresult *r, int row);

/* A run to be written, in state calling. */
struct execution_new_run {
        struct uuid id, chain_id;
        int version; /* at which the chain must stand */
        int step, attempt;
        const char *tag, *who;
        int64_t lease_ms;
};
/* Sets ret_in[i] for the runs that were written; the others had been started by somebody else. */
int execution_store_start(struct db *db, const char *owner, const struct execution_new_run runs[], size_t n, bool ret_in[]);

/* What became of a run. `done` counts whoever holds the lease, because it is a fact; everything else only with the present epoch. */
struct execution_outcome {
        struct uuid id;
        int epoch;
        const char *state;  /* static: done, failed, accepted, unknown */
        const char *error;  /* borrowed; NULL: none */
        bool refused;       /* of failed */
        int64_t next_ms;    /* until it is looked at again */
        int64_t beat_ms;    /* a worker on the bus has it for so long; 0: none says so */
        const char *worker; /* which; borrowed; NULL: not said */
        int probes;
};
int execution_store_outcomes(struct db *db, const struct execution_outcome outcomes[], size_t n, bool ret_in[]);

struct execution_tally {
        const char *who;
        int64_t successes, failures, refusals, total_ms;
        int64_t faults;    /* failures, and answers that left the outcome open */
        const char *error; /* the last one; NULL: none */
};
/* When an operator is avoided: after `streak` faults in a row (or when it is DISABLED), for a pause that doubles with every probe that fails. */
struct execution_breaker {
        int64_t streak, first_ms, max_ms;
};
int execution_store_tally(
        struct db *db, const struct execution_breaker *breaker, const struct execution_tally tallies[], size_t n); /* sorted by name, distinct */

/* Open runs whose time has come, locked until the end of the transaction. */
struct execution_due {
        struct uuid id, chain_id;
        int step, attempt, epoch, probes, sends;
        struct slice who, tag, state, error; /* into the result */
        bool call_over;                      /* the lease of its last call has run out */
        bool beaten;                         /* a worker on the bus has had it, and its lease has run out too */
        int64_t age_ms;
        struct slice decided, output, by, reference; /* a person's word: done or failed; empty: there is none */
};
int execution_store_due(struct db *db, int64_t limit, PGresult **ret_result);
struct execution_due execution_store_due_row(const PGresult *r, int row);

struct execution_take {
        struct uuid id;
        const char *state; /* static */
        const char *error; /* borrowed; NULL: none */
        bool call;         /* a call: it gets a lease of hold_ms */
        int64_t hold_ms;   /* nobody else looks at it for so long */
        int probes;
};
int execution_store_take(struct db *db, const char *owner, const struct execution_take takes[], size_t n); /* epoch + 1 each */

/* --- execution_workers_store.c --- */

/* What a worker of operator `who` said on the bus. */
struct execution_said {
        struct execution_word word;
        char *who, *reply; /* where it wants its answer */
        bool result;       /* else a beat */
        bool protobuf;     /* its encoding, and that of its answer */
        bool held;         /* set by execution_store_beats: it has the run, and its lease is renewed */
};
int execution_store_beats(struct db *db, struct execution_said said[], size_t n);
/* The runs that results name, as far as there are any. A row tells which of said[] it is about. */
int execution_store_held(struct db *db, const struct execution_said said[], size_t n, PGresult **ret_result);
size_t execution_store_held_row(const PGresult *r, int row, struct execution_held *ret_held, struct execution_due *ret_run);

/* Runs that were committed without our knowing, and certainly never sent. */
int execution_store_unsent(struct db *db, const char *owner, const struct uuid ids[], size_t n);

#endif
