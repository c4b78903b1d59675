/* A batch of admitted jobs gets its prices: one read, the pure decision, one transaction with FLOW_CHOSEN and PRICED, then bells and receipts. A
 * crash before the commit leaves the jobs as they were; after it, the bell that comes again rings payments again, and the publisher that repeats has
 * its receipt from intake. */
#include "pricing_handlers.h"

#include "base/util.h"
#include "pricing_core.h"
#include "pricing_store.h"
#include "receipt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The batch; prices[i] belongs to transition i. */
struct work {
        struct advance a;
        struct pricing_result *prices;
};

static void work_done(struct work *w)
{
        for (size_t i = 0; i < w->a.n; i++)
                pricing_result_done(&w->prices[i]);
        free(w->prices);
        advance_done(&w->a);
}

static int decide(struct service *s, struct work *w, const struct pricing_row *row)
{
        struct pricing_result price;
        const char *why;
        size_t t;
        int e;

        if (!row->created.s) {
                if (strcmp(row->hearer, s->spec->name) != 0)
                        service_ring_one(s, row->hearer, row->lane, &row->id, row->version);
                return 0;
        }
        e = pricing_decide(row->created.s, row->created.len, &price, &why);
        if (e < 0) {
                char id[UUID_TEXT_SIZE];

                uuid_format(&row->id, id);
                log_error("a job cannot be priced", LOG_S("chain", id), LOG_S("why", why));
                return e;
        }
        t = advance_move(&w->a, &row->id, row->version);
        if (strcmp(row->step, "FLOW_CHOSEN") != 0)
                advance_event(&w->a, t, "FLOW_CHOSEN", price.flow_chosen.s, price.flow_chosen.len);
        advance_event(&w->a, t, "PRICED", price.priced.s, price.priced.len);
        w->prices[t] = price;
        return 0;
}

static int commit(struct db *db, void *arg)
{
        struct work *w = arg;

        return advance_run(&w->a, db);
}

static void send_receipts(struct service *s, const struct work *w)
{
        for (size_t i = 0; i < w->a.n; i++) {
                const struct pricing_result *p = &w->prices[i];
                char id[UUID_TEXT_SIZE];

                if (w->a.t[i].verdict != ADVANCE_WON || !p->wants_receipt)
                        continue;
                uuid_format(&w->a.t[i].id, id);
                receipt_publish(s->bus, p->client, p->key, &(struct receipt){.job_id = id, .price = p->amount}, p->protobuf);
        }
}

int pricing_on_bells(struct service *s, const struct uuid ids[], size_t n)
{
        _cleanup_(PQclearp) PGresult *result = NULL;
        _cleanup_(work_done) struct work w = {0};
        int e = pricing_read(s->db, ids, n, &result);

        if (e < 0)
                return e;
        w.prices = xcalloc((size_t)PQntuples(result) + 1, sizeof(*w.prices));
        for (int i = 0; e == 0 && i < PQntuples(result); i++) {
                struct pricing_row row;

                pricing_row(result, i, &row);
                e = decide(s, &w, &row);
        }
        if (e == 0 && w.a.n > 0)
                e = db_statement(s->db, commit, &w);
        if (e < 0)
                return e;
        service_ring(s, &w.a);
        send_receipts(s, &w);
        return 0;
}
