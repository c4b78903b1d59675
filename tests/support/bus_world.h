/* A stack without publishers, whose workers on the bus the test plays. What fails fails the test. */
#ifndef AETHELOS_TESTS_BUS_WORLD_H
#define AETHELOS_TESTS_BUS_WORLD_H

#include "bus/bus.h"
#include "tests/support/stack.h"

#define PATIENCE_MS 20000

struct bus_world {
        struct stack *stack;
        struct bus *bus;
};

int bus_world_setup(void **state); /* board and execution */
int bus_world_teardown(void **state);
int bus_world_finished(void **state); /* after each test: what was begun is finished, and the books are sound */

struct bus *bus_world_worker(struct bus_world *w, const char *name);              /* hears calls and questions of operator `name` */
void bus_world_operator(struct bus_world *w, const char *name, const char *more); /* registers it, of kind bus, with its name for a tag */
void bus_world_job(struct bus_world *w, const char *tag);                         /* paid: {"text":"one two"} through `tag` and puz19_text */
void bus_world_await_runs(struct bus_world *w, const char *name, const char *what, const char *is); /* `what` (SQL) of every run of it */

#endif
