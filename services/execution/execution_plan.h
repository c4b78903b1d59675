/* How far a job can go now: from where its chain stands to the next outside call, the end, or the failure. Pure. */
#ifndef AETHELOS_EXECUTION_PLAN_H
#define AETHELOS_EXECUTION_PLAN_H

#include "services/execution/execution_core.h"

#define EXECUTION_STEPS_MAX 32

/* What the store holds of a chain; JSON texts, empty where there is nothing. */
struct execution_record {
        const char *at;      /* the event it stands at */
        struct slice job;    /* data of JOB_CREATED */
        struct slice last;   /* data of the last STEP_COMPLETED */
        struct slice runs;   /* list of {"step", "operator", "state", "error"} in the order of attempts */
        int attempts_before; /* as EXECUTION_STARTED says, when it stands there */
};

/* A chain at PAYMENT_CONFIRMED, EXECUTION_REQUIRED, EXECUTION_STARTED or STEP_COMPLETED. */
struct execution_chain {
        struct uuid id;
        int version;
        bool started;                    /* EXECUTION_STARTED is written, and no further start is asked for */
        bool again;                      /* a further start is asked for: at the step that failed */
        int step;                        /* index of the step to be done */
        bool live;                       /* a run of it is open at an operator */
        int n_runs;                      /* runs so far at this step, the open one included */
        int attempts_before;             /* of these, how many belong to earlier starts: they rule nobody out any more */
        struct json_doc job, last, runs; /* data of JOB_CREATED and of the last STEP_COMPLETED; what text below points to */
        char *tags[EXECUTION_STEPS_MAX];
        int n_steps;
        struct slice input, context; /* JSON text */
        struct execution_attempt *failed;
        size_t n_failed;
};

/* Takes the record apart; its texts must outlive the chain. 0, or -EINVAL with *ret_why (static): the data are unusable. *ret_chain must be given to
 * execution_chain_done in both cases. */
int execution_chain_parse(const struct execution_record *record, struct execution_chain *ret_chain, const char **ret_why);
void execution_chain_done(struct execution_chain *c);
/* Notes that the open run failed definitely: its operator is out for this step. */
void execution_chain_fail(struct execution_chain *c, const char *who, const char *error);

/* The open run that is done. */
struct execution_result {
        const char *who;
        struct uuid run_id;
        int attempt;
        int64_t took_ms;
        struct slice output;   /* JSON text */
        struct slice evidence; /* JSON text, when a person's word stands for the operator's answer */
};

struct execution_plan {
        struct execution_event {
                const char *type; /* static */
                struct strbuf data;
        } events[EXECUTION_STEPS_MAX + 3];
        size_t n_events;
        const struct execution_operator *call;     /* a run to be started after the events; NULL: none */
        const struct execution_operator *room_for; /* no run is started because this operator has no room; NULL otherwise */
        int step, attempt;                         /* of the run */
        char *input;                               /* of the run, JSON text */
        bool later;                                /* the host has said execution_later */
        /* built-in runs, for the statistics */
        struct execution_count {
                const struct execution_operator *op;
                const char *error; /* static; NULL: success */
                bool refused;      /* because of its input */
        } * counts;
        size_t n_counts;
};

/* Goes on from where the chain stands, `done` (may be NULL) being the result of its open run. The chain must have no other open run. */
void execution_plan_make(
        const struct execution_chain *c, const struct execution_operators *ops, const struct execution_result *done, struct execution_plan *ret_plan);
void execution_plan_done(struct execution_plan *p);

#endif
