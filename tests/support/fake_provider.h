/* A payment provider with ground truth (proto/payments.md), on a free port of loopback, in threads of the test itself: it remembers what it was asked
 * and what it really did, so that a test can tell money moved twice from money told of twice. It keeps one intent and one refund for each key,
 * however often they are sent. */
#ifndef AETHELOS_TESTS_FAKE_PROVIDER_H
#define AETHELOS_TESTS_FAKE_PROVIDER_H

#include <stddef.h>

struct fake_provider;

struct fake_provider *fake_provider_start(void);
struct fake_provider *fake_provider_free(struct fake_provider *p); /* returns NULL */
const char *fake_provider_url(const struct fake_provider *p);

/* How POSTs are answered from now on: "ok"; "lost" (done, then the connection is cut); "error" (done, then 500); "never" (cut, nothing done); "down"
 * (503, nothing done, also queries); "deny" (401, nothing done, also queries); "refuse", "refuse intents" (422, nothing done). */
void fake_provider_mode(struct fake_provider *p, const char *mode);
/* What happens at the provider: the payer pays the intent (with another amount when minor >= 0) or it runs out there; false: there is no such intent.
 */
int fake_provider_pay(struct fake_provider *p, const char *intent, long long minor);
int fake_provider_expire(struct fake_provider *p, const char *intent);
/* New refunds stay pending until they are let go. */
void fake_provider_hold_refunds(struct fake_provider *p, int hold);
void fake_provider_deny_queries(struct fake_provider *p, int deny); /* 401, whatever the mode */

struct fake_provider_truth {
        size_t posts, queries;
        size_t intents, paid, refunds, refunded;
        size_t wrong; /* requests that broke the contract */
};
struct fake_provider_truth fake_provider_truth(struct fake_provider *p);

#endif
