/* The SQL of documents and evidence. It writes through submit_evidence(), and nowhere else. A crash here leaves nothing half done: each change is one
 * transaction. */
#include "board_store.h"

#include "services/intake/job_view.h"

#include <errno.h>
#include <string.h>

/* --- pages --- */

#define PAYOUT_COLUMNS JOB_VIEW_PAYOUT_COLUMNS ", v.reference, v.who"
#define PAYOUT_EVIDENCE                                                                                                                              \
        " LEFT JOIN LATERAL (SELECT x.reference, x.who FROM evidence x WHERE x.chain_id = c.id AND x.event = 'PAYOUT_DONE'"                          \
        " ORDER BY x.version DESC LIMIT 1) v ON true "

static void add_text(struct strbuf *b, const char *name, struct slice s)
{
        strbuf_addf(b, ",\"%s\":", name);
        if (s.s)
                strbuf_add_json(b, s.s, s.len);
        else
                strbuf_adds(b, "null");
}

void board_add_payout(struct strbuf *b, const PGresult *r, int row)
{
        job_view_add_payout(b, r, row, 0);
        b->len--; /* the closing brace: evidence is for the admin side alone */
        add_text(b, "reference", db_text(r, row, JOB_VIEW_PAYOUT_N));
        add_text(b, "by", db_text(r, row, JOB_VIEW_PAYOUT_N + 1));
        strbuf_addc(b, '}');
}

int board_payouts(struct db *db, const char *step, const struct uuid *job, const struct uuid *after, int64_t limit, struct strbuf *b)
{
        static const char of_job[] =
                "SELECT " PAYOUT_COLUMNS " FROM chain c" PAYOUT_EVIDENCE "WHERE c.parent = $1 AND ($2 IS NULL OR c.step = $2) LIMIT $3";
        static const char all[] = "SELECT " PAYOUT_COLUMNS " FROM chain c" PAYOUT_EVIDENCE
                                  "WHERE c.parent IS NOT NULL AND c.parent < $1 AND ($2 IS NULL OR c.step = $2) ORDER BY c.parent DESC LIMIT $3";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        struct uuid last;
        int e, n;

        memset(last.b, 0xff, sizeof(last.b));
        db_arg_uuid(&args, job ? job : after ? after : &last);
        db_arg_text(&args, step);
        db_arg_int(&args, limit + 1);
        e = db_run(db, job ? of_job : all, &args, &r);
        if (e < 0)
                return e;
        n = PQntuples(r) > limit ? (int)limit : PQntuples(r);
        strbuf_adds(b, "{\"items\":[");
        for (int row = 0; row < n; row++) {
                if (row > 0)
                        strbuf_addc(b, ',');
                board_add_payout(b, r, row);
        }
        if (PQntuples(r) > limit)
                strbuf_addf(b, "],\"next\":\"%s\"}", PQgetvalue(r, n - 1, 1));
        else
                strbuf_adds(b, "],\"next\":null}");
        return 0;
}

void board_add_page(struct strbuf *b, const PGresult *r, int64_t limit)
{
        int n = PQntuples(r) > limit ? (int)limit : PQntuples(r);

        strbuf_adds(b, "{\"items\":[");
        for (int row = 0; row < n; row++)
                strbuf_addf(b, "%s%s", row > 0 ? "," : "", PQgetvalue(r, row, 1));
        if (PQntuples(r) > limit)
                strbuf_addf(b, "],\"next\":\"%s\"}", PQgetvalue(r, n - 1, 0));
        else
                strbuf_adds(b, "],\"next\":null}");
}

int board_document(struct db *db, const char *sql, const struct uuid *id, struct strbuf *b)
{
        _cleanup_(db_args_done) struct db_args a = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&a, id);
        e = db_run(db, sql, &a, &r);
        if (e < 0)
                return e;
        if (PQntuples(r) == 0)
                return -ENOENT;
        strbuf_adds(b, PQgetvalue(r, 0, 0));
        return 0;
}

int board_payouts_by_id(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_result)
{
        static const char sql[] = "SELECT " PAYOUT_COLUMNS " FROM chain c" PAYOUT_EVIDENCE "WHERE c.id = ANY ($1) AND c.kind = 'payout'";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuids(&args, ids, n);
        return db_run(db, sql, &args, ret_result);
}

