/* Issues: opening, taking, reading what they are about, closing. An issue is taken with a lease under a new epoch; whoever writes its outcome proves
 * in the same transaction that the lease is still his (repair_issues_fence), so that an instance that was frozen writes nothing. All statements are
 * set-based and look rows up by key; SKIP LOCKED lets instances share the work. */
#include "repair_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void copy(char *to, size_t size, struct slice s)
{
        snprintf(to, size, "%.*s", (int)s.len, s.s ? s.s : "");
}

static void text(struct db_args *a, const char *s)
{
        db_array_text(a, s, s ? strlen(s) : 0);
}

void repair_issues_done(struct repair_issues *issues)
{
        for (size_t i = 0; i < issues->n; i++)
                free(issues->v[i].subject.error);
        free(issues->v);
        *issues = (struct repair_issues){0};
}

int repair_issues_insert(struct db *db, const struct repair_candidates *found, struct uuid ret_ids[])
{
        static const char sql[] =
                "INSERT INTO issue (id, kind, grade, chain_id, operator, webhook_id, client, step, version, since, state, antibody, next_at)"
                " SELECT u.id, u.kind, u.grade, u.chain_id, u.operator, u.webhook_id, u.client, u.step, u.version, now() - u.age * interval '1 ms', "
                "'open', "
                "u.antibody,"
                "  now() + u.next * interval '1 ms'"
                " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
                "  u(id, kind, grade, chain_id, operator, client, step, version, age, antibody, next, webhook_id)"
                " WHERE u.version IS NULL OR EXISTS (SELECT 1 FROM chain c WHERE c.id = u.chain_id AND c.version = u.version AND c.status = 'open')"
                " ORDER BY u.chain_id, u.kind ON CONFLICT DO NOTHING RETURNING id";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        _cleanup_(freep) struct uuid *in = NULL;
        size_t n;
        int e;

        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < found->n; i++) {
                ret_ids[i] = uuid_v7();
                db_array_uuid(&args, &ret_ids[i]);
        }
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < found->n; i++)
                text(&args, found->v[i].rule->issue);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < found->n; i++)
                text(&args, repair_grade_name(found->v[i].grade));
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < found->n; i++)
                db_array_uuid(&args, found->v[i].operator[0] || found->v[i].of_webhook ? NULL : & found->v[i].chain_id);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < found->n; i++)
                text(&args, found->v[i].operator[0] ? found->v[i].operator: NULL);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < found->n; i++)
                text(&args, found->v[i].client);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < found->n; i++)
                text(&args, found->v[i].operator[0] || found->v[i].of_webhook ? NULL : found->v[i].step);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < found->n; i++)
                if (found->v[i].operator[0] || found->v[i].version<0)
                        db_array_null(&args);
                else
                        db_array_int(&args, found->v[i].version);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < found->n; i++)
                db_array_int(&args, found->v[i].age_ms);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < found->n; i++)
                text(&args, found->v[i].rule->antibody);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < found->n; i++)
                db_array_int(&args, found->v[i].next_ms);
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < found->n; i++)
                db_array_uuid(&args, found->v[i].of_webhook ? &found->v[i].webhook_id : NULL);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        n = (size_t)PQntuples(r);
        in = xcalloc(n + 1, sizeof(*in));
        for (size_t row = 0; row < n; row++)
                in[row] = db_uuid(r, (int)row, 0);
        qsort(in, n, sizeof(*in), uuid_compare);
        for (size_t i = 0; i < found->n; i++)
                if (!bsearch(&ret_ids[i], in, n, sizeof(*in), uuid_compare))
                        ret_ids[i] = (struct uuid){0};
        return 0;
}

/* --- taking --- */

#define TAKEN                                                                                                                                        \
        "i.id, i.epoch, i.kind, i.antibody, coalesce(i.outcome, ''), coalesce(i.step, ''), i.attempts, i.version, i.chain_id, i.operator,"           \
        " ms(now() - i.since), (SELECT c.version FROM chain c WHERE c.id = i.id), i.webhook_id"
#define TAKEN_N 13

