/* System tasks: open_task() opens one or finds the active one, and internal evidence goes through submit_evidence(). Both run in the transaction of
 * the issue or the command that wants them, so a crash leaves neither. */
#include "repair_store.h"
#include "repair_texts.h"

#include <errno.h>
#include <stdio.h>

int repair_task_open(struct db *db, const char *kind, const char *entity, const char *cause, enum lane lane, struct repair_task *ret_task)
{
        static const char sql[] = "SELECT id, opened, refusal, hearer, version FROM open_task($1, $2, $3, $4, $5)";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        struct uuid id = uuid_v7();
        int e;

        db_arg_uuid(&args, &id);
        db_arg_text(&args, kind);
        db_arg_text(&args, entity);
        db_arg_text(&args, cause);
        db_arg_text(&args, lane_name(lane));
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        if (PQntuples(r) == 0)
                return -EAGAIN; /* another opened it meanwhile */
        *ret_task = (struct repair_task){.id = db_uuid(r, 0, 0), .opened = db_bool(r, 0, 1), .version = (int)db_int(r, 0, 4)};
        copy_text(ret_task->refusal, sizeof(ret_task->refusal), PQgetvalue(r, 0, 2));
        copy_text(ret_task->hearer, sizeof(ret_task->hearer), PQgetvalue(r, 0, 3));
        return 0;
}

int repair_tasks_active(struct db *db, const char *kind, int64_t *ret_n)
{
        static const char sql[] = "SELECT count(*) FROM chain WHERE task IS NOT NULL AND status = 'open' AND split_part(task, '/', 1) = $1";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_text(&args, kind);
        e = db_run(db, sql, &args, &r);
        if (e == 0)
                *ret_n = db_int(r, 0, 0);
        return e;
}

int repair_task_read(struct db *db, const struct uuid *id, char ret_kind[32], char ret_entity[80])
{
        static const char sql[] =
                "SELECT split_part(c.task, '/', 1), substr(c.task, strpos(c.task, '/') + 1) FROM chain c WHERE c.id = $1 AND c.task IS NOT NULL";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, id);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        if (PQntuples(r) == 0)
                return -ENOENT;
        snprintf(ret_kind, 32, "%s", PQgetvalue(r, 0, 0));
        snprintf(ret_entity, 80, "%s", PQgetvalue(r, 0, 1));
        return 0;
}

int repair_reversals_store(struct db *db, const struct uuid tasks[], const struct uuid issues[], const int versions[], size_t n)
{
        static const char sql[] = "SELECT v.verdict = 'stored' AND v.version <> u.version"
                                  " FROM (SELECT * FROM unnest($1, $2, $3) u(id, issue, version) ORDER BY id) u CROSS JOIN LATERAL "
                                  "submit_evidence(ARRAY[u.id], '{PAYMENT_REVERSED}', "
                                  "'{internal}', '{" REPAIR_REVERSES "}', ARRAY[u.issue::text], '{NULL}') v";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        if (n == 0)
                return 0;
        db_arg_uuids(&args, tasks, n);
        db_arg_uuids(&args, issues, n);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, versions[i]);
        e = db_run(db, sql, &args, &r);
        for (int row = 0; e == 0 && row < PQntuples(r); row++)
                if (db_bool(r, row, 0))
                        e = -EAGAIN;
        return e;
}
