/* Booking a batch: for each executed job one transition REVENUE_BOOKED (final) and one that opens its payout chain, which the database lets win only
 * together. A crash before the commit leaves the job executed, and its bell comes again; after it, a redelivery finds the job booked and rings the
 * payout. */
#include "base/util.h"
#include "ledger.h"
#include "ledger_core.h"
#include "ledger_store.h"

#include <stdlib.h>
#include <string.h>

static int commit(struct db *db, void *arg)
{
        return advance_run(arg, db);
}

static void plan(struct advance *a, const struct chain *job)
{
        _cleanup_(strbuf_done) struct strbuf data = {0};
        struct uuid payout = uuid_v7();
        char id[UUID_TEXT_SIZE];
        size_t t;

        uuid_format(&job->id, id);
        t = advance_move(a, &job->id, job->version);
        ledger_booked_data(&data, job->amount);
        advance_event(a, t, "REVENUE_BOOKED", data.s, data.len);
        strbuf_reset(&data);
        t = advance_open_child(a, &payout, "payout", &job->id);
        ledger_earned_data(&data, id, job->amount);
        advance_event(a, t, "PAYOUT_EARNED", data.s, data.len);
}

static int ring_payouts_again(struct service *s, const struct uuid booked[], size_t n)
{
        _cleanup_(freep) struct ledger_payout *payouts = NULL;
        size_t n_payouts = 0;
        int e = n > 0 ? ledger_unheard_payouts(s->db, booked, n, &payouts, &n_payouts) : 0;

        for (size_t i = 0; e == 0 && i < n_payouts; i++)
                service_ring_one(s, "payouts", payouts[i].lane, &payouts[i].id, payouts[i].version);
        return e;
}

int ledger_on_bells(struct service *s, const struct uuid ids[], size_t n)
{
        _cleanup_(advance_done) struct advance a = {0};
        _cleanup_(freep) struct chain *chains = NULL;
        _cleanup_(freep) struct uuid *booked = xcalloc(n + 1, sizeof(*booked));
        size_t n_chains = 0, n_booked = 0;
        int e = chains_read(s->db, ids, n, &chains, &n_chains);

        for (size_t i = 0; e == 0 && i < n_chains; i++) {
                if (ledger_books(chains[i].step))
                        plan(&a, &chains[i]);
                else if (strcmp(chains[i].step, "REVENUE_BOOKED") == 0)
                        booked[n_booked++] = chains[i].id;
        }
        if (e == 0)
                e = ring_payouts_again(s, booked, n_booked);
        if (e == 0 && a.n > 0)
                e = db_statement(s->db, commit, &a);
        if (e == 0)
                service_ring(s, &a);
        return e;
}
