/* All SQL of execution, set-based: one statement per batch and purpose.
 *
 * Invariants: a run's row is written in the transaction that moves its chain, before the call; it changes only under its present epoch (a `done` is a
 * fact and counts from anybody); rows of `operator` are locked in name order, so that instances cannot deadlock over the statistics. Plans are pinned
 * to primary keys by lateral subqueries with OFFSET 0: an empty or un-analysed table must not make a batch scan whole tables. */
#include "services/execution/execution_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- operators --- */

static const char sql_operators[] =
        "SELECT name, url, status_url, array_to_json(tags), array_to_json(fallback_for), idempotent, timeout_ms, max_in_flight,"
        " successes, failures, total_ms, avoid_until IS NOT NULL, coalesce(avoid_until <= now(), true),"
        " coalesce(greatest(0, extract(epoch FROM avoid_until - now()) * 1000), 0)::bigint, kind = 'bus', lease_ms, encoding = 'protobuf' FROM "
        "operator ORDER BY name";

static char *text_or_null(const PGresult *r, int row, int column)
{
        struct slice s = db_text(r, row, column);

        return s.s ? xstrndup(s.s, s.len) : NULL;
}

/* A JSON list of strings. */
static char **list(const PGresult *r, int row, int column, size_t *ret_n)
{
        struct slice text = db_text(r, row, column);
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;
        char **v;
        size_t n = 0;

        *ret_n = 0;
        if (json_parse(text.s, text.len, &doc, &error) < 0)
                return NULL;
        v = xcalloc(json_root(&doc)->n + 1, sizeof(*v));
        for (json_value e = json_first(&doc, json_root(&doc)); e; e = json_after(&doc, json_root(&doc), e)) {
                char *s = json_string(&doc, e, NULL);
                if (s)
                        v[n++] = s;
        }
        *ret_n = n;
        return v;
}

int execution_store_operators(struct db *db, struct execution_operators *ret_operators)
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        struct execution_operators ops = {0};
        int e = db_run(db, sql_operators, NULL, &r);

        if (e < 0)
                return e;
        ops.n = (size_t)PQntuples(r);
        ops.v = xcalloc(ops.n + 1, sizeof(*ops.v));
        for (int row = 0; row < PQntuples(r); row++) {
                struct execution_operator *op = &ops.v[row];

                op->name = text_or_null(r, row, 0);
                op->url = text_or_null(r, row, 1);
                op->status_url = text_or_null(r, row, 2);
                op->tags = list(r, row, 3, &op->n_tags);
                op->fallback_for = list(r, row, 4, &op->n_fallback_for);
                op->idempotent = db_bool(r, row, 5);
                op->timeout_ms = db_int(r, row, 6);
                op->max_in_flight = db_int(r, row, 7);
                op->successes = db_int(r, row, 8);
                op->failures = db_int(r, row, 9);
                op->total_ms = db_int(r, row, 10);
                op->avoided = db_bool(r, row, 11);
                op->probe_due = db_bool(r, row, 12);
                op->pause_ms = db_int(r, row, 13);
                op->transport = db_bool(r, row, 14) ? EXECUTION_BUS : EXECUTION_HTTP;
                op->lease_ms = db_int(r, row, 15);
                op->protobuf = db_bool(r, row, 16);
        }
        *ret_operators = ops;
        return 0;
}

/* --- chains --- */

/* Runs exist only once the execution was started. The last STEP_COMPLETED is the last event, but for a further start: then it is looked for from the
 * end of the chain backwards, by primary key. */
