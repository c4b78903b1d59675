/* Whether a webhook's signature holds, by the specification (Standard Webhooks) and not with the code that signs. */
#ifndef AETHELOS_TESTS_SIGNATURE_H
#define AETHELOS_TESTS_SIGNATURE_H

#include "base/util.h"

#include <stdbool.h>

/* secret: "whsec_..."; the next three as the headers say them, or NULL. */
bool signature_holds(const char *secret, const char *id, const char *timestamp, const char *signature, struct slice body);

#endif
