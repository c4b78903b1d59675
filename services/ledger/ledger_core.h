/* The decisions of the ledger: pure. */
#ifndef AETHELOS_LEDGER_CORE_H
#define AETHELOS_LEDGER_CORE_H

#include "base/amount.h"
#include "base/strbuf.h"

#include <stdbool.h>

bool ledger_books(const char *step); /* whether a job that stands here is to be booked */
void ledger_booked_data(struct strbuf *b, struct amount amount);
void ledger_earned_data(struct strbuf *b, const char *job_id, struct amount amount);

#endif
