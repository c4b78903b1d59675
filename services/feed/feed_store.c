/* All SQL of feed. The order of readers is (generation, xid, id) below pg_snapshot_xmin: a number from a sequence says nothing about the order of
 * commits, and what is still under way must not be passed over. Older generations are always visible. Page, figures and checkpoint read the same
 * rows: all three name the page by the same condition, and an event below the horizon never changes. */
#include "feed_store.h"

#include "base/util.h"

#include <errno.h>

/* The page: behind the checkpoint, below the horizon. Scalar sub-selects, so that the index event_tail yields the rows in order and LIMIT ends the
 * scan. */
#define PAGE                                                                                                                                         \
        "page AS MATERIALIZED (SELECT e.* FROM event e WHERE (e.generation, e.xid, e.id) >"                                                          \
        " ((SELECT generation FROM reader WHERE name = 'feed'), (SELECT xid FROM reader WHERE name = 'feed'), (SELECT id FROM reader WHERE name = "  \
        "'feed'))"                                                                                                                                   \
        " AND (e.generation < (SELECT max(n) FROM generation) OR e.xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint)"                     \
        " ORDER BY e.generation, e.xid, e.id LIMIT 2000)"

int feed_take_checkpoint(struct db *db)
{
        static const char create[] = "INSERT INTO reader (name, generation, xid, id) VALUES ('feed', 0, 0, 0) ON CONFLICT DO NOTHING";
        static const char take[] = "SELECT 1 FROM reader WHERE name = 'feed' FOR UPDATE SKIP LOCKED";
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, take, NULL, &r);

        if (e < 0 || PQntuples(r) == 1)
                return e;
        e = db_run(db, create, NULL, NULL); /* the first time, or somebody else has it */
        return e < 0 ? e : -EBUSY;
}

int feed_page(struct db *db, PGresult **ret_events)
{
        static const char sql[] = "WITH " PAGE " SELECT p.id, p.type, p.chain_id, p.version,"
                                  " to_char(p.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), c.client, p.data"
                                  " FROM page p JOIN chain c ON c.id = p.chain_id ORDER BY p.generation, p.xid, p.id";

        return db_run(db, sql, NULL, ret_events);
}

int feed_count(struct db *db)
{
        static const char sql[] =
                "WITH " PAGE ", counted AS (INSERT INTO figure (name, currency, minor, count)"
                " SELECT p.type, coalesce(c.currency, ''), coalesce(sum(c.amount), 0), count(*)"
                " FROM page p JOIN chain c ON c.id = p.chain_id GROUP BY 1, 2"
                " ON CONFLICT (name, currency) DO UPDATE SET minor = figure.minor + excluded.minor, count = figure.count + excluded.count)"
                " UPDATE reader SET (generation, xid, id) = (SELECT generation, xid, id FROM page ORDER BY generation DESC, xid DESC, id DESC LIMIT "
                "1)"
                " WHERE name = 'feed' AND EXISTS (SELECT 1 FROM page)";

        return db_run(db, sql, NULL, NULL);
}