static const char sql_read[] =
        "WITH ours AS MATERIALIZED (SELECT s.kind, s.name FROM step s WHERE s.hearer = 'execution')"
        " SELECT c.id, c.version, c.lane, c.step,"
        " CASE WHEN o.name IS NULL THEN (SELECT s.hearer FROM step s WHERE s.kind = c.kind AND s.name = c.step) ELSE 'execution' END,"
        " j.data, l.data, CASE WHEN c.step IN ('EXECUTION_REQUIRED', 'EXECUTION_STARTED', 'STEP_COMPLETED') THEN (SELECT"
        "  json_agg(json_build_object('step', r.step, 'operator', r.operator, 'state', r.state, 'error', r.error) ORDER BY r.step, r.attempt)"
        "  FROM operator_run r WHERE r.chain_id = c.id) END,"
        " b.attempts_before, c.kind = 'system'"
        " FROM chain c"
        " LEFT JOIN ours o ON o.kind = c.kind AND o.name = c.step"
        " LEFT JOIN LATERAL (SELECT e.data FROM event e WHERE e.chain_id = c.id AND e.version = 1 AND o.name IS NOT NULL OFFSET 0) j ON true"
        " LEFT JOIN LATERAL (SELECT (e.data::json ->> 'from_step')::integer AS from_step, (e.data::json ->> 'attempts_before')::integer AS "
        "attempts_before"
        "   FROM event e WHERE e.chain_id = c.id AND e.version = c.version AND c.step = 'EXECUTION_STARTED' OFFSET 0) b ON true"
        " LEFT JOIN LATERAL (SELECT e.data FROM event e WHERE e.chain_id = c.id AND e.version <= c.version AND e.type = 'STEP_COMPLETED'"
        "   AND (c.step IN ('STEP_COMPLETED', 'EXECUTION_REQUIRED') OR b.from_step > 0) ORDER BY e.version DESC LIMIT 1) l ON true"
        " WHERE c.id = ANY ($1)";

int execution_store_read(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_result)
{
        _cleanup_(db_args_done) struct db_args args = {0};

        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &ids[i]);
        return db_run(db, sql_read, &args, ret_result);
}

struct execution_stand execution_store_stand(const PGresult *r, int row)
{
        struct slice lane = db_text(r, row, 2);
        struct execution_stand s = {.id = db_uuid(r, row, 0),
                .version = (int)db_int(r, row, 1),
                .hearer = PQgetvalue(r, row, 4),
                .task = db_bool(r, row, 9),
                .record = {.at = PQgetvalue(r, row, 3),
                        .job = db_text(r, row, 5),
                        .last = db_text(r, row, 6),
                        .runs = db_text(r, row, 7),
                        .attempts_before = PQgetisnull(r, row, 8) ? 0 : (int)db_int(r, row, 8)}};

        if (!lane_parse(lane.s, lane.len, &s.lane))
                die("a chain stands on an unknown lane");
        s.ours = strcmp(s.hearer, "execution") == 0;
        return s;
}

/* --- runs --- */

static void text(struct db_args *a, const char *s)
{
        db_array_text(a, s, s ? strlen(s) : 0);
}

/* Sets ret_in[i] for each of n rows whose id the result names; the rows begin with it. */
static void mark(const PGresult *r, const void *rows, size_t size, size_t n, bool ret_in[])
{
        for (int row = 0; row < PQntuples(r); row++) {
                struct uuid id = db_uuid(r, row, 0);
                for (size_t i = 0; i < n; i++)
                        ret_in[i] |= uuid_equal((const struct uuid *)((const char *)rows + i * size), &id);
        }
}

/* The chain's version is looked at again here for runs that are started without a transition; the unique keys (attempt, live run) refuse the rest. */
static const char sql_start[] = "INSERT INTO operator_run (id, chain_id, step, attempt, tag, operator, state, owner, lease_until, next_at)"
                                " SELECT r.id, r.chain_id, r.step, r.attempt, r.tag, r.operator, 'calling', $1,"
                                "   now() + r.lease_ms * interval '1 ms', now() + r.lease_ms * interval '1 ms'"
                                " FROM unnest($2, $3, $4, $5, $6, $7, $8, $9) AS r(id, chain_id, version, step, attempt, tag, operator, lease_ms)"
                                " JOIN LATERAL (SELECT 1 FROM chain x WHERE x.id = r.chain_id AND x.version = r.version OFFSET 0) c ON true"
                                " ORDER BY r.chain_id ON CONFLICT DO NOTHING RETURNING id";

int execution_store_start(struct db *db, const char *owner, const struct execution_new_run runs[], size_t n, bool ret_in[])
{
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        memset(ret_in, 0, n * sizeof(*ret_in));
        if (n == 0)
                return 0;
        db_arg_text(&args, owner);
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &runs[i].id);
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &runs[i].chain_id);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, runs[i].version);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, runs[i].step);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, runs[i].attempt);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, runs[i].tag);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, runs[i].who);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, runs[i].lease_ms);
        e = db_run(db, sql_start, &args, &r);
        if (e == 0)
                mark(r, runs, sizeof(*runs), n, ret_in);
        return e;
}

