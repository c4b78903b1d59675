/* What the files of payouts share. */
#ifndef AETHELOS_PAYOUTS_H
#define AETHELOS_PAYOUTS_H

#include "service/service.h"

int payouts_on_bells(struct service *s, const struct uuid ids[], size_t n);

#endif
