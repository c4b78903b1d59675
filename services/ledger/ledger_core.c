/* The decisions of the ledger: a job is booked once it is executed, with its whole price. */
#include "ledger_core.h"

#include <string.h>

bool ledger_books(const char *step)
{
        return strcmp(step, "EXECUTION_COMPLETED") == 0;
}

void ledger_booked_data(struct strbuf *b, struct amount amount)
{
        strbuf_adds(b, "{\"amount\":");
        amount_add_json(b, amount);
        strbuf_addc(b, '}');
}

void ledger_earned_data(struct strbuf *b, const char *job_id, struct amount amount)
{
        strbuf_addf(b, "{\"job_id\":\"%s\",\"amount\":", job_id);
        amount_add_json(b, amount);
        strbuf_addc(b, '}');
}