static void read_issues(const PGresult *r, int early, struct repair_issues *ret_issues)
{
        struct repair_issues issues = {.v = xcalloc((size_t)PQntuples(r) + 1, sizeof(*issues.v))};

        for (int row = 0; row < PQntuples(r); row++) {
                struct repair_issue *i = &issues.v[issues.n++];

                i->id = db_uuid(r, row, 0);
                i->epoch = (int)db_int(r, row, 1);
                copy(i->kind, sizeof(i->kind), db_text(r, row, 2));
                copy(i->antibody, sizeof(i->antibody), db_text(r, row, 3));
                copy(i->outcome, sizeof(i->outcome), db_text(r, row, 4));
                copy(i->step, sizeof(i->step), db_text(r, row, 5));
                i->attempts = (int)db_int(r, row, 6);
                i->version = db_null(r, row, 7) ? -1 : (int)db_int(r, row, 7);
                i->of_chain = !db_null(r, row, 8);
                i->chain_id = db_uuid(r, row, 8);
                copy(i->operator, sizeof(i->operator), db_text(r, row, 9));
                i->subject.age_ms = db_int(r, row, 10);
                i->chain_version = (int)db_int(r, row, 11);
                i->of_webhook = !db_null(r, row, 12);
                i->webhook_id = db_uuid(r, row, 12);
                i->early = early >= 0 && db_bool(r, row, early);
        }
        *ret_issues = issues;
}

int repair_issues_take(struct db *db, const char *owner, int64_t lease_ms, struct repair_turn *turn, struct repair_issues *ret_issues)
{
        /* The pairs are found by a loose scan of issue_due: one look-up each, however many issues they have. */
        static const char sql[] =
                "WITH RECURSIVE pair AS ("
                "  (SELECT i.client, i.kind, 1 AS n FROM issue i WHERE i.closed_at IS NULL AND (i.client, i.kind) > ($3, $4) ORDER BY i.client, "
                "i.kind LIMIT 1)"
                "  UNION ALL SELECT s.client, s.kind, p.n + 1 FROM pair p, LATERAL (SELECT i.client, i.kind FROM issue i"
                "   WHERE i.closed_at IS NULL AND (i.client, i.kind) > (p.client, p.kind) ORDER BY i.client, i.kind LIMIT 1) s WHERE p.n < $5),"
                " due AS MATERIALIZED (SELECT d.id FROM pair p, LATERAL (SELECT i.id FROM issue i WHERE i.closed_at IS NULL AND i.client = p.client"
                "   AND i.kind = p.kind AND i.next_at <= now() ORDER BY i.next_at LIMIT (SELECT greatest($6 / count(*), 1) FROM pair) FOR UPDATE "
                "SKIP LOCKED) d),"
                " taken AS (UPDATE issue i SET owner = $1, epoch = i.epoch + 1, lease_until = now() + $2 * interval '1 ms',"
                "   next_at = now() + $2 * interval '1 ms' FROM due WHERE i.id = due.id RETURNING " TAKEN "),"
                " last AS (SELECT count(*) AS n, (array_agg(p.client ORDER BY p.n DESC))[1] AS client, (array_agg(p.kind ORDER BY p.n DESC))[1] AS "
                "kind"
                "   FROM pair p)"
                " SELECT t.*, l.n, l.client, l.kind FROM last l LEFT JOIN taken t ON true";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_text(&args, owner);
        db_arg_int(&args, lease_ms);
        db_arg_text(&args, turn->client ? turn->client : "");
        db_arg_text(&args, turn->client ? turn->kind : "");
        db_arg_int(&args, REPAIR_PAIRS);
        db_arg_int(&args, REPAIR_TURN);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        free(TAKE_PTR(turn->client));
        if (db_int(r, 0, TAKEN_N) == REPAIR_PAIRS) {
                turn->client = xstrdup(PQgetvalue(r, 0, TAKEN_N + 1));
                copy(turn->kind, sizeof(turn->kind), db_text(r, 0, TAKEN_N + 2));
        }
        if (db_null(r, 0, 0))
                *ret_issues = (struct repair_issues){0};
        else
                read_issues(r, -1, ret_issues);
        return 0;
}

#define OPEN_PAGE                                                                                                                                    \
        "SELECT i.id FROM issue i WHERE i.closed_at IS NULL AND i.id > $1 AND ($3::text IS NULL OR i.kind = $3) AND ($4::uuid IS NULL OR i.id = $4)" \
        " ORDER BY i.id LIMIT $2"

