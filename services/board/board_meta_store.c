/* The SQL of the routes about repair: commands are inserted, everything else is read. A command is one row, so a crash leaves it stored or not at
 * all; what is stored is carried out by meta-repair, whoever waits. */
#include "board_meta_store.h"

#include "board_store.h"
#include "services/intake/job_view.h"

#include <errno.h>
#include <string.h>

int board_command_store(struct db *db, const struct uuid *id, const char *what, const char *args, const char *by)
{
        static const char insert[] = "INSERT INTO repair_command (id, what, args, by_whom) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING";
        static const char same[] = "SELECT what = $2 AND args = $3 AND by_whom = $4 FROM repair_command WHERE id = $1";
        _cleanup_(db_args_done) struct db_args a = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&a, id);
        db_arg_text(&a, what);
        db_arg_text(&a, args);
        db_arg_text(&a, by);
        e = db_run(db, insert, &a, NULL);
        if (e == 0)
                e = db_run(db, same, &a, &r);
        if (e < 0)
                return e;
        return PQntuples(r) == 1 && db_bool(r, 0, 0) ? 0 : -EEXIST;
}

int board_commands_done(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_result)
{
        static const char sql[] = "SELECT id, result FROM repair_command WHERE id = ANY ($1) AND done_at IS NOT NULL";
        _cleanup_(db_args_done) struct db_args a = {0};

        db_arg_uuids(&a, ids, n);
        return db_run(db, sql, &a, ret_result);
}

int board_command_document(struct db *db, const struct uuid *id, struct strbuf *b)
{
        static const char sql[] = "SELECT row_to_json(o)::text FROM (SELECT c.id, c.what, c.args::json AS args, c.by_whom AS by, " JOB_VIEW_TIME(
                "c.at") " AS at, CASE WHEN c.done_at IS NULL THEN 'stored' ELSE 'done' END AS status, CASE WHEN c.done_at IS NOT NULL THEN "
                        "c.result::json END AS result, " JOB_VIEW_TIME("c.done_at") " AS done_at FROM repair_command c WHERE c.id = $1) o";

        return board_document(db, sql, id, b);
}

#define ISSUE_COLUMNS                                                                                                                                \
        "i.id, i.kind, i.grade, i.chain_id, i.operator, i.webhook_id, i.step, " JOB_VIEW_TIME(                                                       \
                "i.since") " AS since, i.state, i.waits_for, i.antibody, i.attempts, "                                                               \
                           "i.outcome, CASE WHEN i.closed_at IS NULL THEN " JOB_VIEW_TIME("i.next_at") " END AS next_at, " JOB_VIEW_TIME(            \
                                   "i.opened_at") " AS opened_at, " JOB_VIEW_TIME("i.closed_at") " AS closed_at"
#define ISSUE_FILTER                                                                                                                                 \
        "($3::text IS NULL OR i.kind = $3) AND ($4::text IS NULL OR i.state = $4) AND ($5::text IS NULL OR i.grade = $5)"                            \
        " AND ($6::uuid IS NULL OR i.chain_id = $6) ORDER BY i.id DESC LIMIT $7"

int board_issues(struct db *db, const struct board_issue_filter *f, struct strbuf *b)
{
        /* The open ones, then the closed ones, each the latest first. */
        static const char sql[] =
                "SELECT x.part, x.id, row_to_json(x.o)::text FROM ((SELECT 0 AS part, i.id, o FROM issue i CROSS JOIN LATERAL (SELECT " ISSUE_COLUMNS
                ") o WHERE i.closed_at IS NULL AND NOT $1 AND i.id < $2 AND " ISSUE_FILTER
                ") UNION ALL (SELECT 1, i.id, o FROM issue i CROSS JOIN LATERAL (SELECT " ISSUE_COLUMNS
                ") o WHERE i.closed_at IS NOT NULL AND (NOT $1 OR i.id < $2) AND " ISSUE_FILTER ")) x ORDER BY x.part, x.id DESC LIMIT $7";
        _cleanup_(db_args_done) struct db_args a = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        struct uuid last;
        int e, n;

        memset(last.b, 0xff, sizeof(last.b));
        db_arg_bool(&a, f->after && f->after_closed);
        db_arg_uuid(&a, f->after ? f->after : &last);
        db_arg_text(&a, f->kind);
        db_arg_text(&a, f->state);
        db_arg_text(&a, f->grade);
        db_arg_uuid(&a, f->chain);
        db_arg_int(&a, f->limit + 1);
        e = db_run(db, sql, &a, &r);
        if (e < 0)
                return e;
        n = PQntuples(r) > f->limit ? (int)f->limit : PQntuples(r);
        strbuf_adds(b, "{\"items\":[");
        for (int row = 0; row < n; row++)
                strbuf_addf(b, "%s%s", row > 0 ? "," : "", PQgetvalue(r, row, 2));
        if (PQntuples(r) > f->limit)
                strbuf_addf(b, "],\"next\":\"%s.%s\"}", PQgetvalue(r, n - 1, 0), PQgetvalue(r, n - 1, 1));
        else
                strbuf_adds(b, "],\"next\":null}");
        return 0;
}

int board_issue(struct db *db, const struct uuid *id, struct strbuf *b)
{
        static const char sql[] = "SELECT row_to_json(o)::text FROM (SELECT " ISSUE_COLUMNS ", (SELECT coalesce(json_agg(row_to_json(h) ORDER BY "
                                  "h.version), '[]') FROM (SELECT e.version, e.type, " JOB_VIEW_TIME(
                                          "e.at") " AS time, e.data::json AS data FROM event e WHERE e.chain_id = i.id) h) AS history"
                                                  " FROM issue i WHERE i.id = $1) o";

        return board_document(db, sql, id, b);
}

static int list(struct db *db, const char *sql, struct strbuf *b)
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, sql, NULL, &r);

        if (e == 0)
                strbuf_addf(b, "{\"items\":%s,\"next\":null}", PQgetvalue(r, 0, 0));
        return e;
}

/* Of `t`, a version of a rule or of a hasty label. */
#define LATE_S    "extract(epoch FROM t.late)::bigint AS late_s, extract(epoch FROM t.deadline)::bigint AS deadline_s"
#define BACKOFF_S "extract(epoch FROM t.backoff_first)::bigint AS backoff_first_s, extract(epoch FROM t.backoff_max)::bigint AS backoff_max_s"
#define CHANGED   "t.changed_by, t.why, " JOB_VIEW_TIME("t.at") " AS at"

int board_rules(struct db *db, struct strbuf *b)
{
        static const char sql[] =
                "SELECT coalesce(json_agg(row_to_json(o) ORDER BY o.kind, o.step), '[]')::text FROM (SELECT DISTINCT ON (t.kind, t.step) t.kind, "
                "t.step, t.version, t.issue, t.antibody, t.basis, " LATE_S ", t.attempts, " BACKOFF_S ", " CHANGED
                " FROM rule t ORDER BY t.kind, t.step, t.version DESC) o";

        return list(db, sql, b);
}

int board_haste(struct db *db, struct strbuf *b)
{
        static const char sql[] = "SELECT coalesce(json_agg(row_to_json(o) ORDER BY o.label), '[]')::text FROM"
                                  " (SELECT t.label, t.version, " LATE_S ", " BACKOFF_S ", t.removed, " CHANGED " FROM haste t) o";

        return list(db, sql, b);
}
