/* Reads the dossier: from one snapshot, so that all of it is of one moment, and by primary key or by chain. It writes nothing. */
#include "services/intake/dossier.h"

#include "base/json.h"
#include "base/util.h"
#include "services/intake/dossier_core.h"
#include "services/intake/job_view.h"
#include "services/intake/public_data.h"

#include <errno.h>
#include <string.h>

#define UTC " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')" /* behind "to_char(t" */

/* Where it stands: the job, or once that is over its payout. */
enum {
        KIND,
        STEP,
        HEARER,
        WAITS_FOR,
        OPEN,
        PAID,
        MANUAL,
        INTENT_ALIVE,
        RUN,
        CALL,
        REFUND_ASKED,
        ISSUE,
        REFUSED,
        SUBJECT,
        SINCE,
        EXPIRES_AT,
        RUN_AT,
        CALL_AT,
        ISSUE_AT,
        LATE_AT,
        DEADLINE_AT,
};
static const char facts_sql[] =
        "WITH s AS MATERIALIZED (SELECT c.*, t.hearer FROM"
        "  (SELECT $1 AS id, 1 AS o UNION ALL SELECT p.id, 2 FROM chain p WHERE p.parent = $1) x"
        "  JOIN chain c ON c.id = x.id JOIN step t ON (t.kind, t.name) = (c.kind, c.step) ORDER BY c.status <> 'open', x.o LIMIT 1),"
        " run AS (SELECT r.next_at FROM operator_run r WHERE r.chain_id = $1 AND r.state IN ('calling', 'accepted', 'unknown')),"
        " call AS (SELECT p.next_at FROM provider_call p WHERE p.chain_id = $1 AND p.state IN ('calling', 'pending', 'unknown')),"
        " problem AS (SELECT i.next_at FROM issue i WHERE i.chain_id = (SELECT id FROM s) AND i.closed_at IS NULL AND i.grade = 'repair'"
        "  ORDER BY i.next_at LIMIT 1),"
        " clock AS (SELECT t + r.late AS late, t + r.deadline AS deadline FROM s"
        "  JOIN rule_in_force r ON (r.kind, r.step) = (s.kind, s.step)"
        "   AND r.label = coalesce((SELECT h.label FROM haste h WHERE h.label = s.label), '')"
        "  CROSS JOIN LATERAL (SELECT CASE r.basis WHEN 'created' THEN s.created_at ELSE s.updated_at END AS t) b)"
        " SELECT s.kind, s.step, s.hearer, s.waits_for, s.status = 'open',"
        " EXISTS (SELECT 1 FROM journal j WHERE j.chain_id = $1 AND j.credit = 'customer_prepayment'),"
        " coalesce(p.driver = 'manual', false),"
        " coalesce(p.expires_at > now(), false),"
        " EXISTS (SELECT 1 FROM run),"
        " EXISTS (SELECT 1 FROM call),"
        " EXISTS (SELECT 1 FROM provider_call q WHERE q.chain_id = $1 AND q.what = 'refund' AND q.state <> 'failed'),"
        " EXISTS (SELECT 1 FROM problem),"
        " EXISTS (SELECT 1 FROM provider_call q WHERE q.chain_id = $1 AND q.what = 'create' AND q.state = 'unknown' AND q.error LIKE 'refused: %'),"
        " s.id,"
        " to_char(s.updated_at" UTC ","
        " to_char(p.expires_at" UTC ","
        " to_char((SELECT next_at FROM run)" UTC ","
        " to_char((SELECT next_at FROM call)" UTC ","
        " to_char((SELECT next_at FROM problem)" UTC ","
        " to_char((SELECT late FROM clock)" UTC ","
        " to_char((SELECT deadline FROM clock)" UTC " FROM s LEFT JOIN payment_intent p ON p.id = $1";

#define CHAINS "(SELECT $1 AS id, 1 AS o UNION ALL SELECT p.id, 2 FROM chain p WHERE p.parent = $1) x"
#define LIST   "SELECT coalesce(json_agg(row_to_json(l)), '[]') FROM "

/* Tasks are none of a client's business. */
static const char job_sql[] =
        "SELECT " JOB_VIEW_JOB_COLUMNS " FROM " JOB_VIEW_JOB_TABLES " WHERE c.id = $1 AND (c.kind = 'job' OR c.kind = 'system' AND NOT $2)";

/* Whose dossier it is: a payout and an issue are told in that of their job or task. */
static const char subject_sql[] = "WITH s AS (SELECT coalesce((SELECT i.chain_id FROM issue i WHERE i.id = $1), $1) AS id)"
                                  " SELECT coalesce((SELECT c.parent FROM chain c WHERE c.id = s.id AND c.kind = 'payout'), s.id) FROM s";

