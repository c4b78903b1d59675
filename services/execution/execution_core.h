/* The decisions of execution, pure: who performs a step, what an operator's answer means, and what is done about a run whose outcome is not known. */
#ifndef AETHELOS_EXECUTION_CORE_H
#define AETHELOS_EXECUTION_CORE_H

#include "base/json.h"
#include "base/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- operators --- */

enum execution_health { EXECUTION_HEALTHY, EXECUTION_DEGRADED, EXECUTION_DISABLED };

enum execution_transport { EXECUTION_HTTP, EXECUTION_BUS };

struct execution_operator {
        char *name, *url, *status_url;      /* url NULL: built in; status_url NULL: outcomes cannot be asked */
        enum execution_transport transport; /* on the bus url and status_url are subjects */
        bool protobuf;                      /* its workers on the bus are called in protobuf, else in JSON, and answer in the same */
        int64_t lease_ms;                   /* of a worker on the bus that has a run, from beat to beat */
        char **tags, **fallback_for;
        size_t n_tags, n_fallback_for;
        bool idempotent;
        int64_t timeout_ms, max_in_flight;
        int64_t successes, failures, total_ms;
        bool avoided;         /* it failed too often in a row (operator.avoid_until) */
        bool probe_due;       /* no pause, or its pause is over */
        int64_t pause_ms;     /* what is left of it */
        int64_t *in_flight;   /* calls under way in this instance; lives longer than this row; NULL counts as 0 */
        const int64_t *limit; /* calls at once while it is being taken back; NULL: max_in_flight */
};

/* Who runs built-in operators that need more than their input (tasks). Answers as struct builtin's run does, or execution_later: not yet, the chain
 * stands and is rung again. */
extern const char execution_later[];
struct execution_host {
        const char *(*run)(void *arg, const char *who, const struct json_doc *doc, json_value input, struct strbuf *ret_output);
        void *arg;
};

struct execution_operators {
        struct execution_operator *v;
        size_t n;
        const struct execution_host *host; /* NULL: built-in operators are those of builtin.h */
};

void execution_operators_done(struct execution_operators *ops);

enum execution_health execution_health(const struct execution_operator *op);
const char *execution_health_name(const struct execution_operator *op); /* healthy, degraded, disabled */
double execution_score(const struct execution_operator *op);
/* Avoided or DISABLED: it gets no work but one probe at a time, when its pause is over. */
bool execution_avoided(const struct execution_operator *op);
/* DISABLED and in its pause: no step waits for it. */
bool execution_out(const struct execution_operator *op);
int64_t execution_room(const struct execution_operator *op); /* how many calls may be begun now */
bool execution_has_room(const struct execution_operator *op);

/* One finished attempt at the present step that definitely failed. */
struct execution_attempt {
        char *who, *error;
};

const struct execution_operator *execution_find(const struct execution_operators *ops, const char *name);
/* Who performs `tag` next: the best score among those that have the tag; when none of these is left, among those registered as fallback for the tag
 * or for an operator of the tag or for one that failed. Never one of the failed. Equal scores: the lesser name. NULL: nobody.
 * An avoided one comes last, and its step then waits for it; one that can be asked comes first for one run when its probe is due. A DISABLED one is
 * chosen for its probe only. */
const struct execution_operator *execution_choose(
        const struct execution_operators *ops, const char *tag, const struct execution_attempt failed[], size_t n_failed);
/* Whether somebody who is not avoided could be chosen. */
bool execution_other(const struct execution_operators *ops, const char *tag, const struct execution_attempt failed[], size_t n_failed);

/* --- what an answer means --- */

enum execution_verdict {
        EXECUTION_DONE,
        EXECUTION_ACCEPTED, /* the operator has it and answers later */
        EXECUTION_FAILED,   /* definitely not done, and will not be */
        EXECUTION_UNKNOWN,  /* it may have been done */
        EXECUTION_NOT_SENT, /* definitely not done: nothing reached the operator */
        EXECUTION_NOT_KNOWN /* definitely not done: the operator was asked and has never heard of the run */
};

enum execution_reply_kind { EXECUTION_REPLY_ANSWERED, EXECUTION_REPLY_NOT_SENT, EXECUTION_REPLY_LOST };

/* A reply to a call or a status query, free of the http ring's types. */
struct execution_reply {
        enum execution_reply_kind kind;
        int status;    /* of an answer */
        bool protobuf; /* the body is, else JSON */
        struct slice body;
        const char *why; /* when there was none */
};

struct execution_answer {
        enum execution_verdict verdict;
        char *output;  /* of DONE: minified JSON text */
        char *error;   /* of everything else but ACCEPTED: for people, at most EXECUTION_ERROR_MAX bytes of UTF-8 */
        char *worker;  /* who says so, where a worker on the bus named itself */
        bool answered; /* the operator said itself that it does not know the run */
        bool refused;  /* of FAILED: because of what it was given, so that it says nothing of the operator */
};
#define EXECUTION_ERROR_MAX  500
#define EXECUTION_BAD_OUTPUT "bad_output"

