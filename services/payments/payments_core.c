/* The decisions of payments, from the place where a chain stands: no clock, no database. Paid wins over expired, because money that came must not be
 * forgotten. */
#include "payments_core.h"

#include <string.h>

enum payments_action payments_decide(const char *step, bool has_evidence, bool expired)
{
        if (strcmp(step, "PRICED") == 0)
                return PAYMENTS_CREATE;
        if (strcmp(step, "PAYMENT_INITIATED") == 0)
                return has_evidence ? PAYMENTS_CONFIRM : expired ? PAYMENTS_EXPIRE : PAYMENTS_NOTHING;
        return strcmp(step, "PAYMENT_CONFIRMED") == 0 ? PAYMENTS_RING_AGAIN : PAYMENTS_NOTHING;
}

void payments_required_data(struct strbuf *b, struct amount amount)
{
        strbuf_adds(b, "{\"amount\":");
        amount_add_json(b, amount);
        strbuf_addc(b, '}');
}

void payments_initiated_data(struct strbuf *b, const char *intent_id, const char *expires_at)
{
        strbuf_addf(b, "{\"payment_intent_id\":\"%s\",\"driver\":\"manual\",\"expires_at\":\"%s\"}", intent_id, expires_at);
}

void payments_confirmed_data(struct strbuf *b, struct amount amount, const char *kind, const char *who, const char *reference)
{
        strbuf_adds(b, "{\"amount\":");
        amount_add_json(b, amount);
        strbuf_adds(b, ",\"evidence\":{\"kind\":");
        strbuf_add_json(b, kind, strlen(kind));
        strbuf_adds(b, ",\"who\":");
        strbuf_add_json(b, who, strlen(who));
        strbuf_adds(b, ",\"reference\":");
        strbuf_add_json(b, reference, strlen(reference));
        strbuf_adds(b, "}}");
}

void payments_expired_data(struct strbuf *b)
{
        strbuf_adds(b, "{\"error\":{\"reason\":\"payment_expired\"}}");
}
