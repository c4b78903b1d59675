/* All SQL of payments. Reads are by primary key for the whole batch. */
#include "payments_store.h"

#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RFC3339 "'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'"

int payments_read(struct db *db, const struct uuid ids[], size_t n, int64_t expiry_ms, PGresult **ret_result)
{
        /* OFFSET 0 keeps the look-ups look-ups, and what a step does not need is not looked up for it. */
        static const char sql[] =
                "SELECT c.id, c.version, c.step, c.lane,"
                " CASE WHEN c.step IN ('PAYMENT_CONFIRMED', 'REFUND_CONFIRMED') THEN (SELECT st.hearer FROM step st WHERE st.kind = c.kind AND "
                "st.name = c.step) END,"
                " c.amount, c.currency, coalesce(i.driver = 'manual' AND i.expires_at <= now() AND v.event IS NULL, false) OR coalesce(v.event = "
                "'PAYMENT_EXPIRED', false),"
                " CASE WHEN v.event <> 'PAYMENT_EXPIRED' THEN v.kind END, v.who, v.reference,"
                " (SELECT to_char((now() + $2 * interval '1 ms') AT TIME ZONE 'UTC', " RFC3339 ")), i.driver, c.kind"
                " FROM chain c"
                " LEFT JOIN LATERAL (SELECT * FROM evidence x WHERE x.chain_id = c.id AND x.version = c.version"
                " AND x.event IN ('PAYMENT_CONFIRMED', 'PAYMENT_EXPIRED', 'REFUND_CONFIRMED')"
                " AND c.step IN ('PAYMENT_INITIATED', 'REFUND_INITIATED') OFFSET 0) v ON true"
                " LEFT JOIN LATERAL (SELECT * FROM payment_intent x WHERE x.id = c.id"
                " AND (c.step = 'REFUND_REQUIRED' OR c.step = 'PAYMENT_INITIATED' AND v.event IS NULL) OFFSET 0) i ON true"
                " WHERE c.id = ANY ($1) AND c.kind IN ('job', 'system')";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuids(&args, ids, n);
        db_arg_int(&args, expiry_ms);
        return db_run(db, sql, &args, ret_result);
}

void payments_row(const PGresult *r, int row, struct payments_row *ret_row)
{
        struct payments_row p = {.hearer = PQgetvalue(r, row, 4),
                .expired = db_bool(r, row, 7),
                .has_evidence = !db_null(r, row, 8),
                .kind = PQgetvalue(r, row, 8),
                .who = PQgetvalue(r, row, 9),
                .reference = PQgetvalue(r, row, 10),
                .expires_at = PQgetvalue(r, row, 11),
                .driver = PQgetvalue(r, row, 12)};
        struct slice lane = db_text(r, row, 3);

        p.chain.id = db_uuid(r, row, 0);
        p.chain.version = (int)db_int(r, row, 1);
        copy_text(p.chain.kind, sizeof(p.chain.kind), PQgetvalue(r, row, 13));
        copy_text(p.chain.step, sizeof(p.chain.step), PQgetvalue(r, row, 2));
        (void)lane_parse(lane.s, lane.len, &p.chain.lane);
        p.chain.amount.minor = db_int(r, row, 5);
        copy_text(p.chain.amount.currency, sizeof(p.chain.amount.currency), PQgetvalue(r, row, 6));
        *ret_row = p;
}

int payments_insert_intents(struct db *db, const char *driver, const struct uuid ids[], const char *const expires_at[], size_t n)
{
        /* A job that was reopened has its intent already, and gets a new term. */
        static const char sql[] =
                "INSERT INTO payment_intent (id, driver, expires_at) SELECT u.id, $3, u.at::timestamptz FROM unnest($1, $2) u(id, at)"
                " ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at";
        _cleanup_(db_args_done) struct db_args args = {0};

        if (n == 0)
                return 0;
        db_arg_uuids(&args, ids, n);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                db_array_text(&args, expires_at[i], strlen(expires_at[i]));
        db_arg_text(&args, driver);
        return db_send(db, sql, &args);
}

int payments_transfer(struct db *db, const struct uuid ids[], size_t n)
{
        static const char sql[] =
                "SELECT v.verdict FROM (SELECT array_agg(u.id) AS ids, array_agg('PAYMENT_CONFIRMED'::text) AS events, array_agg('internal'::text) AS"
                " kinds, array_agg('" PAYMENTS_SYSTEM "'::text) AS who, array_agg(u.id::text) AS refs, array_agg(NULL::bigint) AS amounts"
                " FROM unnest($1) u(id)) a CROSS JOIN LATERAL submit_evidence(a.ids, a.events, a.kinds, a.who, a.refs, a.amounts) v";
        _cleanup_(db_args_done) struct db_args args = {0};

        if (n == 0)
                return 0;
        db_arg_uuids(&args, ids, n);
        return db_run(db, sql, &args, NULL);
}

int payments_heard(struct db *db, const struct uuid ids[], size_t n)
{
        static const char sql[] = "DELETE FROM evidence_inbox WHERE chain_id = ANY ($1)";
        _cleanup_(db_args_done) struct db_args args = {0};

        if (n == 0)
                return 0;
        db_arg_uuids(&args, ids, n);
        return db_send(db, sql, &args);
}

int payments_expired(struct db *db, const char *after, struct uuid **ret_ids, size_t *ret_n, char ret_next[64])
{
        /* An empty page may pass over intents that are being committed just now: so it goes on from a minute before the present. */
        static const char sql[] =
                "WITH due AS (SELECT i.id, i.expires_at FROM payment_intent i"
                " JOIN LATERAL (SELECT x.step FROM chain x WHERE x.id = i.id OFFSET 0) c ON true"
                " WHERE i.expires_at > $1::timestamptz AND i.expires_at <= now() AND i.driver = 'manual' AND c.step = 'PAYMENT_INITIATED'"
                " ORDER BY i.expires_at LIMIT 500)"
                " SELECT due.id, m.next FROM (SELECT CASE WHEN count(*) < 500 THEN now() - interval '1 minute' ELSE "
                "max(expires_at) - interval '1 ms' END AS next"
                " FROM due) m LEFT JOIN due ON true";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_text(&args, after);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        snprintf(ret_next, 64, "%s", PQgetvalue(r, 0, 1));
        *ret_ids = xcalloc((size_t)PQntuples(r), sizeof(**ret_ids));
        *ret_n = 0;
        for (int row = 0; row < PQntuples(r); row++)
                if (!db_null(r, row, 0))
                        (*ret_ids)[(*ret_n)++] = db_uuid(r, row, 0);
        return 0;
}