/* By key: the index of open runs, short as it is when this is planned (once), fills with the dead until it is vacuumed. Hence NOT IN, which does not
 * offer it. beat_ms: a worker on the bus has said that it has the run, and has it for so long. */
static const char sql_outcomes[] =
        "UPDATE operator_run r SET state = o.state, error = o.error, refused = o.refused > 0, next_at = now() + o.next_ms * interval '1 ms', probes "
        "= o.probes,"
        "   beat_at = CASE WHEN o.beat_ms > 0 THEN now() ELSE r.beat_at END, worker = coalesce(o.worker, r.worker),"
        "   lease_until = CASE WHEN o.beat_ms > 0 THEN now() + o.beat_ms * interval '1 ms' ELSE r.lease_until END"
        " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) AS o(id, epoch, state, error, next_ms, probes, beat_ms, worker, refused)"
        " WHERE r.id = ANY ($1) AND r.id = o.id AND (r.epoch = o.epoch OR o.state = 'done') AND r.state NOT IN ('done', 'failed') RETURNING r.id";

int execution_store_outcomes(struct db *db, const struct execution_outcome outcomes[], size_t n, bool ret_in[])
{
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        memset(ret_in, 0, n * sizeof(*ret_in));
        if (n == 0)
                return 0;
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &outcomes[i].id);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, outcomes[i].epoch);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, outcomes[i].state);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, outcomes[i].error);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, outcomes[i].next_ms);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, outcomes[i].probes);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, outcomes[i].beat_ms);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, outcomes[i].worker);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, outcomes[i].refused);
        e = db_run(db, sql_outcomes, &args, &r);
        if (e == 0)
                mark(r, outcomes, sizeof(*outcomes), n, ret_in);
        return e;
}

/* While an operator is avoided only the probe counts, so that calls that were under way together make one pause and not many. Who refuses what he was
 * given is there, as who does it: both end a pause. */
static const char sql_tally[] =
        "WITH l AS MATERIALIZED (SELECT o.name FROM operator o WHERE o.name = ANY ($1) ORDER BY o.name FOR UPDATE)"
        " UPDATE operator o SET successes = o.successes + t.successes, failures = o.failures + t.failures, total_ms = o.total_ms + t.total_ms,"
        "   refusals = o.refusals + t.refusals, refused_in_a_row = CASE WHEN t.successes > 0 THEN 0 ELSE o.refused_in_a_row + t.refusals END,"
        "   last_error = coalesce(t.error, o.last_error),"
        "   streak = CASE WHEN t.successes + t.refusals > 0 THEN 0 WHEN t.faults = 0 OR o.avoid_until > now() THEN o.streak"
        "     WHEN o.avoid_until IS NULL THEN least(o.streak + t.faults, $7) ELSE o.streak + 1 END,"
        "   avoid_until = CASE WHEN t.successes + t.refusals > 0 THEN NULL WHEN t.faults = 0 OR o.avoid_until > now() THEN o.avoid_until"
        "     WHEN o.avoid_until IS NOT NULL OR o.streak + t.faults >= $7 OR (o.successes = 0 AND o.failures + t.failures >= 3)"
        "     THEN now() + least($9, $8 * 2 ^ least(greatest(o.streak + 1 - $7, 0), 20)) * (0.75 + 0.25 * random()) * interval '1 ms' END"
        " FROM l JOIN unnest($1, $2, $3, $4, $5, $6, $10) AS t(name, successes, failures, total_ms, error, faults, refusals) ON t.name = l.name "
        "WHERE o.name = "
        "l.name";

int execution_store_tally(struct db *db, const struct execution_breaker *breaker, const struct execution_tally tallies[], size_t n)
{
        _cleanup_(db_args_done) struct db_args args = {0};

        if (n == 0)
                return 0;
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, tallies[i].who);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, tallies[i].successes);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, tallies[i].failures);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, tallies[i].total_ms);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, tallies[i].error);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, tallies[i].faults);
        db_arg_int(&args, breaker->streak);
        db_arg_int(&args, breaker->first_ms);
        db_arg_int(&args, breaker->max_ms);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, tallies[i].refusals);
        return db_send(db, sql_tally, &args);
}

