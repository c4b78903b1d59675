/* A stack with execution and two operators that know the truth; the test plays the services before it. These are the words in which the tests of
 * execution are written, so they have no prefix. What fails fails the test. */
#ifndef AETHELOS_TESTS_EXECUTION_WORLD_H
#define AETHELOS_TESTS_EXECUTION_WORLD_H

#include "bus/bus.h"
#include "tests/support/fake_operator.h"
#include "tests/support/stack.h"

#include <stdbool.h>

struct world {
        struct stack *stack;
        struct bus *bus;
        struct fake_operator *one, *two;
};

int setup(void **state); /* one instance of execution, which hears its bells */
int teardown(void **state);

/* How many chains stand at which step: "EXECUTION_COMPLETED 3, EXECUTION_STARTED 1". */
#define STANDING "SELECT string_agg(step || ' ' || n, ', ' ORDER BY step) FROM (SELECT step, count(*) AS n FROM aethelos.chain GROUP BY step) s"

void run_sql(struct world *w, const char *sql);
long number(struct world *w, const char *sql);
/* Registers an operator over HTTP; status_url: NULL when it cannot be asked; more, values: ", column" and ", value" of further columns, or "". */
void operator_is(struct world *w, const char *name, const char *url, const char *status_url, const char *tag, const char *more, const char *values);
void operators_change(struct world *w, const char *sql); /* execution is started anew, so that no instance remembers how they were */
void ring(struct world *w, const char *which);           /* as paid_jobs_ring */
void jobs(struct world *w, int n, const char *steps, const char *payload, bool at_once); /* as paid_jobs; at_once: and rung */
void expect_last(struct world *w, const char *part);                                     /* of the data of the newest end of an execution */

#endif
