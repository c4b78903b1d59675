/* What pricing does with bells. */
#ifndef AETHELOS_PRICING_HANDLERS_H
#define AETHELOS_PRICING_HANDLERS_H

#include "service/service.h"

int pricing_on_bells(struct service *s, const struct uuid ids[], size_t n);

#endif
