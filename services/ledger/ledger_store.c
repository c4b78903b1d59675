/* All SQL of the ledger. */
#include "ledger_store.h"

#include "base/util.h"

int ledger_unheard_payouts(struct db *db, const struct uuid jobs[], size_t n, struct ledger_payout **ret_payouts, size_t *ret_n)
{
        static const char sql[] =
                "SELECT c.id, c.version, c.lane FROM unnest($1) u(id) JOIN LATERAL (SELECT * FROM chain x WHERE x.parent = u.id OFFSET 0) c ON true"
                " WHERE c.step = 'PAYOUT_EARNED'";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &jobs[i]);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        *ret_n = (size_t)PQntuples(r);
        *ret_payouts = xcalloc(*ret_n + 1, sizeof(**ret_payouts));
        for (int row = 0; row < PQntuples(r); row++) {
                struct slice lane = db_text(r, row, 2);

                (*ret_payouts)[row].id = db_uuid(r, row, 0);
                (*ret_payouts)[row].version = (int)db_int(r, row, 1);
                (void)lane_parse(lane.s, lane.len, &(*ret_payouts)[row].lane);
        }
        return 0;
}
