/* What system tasks read is bounded: figures that meta-repair keeps, partial indexes, the latest runs by their ids. What they write (settlement_item,
 * operator.avoid_until, the command of a CLEANUP) stands or falls with the move of the task. A crash leaves neither. */
#include "services/execution/execution_tasks_store.h"

#include <errno.h>

int execution_tasks_health(struct db *db, bool broker, struct strbuf *b)
{
        static const char sql[] =
                "WITH services AS MATERIALIZED (SELECT st.hearer AS service, coalesce(sum(f.value) FILTER (WHERE f.name = 'standing'), 0) AS "
                "standing,"
                "   coalesce(sum(f.value) FILTER (WHERE f.name = 'past_bell'), 0) AS past_bell,"
                "   coalesce(max(f.value) FILTER (WHERE f.name = 'oldest_s'), 0) AS oldest_s"
                "  FROM step st LEFT JOIN repair_figure f ON f.label = st.kind || '/' || st.name"
                "  WHERE st.hearer IS NOT NULL AND st.waits_for IS NULL GROUP BY st.hearer),"
                " issues AS MATERIALIZED (SELECT i.kind, i.grade, count(*) AS count, count(i.waits_for) AS waiting FROM issue i"
                "  WHERE i.closed_at IS NULL GROUP BY 1, 2),"
                " seen AS MATERIALIZED (SELECT (SELECT count(*) FROM quarantine) AS quarantined,"
                "  EXISTS (SELECT 1 FROM lease l WHERE l.name = 'sweep' AND l.until > now() - interval '10 s') AS watched),"
                " findings (n, what) AS (SELECT 1, 'the broker does not answer' WHERE NOT $1"
                "  UNION ALL SELECT 2, 'meta-repair does not watch' FROM seen s WHERE NOT s.watched"
                "  UNION ALL SELECT 3, s.service || ': ' || s.past_bell || ' chains stand for more than 60 s' FROM services s WHERE s.past_bell > 0"
                "  UNION ALL SELECT 4, i.count || ' x ' || i.kind || ' beyond its deadline' FROM issues i WHERE i.grade = 'repair'"
                "  UNION ALL SELECT 5, s.quarantined || ' items in quarantine' FROM seen s WHERE s.quarantined > 0)"
                " SELECT row_to_json(h)::text FROM (SELECT NOT EXISTS (SELECT 1 FROM findings) AS healthy,"
                "  (SELECT coalesce(json_agg(f.what ORDER BY f.n, f.what), '[]') FROM findings f) AS findings,"
                "  (SELECT row_to_json(d) FROM (SELECT true AS answers, current_setting('server_version') AS version) d) AS database,"
                "  (SELECT row_to_json(k) FROM (SELECT $1 AS answers) k) AS broker, s.watched AS watched,"
                "  (SELECT json_agg(row_to_json(v) ORDER BY v.service) FROM (SELECT x.*, x.past_bell = 0 AS moves FROM services x) v) AS services,"
                "  (SELECT coalesce(json_agg(row_to_json(i) ORDER BY i.kind, i.grade), '[]') FROM issues i) AS issues, s.quarantined"
                "  FROM seen s) h";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_bool(&args, broker);
        e = db_run(db, sql, &args, &r);
        if (e == 0)
                strbuf_adds(b, PQgetvalue(r, 0, 0));
        return e;
}

int execution_tasks_flows(struct db *db, PGresult **ret_result)
{
        static const char sql[] =
                "SELECT DISTINCT ON (f.id) f.id, f.version, f.type, array_to_json(f.steps) FROM flow f ORDER BY f.id, f.version DESC";

        return db_run(db, sql, NULL, ret_result);
}

