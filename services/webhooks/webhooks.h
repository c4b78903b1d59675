/* What the files of webhooks share. */
#ifndef AETHELOS_WEBHOOKS_H
#define AETHELOS_WEBHOOKS_H

#include "http/httpc.h"
#include "service/service.h"

struct webhooks_config {
        bool private_addresses;
        int64_t timeout_ms, first_retry_ms, disable_after_s, keep_s;
};

/* An attempt under way, or over and not committed. */
struct webhooks_attempt {
        struct webhooks_attempt *next;
        struct service *service;
        struct uuid webhook;
        int64_t delivery, attempts;
        int status; /* 0: no answer */
        char error[200];
};

struct webhooks_state {
        struct httpc *http;
        struct webhooks_attempt *open, *ended;
        unsigned short jitter[3];
        int64_t look_at_ms, prune_at_ms;
};

void webhooks_on_round(struct service *s);

#endif
