/* The SQL of webhooks. A subscription's place in the store and the deliveries made up to it are one statement, under the lock of its row: an event
 * becomes one delivery, whoever reads it, and none is passed over. An attempt is claimed before it is made, so a crash in between repeats it, under
 * the same message id. */
#include "webhooks_store.h"

#include "services/intake/job_view.h"

#include <stdlib.h>

#define GATHER_EVENTS 500
#define PENDING_MAX   "1000" /* of a subscription: the rest waits in the event store */
#define GIVE_UP_AFTER "10"   /* attempts that a delivery has in any case */
#define PRUNE_ROWS    2000

int webhooks_active(struct db *db, PGresult **ret_rows)
{
        static const char sql[] =
                "SELECT w.id, w.url, w.secret,"
                " EXISTS (SELECT 1 FROM event x WHERE (x.generation, x.xid, x.id) > (w.generation, w.xid, w.event_id) AND " JOB_VIEW_HORIZON "),"
                " EXISTS (SELECT 1 FROM webhook_delivery d WHERE d.webhook_id = w.id AND d.state = 'pending' AND d.next_at <= now()),"
                " (SELECT string_agg(o.secret, ' ' ORDER BY o.id DESC) FROM webhook_old_secret o WHERE o.webhook_id = w.id AND o.until > now())"
                ", w.format = 'cloudevents' FROM webhook w WHERE w.state = 'active' ORDER BY w.id";

        return db_run(db, sql, NULL, ret_rows);
}

void webhooks_subscription(const PGresult *rows, int row, struct webhooks_subscription *ret_subscription)
{
        *ret_subscription = (struct webhooks_subscription){.id = db_uuid(rows, row, 0),
                .url = PQgetvalue(rows, row, 1),
                .secret = PQgetvalue(rows, row, 2),
                .behind = db_bool(rows, row, 3),
                .due = db_bool(rows, row, 4),
                .old_secrets = PQgetvalue(rows, row, 5),
                .cloudevents = db_bool(rows, row, 6)};
}

int webhooks_gather(struct db *db, const struct uuid *webhook)
{
        static const char sql[] =
                "WITH w AS MATERIALIZED (SELECT * FROM webhook WHERE id = $1 AND state = 'active' AND"
                "  (SELECT count(*) FROM webhook_delivery d WHERE d.webhook_id = $1 AND d.state = 'pending') < " PENDING_MAX
                "  FOR UPDATE SKIP LOCKED),"
                " page AS MATERIALIZED (SELECT x.generation, x.xid, x.id, x.type, x.chain_id, x.version FROM event x"
                "  WHERE EXISTS (SELECT 1 FROM w) AND (x.generation, x.xid, x.id) >"
                "  ((SELECT generation FROM w), (SELECT xid FROM w), (SELECT event_id FROM w)) AND " JOB_VIEW_HORIZON
                "  ORDER BY x.generation, x.xid, x.id LIMIT $2),"
                " made AS (INSERT INTO webhook_delivery (webhook_id, chain_id, version, type)"
                "  SELECT w.id, p.chain_id, p.version, p.type FROM page p CROSS JOIN w"
                "  JOIN LATERAL (SELECT c.client FROM chain c WHERE c.id = p.chain_id OFFSET 0) c ON w.client IS NULL OR c.client = w.client"
                "  WHERE cardinality(w.types) = 0 OR p.type = ANY (w.types) ORDER BY p.generation, p.xid, p.id)"
                " UPDATE webhook u SET generation = l.generation, xid = l.xid, event_id = l.id"
                " FROM (SELECT * FROM page p ORDER BY p.generation DESC, p.xid DESC, p.id DESC LIMIT 1) l WHERE u.id = $1";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuid(&args, webhook);
        db_arg_int(&args, GATHER_EVENTS);
        return db_run(db, sql, &args, NULL);
}

