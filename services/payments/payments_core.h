/* The decisions of payments: pure. */
#ifndef AETHELOS_PAYMENTS_CORE_H
#define AETHELOS_PAYMENTS_CORE_H

#include "base/amount.h"
#include "base/strbuf.h"

#include <stdbool.h>

enum payments_action {
        PAYMENTS_NOTHING,    /* it waits for its payer, or is none of ours */
        PAYMENTS_RING_AGAIN, /* it stands at our own outcome: the next service may not have heard */
        PAYMENTS_CREATE,     /* make the intent */
        PAYMENTS_TRANSFER,   /* a task: pay it by internal transfer */
        PAYMENTS_CONFIRM,    /* evidence is stored */
        PAYMENTS_EXPIRE,     /* unpaid, and its time is over: by our clock, or by the provider's word */
        PAYMENTS_REFUND,     /* what was paid goes back */
        PAYMENTS_REFUNDED,   /* evidence of that is stored */
};

/* What is to be done with a chain of this kind that stands at `step`. has_evidence: of what this step waits for. Evidence beats the clock. */
enum payments_action payments_decide(const char *kind, const char *step, bool has_evidence, bool expired);

void payments_amount_data(struct strbuf *b, struct amount amount); /* of PAYMENT_REQUIRED */
void payments_initiated_data(struct strbuf *b, const char *intent_id, const char *driver, const char *expires_at);
/* Of PAYMENT_CONFIRMED and REFUND_CONFIRMED. */
void payments_evidence_data(struct strbuf *b, struct amount amount, const char *kind, const char *who, const char *reference);
void payments_refund_data(struct strbuf *b, const char *refund_id, const char *driver);
void payments_expired_data(struct strbuf *b);

#endif
