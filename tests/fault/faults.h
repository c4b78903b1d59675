/* The faults, as a table: what may happen, how often, and what it does. */
#ifndef AETHELOS_TESTS_FAULT_FAULTS_H
#define AETHELOS_TESTS_FAULT_FAULTS_H

#include "world.h"

void faults_inject(struct world *w, bool verbose);              /* one, chosen by the seed */
void faults_report(const struct world *w, struct strbuf *text); /* how often each */
unsigned faults_injected(void);

#endif
