/* Admission: what a submission must look like, and what JOB_CREATED holds. Pure. */
#ifndef AETHELOS_INTAKE_CORE_H
#define AETHELOS_INTAKE_CORE_H

#include "base/hash.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "services/pricing/pricing_core.h"

#include <stdbool.h>

/* The catalogue as intake holds it: the newest flow of each type, the newest version of each offer. */
struct intake_flow {
        char *id, *type, *base, *per_unit, *currency;
        char *steps, *first_tag; /* JSON array of tags; the first of them */
        int version;
};
struct intake_offer {
        char *id, *product, *title, *type, *context, *multiplier;
        int version;
        bool active;
};
struct intake_catalogue {
        struct intake_flow *flows;
        size_t n_flows;
        struct intake_offer *offers;
        size_t n_offers;
};
void intake_catalogue_done(struct intake_catalogue *c);
const struct intake_flow *intake_flow_of(const struct intake_catalogue *c, const char *type);
const struct intake_offer *intake_offer_of(const struct intake_catalogue *c, const char *id);
void intake_add_offers(struct strbuf *b, const struct intake_catalogue *c); /* the answer of GET /offers */

/* A submission that was read. After a refusal the fields are filled as far as they are known; always given to intake_submitted_done(). */
struct intake_submitted {
        struct json_doc doc; /* {"type", "payload", "context"?} */
        char *type;
        char *key; /* in the body (bus only), or NULL */
        json_value payload, context;
        bool hashed; /* type, payload and context are of the right kinds: it can be told whether it is the same job as another (I9) */
        uint8_t hash[SHA256_SIZE];
};
void intake_submitted_done(struct intake_submitted *s);
/* {"type", "payload", "context"?}, on the bus also "key". */
bool intake_read_job(const char *text, size_t len, bool key_allowed, struct intake_submitted *ret_s, struct refusal *ret_refusal);
/* From parts, each JSON text of its own: an offer's purchase or the protobuf form. context.s NULL: none. Errors in the payload's JSON name no field.
 */
bool intake_read_parts(const char *type, struct slice payload, struct slice context, struct intake_submitted *ret_s, struct refusal *ret_refusal);

/* The flow of a submission: of its type, or of Code 19; that one is chosen by the label alone. NULL: none. */
const struct intake_flow *intake_flow_for(const struct intake_catalogue *c, const struct intake_submitted *s);

struct intake_origin {
        const char *client, *key;
        bool bus, protobuf;
        const struct intake_offer *offer; /* NULL: not bought through one */
};
/* Checks the job against the flow of its type (NULL: unknown type) and prices it on trial, so that after admission nothing is refused. Adds the data
 * of JOB_CREATED. */
bool intake_admit(const struct intake_submitted *s, const struct intake_flow *flow, const struct intake_origin *origin, struct strbuf *created,
        enum pricing_priority *ret_priority, struct refusal *ret_refusal);

/* How many ms after the beginning of a round of n_jobs the next one may begin: the more there were, the more will come to go together; after one
 * alone, who comes alone again will hardly ever wait. */
int64_t intake_gather_ms(size_t n_jobs);

#endif
