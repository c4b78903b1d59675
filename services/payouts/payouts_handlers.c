/* A batch of payouts whose bell rang: earned ones become ready, ready ones with evidence are done; event, journal entry and inbox in one transaction.
 * A crash before the commit leaves the payout where it was, and the ringer finds it; DONE is written once, on the version it was ready at. */
#include "base/util.h"
#include "payouts.h"
#include "payouts_core.h"
#include "payouts_store.h"

#include <stdlib.h>
#include <string.h>

static int commit(struct db *db, void *arg)
{
        struct advance *a = arg;
        _cleanup_(freep) struct uuid *done = xcalloc(a->n + 1, sizeof(*done));
        size_t n = 0;
        int e = advance_run(a, db);

        for (size_t i = 0; e == 0 && i < a->n; i++)
                if (a->t[i].verdict == ADVANCE_WON && strcmp(a->t[i].step, "PAYOUT_DONE") == 0)
                        done[n++] = a->t[i].id;
        return e == 0 ? payouts_heard(db, done, n) : e;
}

int payouts_on_bells(struct service *s, const struct uuid ids[], size_t n)
{
        _cleanup_(advance_done) struct advance a = {0};
        _cleanup_(PQclearp) PGresult *result = NULL;
        _cleanup_(strbuf_done) struct strbuf data = {0};
        int e = payouts_read(s->db, ids, n, &result);

        for (int i = 0; e == 0 && i < PQntuples(result); i++) {
                struct payouts_row row;

                payouts_row(result, i, &row);
                strbuf_reset(&data);
                switch (payouts_decide(row.step, row.has_evidence)) {
                case PAYOUTS_READY:
                        payouts_ready_data(&data, row.amount);
                        advance_event(&a, advance_move(&a, &row.id, row.version), "PAYOUT_READY", data.s, data.len);
                        break;
                case PAYOUTS_DONE:
                        payouts_done_data(&data, row.amount, row.kind, row.who, row.reference);
                        advance_event(&a, advance_move(&a, &row.id, row.version), "PAYOUT_DONE", data.s, data.len);
                        break;
                case PAYOUTS_NOTHING:
                        break;
                }
        }
        if (e == 0 && a.n > 0)
                e = db_transaction(s->db, commit, &a);
        if (e == 0)
                service_ring(s, &a);
        return e;
}
