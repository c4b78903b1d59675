/* The decisions of payouts. Nothing is ever done without evidence: where none is stored, a ready payout waits for a person. */
#include "payouts_core.h"

#include <string.h>

enum payouts_action payouts_decide(const char *step, bool has_evidence)
{
        if (strcmp(step, "PAYOUT_EARNED") == 0)
                return PAYOUTS_READY;
        if (strcmp(step, "PAYOUT_READY") == 0 && has_evidence)
                return PAYOUTS_DONE;
        return PAYOUTS_NOTHING;
}

void payouts_ready_data(struct strbuf *b, struct amount amount)
{
        strbuf_adds(b, "{\"amount\":");
        amount_add_json(b, amount);
        strbuf_addc(b, '}');
}

void payouts_done_data(struct strbuf *b, struct amount amount, const char *kind, const char *who, const char *reference)
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
