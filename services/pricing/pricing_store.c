/* All SQL of pricing: one read by primary key for the whole batch. The payload is read only of chains that still need a price, because it may be
 * large. Writing is advance()'s alone. */
#include "pricing_store.h"

#include "base/util.h"

#define UNPRICED "(c.step IN ('JOB_CREATED', 'TASK_CREATED', 'FLOW_CHOSEN', 'CHAIN_REOPENED'))"

int pricing_read(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_result)
{
        static const char sql[] = "SELECT c.id, c.version, c.step, c.lane, CASE WHEN NOT " UNPRICED
                                  " THEN (SELECT st.hearer FROM step st WHERE st.kind = c.kind AND st.name = c.step) END,"
                                  " CASE WHEN " UNPRICED " THEN (SELECT e.data FROM event e WHERE e.chain_id = c.id AND e.version = 1) END"
                                  " FROM chain c WHERE c.id = ANY ($1) AND c.kind IN ('job', 'system')";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &ids[i]);
        return db_run(db, sql, &args, ret_result);
}

void pricing_row(const PGresult *r, int row, struct pricing_row *ret_row)
{
        struct slice lane = db_text(r, row, 3);

        *ret_row = (struct pricing_row){.id = db_uuid(r, row, 0),
                .version = (int)db_int(r, row, 1),
                .step = PQgetvalue(r, row, 2),
                .hearer = PQgetvalue(r, row, 4),
                .created = db_text(r, row, 5)};
        if (!lane_parse(lane.s, lane.len, &ret_row->lane))
                die("a chain stands on an unknown lane");
}
