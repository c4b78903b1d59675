/* What nobody should send: submissions, envelopes and requests that cannot be used, and envelopes that come once more. */
#ifndef AETHELOS_TESTS_FAULT_POISON_H
#define AETHELOS_TESTS_FAULT_POISON_H

#include "world.h"

void poison(struct world *w);

#endif
