/* The decisions of payments, from the place where a chain stands: no clock, no database. Paid wins over expired, because money that came must not be
 * forgotten. */
#include "payments_core.h"

#include "base/util.h"

#include <string.h>

enum payments_action payments_decide(const char *kind, const char *step, bool has_evidence, bool expired)
{
        static const struct {
                const char *kind, *step;
                enum payments_action waiting, late, evidence;
        } rows[] = {
                {"job", "PRICED", PAYMENTS_CREATE, PAYMENTS_CREATE, PAYMENTS_CREATE},
                {"job", "PAYMENT_INITIATED", PAYMENTS_NOTHING, PAYMENTS_EXPIRE, PAYMENTS_CONFIRM},
                {"job", "PAYMENT_CONFIRMED", PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN},
                {"job", "REFUND_REQUIRED", PAYMENTS_REFUND, PAYMENTS_REFUND, PAYMENTS_REFUND},
                {"job", "REFUND_INITIATED", PAYMENTS_NOTHING, PAYMENTS_NOTHING, PAYMENTS_REFUNDED},
                {"job", "REFUND_CONFIRMED", PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN},
                {"system", "PRICED", PAYMENTS_TRANSFER, PAYMENTS_TRANSFER, PAYMENTS_TRANSFER},
                {"system", "PAYMENT_CONFIRMED", PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN, PAYMENTS_RING_AGAIN},
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (strcmp(rows[i].step, step) == 0 && strcmp(rows[i].kind, kind) == 0)
                        return has_evidence ? rows[i].evidence : expired ? rows[i].late : rows[i].waiting;
        return PAYMENTS_NOTHING;
}

void payments_amount_data(struct strbuf *b, struct amount amount)
{
        strbuf_adds(b, "{\"amount\":");
        amount_add_json(b, amount);
        strbuf_addc(b, '}');
}

void payments_initiated_data(struct strbuf *b, const char *intent_id, const char *driver, const char *expires_at)
{
        strbuf_addc(b, '{');
        strbuf_add_member(b, "payment_intent_id", intent_id);
        strbuf_add_member(b, "driver", driver);
        strbuf_add_member(b, "expires_at", expires_at);
        strbuf_addc(b, '}');
}

void payments_evidence_data(struct strbuf *b, struct amount amount, const char *kind, const char *who, const char *reference)
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

void payments_refund_data(struct strbuf *b, const char *refund_id, const char *driver)
{
        strbuf_addf(b, "{\"refund_id\":\"%s\",\"driver\":\"%s\"}", refund_id, driver);
}

void payments_expired_data(struct strbuf *b)
{
        strbuf_adds(b, "{\"error\":{\"reason\":\"payment_expired\"}}");
}
