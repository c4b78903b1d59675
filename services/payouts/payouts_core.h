/* The decisions of payouts: pure. */
#ifndef AETHELOS_PAYOUTS_CORE_H
#define AETHELOS_PAYOUTS_CORE_H

#include "base/amount.h"
#include "base/strbuf.h"

#include <stdbool.h>

enum payouts_action {
        PAYOUTS_NOTHING,
        PAYOUTS_READY, /* earned: it can be transferred */
        PAYOUTS_DONE,  /* evidence of the transfer is stored */
};

enum payouts_action payouts_decide(const char *step, bool has_evidence);
void payouts_ready_data(struct strbuf *b, struct amount amount);
void payouts_done_data(struct strbuf *b, struct amount amount, const char *kind, const char *who, const char *reference);

#endif
