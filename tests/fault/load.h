/* The load of the fault suite: jobs with known right outcomes, driven by a careful client through the public interfaces alone. It repeats a
 * submission until it has its receipt, pays, repeats payments until they are stored, watches, and marks payouts. */
#ifndef AETHELOS_TESTS_FAULT_LOAD_H
#define AETHELOS_TESTS_FAULT_LOAD_H

#include "base/uuid.h"
#include "bus/bus.h"
#include "desk.h"
#include "fault_random.h"
#include "http/httpc.h"
#include "tests/support/fake_provider.h"
#include "tests/support/stack.h"

/* How a paid job must end. */
enum load_end {
        LOAD_DONE,   /* completed */
        LOAD_FAILED, /* its operators fail definitely: it is refunded */
        LOAD_WAITS,  /* its operator withholds what it did */
        LOAD_EITHER, /* completed, or waiting for an operator that cannot be asked */
};

enum load_stage { LOAD_SUBMIT, LOAD_PROBE, LOAD_PAY, LOAD_WATCH, LOAD_REFUND, LOAD_FIND_PAYOUT, LOAD_MARK, LOAD_END };

struct load_kind {
        const char *type, *tag; /* job type, and the tag of its first step; NULL: the type is there already */
        const char *mode;       /* of fake_operator.h; NULL: built in */
        unsigned weight;
        enum load_end end;
};
extern const struct load_kind load_kinds[];
extern const size_t load_n_kinds;

struct load_job {
        unsigned kind;
        char key[32], payload[160], result[128]; /* result: a pattern for LIKE */
        const char *priority;
        int64_t amount; /* what it must cost, minor units of EUR */
        bool by_bus, pays, marks;
        enum load_stage stage;
        int64_t next_ms, wait_ms;
        bool in_flight;
        struct uuid id; /* from the receipt */
        bool receipted, pay_sent, paid, refund_sent, mark_sent, marked;
        char payout[UUID_TEXT_SIZE];
};

struct load {
        struct stack *stack;
        struct fake_provider *provider; /* NULL: payments and refunds are confirmed by a person */
        struct bus *bus;
        struct desk *desk; /* shares the bus */
        struct httpc *http;
        struct fault_random random;
        char run[16]; /* prefix of the keys */
        struct load_job *jobs;
        size_t n, cap, n_open; /* n_open: not yet at LOAD_END */
        size_t n_wrong;        /* answers that nobody should have got */
        char wrong[400];       /* the first of them */
        struct strbuf token;
};

void load_open(struct load *l, struct stack *stack, struct fake_provider *provider, struct bus *bus, struct desk *desk, uint64_t seed);
void load_done(struct load *l);
void load_submit(struct load *l, size_t kind); /* one more; kind load_n_kinds: any */
void load_round(struct load *l);               /* hears, sends what is due */

/* Makes the next job (pure but for the random numbers). */
void load_make(struct load_job *j, const char *run, size_t n, size_t kind, struct fault_random *r);
void load_expect(struct load_job *j); /* fills result and amount; again once the id is known */

#endif