int repair_issues_page(struct db *db, const char *owner, const char *kind, const struct uuid *only, bool lock, struct uuid *after, int64_t limit,
        struct repair_issues *ret_issues)
{
        static const char reading[] = "SELECT " TAKEN ", i.next_at > now() FROM issue i WHERE i.id IN (" OPEN_PAGE ") ORDER BY i.id";
        static const char taking[] = "WITH page AS MATERIALIZED (" OPEN_PAGE " FOR UPDATE),"
                                     " taken AS (UPDATE issue i SET owner = $5, epoch = i.epoch + 1 FROM page p WHERE i.id = p.id"
                                     "  RETURNING " TAKEN ", i.next_at > now() AND i.lease_until IS NULL)"
                                     " SELECT * FROM taken ORDER BY 1";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, after);
        db_arg_int(&args, limit);
        db_arg_text(&args, kind);
        db_arg_uuid(&args, only);
        if (lock)
                db_arg_text(&args, owner);
        e = db_run(db, lock ? taking : reading, &args, &r);
        if (e < 0)
                return e;
        if (PQntuples(r) > 0)
                *after = db_uuid(r, PQntuples(r) - 1, 0);
        read_issues(r, TAKEN_N, ret_issues);
        return 0;
}

/* --- what they are about --- */

int repair_subjects_read(struct db *db, struct repair_issues *issues)
{
        static const char sql[] =
                "SELECT u.ord, c.kind, c.step, c.status, c.version, c.lane, st.hearer, c.amount, c.currency,"
                /* A refund that the provider has refused is a person's. */
                " CASE WHEN c.step = 'REFUND_INITIATED' AND NOT EXISTS (SELECT 1 FROM provider_call x WHERE x.chain_id = c.id"
                "   AND x.state IN ('calling', 'pending', 'unknown')) THEN 'manual' ELSE p.driver END, r.operator, f.error,"
                " CASE WHEN f.error IS NOT NULL THEN c.kind = 'system' OR EXISTS (SELECT 1 FROM operator o WHERE NOT (o.failures >= 3 AND "
                "o.successes = 0)"
                "   AND (f.error::json ->> 'tag' = ANY (o.tags || o.fallback_for) OR EXISTS (SELECT 1 FROM operator q WHERE f.error::json ->> 'tag' "
                "= ANY (q.tags)"
                "     AND q.name = ANY (o.fallback_for)))) END,"
                " CASE WHEN f.error IS NOT NULL THEN (SELECT count(*) FROM event e WHERE e.chain_id = c.id AND e.type = 'EXECUTION_REQUIRED'"
                "   AND e.version > coalesce((SELECT max(x.version) FROM event x WHERE x.chain_id = c.id AND x.type = 'EXECUTION_REQUIRED'"
                "     AND x.data::json ->> 'cause' = 'redrive'), 0)) END,"
                " o.successes + o.failures, o.failures, o.streak, o.avoid_until > now(),"
                " ms(now() - c.updated_at), ms(now() - c.created_at),"
                " CASE WHEN c.step = 'PAYOUT_READY' THEN EXISTS (SELECT 1 FROM settlement_item x WHERE x.payout_id = c.id) END, c.label,"
                " (SELECT w.state FROM webhook w WHERE w.id = u.webhook)"
                " FROM unnest($1, $2, $3) WITH ORDINALITY u(id, operator, webhook, ord)"
                " LEFT JOIN LATERAL (SELECT * FROM chain x WHERE x.id = u.id OFFSET 0) c ON true"
                " LEFT JOIN step st ON st.kind = c.kind AND st.name = c.step"
                " LEFT JOIN LATERAL (SELECT x.driver FROM payment_intent x WHERE x.id = c.id OFFSET 0) p ON true"
                " LEFT JOIN LATERAL (SELECT x.operator FROM operator_run x WHERE x.chain_id = c.id AND x.state IN ('calling', 'accepted', 'unknown') "
                "OFFSET 0) r"
                "   ON true"
                " LEFT JOIN LATERAL (SELECT e.data::json ->> 'error' AS error FROM event e WHERE e.chain_id = c.id AND e.version = c.version"
                "   AND e.type = 'EXECUTION_FAILED' OFFSET 0) f ON true"
                " LEFT JOIN LATERAL (SELECT * FROM operator x WHERE x.name = u.operator OFFSET 0) o ON true";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        if (issues->n == 0)
                return 0;
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < issues->n; i++)
                db_array_uuid(&args, issues->v[i].of_chain ? &issues->v[i].chain_id : NULL);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < issues->n; i++)
                text(&args, issues->v[i].operator[0] ? issues->v[i].operator: NULL);
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < issues->n; i++)
                db_array_uuid(&args, issues->v[i].of_webhook ? &issues->v[i].webhook_id : NULL);
        e = db_run(db, sql, &args, &r);
        for (int row = 0; e == 0 && row < PQntuples(r); row++) {
                struct subject *s = &issues->v[db_int(r, row, 0) - 1].subject;
                struct slice lane = db_text(r, row, 5), error = db_text(r, row, 11);

                copy(s->kind, sizeof(s->kind), db_text(r, row, 1));
                copy(s->step, sizeof(s->step), db_text(r, row, 2));
                copy(s->status, sizeof(s->status), db_text(r, row, 3));
                s->version = (int)db_int(r, row, 4);
                (void)lane_parse(lane.s, lane.len, &s->lane);
                copy(s->hearer, sizeof(s->hearer), db_text(r, row, 6));
                s->amount.minor = db_int(r, row, 7);
                copy(s->amount.currency, sizeof(s->amount.currency), db_text(r, row, 8));
                copy(s->driver, sizeof(s->driver), db_text(r, row, 9));
                copy(s->run_operator, sizeof(s->run_operator), db_text(r, row, 10));
                free(s->error);
                s->error = error.s ? xstrndup(error.s, error.len) : NULL;
                s->operator_ready = db_bool(r, row, 12);
                s->retries = (int)db_int(r, row, 13);
                s->calls = db_int(r, row, 14);
                s->failures = db_int(r, row, 15);
                s->streak = db_int(r, row, 16);
                s->avoided = db_bool(r, row, 17);
                if (!db_null(r, row, 18))
                        s->age_ms = db_int(r, row, 18);
                s->created_ms = db_int(r, row, 19);
                s->listed = db_bool(r, row, 20);
                copy(s->label, sizeof(s->label), db_text(r, row, 21));
                copy(s->webhook, sizeof(s->webhook), db_text(r, row, 22));
        }
        return e;
}