int board_refunds(struct db *db, const struct uuid *after, int64_t limit, struct strbuf *b)
{
        static const char sql[] = "SELECT c.id, row_to_json(r)::text FROM chain c, LATERAL (SELECT c.id AS job_id,"
                                  " json_build_object('minor', c.amount, 'currency', c.currency) AS amount, i.driver, " JOB_VIEW_TIME(
                                          "c.updated_at") " AS since"
                                                          " FROM payment_intent i WHERE i.id = c.id OFFSET 0) r"
                                                          " WHERE c.status = 'open' AND c.aside = 'provider' AND c.id > $1 ORDER BY c.id LIMIT $2";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, after);
        db_arg_int(&args, limit + 1);
        e = db_run(db, sql, &args, &r);
        if (e == 0)
                board_add_page(b, r, limit);
        return e;
}

int board_quarantine(struct db *db, int64_t after, int64_t limit, struct strbuf *b)
{
        static const char sql[] = "SELECT q.id, row_to_json(q)::text FROM (SELECT x.id, x.service, x.subject, x.chain_id, x.reason, " JOB_VIEW_TIME(
                "x.at") " AS time, length(x.bytes) AS length, translate(encode(substr(x.bytes, 1, 4096), 'base64'), E'\\n', '') AS bytes_base64"
                        " FROM quarantine x WHERE x.id < $1 ORDER BY x.id DESC LIMIT $2) q ORDER BY q.id DESC";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_int(&args, after);
        db_arg_int(&args, limit + 1);
        e = db_run(db, sql, &args, &r);
        if (e == 0)
                board_add_page(b, r, limit);
        return e;
}

#define CURSOR "e.generation || '.' || e.xid || '.' || e.id"

/* At most $4 rows, and not many more bytes than a page may hold; n: how many there would have been. What events weigh is known without reading them:
 * octet_length() does not unpack. Scalar sub-selects in the horizon let the index yield the rows in order. */
#define EVENTS(behind, order, which)                                                                                                                 \
        "SELECT " JOB_VIEW_EVENT_COLUMNS ", " CURSOR ", e.n FROM (SELECT t.*, count(*) OVER () AS n,"                                                \
        " sum(octet_length(t.data)) OVER (ORDER BY t.nr) - octet_length(t.data) AS before FROM (SELECT x.*, row_number() OVER () AS nr"              \
        " FROM (SELECT * FROM event WHERE (generation, xid, id) " behind " ($1::smallint, $2, $3) AND " which JOB_VIEW_HORIZON                       \
        " ORDER BY generation " order ", xid " order ", id " order " LIMIT $4) x) t) e WHERE e.before < " JOB_VIEW_PAGE_BYTES " ORDER BY e.nr"

int board_events(struct db *db, const struct uuid *chain, const struct board_cursor *older_than, const struct board_cursor *since, int64_t limit,
        enum job_view_form form, struct strbuf *b)
{
        static const struct board_cursor end = {INT16_MAX, INT64_MAX, INT64_MAX};
        static const char latest[] = EVENTS("<", "DESC", ""), following[] = EVENTS(">", "ASC", "");
        static const char latest_of[] = EVENTS("<", "DESC", "chain_id = $5 AND "), following_of[] = EVENTS(">", "ASC", "chain_id = $5 AND ");
        const struct board_cursor *c = since ? since : older_than ? older_than : &end;
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        bool more;
        int e, n;

        db_arg_int(&args, c->generation);
        db_arg_int(&args, c->xid);
        db_arg_int(&args, c->id);
        db_arg_int(&args, limit + 1);
        if (chain)
                db_arg_uuid(&args, chain);
        e = db_run(db, chain ? (since ? following_of : latest_of) : since ? following : latest, &args, &r);
        if (e < 0)
                return e;
        n = PQntuples(r) > limit ? (int)limit : PQntuples(r);
        more = n > 0 && db_int(r, 0, JOB_VIEW_EVENT_N + 1) > n;
        strbuf_adds(b, "{\"items\":[");
        for (int row = 0; row < n; row++) {
                if (row > 0)
                        strbuf_addc(b, ',');
                job_view_add_event(b, r, row, 0, form);
        }
        if (n > 0 && more)
                strbuf_addf(b, "],\"next\":\"%s\"", PQgetvalue(r, n - 1, JOB_VIEW_EVENT_N));
        else
                strbuf_adds(b, "],\"next\":null");
        /* Where a follower goes on: ?since=<latest>. */
        if (n > 0)
                strbuf_addf(b, ",\"latest\":\"%s\"}", PQgetvalue(r, since ? n - 1 : 0, JOB_VIEW_EVENT_N));
        else if (since)
                strbuf_addf(b, ",\"latest\":\"%lld.%lld.%lld\"}", (long long)since->generation, (long long)since->xid, (long long)since->id);
        else
                strbuf_adds(b, older_than ? ",\"latest\":null}" : ",\"latest\":\"0.0.0\"}");
        return 0;
}

