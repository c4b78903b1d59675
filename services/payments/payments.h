/* What the files of payments share. */
#ifndef AETHELOS_PAYMENTS_H
#define AETHELOS_PAYMENTS_H

#include "service/service.h"

struct payments_config {
        int64_t intent_expiry_ms;
};

int payments_init(struct service *s);
void payments_fini(struct service *s);
int payments_on_bells(struct service *s, const struct uuid ids[], size_t n);
int64_t payments_on_tick(struct service *s);

#endif
