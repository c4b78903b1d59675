/* Signatures of outgoing webhooks, as Standard Webhooks has them: "v1," and the base64 of HMAC-SHA256 over "<id>.<timestamp>.<body>", under the bytes
 * that stand in base64 behind "whsec_" in the secret. */
#ifndef AETHELOS_WEBHOOKS_SIGN_H
#define AETHELOS_WEBHOOKS_SIGN_H

#include "base/strbuf.h"
#include "base/util.h"

int webhook_secret_new(struct strbuf *b); /* adds a new secret of 256 bits; 0 or a negative errno */
int webhook_sign(struct strbuf *b, const char *secret, const char *id, int64_t timestamp_s, struct slice body); /* adds; 0 or -EINVAL: no secret */

#endif