/* --- the tail --- */

#define TAIL_EVENTS 500
#define TAIL_BYTES  "1048576"

int board_tail(struct db *db, const struct board_cursor *at, PGresult **ret_page, bool *ret_full)
{
        /* What a page weighs is known without reading it: octet_length() does not unpack. Scalar sub-selects let the index yield the rows in order.
         */
        static const char sql[] =
                "SELECT " JOB_VIEW_EVENT_COLUMNS ", c.client, e.generation, e.xid, e.n = $4 OR e.before + octet_length(e.data) >= " TAIL_BYTES
                " FROM (SELECT t.*, row_number() OVER w AS n, sum(octet_length(t.data)) OVER w - octet_length(t.data) AS before"
                "  FROM (SELECT * FROM event x WHERE (x.generation, x.xid, x.id) > ($1::smallint, $2, $3) AND " JOB_VIEW_HORIZON
                "   ORDER BY x.generation, x.xid, x.id LIMIT $4) t WINDOW w AS (ORDER BY t.generation, t.xid, t.id)) e"
                " JOIN LATERAL (SELECT y.client FROM chain y WHERE y.id = e.chain_id OFFSET 0) c ON true"
                " WHERE e.before < " TAIL_BYTES " ORDER BY e.generation, e.xid, e.id";
        _cleanup_(db_args_done) struct db_args args = {0};
        int e;

        db_arg_int(&args, at->generation);
        db_arg_int(&args, at->xid);
        db_arg_int(&args, at->id);
        db_arg_int(&args, TAIL_EVENTS);
        e = db_run(db, sql, &args, ret_page);
        if (e == 0)
                *ret_full = PQntuples(*ret_page) > 0 && db_bool(*ret_page, PQntuples(*ret_page) - 1, JOB_VIEW_EVENT_N + 3);
        return e;
}

struct board_cursor board_tail_cursor(const PGresult *page, int row)
{
        return (struct board_cursor){db_int(page, row, JOB_VIEW_EVENT_N + 1), db_int(page, row, JOB_VIEW_EVENT_N + 2), db_int(page, row, 0)};
}

const char *board_tail_client(const PGresult *page, int row)
{
        return PQgetvalue(page, row, JOB_VIEW_EVENT_N);
}

int board_tail_end(struct db *db, struct board_cursor *ret_at)
{
        static const char sql[] =
                "SELECT x.generation, x.xid, x.id FROM event x WHERE " JOB_VIEW_HORIZON " ORDER BY x.generation DESC, x.xid DESC, x.id DESC LIMIT 1";
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, sql, NULL, &r);

        if (e == 0)
                *ret_at = PQntuples(r) > 0 ? (struct board_cursor){db_int(r, 0, 0), db_int(r, 0, 1), db_int(r, 0, 2)} : (struct board_cursor){0};
        return e;
}

/* --- a job with everything --- */