/* --- acting --- */

int repair_issues_fence(struct db *db, const char *owner, const struct repair_issues *issues, bool ret_held[])
{
        static const char sql[] =
                "SELECT u.ord FROM unnest($2, $3) WITH ORDINALITY u(id, epoch, ord) JOIN issue i ON i.id = u.id AND i.epoch = u.epoch"
                " WHERE i.owner = $1 AND i.closed_at IS NULL ORDER BY i.id FOR UPDATE OF i";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        memset(ret_held, 0, issues->n * sizeof(*ret_held));
        db_arg_text(&args, owner);
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < issues->n; i++)
                db_array_uuid(&args, &issues->v[i].id);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < issues->n; i++)
                db_array_int(&args, issues->v[i].epoch);
        e = db_run(db, sql, &args, &r);
        for (int row = 0; e == 0 && row < PQntuples(r); row++)
                ret_held[db_int(r, row, 0) - 1] = true;
        return e;
}

int repair_refold(struct db *db, const struct uuid *chain, char ret_answer[16])
{
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, chain);
        e = db_run(db, "SELECT refold($1)", &args, &r);
        if (e == 0)
                copy(ret_answer, 16, db_text(r, 0, 0));
        return e;
}

static int run_for(struct db *db, const char *sql, const struct uuid chains[], size_t n)
{
        _cleanup_(db_args_done) struct db_args args = {0};

        if (n == 0)
                return 0;
        db_arg_uuids(&args, chains, n);
        return db_run(db, sql, &args, NULL);
}

/* A call under way has its lease, and is not disturbed. */
int repair_probe_operators(struct db *db, const struct uuid chains[], size_t n)
{
        return run_for(db,
                "UPDATE operator_run r SET next_at = now() WHERE r.chain_id = ANY ($1) AND r.state IN ('calling', 'accepted', 'unknown')"
                " AND r.next_at > now() AND r.lease_until <= now()",
                chains, n);
}

int repair_probe_providers(struct db *db, const struct uuid chains[], size_t n)
{
        return run_for(db,
                "UPDATE provider_call p SET next_at = now() WHERE p.chain_id = ANY ($1) AND p.state IN ('calling', 'pending', 'unknown')"
                " AND p.next_at > now() AND p.lease_until <= now()",
                chains, n);
}

int repair_issues_update(struct db *db, const struct repair_result results[], size_t n)
{
        static const char sql[] =
                "UPDATE issue i SET state = u.state, waits_for = u.waits_for, outcome = nullif(u.outcome, ''), attempts = i.attempts + u.counts,"
                " grade = CASE WHEN u.next < 0 THEN i.grade ELSE 'repair' END, owner = NULL, lease_until = NULL,"
                " next_at = CASE WHEN u.next < 0 THEN i.next_at ELSE now() + u.next * interval '1 ms' END,"
                " closed_at = CASE WHEN u.state IN ('resolved', 'final_fail') THEN now() END"
                " FROM unnest($1, $2, $3, $4, $5, $6) u(id, state, waits_for, outcome, counts, next) WHERE i.id = u.id";
        _cleanup_(db_args_done) struct db_args args = {0};

        if (n == 0)
                return 0;
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &results[i].issue->id);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, repair_state_name(results[i].issue->plan.state));
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, results[i].issue->plan.waits_for);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, results[i].issue->plan.outcome);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, results[i].issue->plan.counts && !results[i].issue->early);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, results[i].next_ms);
        return db_run(db, sql, &args, NULL);
}

