/* What the files of payments share. */
#ifndef AETHELOS_PAYMENTS_H
#define AETHELOS_PAYMENTS_H

#include "http/httpc.h"
#include "service/service.h"

struct payments_config {
        int64_t intent_expiry_ms;
        char *driver, *http_url, *http_token;
        int64_t http_timeout_ms;
};

/* A payment driver. Further ones are rows of payments_drivers. */
struct payments_driver {
        const char *name;
        bool calls; /* it deals with a provider over the network (provider_call) */
};
const struct payments_driver *payments_driver_find(const char *name); /* NULL: there is none of that name */

struct payments_provider;
struct payments_provider *payments_provider_of(struct service *s);

int payments_init(struct service *s);
void payments_fini(struct service *s);
int payments_on_bells(struct service *s, const struct uuid ids[], size_t n);
int64_t payments_on_tick(struct service *s);
void payments_on_round(struct service *s);
int payments_fd(struct service *s);
size_t payments_busy(struct service *s);

#endif