int board_job(struct db *db, const struct uuid *id, struct strbuf *b)
{
        static const char derivation[] = "SELECT (e.data::json->'derivation')::text FROM event e WHERE e.chain_id = $1 AND e.type = 'PRICED'";
        static const char payout[] = "SELECT " PAYOUT_COLUMNS " FROM chain c" PAYOUT_EVIDENCE "WHERE c.parent = $1";
        static const char ledger[] = "SELECT row_to_json(l)::text FROM (SELECT e.type AS event, j.chain_id, j.version, j.debit, j.credit,"
                                     " (SELECT row_to_json(a) FROM (SELECT j.amount AS minor, j.currency) a) AS amount, " JOB_VIEW_TIME(
                                             "j.at") " AS time"
                                                     " FROM (SELECT $1 AS id, 1 AS o UNION ALL SELECT c.id, 2 FROM chain c WHERE c.parent = $1) x"
                                                     " JOIN journal j ON j.chain_id = x.id JOIN event e ON e.chain_id = j.chain_id AND e.version = "
                                                     "j.version ORDER BY x.o, j.version) l";
        /* The run that is open at an outside operator; none: the job waits for something else. */
        static const char run[] = "SELECT row_to_json(o)::text FROM (SELECT r.id, r.step, r.tag, r.operator, r.attempt, r.state, r.error, r.probes "
                                  "AS asked, " JOB_VIEW_TIME("r.started_at") " AS since, " JOB_VIEW_TIME(
                                          "r.next_at") " AS next_look FROM operator_run r WHERE r.chain_id = $1"
                                                       " AND r.state IN ('calling', 'accepted', 'unknown')) o";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *job = NULL, *priced = NULL, *owed = NULL, *entries = NULL, *runs = NULL;
        int e;

        db_arg_uuid(&args, id);
        /* The job first: what it says has happened is then there for the statements after it. */
        e = job_view_jobs(db, id, 1, &job);
        if (e == 0 && PQntuples(job) == 0)
                return -ENOENT;
        if (e == 0)
                e = db_run(db, derivation, &args, &priced);
        if (e == 0)
                e = db_run(db, payout, &args, &owed);
        if (e == 0)
                e = db_run(db, ledger, &args, &entries);
        if (e == 0)
                e = db_run(db, run, &args, &runs);
        if (e < 0)
                return e;
        job_view_add_job(b, job, 0, 0);
        b->len--; /* the closing brace */
        strbuf_addf(b, ",\"derivation\":%s,\"ledger\":[", PQntuples(priced) > 0 && !db_null(priced, 0, 0) ? PQgetvalue(priced, 0, 0) : "null");
        for (int row = 0; row < PQntuples(entries); row++)
                strbuf_addf(b, "%s%s", row > 0 ? "," : "", PQgetvalue(entries, row, 0));
        strbuf_addf(b, "],\"operator_run\":%s,\"payout\":", PQntuples(runs) > 0 ? PQgetvalue(runs, 0, 0) : "null");
        if (PQntuples(owed) > 0)
                board_add_payout(b, owed, 0);
        else
                strbuf_adds(b, "null");
        strbuf_addc(b, '}');
        return 0;
}

/* --- evidence --- */

struct submit_work {
        struct board_submission *v;
        size_t n;
};

static int submit(struct db *db, void *arg)
{
        static const char sql[] = "SELECT verdict, hearer, lane, version FROM submit_evidence($1, $2, $3, $4, $5, $6) ORDER BY ord";
        static const char *const events[] = {
                [BOARD_PAYMENT] = "PAYMENT_CONFIRMED", [BOARD_PAYOUT] = "PAYOUT_DONE", [BOARD_REFUND] = "REFUND_CONFIRMED"};
        struct submit_work *w = arg;
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < w->n; i++)
                db_array_uuid(&args, &w->v[i].id);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < w->n; i++)
                db_array_text(&args, events[w->v[i].kind], strlen(events[w->v[i].kind]));
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < w->n; i++)
                db_array_text(&args, "person", strlen("person"));
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < w->n; i++)
                db_array_text(&args, w->v[i].by, strlen(w->v[i].by));
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < w->n; i++)
                db_array_text(&args, w->v[i].reference, strlen(w->v[i].reference));
        db_array_begin(&args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < w->n; i++) {
                if (w->v[i].has_amount)
                        db_array_int(&args, w->v[i].minor);
                else
                        db_array_null(&args);
        }
        e = db_run(db, sql, &args, &r);
        if (e == 0 && (size_t)PQntuples(r) != w->n)
                e = -EBADMSG;
        for (size_t i = 0; i < w->n && e == 0; i++) {
                struct board_submission *s = &w->v[i];

                if (!board_verdict_parse(PQgetvalue(r, (int)i, 0), &s->verdict))
                        e = -EBADMSG;
                copy_text(s->hearer, sizeof(s->hearer), PQgetvalue(r, (int)i, 1));
                copy_text(s->lane, sizeof(s->lane), PQgetvalue(r, (int)i, 2));
                s->version = (int)db_int(r, (int)i, 3);
        }
        return e;
}

int board_submit(struct db *db, struct board_submission submissions[], size_t n)
{
        struct submit_work w = {submissions, n};

        return n == 0 ? 0 : db_transaction(db, submit, &w);
}