int repair_issue_aside(struct db *db, const char *owner, const struct repair_issue *issue)
{
        static const char sql[] = "UPDATE issue SET state = 'quarantined', waits_for = 'person', outcome = '" REPAIR_UNHANDLED "', grade = 'repair',"
                                  " owner = NULL, lease_until = NULL, next_at = now() + interval '1 hour'"
                                  " WHERE id = $1 AND owner = $2 AND epoch = $3 AND closed_at IS NULL";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuid(&args, &issue->id);
        db_arg_text(&args, owner);
        db_arg_int(&args, issue->epoch);
        return db_run(db, sql, &args, NULL);
}

int repair_count(struct db *db, const struct repair_result results[], size_t n)
{
        static const char sql[] =
                "INSERT INTO repair_figure AS f (name, label, value) SELECT 'repair', u.label, count(*) FROM unnest($1) u(label)"
                " GROUP BY u.label ORDER BY u.label ON CONFLICT (name, label) DO UPDATE SET value = f.value + excluded.value, at = now()";
        _cleanup_(db_args_done) struct db_args args = {0};
        size_t counted = 0;
        char label[64];

        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++) {
                if (!results[i].issue->plan.counts)
                        continue;
                snprintf(label, sizeof(label), "%s/%s", results[i].issue->antibody, results[i].issue->plan.outcome);
                db_array_text(&args, label, strlen(label));
                counted++;
        }
        return counted ? db_run(db, sql, &args, NULL) : 0;
}

/* --- refunded chains --- */

static char *json(const PGresult *r, int row, int column)
{
        struct slice s = db_text(r, row, column);

        return s.s ? xstrndup(s.s, s.len) : NULL;
}

int repair_refunded_read(struct db *db, const struct uuid ids[], size_t n, struct repair_refunded **ret_v, size_t *ret_n)
{
        static const char sql[] =
                "SELECT c.id, c.version, coalesce(x.error, json_build_object('reason', q.data::json ->> 'reason')::text), q.data::json ->> 'rule',"
                " json_build_object('kind', 'refund', 'amount', y.data::json -> 'amount', 'evidence', y.data::json -> 'evidence')::text,"
                " (q.data::json -> 'issue_id')::text, (q.data::json -> 'by')::text,"
                " (SELECT count(*) FROM event e WHERE e.chain_id = c.id AND e.type = 'EXECUTION_REQUIRED')"
                " FROM unnest($1) u(id) JOIN LATERAL (SELECT * FROM chain x WHERE x.id = u.id AND x.step = 'REFUND_CONFIRMED' OFFSET 0) c ON true"
                " JOIN event y ON y.chain_id = c.id AND y.version = c.version"
                " LEFT JOIN LATERAL (SELECT e.data FROM event e WHERE e.chain_id = c.id AND e.type = 'REFUND_REQUIRED' ORDER BY e.version DESC LIMIT "
                "1) q ON true"
                " LEFT JOIN LATERAL (SELECT e.data::json ->> 'error' AS error FROM event e WHERE e.chain_id = c.id AND e.type = 'EXECUTION_FAILED'"
                "   ORDER BY e.version DESC LIMIT 1) x ON true";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuids(&args, ids, n);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        *ret_n = (size_t)PQntuples(r);
        *ret_v = xcalloc(*ret_n + 1, sizeof(**ret_v));
        for (int row = 0; row < PQntuples(r); row++)
                (*ret_v)[row] = (struct repair_refunded){.id = db_uuid(r, row, 0),
                        .version = (int)db_int(r, row, 1),
                        .error = json(r, row, 2),
                        .rule = json(r, row, 3),
                        .compensation = json(r, row, 4),
                        .issue_id = json(r, row, 5),
                        .by = json(r, row, 6),
                        .retries = db_int(r, row, 7)};
        return 0;
}

void repair_refunded_done(struct repair_refunded *v, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                free(v[i].error);
                free(v[i].rule);
                free(v[i].compensation);
                free(v[i].issue_id);
                free(v[i].by);
        }
        free(v);
}