int webhooks_claim(struct db *db, const struct uuid *webhook, int64_t n, int64_t lease_ms, PGresult **ret_rows)
{
        static const char sql[] =
                "WITH due AS MATERIALIZED (SELECT q.id FROM webhook_delivery q WHERE q.webhook_id = $1 AND q.state = 'pending' AND q.next_at <= now()"
                "  ORDER BY q.next_at LIMIT $2 FOR UPDATE SKIP LOCKED),"
                " mine AS (UPDATE webhook_delivery d SET attempts = d.attempts + 1, next_at = now() + $3 * interval '1 ms' FROM due"
                "  WHERE d.id = due.id RETURNING d.*)"
                " SELECT " JOB_VIEW_EVENT_COLUMNS ", m.id, m.message, m.attempts FROM mine m"
                " JOIN event e ON (e.chain_id, e.version) = (m.chain_id, m.version) ORDER BY m.id";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuid(&args, webhook);
        db_arg_int(&args, n);
        db_arg_int(&args, lease_ms);
        return db_run(db, sql, &args, ret_rows);
}

int webhooks_delivered(struct db *db, const struct webhooks_attempt *a)
{
        static const char sql[] =
                "WITH d AS (UPDATE webhook_delivery SET state = 'delivered', done_at = now(), last_status = $2, last_error = NULL"
                "  WHERE id = $1 AND state = 'pending' RETURNING webhook_id)"
                " UPDATE webhook w SET failing_since = NULL, last_error = NULL FROM d WHERE w.id = d.webhook_id AND w.failing_since IS NOT NULL";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_int(&args, a->delivery);
        db_arg_int(&args, a->status);
        return db_run(db, sql, &args, NULL);
}

/* Disabled is who has answered nothing for long while there was something to answer: this delivery must be as old, or after quiet days the first
 * failure would do. */
int webhooks_failed(
        struct db *db, const struct webhooks_attempt *a, bool gone, int64_t delay_ms, const struct webhooks_config *config, bool *ret_disabled)
{
        static const char sql[] =
                "WITH d AS (UPDATE webhook_delivery q SET last_status = nullif($2, 0), last_error = $3, next_at = now() + $4 * interval '1 ms',"
                "  state = CASE WHEN x.up THEN 'failed' ELSE q.state END, done_at = CASE WHEN x.up THEN now() END"
                "  FROM (SELECT y.id, y.attempts >= " GIVE_UP_AFTER " AND y.created_at < now() - $5 * interval '1 s' AS up"
                "   FROM webhook_delivery y WHERE y.id = $1 AND y.state = 'pending') x"
                "  WHERE q.id = x.id AND q.state = 'pending' RETURNING q.webhook_id, q.created_at)"
                " UPDATE webhook w SET failing_since = coalesce(w.failing_since, now()), last_error = $3,"
                "  state = CASE WHEN o.over THEN 'disabled' ELSE w.state END,"
                "  reason = CASE WHEN NOT o.over THEN w.reason WHEN $6 THEN 'the receiver answered 410: it wants no more'"
                "   ELSE 'every delivery has failed since ' || " JOB_VIEW_TIME(
                        "w.failing_since") " || ', the last one: ' || $3 END"
                                           " FROM d JOIN webhook v ON v.id = d.webhook_id CROSS JOIN LATERAL"
                                           "  (SELECT v.state = 'active' AND ($6 OR (coalesce(v.failing_since < now() - $5 * interval '1 s', false)"
                                           "   AND d.created_at < now() - $5 * interval '1 s')) AS over) o"
                                           " WHERE w.id = v.id RETURNING o.over";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_int(&args, a->delivery);
        db_arg_int(&args, a->status);
        db_arg_text(&args, a->error);
        db_arg_int(&args, delay_ms);
        db_arg_int(&args, config->disable_after_s);
        db_arg_bool(&args, gone);
        e = db_run(db, sql, &args, &r);
        if (e == 0)
                *ret_disabled = PQntuples(r) > 0 && db_bool(r, 0, 0);
        return e;
}

int webhooks_forget_secrets(struct db *db)
{
        return db_run(db, "DELETE FROM webhook_old_secret WHERE until < now()", NULL, NULL);
}

int webhooks_prune(struct db *db, int64_t keep_s, bool *ret_more)
{
        static const char sql[] = "DELETE FROM webhook_delivery WHERE id IN (SELECT d.id FROM webhook_delivery d"
                                  " WHERE d.done_at < now() - $1 * interval '1 s' ORDER BY d.done_at LIMIT $2)";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_int(&args, keep_s);
        db_arg_int(&args, PRUNE_ROWS);
        e = db_run(db, sql, &args, &r);
        if (e == 0)
                *ret_more = strtoll(PQcmdTuples(r), NULL, 10) == PRUNE_ROWS;
        return e;
}
