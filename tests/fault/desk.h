/* The workers of an operator on the bus, with ground truth. They share a memory, so any of them may answer questions; a call that comes twice is one
 * piece of work. `input.mode` chooses what becomes of a run:
 * - done: done and answered at once
 * - lost: done, and nobody says so until asked
 * - failed: not done, and said so
 * - accept: accepted; done after input.ms, with beats until then and a result that is repeated until it is answered
 * - die: whoever accepted it dies before he begins it; whoever gets it next does it at once
 * - zombie: the same, but the dead one comes back when the run was given to the next, beats and has a result: he must be told that it is over
 * - first: done, and the result comes before the answer to the call
 *
 * A zombie that is believed is counted as wrong, and his output is wrong too. */
#ifndef AETHELOS_TESTS_FAULT_DESK_H
#define AETHELOS_TESTS_FAULT_DESK_H

#include "bus/bus.h"
#include "tests/support/fake_operator.h"

#define DESK          "desk"
#define DESK_LEASE_MS 2000

struct desk;

struct desk *desk_new(struct bus *bus);
struct desk *desk_free(struct desk *d); /* after the bus is gone */
/* Takes what is meant for the workers; false: it is for somebody else. The message stays the caller's. */
bool desk_hear(struct desk *d, const struct bus_message *m);
void desk_round(struct desk *d); /* beats, finishes, says results */

struct fake_run *desk_runs(struct desk *d, size_t *ret_n); /* a copy of all, malloc'ed */
size_t desk_wrong(const struct desk *d);                   /* zombies that were believed */
size_t desk_refused(const struct desk *d);                 /* zombies that were told that it is over */

#endif
