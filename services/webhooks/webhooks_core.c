/* A table is not needed for three verdicts. No clock and no randomness here: both are given. */
#include "webhooks_core.h"

enum webhooks_verdict webhooks_judge(int status)
{
        if (status >= 200 && status <= 299)
                return WEBHOOKS_DELIVERED;
        return status == 410 ? WEBHOOKS_GONE : WEBHOOKS_AGAIN;
}

int64_t webhooks_delay_ms(int64_t attempts, int64_t first_ms, double chance)
{
        int64_t ms = first_ms;

        for (int64_t i = 1; i < attempts && ms < WEBHOOKS_RETRY_MAX_MS; i++)
                ms *= 2;
        if (ms > WEBHOOKS_RETRY_MAX_MS)
                ms = WEBHOOKS_RETRY_MAX_MS;
        return (int64_t)((double)ms * (0.8 + 0.4 * chance));
}
