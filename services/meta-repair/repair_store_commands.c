/* What people ask. A command is locked while one step of it is carried out, and its progress is written in the transaction of that step, so that its
 * counts are exact whatever dies in between. Chains are looked for by pages over what stands, what waits and what has failed: never over what is
 * done. */
#include "repair_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void copy(char *to, size_t size, struct slice s)
{
        snprintf(to, size, "%.*s", (int)s.len, s.s ? s.s : "");
}

static char *dup_text(const PGresult *r, int row, int column)
{
        struct slice s = db_text(r, row, column);

        return s.s ? xstrndup(s.s, s.len) : NULL;
}

void repair_command_done(struct repair_command *c)
{
        free(c->args);
        free(c->by);
        free(c->progress);
        *c = (struct repair_command){0};
}

int repair_command_waits(struct db *db, bool *ret_waits)
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, "SELECT 1 FROM repair_command WHERE done_at IS NULL LIMIT 1", NULL, &r);

        if (e == 0)
                *ret_waits = PQntuples(r) > 0;
        return e;
}

int repair_command_take(struct db *db, struct repair_command *ret_command)
{
        static const char sql[] =
                "SELECT id, what, args, by_whom, result FROM repair_command WHERE done_at IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED";
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, sql, NULL, &r);

        if (e < 0)
                return e;
        if (PQntuples(r) == 0)
                return -ENOENT;
        *ret_command =
                (struct repair_command){.id = db_uuid(r, 0, 0), .args = dup_text(r, 0, 2), .by = dup_text(r, 0, 3), .progress = dup_text(r, 0, 4)};
        copy(ret_command->what, sizeof(ret_command->what), db_text(r, 0, 1));
        return 0;
}

int repair_command_write(struct db *db, const struct uuid *id, const char *result, bool done)
{
        static const char sql[] = "UPDATE repair_command SET result = $2, done_at = CASE WHEN $3 THEN now() END WHERE id = $1";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuid(&args, id);
        db_arg_text(&args, result);
        db_arg_bool(&args, done);
        return db_run(db, sql, &args, NULL);
}

#define TARGET                                                                                                                                       \
        "t.id, t.kind, t.step, t.status, t.version, t.lane, t.amount, t.currency, EXISTS (SELECT 1 FROM journal j WHERE j.chain_id = t.id),"         \
        " coalesce((SELECT e.data::json #>> '{error,step}' FROM event e WHERE e.chain_id = t.id AND e.type = 'EXECUTION_FAILED'"                     \
        "   ORDER BY e.version DESC LIMIT 1), '0')::integer,"                                                                                        \
        " EXISTS (SELECT 1 FROM provider_call p WHERE p.chain_id = t.id AND p.what = 'refund' AND p.state <> 'failed')"

static struct repair_target read_target(const PGresult *r, int row)
{
        struct repair_target t = {.id = db_uuid(r, row, 0), .version = (int)db_int(r, row, 4), .paid = db_bool(r, row, 8)};
        struct slice lane = db_text(r, row, 5);

        copy(t.kind, sizeof(t.kind), db_text(r, row, 1));
        copy(t.step, sizeof(t.step), db_text(r, row, 2));
        copy(t.status, sizeof(t.status), db_text(r, row, 3));
        (void)lane_parse(lane.s, lane.len, &t.lane);
        t.amount.minor = db_int(r, row, 6);
        copy(t.amount.currency, sizeof(t.amount.currency), db_text(r, row, 7));
        t.failed_step = (int)db_int(r, row, 9);
        t.refunding = db_bool(r, row, 10);
        return t;
}

/* Standing and waiting chains that are asked for are those that a person may redrive; of the failed ones all. */
#define TARGETS(which)                                                                                                                               \
        "WITH page AS MATERIALIZED (SELECT * FROM chain c WHERE " which " AND c.id > $1 ORDER BY c.id LIMIT $2),"                                    \
        " m AS (SELECT count(*) AS n, (array_agg(id ORDER BY id DESC))[1] AS last FROM page)"                                                        \
        " SELECT x.*, m.n, m.last FROM m LEFT JOIN (SELECT " TARGET                                                                                  \
        "  FROM page t WHERE t.kind = 'job' AND (t.status = 'final_fail' OR t.step IN ('EXECUTION_FAILED', 'REFUND_INITIATED'))"                     \
        "  AND ($4::text IS NULL OR t.client = $4) AND ($5::text IS NULL OR t.step = $5) AND ($6::text IS NULL OR t.updated_at >= $6::timestamptz)"  \
        "  AND ($7::text IS NULL OR t.updated_at < $7::timestamptz)"                                                                                 \
        "  AND ($8::text IS NULL OR $8 = (SELECT e.data::json ->> 'type' FROM event e WHERE e.chain_id = t.id AND e.version = 1))"                   \
        "  AND ($3::text IS NULL OR $3 = (SELECT coalesce(e.data::json #>> '{error,reason}', e.data::json ->> 'reason') FROM event e"                \
        "    WHERE e.chain_id = t.id AND e.type IN ('EXECUTION_FAILED', 'REFUND_REQUIRED', 'FINAL_FAIL', 'PAYMENT_EXPIRED') ORDER BY e.version "     \
        "DESC LIMIT 1))"                                                                                                                             \
        " ) x ON true ORDER BY 1"