/* Whoever asks from outside sees of an event what the public may. Spoiled data, which only a person can mend, is told as a text, and outside not. */
static void add_data(struct strbuf *b, const PGresult *r, int row, int type, int data, bool public_side)
{
        struct slice text = db_text(r, row, data);
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;
        bool sound = json_parse_own(text.s, text.len, &doc, &error) == 0;

        if (!sound && public_side)
                strbuf_adds(b, "{}");
        else if (!sound)
                strbuf_add_json(b, text.s, text.len);
        else if (public_side)
                public_data_add(b, PQgetvalue(r, row, type), text);
        else
                strbuf_add(b, text.s, text.len);
}

static void add_value(struct strbuf *b, const PGresult *r, bool public_side)
{
        (void)public_side;
        strbuf_adds(b, PQntuples(r) == 0 || db_null(r, 0, 0) ? "null" : PQgetvalue(r, 0, 0));
}

static void add_end(struct strbuf *b, const PGresult *r, bool public_side)
{
        if (PQntuples(r) == 0)
                strbuf_adds(b, "null");
        else
                add_data(b, r, 0, 0, 1, public_side);
}

static void add_timeline(struct strbuf *b, const PGresult *r, bool public_side)
{
        for (int row = 0; row < PQntuples(r); row++) {
                strbuf_addf(b, "%s{\"type\":\"%s\",\"chain_id\":\"%s\",\"version\":%s,\"time\":\"%s\",\"data\":", row > 0 ? "," : "[",
                        PQgetvalue(r, row, 0), PQgetvalue(r, row, 1), PQgetvalue(r, row, 2), PQgetvalue(r, row, 3));
                add_data(b, r, row, 0, 4, public_side);
                strbuf_addc(b, '}');
        }
        strbuf_adds(b, PQntuples(r) > 0 ? "]" : "[]");
}

/* Each yields one value of JSON: that of its statement, or what `add` makes of its rows. */
static const struct part {
        const char *name, *sql;
        void (*add)(struct strbuf *b, const PGresult *r, bool public_side); /* NULL: add_value */
} parts[] = {
        {"end",
                "SELECT e.type, e.data FROM chain c JOIN event e ON (e.chain_id, e.version) = (c.id, c.version)"
                " WHERE c.id = $1 AND c.step IN ('FINAL_FAIL', 'PAYMENT_EXPIRED')",
                add_end},
        {"held", "SELECT row_to_json(h) FROM (SELECT"
                 " sum(CASE 'customer_prepayment' WHEN j.credit THEN j.amount WHEN j.debit THEN -j.amount ELSE 0 END) AS minor, j.currency"
                 " FROM journal j WHERE j.chain_id = $1 GROUP BY j.currency) h"},
        {"journal", LIST "(SELECT e.type AS event, j.chain_id, j.version, j.debit, j.credit,"
                         " (SELECT row_to_json(a) FROM (SELECT j.amount AS minor, j.currency) a) AS amount, to_char(j.at" UTC " AS time FROM " CHAINS
                         " JOIN journal j ON j.chain_id = x.id JOIN event e ON (e.chain_id, e.version) = (j.chain_id, j.version)"
                         " ORDER BY x.o, j.version) l"},
        {"issues", LIST "(SELECT i.id, i.kind, i.grade, i.step, i.state, i.waits_for, i.antibody, i.attempts, i.outcome,"
                        " to_char(i.since" UTC " AS since,"
                        " CASE WHEN i.closed_at IS NULL THEN to_char(i.next_at" UTC " END AS next_at,"
                        " to_char(i.opened_at" UTC " AS opened_at, to_char(i.closed_at" UTC " AS closed_at"
                        " FROM " CHAINS " JOIN issue i ON i.chain_id = x.id ORDER BY i.opened_at, i.id) l"},
        {"runs", LIST "(SELECT r.id, r.step, r.tag, r.operator, r.attempt, r.state, r.error, r.probes AS asked,"
                      " to_char(r.started_at" UTC " AS since,"
                      " CASE WHEN r.state IN ('calling', 'accepted', 'unknown') THEN to_char(r.next_at" UTC " END AS next_at"
                      " FROM operator_run r WHERE r.chain_id = $1 ORDER BY r.step, r.attempt) l"},
        {"provider_calls", LIST "(SELECT q.id, q.version, q.what, q.state, q.error, q.probes AS asked, to_char(q.started_at" UTC " AS since,"
                                " CASE WHEN q.state IN ('calling', 'pending', 'unknown') THEN to_char(q.next_at" UTC " END AS next_at"
                                " FROM provider_call q WHERE q.chain_id = $1 ORDER BY q.version, q.id) l"},
        {"timeline",
                "SELECT e.type, e.chain_id, e.version, to_char(e.at" UTC ", e.data FROM " CHAINS
                " JOIN event e ON e.chain_id = x.id ORDER BY x.o, e.version",
                add_timeline},
};

static const char *text_or_null(const PGresult *r, int column)
{
        return db_null(r, 0, column) ? NULL : PQgetvalue(r, 0, column);
}

