/* SQL of what workers on the bus say: beats, and the runs that results name.
 *
 * Invariants: only a worker of the run's operator that names the present token is heard, and only while the run is open; rows are locked in the order
 * of ids, so that instances that hear of the same runs cannot deadlock. */
#include "services/execution/execution_store.h"

#include <string.h>

/* A beat is a fact about a run whose outcome was taken for unknown: its worker has it. A call that is under way stays its caller's. */
static const char sql_beats[] =
        "WITH l AS MATERIALIZED (SELECT r.id FROM operator_run r WHERE r.id = ANY ($1) ORDER BY r.id FOR UPDATE)"
        " UPDATE operator_run r SET beat_at = now(), worker = coalesce(b.worker, r.worker), progress = coalesce(b.progress, r.progress),"
        "   percent = CASE WHEN b.percent < 0 THEN r.percent ELSE b.percent END,"
        "   lease_until = greatest(r.lease_until, now() + o.lease_ms * interval '1 ms'), next_at = greatest(r.next_at, now() + o.lease_ms * interval "
        "'1 ms'),"
        "   state = CASE r.state WHEN 'unknown' THEN 'accepted' ELSE r.state END, error = CASE r.state WHEN 'unknown' THEN NULL ELSE r.error END"
        " FROM l JOIN unnest($1, $2, $3, $4, $5, $6) AS b(id, operator, token, worker, progress, percent) ON b.id = l.id"
        " JOIN operator o ON o.name = b.operator AND o.kind = 'bus'"
        " WHERE r.id = ANY ($1) AND r.id = l.id AND r.operator = b.operator AND r.sends = b.token AND r.state NOT IN ('done', 'failed') RETURNING "
        "r.id, "
        "r.sends";

static void ids_and_names(struct db_args *args, const struct execution_said said[], size_t n)
{
        db_array_begin(args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(args, &said[i].word.run_id);
        db_array_begin(args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                db_array_text(args, said[i].who, strlen(said[i].who));
}

static void text_column(struct db_args *args, const char *s)
{
        db_array_text(args, s, s ? strlen(s) : 0);
}

int execution_store_beats(struct db *db, struct execution_said said[], size_t n)
{
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        ids_and_names(&args, said, n);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, said[i].word.token);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text_column(&args, said[i].word.answer.worker);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text_column(&args, said[i].word.progress);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, said[i].word.percent);
        e = db_run(db, sql_beats, &args, &r);
        for (int row = 0; e == 0 && row < PQntuples(r); row++) {
                struct uuid id = db_uuid(r, row, 0);
                for (size_t i = 0; i < n; i++) /* somebody else may have said something of the same run */
                        said[i].held |= uuid_equal(&said[i].word.run_id, &id) && said[i].word.token == db_int(r, row, 1);
        }
        return e;
}

static const char sql_held[] = "SELECT u.nr, r.chain_id, r.step, r.attempt, r.epoch, r.sends, r.probes, r.state, r.operator = u.operator,"
                               " greatest(0, extract(epoch FROM now() - r.started_at) * 1000)::bigint"
                               " FROM unnest($1, $2) WITH ORDINALITY AS u(id, operator, nr)"
                               " JOIN LATERAL (SELECT * FROM operator_run x WHERE x.id = u.id OFFSET 0) r ON true";

int execution_store_held(struct db *db, const struct execution_said said[], size_t n, PGresult **ret_result)
{
        _cleanup_(db_args_done) struct db_args args = {0};

        ids_and_names(&args, said, n);
        return db_run(db, sql_held, &args, ret_result);
}

size_t execution_store_held_row(const PGresult *r, int row, struct execution_held *ret_held, struct execution_due *ret_run)
{
        struct slice state = db_text(r, row, 7);

        *ret_run = (struct execution_due){
                .chain_id = db_uuid(r, row, 1),
                .step = (int)db_int(r, row, 2),
                .attempt = (int)db_int(r, row, 3),
                .epoch = (int)db_int(r, row, 4),
                .sends = (int)db_int(r, row, 5),
                .probes = (int)db_int(r, row, 6),
                .age_ms = db_int(r, row, 9),
        };
        *ret_held = (struct execution_held){.same_operator = db_bool(r, row, 8),
                .token = ret_run->sends,
                .done = slice_equal(state, "done"),
                .ended = slice_equal(state, "done") || slice_equal(state, "failed")};
        return (size_t)db_int(r, row, 0) - 1;
}
