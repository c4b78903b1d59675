/* Paid jobs for execution, written as the services before it would have left them, and their bells. */
#ifndef AETHELOS_TESTS_PAID_JOBS_H
#define AETHELOS_TESTS_PAID_JOBS_H

#include "bus/bus.h"
#include "tests/support/stack.h"

struct bus *paid_jobs_bus(struct stack *s);                       /* a connection of the test's own; connected */
void paid_jobs_await_execution(struct stack *s, struct bus *bus); /* until an instance hears its bells */
/* n jobs; steps: JSON list of tags; rung at once when there is a bus. */
void paid_jobs(struct stack *s, struct bus *bus, int n, const char *steps, const char *payload);
/* Rings all chains for which `which`, SQL, holds, in any order. */
void paid_jobs_ring(struct stack *s, struct bus *bus, const char *which);

#endif
