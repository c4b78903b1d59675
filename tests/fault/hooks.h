/* A receiver of webhooks with ground truth: it checks every signature, answers mostly 204, sometimes 500 or too late, and remembers what it has said
 * 204 to. */
#ifndef AETHELOS_TESTS_FAULT_HOOKS_H
#define AETHELOS_TESTS_FAULT_HOOKS_H

#include "base/util.h"

#define HOOKS_TYPES "JOB_CREATED", "PAYMENT_CONFIRMED", "REVENUE_BOOKED", "FINAL_FAIL", "PAYOUT_DONE"

struct hooks;

struct hooks *hooks_start(int wake_fd, uint64_t seed);
struct hooks *hooks_free(struct hooks *h);
int64_t hooks_port(const struct hooks *h);
void hooks_secret(struct hooks *h, const char *secret);
void hooks_round(struct hooks *h);
void hooks_behave(struct hooks *h); /* from now on everything is answered 204 at once */

struct hooks_told {
        char chain[40], type[32];
        int64_t version;
};
const struct hooks_told *hooks_told(const struct hooks *h, size_t *ret_n); /* events that were taken; some may be there twice */
size_t hooks_wrong(const struct hooks *h);                                 /* messages without a signature that holds */

#endif