int repair_targets_page(struct db *db, enum repair_redrive_walk walk, const struct repair_filter *filter, struct uuid *after,
        struct repair_target **ret_v, size_t *ret_n, bool *ret_more)
{
        static const char *const sql[REPAIR_REDRIVE_WALKS] = {[REPAIR_REDRIVE_STANDING] = TARGETS("c.status = 'open' AND c.aside IS NULL"),
                [REPAIR_REDRIVE_WAITING] = TARGETS("c.status = 'open' AND c.aside IS NOT NULL AND c.aside <> 'clock'"),
                [REPAIR_REDRIVE_FAILED] = TARGETS("c.status = 'final_fail'")};
        enum { PAGE = 256 };
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, after);
        db_arg_int(&args, PAGE);
        db_arg_text(&args, filter->reason);
        db_arg_text(&args, filter->client);
        db_arg_text(&args, filter->step);
        db_arg_text(&args, filter->since);
        db_arg_text(&args, filter->until);
        db_arg_text(&args, filter->type);
        e = db_run(db, sql[walk], &args, &r);
        if (e < 0)
                return e;
        *ret_more = db_int(r, 0, 11) == PAGE;
        if (!db_null(r, 0, 12))
                *after = db_uuid(r, 0, 12);
        *ret_v = xcalloc((size_t)PQntuples(r) + 1, sizeof(**ret_v));
        *ret_n = 0;
        for (int row = 0; row < PQntuples(r); row++)
                if (!db_null(r, row, 0))
                        (*ret_v)[(*ret_n)++] = read_target(r, row);
        return 0;
}

int repair_target_read(struct db *db, const struct uuid *id, struct repair_target *ret_target)
{
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, id);
        e = db_run(db, "SELECT " TARGET " FROM chain t WHERE t.id = $1", &args, &r);
        if (e < 0)
                return e;
        if (PQntuples(r) == 0)
                return -ENOENT;
        *ret_target = read_target(r, 0);
        return 0;
}

int repair_decision_store(
        struct db *db, const struct repair_target *target, const char *event, const char *by, const char *reference, bool *ret_stored)
{
        static const char sql[] =
                "SELECT verdict FROM submit_evidence(ARRAY[$1::uuid], ARRAY[$2], ARRAY['person'], ARRAY[$3], ARRAY[$4], ARRAY[NULL::bigint])";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, &target->id);
        db_arg_text(&args, event);
        db_arg_text(&args, by);
        db_arg_text(&args, reference);
        e = db_run(db, sql, &args, &r);
        if (e == 0)
                *ret_stored = slice_equal(db_text(r, 0, 0), "stored");
        return e;
}

int repair_drop_refused_intent(struct db *db, const struct uuid *chain)
{
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuid(&args, chain);
        return db_run(db, "SELECT drop_refused_intent($1)", &args, NULL);
}

/* Inserts a new version of something; sql returns its row. */
static int write_version(struct db *db, const char *sql, struct db_args *args)
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, sql, args, &r);

        if (e < 0)
                return e;
        return PQntuples(r) == 1 ? 0 : -EAGAIN;
}

int repair_rule_write(struct db *db, const struct repair_rule *rule, const char *by, const char *why)
{
        static const char sql[] =
                "INSERT INTO rule (kind, step, version, issue, antibody, basis, late, deadline, attempts, backoff_first, backoff_max, changed_by, "
                "why)"
                " SELECT r.kind, r.step, $3::bigint::integer, r.issue, $4, r.basis, $5 * interval '1 ms', $6 * interval '1 ms', $7::bigint::integer,"
                "  $8 * interval '1 ms', $9 * interval '1 ms', $10, $11 FROM rule r WHERE r.kind = $1 AND r.step = $2 AND r.version = $3 - 1"
                " ON CONFLICT DO NOTHING RETURNING version";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_text(&args, rule->kind);
        db_arg_text(&args, rule->step);
        db_arg_int(&args, rule->version);
        db_arg_text(&args, rule->antibody);
        db_arg_int(&args, rule->late_ms);
        db_arg_int(&args, rule->deadline_ms);
        db_arg_int(&args, rule->attempts);
        db_arg_int(&args, rule->backoff_first_ms);
        db_arg_int(&args, rule->backoff_max_ms);
        db_arg_text(&args, by);
        db_arg_text(&args, why);
        return write_version(db, sql, &args);
}

int repair_haste_read(struct db *db, const char *label, struct repair_haste *ret_haste)
{
        static const char sql[] = "SELECT version, removed, ms(late), ms(deadline), ms(backoff_first), ms(backoff_max) FROM haste WHERE label = $1";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_text(&args, label);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        *ret_haste = (struct repair_haste){0};
        copy_text(ret_haste->label, sizeof(ret_haste->label), label);
        if (PQntuples(r) == 0)
                return 0;
        ret_haste->version = (int)db_int(r, 0, 0);
        ret_haste->removed = db_bool(r, 0, 1);
        ret_haste->late_ms = db_int(r, 0, 2);
        ret_haste->deadline_ms = db_int(r, 0, 3);
        ret_haste->backoff_first_ms = db_int(r, 0, 4);
        ret_haste->backoff_max_ms = db_int(r, 0, 5);
        return 0;
}

int repair_haste_write(struct db *db, const struct repair_haste *haste, const char *by, const char *why)
{
        static const char sql[] = "INSERT INTO haste_version (label, version, removed, late, deadline, backoff_first, backoff_max, changed_by, why)"
                                  " VALUES ($1, $2::bigint::integer, $3, $4 * interval '1 ms', $5 * interval '1 ms', $6 * interval '1 ms', $7 * "
                                  "interval '1 ms', $8, $9)"
                                  " ON CONFLICT DO NOTHING RETURNING version";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_text(&args, haste->label);
        db_arg_int(&args, haste->version);
        db_arg_bool(&args, haste->removed);
        db_arg_int(&args, haste->late_ms);
        db_arg_int(&args, haste->deadline_ms);
        db_arg_int(&args, haste->backoff_first_ms);
        db_arg_int(&args, haste->backoff_max_ms);
        db_arg_text(&args, by);
        db_arg_text(&args, why);
        return write_version(db, sql, &args);
}
