/* Receipts as they cross the bus: in the encoding of the submission. Used by pricing (accepted) and intake (repeats, refusals, queries). */
#ifndef AETHELOS_PRICING_RECEIPT_H
#define AETHELOS_PRICING_RECEIPT_H

#include "base/amount.h"
#include "base/strbuf.h"
#include "bus/bus.h"

#include <stdbool.h>

struct receipt {
        const char *job_id;                /* accepted */
        struct amount price;               /* currency "": follows later */
        int status;                        /* of the problem; 0: accepted */
        const char *slug, *detail, *field; /* of the problem; detail and field may be NULL */
};

void receipt_encode(struct strbuf *b, const struct receipt *r, bool protobuf);
/* Publishes on aethelos.receipt.<client>.<key>. What the bus does not take is lost, and the publisher repeats. */
void receipt_publish(struct bus *bus, const char *client, const char *key, const struct receipt *r, bool protobuf);
/* Answers a message that has a reply subject. */
void receipt_reply(struct bus *bus, const char *reply, const struct receipt *r, bool protobuf);

#endif
