/* What the files of ledger share. */
#ifndef AETHELOS_LEDGER_H
#define AETHELOS_LEDGER_H

#include "service/service.h"

int ledger_on_bells(struct service *s, const struct uuid ids[], size_t n);

#endif
