/* SQL about runs at operators. The only thing written is a person's word, by decide_run(), which is one transaction. */
#include "board_runs_store.h"

#include "board_store.h"

#include "base/crashpoint.h"
#include "services/intake/job_view.h"

#include <stdio.h>

int board_runs(
        struct db *db, const char *state, const char *operator, const struct uuid * job, const struct uuid *after, int64_t limit, struct strbuf *b)
{
        /* The open ones first, by their index: in the order of ids all runs there ever were would be read. */
        static const char sql[] =
                "WITH live AS MATERIALIZED (SELECT * FROM operator_run WHERE state IN ('calling', 'accepted', 'unknown'))"
                " SELECT q.id, row_to_json(q)::text FROM (SELECT r.id, r.chain_id AS job_id, r.step, r.tag, r.operator, r.attempt, r.state, r.error,"
                " " JOB_VIEW_TIME("r.started_at") " AS since, extract(epoch FROM now() - r.started_at)::bigint AS age_s, r.probes, " JOB_VIEW_TIME(
                        "r.next_at") " AS next_at, r.worker, r.progress, r.percent, " JOB_VIEW_TIME("r.beat_at") " AS beat_at,"
                                                                                                                 " extract(epoch FROM now() - "
                                                                                                                 "r.beat_at)::bigint AS beat_age_s, "
                                                                                                                 "d.outcome AS decided FROM live r "
                                                                                                                 "LEFT JOIN run_decision d ON "
                                                                                                                 "d.run_id = r.id"
                                                                                                                 " WHERE ($1 IS NULL OR r.state = "
                                                                                                                 "$1) AND ($2 IS NULL OR r.chain_id "
                                                                                                                 "= $2::uuid) AND ($5 IS NULL OR "
                                                                                                                 "r.operator = $5) AND ($3 IS NULL "
                                                                                                                 "OR r.id > "
                                                                                                                 "$3::uuid) ORDER BY r.id LIMIT $4) "
                                                                                                                 "q ORDER BY q.id";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        char job_text[UUID_TEXT_SIZE], after_text[UUID_TEXT_SIZE];
        int e;

        if (job)
                uuid_format(job, job_text);
        if (after)
                uuid_format(after, after_text);
        db_arg_text(&args, state);
        db_arg_text(&args, job ? job_text : NULL);
        db_arg_text(&args, after ? after_text : NULL);
        db_arg_int(&args, limit + 1);
        db_arg_text(&args, operator);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        board_add_page(b, r, limit);
        return 0;
}

int board_decide_run(struct db *db, const struct uuid *run, const struct board_decision *d, char ret_verdict[16])
{
        static const char sql[] = "SELECT decide_run($1, $2, $3, $4, $5)";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, run);
        db_arg_text(&args, d->done ? "done" : "failed");
        db_arg_text(&args, d->output);
        db_arg_text(&args, d->by);
        db_arg_text(&args, d->reference);
        CRASH_POINT("board: before commit of a decision");
        e = db_run(db, sql, &args, &r);
        CRASH_POINT("board: after commit of a decision");
        if (e == 0)
                snprintf(ret_verdict, 16, "%s", PQgetvalue(r, 0, 0));
        return e;
}