void execution_answer_done(struct execution_answer *a);
/* POST to `url`. `clean`: before this call it was certain that the run had not been done (the first call, or one after NOT_SENT or NOT_KNOWN). */
void execution_read_call(const struct execution_reply *reply, bool clean, struct execution_answer *ret_answer);
/* The same over the bus, where the body says what the status says over HTTP. */
void execution_read_bus_call(const struct execution_reply *reply, bool clean, struct execution_answer *ret_answer);
/* GET of `status_url`, or a request. `call_over`: the lease of the last call has run out, so that the operator cannot receive it any more. */
void execution_read_status(const struct execution_reply *reply, bool call_over, struct execution_answer *ret_answer);

/* Whether it speaks against the operator: failed and not refused, not reached, or nothing said about the outcome. */
bool execution_fault(const struct execution_answer *a);

/* A person's word in its place. */
void execution_read_decision(bool done, struct slice output, struct execution_answer *ret_answer);

/* --- what workers on the bus say of their own accord --- */

#define EXECUTION_WORKER_MAX   64 /* bytes, as the next */
#define EXECUTION_PROGRESS_MAX 200

/* A beat or a result. */
struct execution_word {
        struct uuid run_id;
        int token;
        struct execution_answer answer; /* of a result: DONE or FAILED; of a beat only its worker */
        char *progress;                 /* NULL: not said */
        int percent;                    /* -1: not said */
};
/* NULL, or why it cannot be used (static, for its author); then there is nothing to free. */
const char *execution_read_worker(struct slice body, bool protobuf, bool result, struct execution_word *ret_word);
void execution_word_done(struct execution_word *w);

/* What the store knows of the run that a result names. */
struct execution_held {
        bool same_operator; /* as the subject names it */
        int token;          /* the present one */
        bool ended, done;
};
enum execution_claim {
        EXECUTION_CLAIM_TAKE,
        EXECUTION_CLAIM_REPEATED, /* it is committed already */
        EXECUTION_CLAIM_OVER      /* the run is no longer this worker's, or never was */
};
/* run NULL: there is none. */
enum execution_claim execution_judge_result(const struct execution_word *w, const struct execution_held *run);

/* --- a run whose outcome is open --- */

/* operator_run.error of a run that is certainly not done begins so: the run may be sent again though its operator is not idempotent. */
#define EXECUTION_RESEND "not sent: "

enum execution_next {
        EXECUTION_NEXT_ASK,
        EXECUTION_NEXT_SEND,   /* the same run_id again */
        EXECUTION_NEXT_WAIT,   /* nothing may be done but wait, visible */
        EXECUTION_NEXT_OTHER,  /* give the step to another operator */
        EXECUTION_NEXT_DECIDED /* a person's word stands for the operator's answer */
};

struct execution_open_run {
        bool decided;       /* a person has said what came of it */
        bool resend_marked; /* error begins with EXECUTION_RESEND, state unknown */
        int probes;
        bool other; /* another operator could be chosen */
};

#define EXECUTION_PROBES_BEFORE_OTHER 3
/* op NULL: it is not registered any more. */
enum execution_next execution_resolve(const struct execution_operator *op, const struct execution_open_run *run);

/* The same for a run whose operator is avoided, and is neither to be asked nor sent to now. */
enum execution_next execution_spare(const struct execution_operator *op, const struct execution_open_run *run);

/* Whether a run that is certainly not done is given up (the step goes to another operator, or fails) instead of sent again. */
bool execution_gives_up(enum execution_verdict verdict, int tries, int tries_max, bool other);

#define EXECUTION_BACKOFF_MAX_MS 60000
/* 1 s doubling to 60 s; jitter within [0, 1) takes up to a quarter off. */
int64_t execution_backoff_ms(int probes, double jitter);

/* --- what is sent --- */

/* Whether a call that may take timeout_ms can begin now and be over before its lease is: the lease is timeout_ms + margin_ms from its transaction's
 * beginning, which is held_up_ms ago. */
bool execution_in_time(int64_t held_up_ms, int64_t margin_ms);

struct execution_call {
        struct uuid run_id, job_id;
        int step, attempt;
        struct slice input, context; /* JSON text; context empty: {} */
        int token;                   /* on the bus: how often the run was sent, this call included; beats and results must name it */
        int64_t lease_ms;            /* on the bus; 0: over HTTP */
};
void execution_call_body(struct strbuf *b, const struct execution_call *call);
/* On the bus alone: */
void execution_call_message(struct strbuf *b, const struct execution_call *call); /* the same in protobuf */
void execution_question_body(struct strbuf *b, const struct uuid *run_id, bool protobuf);
void execution_word_answer(struct strbuf *b, bool result, const char *status, const char *error, bool protobuf); /* error NULL: none */
void execution_status_url(struct strbuf *b, const char *status_url, const struct uuid *run_id);

#endif
