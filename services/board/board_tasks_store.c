/* System tasks as people see them: folded from the chain and its events, so that what is shown is what has happened. It only reads. */
#include "board_tasks_store.h"

#include "board_store.h"

#include "services/intake/job_view.h"

#include <string.h>

#define STATE                                                                                                                                        \
        "CASE c.status WHEN 'completed' THEN 'COMPLETED' WHEN 'final_fail' THEN 'FAILED' ELSE"                                                       \
        " CASE WHEN c.step IN ('TASK_CREATED', 'FLOW_CHOSEN', 'PRICED', 'PAYMENT_CONFIRMED') THEN 'SCHEDULED' ELSE 'RUNNING' END END"
#define COLUMNS                                                                                                                                      \
        "c.id, split_part(c.task, '/', 1) AS kind, substr(c.task, strpos(c.task, '/') + 1) AS entity, " STATE " AS state, c.step, c.lane,"           \
        " CASE WHEN c.amount IS NOT NULL THEN (SELECT row_to_json(a) FROM (SELECT c.amount AS minor, c.currency) a) END AS price,"                   \
        " (SELECT e.data::json -> 'cause' FROM event e WHERE e.chain_id = c.id AND e.version = 1) AS cause, " JOB_VIEW_TIME(                         \
                "c.created_at") " AS created_at, " JOB_VIEW_TIME("c.updated_at") " AS updated_at"

int board_tasks(struct db *db, const char *kind, const char *state, const struct uuid *after, int64_t limit, struct strbuf *b)
{
        static const char sql[] = "SELECT c.id, row_to_json(o)::text FROM chain c CROSS JOIN LATERAL (SELECT " COLUMNS
                                  ") o WHERE c.task IS NOT NULL AND c.id < $1 AND ($2 IS NULL OR o.kind = $2) AND ($3 IS NULL OR o.state = $3)"
                                  " ORDER BY c.id DESC LIMIT $4";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        struct uuid last;
        int e;

        memset(last.b, 0xff, sizeof(last.b));
        db_arg_uuid(&args, after ? after : &last);
        db_arg_text(&args, kind);
        db_arg_text(&args, state);
        db_arg_int(&args, limit + 1);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        board_add_page(b, r, limit);
        return 0;
}

int board_task_kind_known(struct db *db, const char *kind, bool *ret_known)
{
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_text(&args, kind);
        e = db_run(db, "SELECT FROM task_kind WHERE name = $1", &args, &r);
        if (e == 0)
                *ret_known = PQntuples(r) == 1;
        return e;
}

int board_task(struct db *db, const struct uuid *id, struct strbuf *b)
{
        static const char sql[] =
                "SELECT row_to_json(o)::text FROM (SELECT " COLUMNS ","
                " (SELECT e.data::json -> 'result' FROM event e WHERE e.chain_id = c.id AND e.type = 'EXECUTION_COMPLETED') AS result,"
                " (SELECT e.data::json -> 'error' FROM event e WHERE e.chain_id = c.id AND e.type IN ('EXECUTION_FAILED', 'FINAL_FAIL')"
                "  ORDER BY e.version DESC LIMIT 1) AS error,"
                " (SELECT coalesce(json_agg(row_to_json(l) ORDER BY l.version), '[]') FROM (SELECT j.version, j.debit, j.credit,"
                "  (SELECT row_to_json(a) FROM (SELECT j.amount AS minor, j.currency) a) AS amount FROM journal j WHERE j.chain_id = c.id) l) AS "
                "ledger"
                " FROM chain c WHERE c.id = $1 AND c.task IS NOT NULL) o";

        return board_document(db, sql, id, b);
}

int board_settlement(struct db *db, const struct uuid *task, PGresult **ret_result)
{
        static const char sql[] = "SELECT c.id, c.parent, c.amount, c.currency, lower(substr(c.step, length('PAYOUT_') + 1)), " JOB_VIEW_TIME(
                "c.updated_at") " FROM settlement_item i JOIN LATERAL (SELECT * FROM chain x WHERE x.id = i.payout_id OFFSET 0) c ON true"
                                " WHERE i.task_id = $1 ORDER BY i.payout_id";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuid(&args, task);
        return db_run(db, sql, &args, ret_result);
}
