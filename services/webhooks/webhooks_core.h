/* What is done about an attempt. Pure. */
#ifndef AETHELOS_WEBHOOKS_CORE_H
#define AETHELOS_WEBHOOKS_CORE_H

#include <stdint.h>

#define WEBHOOKS_RETRY_MAX_MS 3600000

enum webhooks_verdict {
        WEBHOOKS_DELIVERED, /* 2xx */
        WEBHOOKS_AGAIN,     /* anything else: another status, also of a redirect, or no answer */
        WEBHOOKS_GONE,      /* 410: the receiver wants no more of this subscription */
};
enum webhooks_verdict webhooks_judge(int status); /* 0: no answer */

/* Until the next attempt, after `attempts` of them: doubling from first_ms to an hour, with a fifth more or less by chance (0 to 1), so that what
 * failed together does not come back together. */
int64_t webhooks_delay_ms(int64_t attempts, int64_t first_ms, double chance);

#endif
