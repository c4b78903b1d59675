/* All SQL of payouts. */
#include "payouts_store.h"

#include "base/util.h"

static void add_ids(struct db_args *args, const struct uuid ids[], size_t n)
{
        db_array_begin(args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(args, &ids[i]);
}

int payouts_read(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_result)
{
        /* OFFSET 0 keeps the look-ups of evidence look-ups. */
        static const char sql[] =
                "SELECT c.id, c.version, c.step, c.amount, c.currency, v.kind, v.who, v.reference"
                " FROM chain c"
                " LEFT JOIN LATERAL (SELECT * FROM evidence x WHERE x.chain_id = c.id AND x.version = c.version AND x.event = 'PAYOUT_DONE'"
                " AND c.step = 'PAYOUT_READY' OFFSET 0) v ON true WHERE c.id = ANY ($1) AND c.kind = 'payout'";
        _cleanup_(db_args_done) struct db_args args = {0};

        add_ids(&args, ids, n);
        return db_run(db, sql, &args, ret_result);
}

void payouts_row(const PGresult *r, int row, struct payouts_row *ret_row)
{
        *ret_row = (struct payouts_row){.id = db_uuid(r, row, 0),
                .version = (int)db_int(r, row, 1),
                .step = PQgetvalue(r, row, 2),
                .amount = {.minor = db_int(r, row, 3)},
                .has_evidence = !db_null(r, row, 5),
                .kind = PQgetvalue(r, row, 5),
                .who = PQgetvalue(r, row, 6),
                .reference = PQgetvalue(r, row, 7)};
        copy_text(ret_row->amount.currency, sizeof(ret_row->amount.currency), PQgetvalue(r, row, 4));
}

int payouts_heard(struct db *db, const struct uuid ids[], size_t n)
{
        static const char sql[] = "DELETE FROM evidence_inbox WHERE chain_id = ANY ($1)";
        _cleanup_(db_args_done) struct db_args args = {0};

        if (n == 0)
                return 0;
        add_ids(&args, ids, n);
        return db_send(db, sql, &args);
}
