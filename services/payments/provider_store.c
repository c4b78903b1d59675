/* Invariant: a row is there before its call, and only who holds the present epoch writes what came of it. That a call is certainly not under way and
 * may be sent is kept in the row (error = 'send'), so that a crash after a take leaves a call that is asked about. So is whether the provider may
 * have an intent that is sent again in any case: it has none after 'send' and 'refused: ...', and may have it after 'open: ...' or nothing. */
#include "provider_store.h"

#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void text(struct db_args *a, const char *s)
{
        db_array_text(a, s, s ? strlen(s) : 0);
}

int provider_store_intend(struct db *db, const struct provider_intention intentions[], size_t n)
{
        static const char sql[] = "INSERT INTO provider_call (id, chain_id, version, what, state, error, owner, lease_until, next_at)"
                                  " SELECT u.id, u.chain_id, u.version, u.what, 'unknown', 'send', '', now(), now()"
                                  " FROM unnest($1, $2, $3, $4) u(id, chain_id, version, what)";
        _cleanup_(db_args_done) struct db_args args = {0};

        if (n == 0)
                return 0;
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &intentions[i].id);
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &intentions[i].chain_id);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, intentions[i].version);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, provider_what_name(intentions[i].what));
        return db_send(db, sql, &args);
}

int provider_store_take(struct db *db, const char *owner, int limit, int64_t lease_ms, struct provider_call **ret_calls)
{
        /* A query leaves lease_until alone: it says until when the last POST may still be under way. */
        static const char sql[] = "WITH due AS MATERIALIZED (SELECT c.id, c.lease_until <= now() AS over, c.what = 'create' OR c.error IS NOT "
                                  "DISTINCT FROM 'send' AS send,"
                                  "   coalesce(c.error = 'send' OR c.error LIKE 'refused: %', false) AS clean"
                                  "   FROM provider_call c WHERE c.state IN ('calling', 'pending', 'unknown') AND c.next_at <= now()"
                                  "   ORDER BY c.next_at LIMIT $2 FOR UPDATE SKIP LOCKED)"
                                  " UPDATE provider_call p SET owner = $1, epoch = p.epoch + 1, state = 'calling', error = NULL, next_at = now() + "
                                  "$3 * interval '1 ms',"
                                  "   lease_until = CASE WHEN d.send THEN now() + $3 * interval '1 ms' ELSE p.lease_until END"
                                  " FROM due d, chain c LEFT JOIN payment_intent i ON i.id = c.id WHERE p.id = d.id AND c.id = p.chain_id"
                                  " RETURNING p.id, p.chain_id, p.version, p.epoch, p.probes, p.what, d.send, d.over, d.clean, c.amount, c.currency,"
                                  "   to_char(i.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        struct provider_call *calls = NULL;
        int e;

        db_arg_text(&args, owner);
        db_arg_int(&args, limit);
        db_arg_int(&args, lease_ms);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        for (int row = 0; row < PQntuples(r); row++) {
                struct provider_call *c = xcalloc(1, sizeof(*c));

                *c = (struct provider_call){.id = db_uuid(r, row, 0),
                        .chain_id = db_uuid(r, row, 1),
                        .version = (int)db_int(r, row, 2),
                        .epoch = (int)db_int(r, row, 3),
                        .probes = (int)db_int(r, row, 4),
                        .send = db_bool(r, row, 6),
                        .call_over = db_bool(r, row, 7),
                        .clean = db_bool(r, row, 8),
                        .amount = {.minor = db_int(r, row, 9)},
                        .next = calls};
                if (!provider_what_parse(PQgetvalue(r, row, 5), &c->what))
                        die("a provider call of an unknown kind");
                copy_text(c->amount.currency, sizeof(c->amount.currency), PQgetvalue(r, row, 10));
                copy_text(c->expires_at, sizeof(c->expires_at), PQgetvalue(r, row, 11));
                calls = c;
        }
        *ret_calls = calls;
        return 0;
}

int provider_store_write(struct db *db, const struct provider_outcome outcomes[], size_t n, bool ret_in[])
{
        /* By key, as execution_store_outcomes: what is joined to the state keeps the index of open calls away. */
        static const char sql[] = "UPDATE provider_call p SET what = o.what, state = o.state, error = o.error, next_at = now() + o.next_ms * "
                                  "interval '1 ms', probes = o.probes"
                                  " FROM unnest($1, $2, $3, $4, $5, $6, $7) o(id, epoch, what, state, error, next_ms, probes)"
                                  " WHERE p.id = ANY ($1) AND p.id = o.id AND p.epoch = o.epoch AND p.state || '' = 'calling' RETURNING p.id";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        memset(ret_in, 0, n * sizeof(*ret_in));
        if (n == 0)
                return 0;
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &outcomes[i].call->id);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, outcomes[i].call->epoch);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, provider_what_name(outcomes[i].what));
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, outcomes[i].state);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++) {
                char error[PROVIDER_ROW_ERROR_MAX];

                text(&args, provider_row_error(outcomes[i].says, outcomes[i].error, error));
        }
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, outcomes[i].next_ms);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, outcomes[i].probes);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        for (int row = 0; row < PQntuples(r); row++) {
                struct uuid id = db_uuid(r, row, 0);

                for (size_t i = 0; i < n; i++)
                        ret_in[i] |= uuid_equal(&outcomes[i].call->id, &id);
        }
        return 0;
}

int provider_store_evidence(struct db *db, struct provider_evidence evidence[], size_t n)
{
        static const char sql[] = "SELECT s.ord, s.verdict FROM submit_evidence($1, $2, $3, $4, $5, $6) s";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        if (n == 0)
                return 0;
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &evidence[i].chain_id);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, evidence[i].event);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, "provider");
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, "http");
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                text(&args, evidence[i].reference);
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, evidence[i].minor);
        e = db_run(db, sql, &args, &r);
        for (int row = 0; e == 0 && row < PQntuples(r); row++)
                snprintf(evidence[db_int(r, row, 0) - 1].verdict, sizeof(evidence->verdict), "%s", PQgetvalue(r, row, 1));
        return e;
}