/* --- taking over --- */

/* Others may move next_at; while a call may still be under way its run is its caller's all the same, and while a worker beats it is the worker's.
 * Those that were asked least come first: the probe of an avoided operator must not be, time after time, the one run about which it says nothing. */
static const char sql_due[] =
        "WITH due AS MATERIALIZED (SELECT * FROM operator_run"
        "   WHERE state IN ('calling', 'accepted', 'unknown') AND next_at <= now() AND (state <> 'calling' AND beat_at IS NULL OR lease_until <= "
        "now())"
        "   ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED)"
        " SELECT r.id, r.chain_id, r.step, r.attempt, r.epoch, r.probes, r.operator, r.tag, r.state, r.error, r.lease_until <= now(),"
        " greatest(0, extract(epoch FROM now() - r.started_at) * 1000)::bigint, d.outcome, d.output, d.who, d.reference, r.sends, r.beat_at IS NOT "
        "NULL"
        " FROM due r LEFT JOIN LATERAL (SELECT * FROM run_decision x WHERE x.run_id = r.id OFFSET 0) d ON true ORDER BY r.probes";

int execution_store_due(struct db *db, int64_t limit, PGresult **ret_result)
{
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_int(&args, limit);
        return db_run(db, sql_due, &args, ret_result);
}

struct execution_due execution_store_due_row(const PGresult *r, int row)
{
        return (struct execution_due){
                .id = db_uuid(r, row, 0),
                .chain_id = db_uuid(r, row, 1),
                .step = (int)db_int(r, row, 2),
                .attempt = (int)db_int(r, row, 3),
                .epoch = (int)db_int(r, row, 4),
                .probes = (int)db_int(r, row, 5),
                .who = db_text(r, row, 6),
                .tag = db_text(r, row, 7),
                .state = db_text(r, row, 8),
                .error = db_text(r, row, 9),
                .call_over = db_bool(r, row, 10),
                .age_ms = db_int(r, row, 11),
                .decided = db_text(r, row, 12),
                .output = db_text(r, row, 13),
                .by = db_text(r, row, 14),
                .reference = db_text(r, row, 15),
                .sends = (int)db_int(r, row, 16),
                .beaten = db_bool(r, row, 17),
        };
}

/* A status query leaves lease_until alone: it says until when the last call may still reach the operator. A call is a new worker's. */
static const char sql_take[] =
        "UPDATE operator_run r SET epoch = r.epoch + 1, owner = $1, state = t.state, error = t.error, probes = t.probes,"
        "   next_at = now() + t.hold_ms * interval '1 ms',"
        "   lease_until = CASE WHEN t.call <> 0 THEN now() + t.hold_ms * interval '1 ms' ELSE r.lease_until END, sends = r.sends + t.call,"
        "   beat_at = CASE WHEN t.call = 0 THEN r.beat_at END, worker = CASE WHEN t.call = 0 THEN r.worker END,"
        "   progress = CASE WHEN t.call = 0 THEN r.progress END, percent = CASE WHEN t.call = 0 THEN r.percent END"
        " FROM unnest($2, $3, $4, $5, $6, $7) AS t(id, state, error, call, hold_ms, probes) WHERE r.id = ANY ($2) AND r.id = t.id";

int execution_store_take(struct db *db, const char *owner, const struct execution_take takes[], size_t n)
{
        _cleanup_(db_args_done) struct db_args args = {0};

        if (n == 0)
                return 0;
        db_arg_text(&args, owner);
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &takes[i].id);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, takes[i].state);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, takes[i].error);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, takes[i].call);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, takes[i].hold_ms);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, takes[i].probes);
        return db_run(db, sql_take, &args, NULL);
}

static const char sql_unsent[] =
        "UPDATE operator_run SET state = 'unknown', error = '" EXECUTION_RESEND "the commit was not answered', next_at = now()"
        " WHERE id = ANY ($1) AND owner = $2 AND epoch = 1 AND state = 'calling'";

int execution_store_unsent(struct db *db, const char *owner, const struct uuid ids[], size_t n)
{
        _cleanup_(db_args_done) struct db_args args = {0};

        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &ids[i]);
        db_arg_text(&args, owner);
        return db_run(db, sql_unsent, &args, NULL);
}