static void add_time(struct strbuf *b, const char *name, const PGresult *r, int column)
{
        if (db_null(r, 0, column))
                strbuf_addf(b, ",\"%s\":null", name);
        else
                strbuf_addf(b, ",\"%s\":\"%s\"", name, PQgetvalue(r, 0, column));
}

static void add_waits(struct strbuf *b, const struct dossier_facts *f, const PGresult *r)
{
        static const int columns[] = {[DOSSIER_EXPIRY] = EXPIRES_AT, [DOSSIER_RUN] = RUN_AT, [DOSSIER_CALL] = CALL_AT, [DOSSIER_ISSUE] = ISSUE_AT};
        struct dossier_waits w;

        if (!dossier_waits(f, &w)) {
                strbuf_adds(b, ",\"waits\":null");
                return;
        }
        strbuf_addf(b, ",\"waits\":{\"chain_id\":\"%s\",\"step\":\"%s\",\"for\":\"%s\"", PQgetvalue(r, 0, SUBJECT), f->step, w.who);
        add_time(b, "since", r, SINCE);
        strbuf_addf(b, ",\"next\":{\"what\":\"%s\"", w.next);
        if (w.clock == DOSSIER_NO_TIME)
                strbuf_adds(b, ",\"at\":null");
        else
                add_time(b, "at", r, columns[w.clock]);
        strbuf_addc(b, '}');
        add_time(b, "late_at", r, LATE_AT);
        add_time(b, "deadline_at", r, DEADLINE_AT);
        strbuf_addc(b, '}');
}

static void add_may(struct strbuf *b, const struct dossier_facts *f)
{
        struct dossier_act acts[DOSSIER_ACTS_MAX];
        size_t n = dossier_may(f, acts);

        strbuf_adds(b, ",\"may\":[");
        for (size_t i = 0; i < n; i++)
                strbuf_addf(b, "%s{\"what\":\"%s\",\"route\":\"%s\"}", i > 0 ? "," : "", acts[i].what, acts[i].route);
        strbuf_addc(b, ']');
}

static void add_stand(struct strbuf *b, const PGresult *job, const PGresult *r)
{
        struct dossier_facts f = {.kind = PQgetvalue(r, 0, KIND),
                .step = PQgetvalue(r, 0, STEP),
                .hearer = text_or_null(r, HEARER),
                .waits_for = text_or_null(r, WAITS_FOR),
                .open = db_bool(r, 0, OPEN),
                .paid = db_bool(r, 0, PAID),
                .manual = db_bool(r, 0, MANUAL),
                .intent_alive = db_bool(r, 0, INTENT_ALIVE),
                .run = db_bool(r, 0, RUN),
                .call = db_bool(r, 0, CALL),
                .refund_asked = db_bool(r, 0, REFUND_ASKED),
                .issue = db_bool(r, 0, ISSUE),
                .refused = db_bool(r, 0, REFUSED)};

        strbuf_adds(b, "{\"job\":");
        job_view_add_job(b, job, 0, 0);
        add_waits(b, &f, r);
        add_may(b, &f);
}

struct work {
        const struct uuid *id;
        bool public_side;
        struct strbuf *b;
};

static int read_dossier(struct db *db, void *arg)
{
        struct work *w = arg;
        _cleanup_(db_args_done) struct db_args asked = {0}, one = {0}, both = {0};
        _cleanup_(PQclearp) PGresult *subject = NULL, *job = NULL, *facts = NULL;
        struct uuid id = *w->id;
        int e;

        db_arg_uuid(&asked, w->id);
        e = db_run(db, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", NULL, NULL);
        if (e == 0 && !w->public_side) /* the id of a job is its secret, and no other id leads to it outside */
                e = db_run(db, subject_sql, &asked, &subject);
        if (subject)
                id = db_uuid(subject, 0, 0);
        db_arg_uuid(&one, &id);
        db_arg_uuid(&both, &id);
        db_arg_bool(&both, w->public_side);
        if (e == 0)
                e = db_run(db, job_sql, &both, &job);
        if (e == 0 && PQntuples(job) == 0)
                return -ENOENT;
        if (e == 0)
                e = db_run(db, facts_sql, &one, &facts);
        if (e < 0)
                return e;
        strbuf_reset(w->b);
        add_stand(w->b, job, facts);
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
                _cleanup_(PQclearp) PGresult *r = NULL;

                e = db_run(db, parts[i].sql, &one, &r);
                if (e < 0)
                        return e;
                strbuf_addf(w->b, ",\"%s\":", parts[i].name);
                (parts[i].add ? parts[i].add : add_value)(w->b, r, w->public_side);
        }
        strbuf_addc(w->b, '}');
        return 0;
}

int dossier(struct db *db, const struct uuid *id, bool public_side, struct strbuf *b)
{
        struct work w = {id, public_side, b};

        return db_transaction(db, read_dossier, &w);
}
