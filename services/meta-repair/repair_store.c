/* Leases, and what stands past its bell. Reading that costs what stands and not what exists, because the partial index chain_standing holds
 * just that, and who waits for a payer since less than a minute. */
#include "repair_store.h"

#include "base/util.h"

#define PAGE 5000

int repair_now(struct db *db, int64_t *ret_now_ms)
{
        static const char sql[] = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, sql, NULL, &r);

        if (e == 0)
                *ret_now_ms = db_int(r, 0, 0);
        return e;
}

int repair_lease(struct db *db, const char *name, const char *owner, int64_t ms, int64_t *ret_epoch)
{
        static const char sql[] = "INSERT INTO lease AS l (name, owner, epoch, until) VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 ms')"
                                  " ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until,"
                                  "  epoch = l.epoch + CASE WHEN l.owner = excluded.owner AND l.until > clock_timestamp() THEN 0 ELSE 1 END"
                                  " WHERE l.owner = excluded.owner OR l.until <= clock_timestamp() RETURNING epoch";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_text(&args, name);
        db_arg_text(&args, owner);
        db_arg_int(&args, ms);
        e = db_run(db, sql, &args, &r);
        if (e == 0)
                *ret_epoch = PQntuples(r) > 0 ? db_int(r, 0, 0) : 0;
        return e;
}

int repair_page(struct db *db, bool evidence, int64_t until_ms, struct uuid *after, void (*each)(void *arg, const struct repair_standing *s),
        void *arg, bool *ret_more)
{
        /* The page is cut before the ages are looked at, or one page could walk over everything. Its last row goes along for the next page. */
        static const char chains[] =
                "WITH page AS MATERIALIZED (SELECT c.id, c.kind, c.step, c.version, c.lane, c.updated_at AS since FROM chain c"
                "  WHERE c.status = 'open' AND c.aside IS NULL AND c.waits_for IS NULL AND c.id > $1 ORDER BY c.id LIMIT 5000),"
                " edge_of AS (SELECT count(*) AS n, (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last FROM page)"
                " SELECT m.n, m.last, d.id, d.version, d.lane, d.hearer, floor(extract(epoch FROM d.since) * 1000)::bigint"
                " FROM edge_of m LEFT JOIN (SELECT p.*, st.hearer FROM page p JOIN step st ON st.kind = p.kind AND st.name = p.step"
                "  WHERE st.hearer IS NOT NULL AND p.since <= to_timestamp($2 / 1000.0)) d ON true";
        static const char evidences[] = "WITH page AS MATERIALIZED (SELECT i.chain_id AS id, i.at AS since FROM evidence_inbox i"
                                        "  WHERE i.chain_id > $1 ORDER BY i.chain_id LIMIT 5000),"
                                        " edge_of AS (SELECT count(*) AS n, (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last FROM page)"
                                        " SELECT m.n, m.last, d.id, d.version, d.lane, d.hearer, floor(extract(epoch FROM d.since) * 1000)::bigint"
                                        " FROM edge_of m LEFT JOIN (SELECT p.*, c.version, c.lane, st.hearer FROM page p JOIN chain c ON c.id = p.id"
                                        "  JOIN step st ON st.kind = c.kind AND st.name = c.step"
                                        "  WHERE st.hearer IS NOT NULL AND p.since <= to_timestamp($2 / 1000.0)) d ON true";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, after);
        db_arg_int(&args, until_ms);
        e = db_run(db, evidence ? evidences : chains, &args, &r);
        if (e < 0)
                return e;
        *ret_more = db_int(r, 0, 0) == PAGE;
        *after = db_uuid(r, 0, 1);
        for (int row = 0; row < PQntuples(r); row++) {
                struct repair_standing s = {.id = db_uuid(r, row, 2), .version = (int)db_int(r, row, 3), .since_ms = db_int(r, row, 6)};
                struct slice lane = db_text(r, row, 4);

                if (db_null(r, row, 2) || !lane_parse(lane.s, lane.len, &s.lane))
                        continue;
                copy_text(s.hearer, sizeof(s.hearer), PQgetvalue(r, row, 5));
                each(arg, &s);
        }
        return 0;
}
