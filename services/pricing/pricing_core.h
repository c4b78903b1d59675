/* What may be admitted and what it costs: pure, and shared by intake (which refuses) and pricing (which prices), so that after admission nothing is
 * refused. */
#ifndef AETHELOS_PRICING_CORE_H
#define AETHELOS_PRICING_CORE_H

#include "base/amount.h"
#include "base/decimal.h"
#include "base/json.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stdint.h>

/* Why a job cannot be admitted; becomes a problem document. */
struct refusal {
        int status;
        const char *slug; /* static, machine-readable */
        char detail[200];
        char field[64]; /* JSON Pointer into {type, payload, context} */
};

/* In the order of the lanes. */
enum pricing_priority { PRICING_HIGH, PRICING_NORMAL, PRICING_LOW, PRICING_PRIORITY_COUNT };

/* The pinned values a price is made of. Texts are decimal, borrowed; multiplier NULL: not bought through an offer. */
struct pricing_rule {
        const char *base, *per_unit, *multiplier;
        const char *currency;
};

struct price {
        struct pricing_rule rule;
        const char *priority, *size_factor; /* decimal texts, static */
        int64_t size, complexity;
        struct decimal exact;
        struct amount amount;
};

/* Code 19: a job with this label in its context has the flow of PRICING_CODE19_TYPE, whatever its type, and priority high, whatever its priority. */
#define PRICING_CODE19_LABEL "code19_issue"
#define PRICING_CODE19_TYPE  "code19:issue"
bool pricing_is_code19(const struct json_doc *doc, json_value context);

/* Checks context (may be NULL: absent) and, for the first steps that are built in, the input they read. `doc` holds both; first_tag is the tag of the
 * flow's first step. false with *ret_refusal filled. */
bool pricing_admit(const struct json_doc *doc, json_value payload, json_value context, const char *first_tag, enum pricing_priority *ret_priority,
        struct refusal *ret_refusal);

/* The exact price of a payload:
 *     (base + per_unit * complexity) * priority * size factor * offer, rounded once, at the end, half away from zero, to the minor unit
 * with size = Unicode characters of the payload's minified text and complexity = size + payload.complexity. false with *ret_refusal filled:
 * complexity is no integer literal >= 0, or the amount is beyond 64 bits. */
bool pricing_price(const struct pricing_rule *rule, const struct json_doc *doc, json_value payload, enum pricing_priority priority,
        struct price *ret_price, struct refusal *ret_refusal);

void pricing_add_derivation(struct strbuf *b, const struct price *p); /* the JSON object kept in PRICED */

/* The data of the two events of pricing, from the data of JOB_CREATED. 0, or -EBADMSG with a static reason: then the event is not one that admission
 * wrote. */
struct pricing_result {
        struct strbuf flow_chosen, priced;
        struct amount amount;
        bool wants_receipt; /* it came over the bus */
        bool protobuf;      /* and its receipt goes back in protobuf, else in JSON */
        char *client, *key;
};
void pricing_result_done(struct pricing_result *r);
int pricing_decide(const char *job_created, size_t len, struct pricing_result *ret_result, const char **ret_why);

#endif
