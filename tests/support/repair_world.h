/* A stack in which the test plays every service but meta-repair, and moves chains as they would. These are the words in which the tests of
 * meta-repair are written, so they have no prefix. What fails fails the test. */
#ifndef AETHELOS_TESTS_REPAIR_WORLD_H
#define AETHELOS_TESTS_REPAIR_WORLD_H

#include "base/util.h"
#include "store/chain.h"
#include "tests/support/stack.h"

#include <stdlib.h>

extern struct stack *stack; /* of the running test */

int setup(void **state);    /* without an instance of meta-repair; operator one does puz19_text, and nobody answers there */
int teardown(void **state); /* the books are sound */

#define OFTEN "AETHELOS_LEASE_MS=300", "AETHELOS_TICK_MS=100" /* settings: looks ten times as often as usual */
void start(void);                                             /* one more instance of meta-repair */

/* --- the store --- */

char *ask(const char *fmt, ...) _printf_(1, 2); /* as pg_fixture_ask */
#define RUN(...) free(ask(__VA_ARGS__))
void await(const char *answer, const char *fmt, ...) _printf_(2, 3);
/* The newest version of a rule with other times, in seconds. */
void rule(const char *step, double late, double deadline, int attempts, double first, double longest);
void age(const char *id, const char *interval);     /* the chain was opened and moved last so long ago */
void evidence(const char *id, const char *event);   /* comes in */
void expect_last(const char *id, const char *part); /* of the data of its newest event */

/* Of a chain, the %s: its newest issue, its step, the data of its newest event. */
#define ISSUE                                                                                                                                        \
        "SELECT kind || ' ' || grade || ' ' || state || ' ' || coalesce(waits_for, '-') || ' ' || coalesce(outcome, '-') FROM issue WHERE chain_id " \
        "= '%s' ORDER BY opened_at DESC LIMIT 1"
#define STEP "SELECT step FROM chain WHERE id = '%s'"
#define LAST "SELECT data FROM event WHERE chain_id = '%s' ORDER BY version DESC LIMIT 1"

/* --- the other services --- */

/* Events of one move of a chain, all with the same data; NULL-terminated. */
enum advance_verdict move(const char *service, const char *id, const char *const events[], const char *data);

#define AMOUNT                            "{\"amount\":{\"minor\":100,\"currency\":\"EUR\"},\"type\":\"test\"}"
#define MOVE_WITH(data, service, id, ...) assert_int_equal(move(service, id, (const char *const[]){__VA_ARGS__, NULL}, data), ADVANCE_WON)
#define MOVE(service, id, ...)            MOVE_WITH(AMOUNT, service, id, __VA_ARGS__)
#define FAILURE                                                                                                                                      \
        "{\"error\":{\"reason\":\"all_operators_failed\",\"step\":0,\"tag\":\"puz19_text\",\"attempts\":[{\"operator\":\"one\",\"error\":\"no\"}]}}"

/* A job that stands there; its id, malloc'ed. */
char *created(void);
char *unpaid(void);
char *paid(void);
char *failed(void); /* with FAILURE */
void refund_confirmed(const char *id);
void refund(const char *id); /* as soon as it is required */

/* --- people --- */

char *command(const char *what, const char *args); /* asks meta-repair, and waits for its answer; malloc'ed */
void expect_command(const char *what, const char *args, const char *answer);

#endif
