/* Where chains stand, set-based by primary key. */
#include "base/util.h"
#include "service/service.h"

#include <stdlib.h>

int chains_read(struct db *db, const struct uuid ids[], size_t n, struct chain **ret_chains, size_t *ret_n)
{
        /* (SELECT $1) hides from the planner how many they are; otherwise it plans anew for each call of a service without generic plans. */
        static const char sql[] = "SELECT c.id, c.kind, c.step, c.version, c.lane, c.amount, c.currency"
                                  " FROM chain c WHERE c.id = ANY ((SELECT $1)::uuid[])";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        struct chain *chains;
        int e;

        if (n == 0) {
                *ret_chains = NULL;
                *ret_n = 0;
                return 0;
        }
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &ids[i]);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        chains = xcalloc((size_t)PQntuples(r) + 1, sizeof(*chains));
        for (int row = 0; row < PQntuples(r); row++) {
                struct chain *c = &chains[row];
                struct slice lane = db_text(r, row, 4);

                c->id = db_uuid(r, row, 0);
                copy_text(c->kind, sizeof(c->kind), PQgetvalue(r, row, 1));
                copy_text(c->step, sizeof(c->step), PQgetvalue(r, row, 2));
                c->version = (int)db_int(r, row, 3);
                if (!lane_parse(lane.s, lane.len, &c->lane))
                        die("a chain stands on an unknown lane");
                c->amount.minor = db_int(r, row, 5);
                copy_text(c->amount.currency, sizeof(c->amount.currency), PQgetvalue(r, row, 6));
        }
        *ret_n = (size_t)PQntuples(r);
        *ret_chains = chains;
        return 0;
}
