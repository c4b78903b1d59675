/* Subscriptions are rows of their own; what is sent to them is the business of aethelos-webhooks, which finds the row. The secret is written here and
 * never read: the board's role may not. */
#include "board_webhooks_store.h"

#include "board_store.h"

#include "base/crashpoint.h"
#include "services/intake/job_view.h"

#include <errno.h>
#include <string.h>

#define SUBSCRIPTIONS_MAX "64"

static void add_types(struct db_args *args, const struct board_webhook *w)
{
        db_array_begin(args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < w->n_types; i++)
                db_array_text(args, w->types[i], strlen(w->types[i]));
}

/* Counted and made under one lock, or two at the same time would both be the last one. */
static int insert(struct db *db, void *arg)
{
        static const char sql[] =
                "INSERT INTO webhook (id, url, types, client, secret, format, generation, xid, event_id)"
                " SELECT $1, $2, $3, $4, $5, $6, coalesce(l.generation, 0), coalesce(l.xid, 0), coalesce(l.id, 0) FROM (SELECT count(*) AS n FROM "
                "webhook) m"
                " LEFT JOIN LATERAL (SELECT x.generation, x.xid, x.id FROM event x WHERE " JOB_VIEW_HORIZON
                "  ORDER BY x.generation DESC, x.xid DESC, x.id DESC LIMIT 1) l ON true WHERE m.n < " SUBSCRIPTIONS_MAX " RETURNING id";
        const struct board_webhook *w = arg;
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, "SELECT pg_advisory_xact_lock(hashtext('aethelos.webhook'))", NULL, NULL);

        if (e < 0)
                return e;
        db_arg_uuid(&args, &w->id);
        db_arg_text(&args, w->url);
        add_types(&args, w);
        db_arg_text(&args, w->client);
        db_arg_text(&args, w->secret);
        db_arg_text(&args, w->cloudevents ? "cloudevents" : "event");
        e = db_run(db, sql, &args, &r);
        CRASH_POINT("board: before commit of a webhook");
        return e < 0 ? e : PQntuples(r) == 0 ? -ENOSPC : 0;
}

int board_webhook_add(struct db *db, const struct board_webhook *w)
{
        static const char unknown[] = "SELECT 1 FROM unnest($1) u(type) WHERE NOT EXISTS (SELECT 1 FROM step s WHERE s.name = u.type) LIMIT 1";
        _cleanup_(db_args_done) struct db_args types = {0};
        _cleanup_(PQclearp) PGresult *wrong = NULL;
        int e;

        add_types(&types, w);
        e = db_run(db, unknown, &types, &wrong);
        if (e < 0)
                return e;
        if (PQntuples(wrong) > 0)
                return -EDOM;
        e = db_transaction(db, insert, (void *)w);
        CRASH_POINT("board: after commit of a webhook");
        return e;
}

int board_webhooks(struct db *db, const struct uuid *id, struct strbuf *b)
{
        static const char sql[] =
                "SELECT row_to_json(o)::text FROM (SELECT w.id, w.url, w.types, w.client, w.format, w.state, w.reason, " JOB_VIEW_TIME(
                        "w.failing_since") " AS failing_since, w.last_error,"
                                           " (SELECT count(*) FROM webhook_delivery d WHERE d.webhook_id = w.id AND d.state = 'pending') AS pending,"
                                           " (SELECT " JOB_VIEW_TIME(
                                                   "max(x.until)") " FROM webhook_old_secret x WHERE x.webhook_id = w.id AND x.until > now())"
                                                                   " AS old_secret_until, " JOB_VIEW_TIME(
                                                                           "w.created_at") " AS created_at FROM webhook w WHERE $1 IS NULL OR w.id = "
                                                                                           "$1) o"
                                                                                           " ORDER BY o.created_at, o.id";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, id);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        if (id && PQntuples(r) == 0)
                return -ENOENT;
        strbuf_adds(b, id ? "" : "{\"items\":[");
        for (int row = 0; row < PQntuples(r); row++)
                strbuf_addf(b, "%s%s", row > 0 ? "," : "", PQgetvalue(r, row, 0));
        strbuf_adds(b, id ? "" : "],\"next\":null}");
        return 0;
}

/* Runs a change of one row that says which it was. */
static int change(struct db *db, const char *sql, const struct db_args *args)
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, sql, args, &r);

        return e < 0 ? e : PQntuples(r) == 0 ? -ENOENT : 0;
}

int board_webhook_remove(struct db *db, const struct uuid *id)
{
        static const char sql[] = "DELETE FROM webhook WHERE id = $1 RETURNING id";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuid(&args, id);
        return change(db, sql, &args);
}

int board_webhook_rotate(struct db *db, const struct uuid *id, const char *secret, int64_t keep_s)
{
        static const char sql[] = "SELECT rotate_webhook($1, $2, $3 * interval '1 s')";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, id);
        db_arg_text(&args, secret);
        db_arg_int(&args, keep_s);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        return strcmp(PQgetvalue(r, 0, 0), "rotated") == 0 ? 0 : strcmp(PQgetvalue(r, 0, 0), "too_many") == 0 ? -ENOSPC : -ENOENT;
}

int board_webhook_enable(struct db *db, const struct uuid *id)
{
        static const char sql[] = "UPDATE webhook SET state = 'active', reason = NULL, failing_since = NULL WHERE id = $1 RETURNING id";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuid(&args, id);
        return change(db, sql, &args);
}

int board_redeliver(struct db *db, const struct uuid *webhook, int64_t id)
{
        static const char sql[] = "UPDATE webhook_delivery SET state = 'pending', attempts = 0, next_at = now(), done_at = NULL"
                                  " WHERE id = $2 AND webhook_id = $1 RETURNING id";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuid(&args, webhook);
        db_arg_int(&args, id);
        return change(db, sql, &args);
}

int board_deliveries(struct db *db, const struct uuid *webhook, const char *state, int64_t before, int64_t limit, struct strbuf *b)
{
        static const char sql[] =
                "SELECT d.id, row_to_json(o)::text FROM webhook_delivery d CROSS JOIN LATERAL (SELECT d.id, d.message AS webhook_id, "
                "d.chain_id,"
                " d.version, d.type, d.state, d.attempts, d.last_status, d.last_error, CASE d.state WHEN 'pending' "
                "THEN " JOB_VIEW_TIME("d.next_at") " END AS next_at, " JOB_VIEW_TIME("d.created_at") " AS created_at, " JOB_VIEW_TIME(
                        "d.done_at") " AS done_at) o"
                                     " WHERE d.webhook_id = $1 AND ($2 IS NULL OR d.state = $2) AND d.id < $3 ORDER BY d.id DESC "
                                     "LIMIT $4";
        _cleanup_(strbuf_done) struct strbuf none = {0};
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = board_webhooks(db, webhook, &none);

        db_arg_uuid(&args, webhook);
        db_arg_text(&args, state);
        db_arg_int(&args, before);
        db_arg_int(&args, limit + 1);
        if (e == 0)
                e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        board_add_page(b, r, limit);
        return 0;
}
