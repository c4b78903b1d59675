/* All SQL of feed. The order of readers is (generation, xid, id) below pg_snapshot_xmin: a number from a sequence says nothing about the order of
 * commits, and what is still under way must not be passed over. Older generations are always visible. The checkpoint is compared and set, in one
 * statement with the figures, so a page is counted once, whoever reads it; one that has vanished is none that could be moved. */
#include "feed_store.h"

#include "base/util.h"
#include "services/intake/job_view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int feed_checkpoint(struct db *db, struct feed_position *ret_at)
{
        static const char sql[] = "SELECT generation, xid, id FROM reader WHERE name = 'feed'";
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, sql, NULL, &r);

        if (e == 0)
                *ret_at = PQntuples(r) > 0 ? (struct feed_position){db_int(r, 0, 0), db_int(r, 0, 1), db_int(r, 0, 2)} : (struct feed_position){0};
        return e;
}

int feed_page(struct db *db, const struct feed_position *from, PGresult **ret_events)
{
        /* Scalar sub-selects are computed once, and let the index event_tail yield the rows in order until LIMIT ends the scan. */
        static const char sql[] = "SELECT e.generation, e.xid, e.id, e.type, e.chain_id, e.version, e.at, e.data, " JOB_VIEW_FIGURE_OTHER
                                  " FROM event e WHERE (e.generation, e.xid, e.id) > ($1::smallint, $2, $3)"
                                  " AND " JOB_VIEW_HORIZON " ORDER BY e.generation, e.xid, e.id LIMIT 2000";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_int(&args, from->generation);
        db_arg_int(&args, from->xid);
        db_arg_int(&args, from->id);
        args.binary_results = true;
        return db_run(db, sql, &args, ret_events);
}

void feed_event(const PGresult *events, int row, struct feed_event *ret_event)
{
        static const int64_t year_2000_us = 946684800000000;

        *ret_event = (struct feed_event){.at = {db_int(events, row, 0), db_int(events, row, 1), db_int(events, row, 2)},
                .type = PQgetvalue(events, row, 3),
                .chain_id = db_uuid(events, row, 4),
                .version = db_int(events, row, 5),
                .time_us = db_int(events, row, 6) + year_2000_us,
                .data = db_text(events, row, 7),
                .figure = PQgetvalue(events, row, db_null(events, row, 8) ? 3 : 8)};
}

int feed_chains(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_chains)
{
        /* OFFSET 0 keeps the look-ups of the chains look-ups. */
        static const char sql[] =
                "SELECT c.client, coalesce(c.currency, ''), coalesce(c.amount, 0), c.kind = 'system' FROM unnest($1) WITH ORDINALITY u(id, o)"
                " LEFT JOIN LATERAL (SELECT * FROM chain x WHERE x.id = u.id OFFSET 0) c ON true ORDER BY u.o";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuids(&args, ids, n);
        return db_run(db, sql, &args, ret_chains);
}

void feed_chain(const PGresult *chains, int row, struct feed_chain *ret_chain)
{
        *ret_chain = (struct feed_chain){.client = PQgetvalue(chains, row, 0), .minor = db_int(chains, row, 2), .system = db_bool(chains, row, 3)};
        copy_text(ret_chain->currency, sizeof(ret_chain->currency), PQgetvalue(chains, row, 1));
}

int feed_count(struct db *db, const struct feed_position *from, const struct feed_position *to, const struct feed_figure figures[], size_t n)
{
        static const char sql[] =
                "WITH moved AS (INSERT INTO reader AS r (name, generation, xid, id) SELECT 'feed', $4, $5, $6 WHERE ($1, $2, $3) = (0, 0, 0)"
                " OR EXISTS (SELECT 1 FROM reader WHERE name = 'feed') ON CONFLICT (name) DO UPDATE"
                " SET generation = excluded.generation, xid = excluded.xid, id = excluded.id WHERE (r.generation, r.xid, r.id) = ($1, $2, $3)"
                " RETURNING 1)"
                " INSERT INTO figure (name, currency, minor, count) SELECT u.* FROM unnest($7, $8, $9, $10) u(name, currency, minor, count)"
                " WHERE EXISTS (SELECT 1 FROM moved) ON CONFLICT (name, currency) DO UPDATE SET minor = figure.minor + excluded.minor,"
                " count = figure.count + excluded.count RETURNING 1";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_int(&args, from->generation);
        db_arg_int(&args, from->xid);
        db_arg_int(&args, from->id);
        db_arg_int(&args, to->generation);
        db_arg_int(&args, to->xid);
        db_arg_int(&args, to->id);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++) {
                char name[128];

                snprintf(name, sizeof(name), "%s%s", figures[i].system ? JOB_VIEW_FIGURE_SYSTEM : "", figures[i].name);
                db_array_text(&args, name, strlen(name));
        }
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                db_array_text(&args, figures[i].currency, strlen(figures[i].currency));
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, figures[i].minor);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, figures[i].count);
        e = db_run(db, sql, &args, &r);
        if (e == 0 && PQntuples(r) == 0)
                e = -EBUSY;
        return e;
}