int execution_tasks_runs(struct db *db, const char *name, const struct uuid *since, struct execution_stats *ret_stats, struct strbuf *b)
{
        static const char sql[] =
                "WITH latest AS MATERIALIZED (SELECT r.id, r.operator, CASE WHEN r.refused THEN 'refused' ELSE r.state END AS state, r.error, "
                "r.sends,"
                "  r.probes FROM operator_run r WHERE r.id >= $2"
                "  ORDER BY r.id DESC LIMIT 100000),"
                " mine AS MATERIALIZED (SELECT * FROM latest l WHERE l.operator = $1),"
                " known AS (SELECT m.state FROM mine m WHERE m.state IN ('done', 'failed') ORDER BY m.id DESC LIMIT $3),"
                " errors AS (SELECT left(m.error, 120) AS error, count(*) AS count FROM mine m WHERE m.state IN ('failed', 'refused') GROUP BY 1"
                "  ORDER BY 2 DESC, 1 LIMIT 5)"
                " SELECT k.done, k.failed, o.avoid_until IS NOT NULL, row_to_json(x)::text, row_to_json(k)::text,"
                "  (SELECT coalesce(json_agg(row_to_json(e)), '[]') FROM errors e)::text, row_to_json(t)::text"
                " FROM (SELECT (SELECT count(*) FROM latest) AS looked_at, count(*) AS runs, count(*) FILTER (WHERE m.state = 'done') AS done,"
                "   count(*) FILTER (WHERE m.state = 'failed') AS failed, count(*) FILTER (WHERE m.state = 'refused') AS refused,"
                "   count(*) FILTER (WHERE m.state NOT IN ('done', 'failed', 'refused')) AS open,"
                "   count(*) FILTER (WHERE m.sends > 1) AS sent_again, count(*) FILTER (WHERE m.probes > 0) AS asked FROM mine m) x"
                " CROSS JOIN (SELECT count(*) FILTER (WHERE n.state = 'done') AS done, count(*) FILTER (WHERE n.state = 'failed') AS failed"
                "   FROM known n) k"
                " JOIN operator o ON o.name = $1 CROSS JOIN LATERAL (SELECT o.successes, o.failures, o.refusals, o.streak, o.last_error) t";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_text(&args, name);
        db_arg_uuid(&args, since);
        db_arg_int(&args, EXECUTION_TUNING_LATEST);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        if (PQntuples(r) == 0)
                return -ENOENT;
        *ret_stats = (struct execution_stats){.done = db_int(r, 0, 0), .failed = db_int(r, 0, 1), .avoided = db_bool(r, 0, 2)};
        strbuf_addf(b, "\"window\":%s,\"latest\":%s,\"errors\":%s,\"ever\":%s", PQgetvalue(r, 0, 3), PQgetvalue(r, 0, 4), PQgetvalue(r, 0, 5),
                PQgetvalue(r, 0, 6));
        return 0;
}

int execution_tasks_avoid(struct db *db, const char *name, int64_t ms)
{
        /* One whose pause is over waits for its probe: another pause would take it from it. */
        static const char sql[] = "UPDATE operator SET avoid_until = now() + $2 * interval '1 ms' WHERE name = $1 AND avoid_until IS NULL";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_text(&args, name);
        db_arg_int(&args, ms);
        return db_run(db, sql, &args, NULL);
}

int execution_tasks_settle(struct db *db, const struct uuid *task, struct strbuf *b)
{
        static const char sql[] =
                "WITH ready AS MATERIALIZED (SELECT c.id, c.amount, c.currency, c.updated_at,"
                "   EXISTS (SELECT 1 FROM settlement_item i WHERE i.payout_id = c.id) AS listed FROM chain c"
                "  WHERE c.status = 'open' AND c.aside IS NOT NULL AND c.aside <> 'clock' AND c.kind = 'payout' AND c.step = 'PAYOUT_READY'),"
                " taken AS MATERIALIZED (SELECT * FROM ready ORDER BY listed, id LIMIT $2),"
                " kept AS (INSERT INTO settlement_item (task_id, payout_id) SELECT $1, t.id FROM taken t),"
                " totals AS (SELECT sum(t.amount) AS minor, t.currency, count(*) AS count FROM taken t GROUP BY t.currency)"
                " SELECT row_to_json(o)::text FROM (SELECT (SELECT count(*) FROM taken) AS payouts,"
                "  (SELECT count(*) FROM ready) - (SELECT count(*) FROM taken) AS left_for_the_next,"
                "  (SELECT coalesce(json_agg(row_to_json(s) ORDER BY s.currency), '[]') FROM totals s) AS totals,"
                "  (SELECT to_char(min(t.updated_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM taken t) AS oldest_ready_at) o";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, task);
        db_arg_int(&args, EXECUTION_SETTLEMENT_MAX);
        e = db_run(db, sql, &args, &r);
        if (e == 0)
                strbuf_adds(b, PQgetvalue(r, 0, 0));
        return e;
}

int execution_tasks_command(struct db *db, const struct uuid *task)
{
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuid(&args, task);
        return db_run(db, "SELECT cleanup_command($1)", &args, NULL);
}

int execution_tasks_answer(struct db *db, const struct uuid *task, const char *issue, bool *ret_done, struct strbuf *b)
{
        static const char sql[] =
                "SELECT row_to_json(o)::text FROM (SELECT c.id AS command_id, c.result::json AS result,"
                "  (SELECT row_to_json(x) FROM (SELECT i.id, i.kind, i.chain_id, i.state, i.waits_for, i.antibody, i.outcome) x) AS issue"
                "  FROM repair_command c LEFT JOIN issue i ON i.id = $2::uuid WHERE c.id = $1 AND c.done_at IS NOT NULL) o";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, task);
        db_arg_text(&args, issue);
        e = db_run(db, sql, &args, &r);
        *ret_done = e == 0 && PQntuples(r) == 1;
        if (*ret_done)
                strbuf_adds(b, PQgetvalue(r, 0, 0));
        return e;
}
