/* One statement a check. AUDIT_TIME: $1 is how many ms back from now a chain may have moved last. AUDIT_JOBS: arrays, one element a job of the load
 * (JOBS names them). AUDIT_RUNS: arrays, one element a run that an operator received (RUNS). AUDIT_TOLD: arrays, one element an event that was taken
 * (TOLD), and $4, the types. */
#include "auditor_store.h"

#include "base/util.h"

#include <string.h>

#define MOVED "c.updated_at > now() - make_interval(secs => $1::bigint / 1000.0)"
#define JOBS                                                                                                                                         \
        "unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::int[], $8::int[], $9::int[], $10::text[])"             \
        " AS x (key, id, type, payload, amount, ending, pay_sent, mark_sent, marks, result)"
#define TOLD "unnest($1::uuid[], $2::int[], $3::text[]) AS t (chain, version, type)"
#define RUNS "unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::int[], $6::text[]) AS r (id, job, step, done, again, operator)"

/* What each event of money books. */
#define POSTINGS                                                                                                                                     \
        "(VALUES ('job', 'PAYMENT_CONFIRMED', 'cash', 'customer_prepayment'), ('job', 'REVENUE_BOOKED', 'customer_prepayment', 'revenue'),"          \
        " ('job', 'REFUND_CONFIRMED', 'customer_prepayment', 'cash'), ('payout', 'PAYOUT_EARNED', 'owner_earnings', 'owner_payable'),"               \
        " ('payout', 'PAYOUT_DONE', 'owner_payable', 'cash'), ('system', 'PAYMENT_CONFIRMED', 'system_expense', 'system_account'),"                  \
        " ('system', 'PAYMENT_REVERSED', 'system_account', 'system_expense')) AS m (kind, type, debit, credit)"

/* The histories that a chain may have: every beginning of them. A job that failed may be run again, and is refunded or stays failed. */
#define JOB_HISTORY                                                                                                                                  \
        "'^JOB_CREATED( FLOW_CHOSEN PRICED( PAYMENT_REQUIRED( PAYMENT_INITIATED( PAYMENT_EXPIRED| PAYMENT_CONFIRMED"                                 \
        "( EXECUTION_STARTED( STEP_COMPLETED)*| EXECUTION_FAILED EXECUTION_REQUIRED)*"                                                               \
        "( EXECUTION_FAILED( REFUND_REQUIRED( REFUND_INITIATED( REFUND_CONFIRMED( FINAL_FAIL)?)?)?)?|"                                               \
        "(?<= STEP_COMPLETED) EXECUTION_COMPLETED( REVENUE_BOOKED)?)?)?)?)?)?$'"
#define PAYOUT_HISTORY "'^PAYOUT_EARNED( PAYOUT_READY( PAYOUT_DONE)?)?$'"
#define TASK_HISTORY                                                                                                                                 \
        "'^TASK_CREATED( FINAL_FAIL| FLOW_CHOSEN PRICED( FINAL_FAIL| PAYMENT_CONFIRMED"                                                              \
        "( EXECUTION_STARTED( STEP_COMPLETED)*| EXECUTION_FAILED EXECUTION_REQUIRED)*( EXECUTION_FAILED)?"                                           \
        "( PAYMENT_REVERSED FINAL_FAIL|(?<= STEP_COMPLETED) EXECUTION_COMPLETED)?)?)?$'"
#define ISSUE_HISTORY "'^META_ISSUE( META_REPAIR)*( META_RESOLVED)?$'"

const struct audit_check audit_checks[] = {
        {"I3", AUDIT_TIME, false,
                "SELECT h.id, 'its row (' || h.step || ' ' || h.version || ' ' || h.status || ') and its history differ: ' || coalesce(h.path, "
                "'none')"
                " FROM (SELECT c.id, c.kind, c.step, c.version, c.status, string_agg(e.type, ' ' ORDER BY e.version) AS path, count(e.version) AS n,"
                "        min(e.version) AS first, max(e.version) AS last FROM chain c LEFT JOIN event e ON e.chain_id = c.id WHERE " MOVED
                "       GROUP BY c.id) h"
                " WHERE h.n <> h.version OR h.first <> 1 OR h.last <> h.version OR h.path !~ ('(^| )' || h.step || '$')"
                "    OR h.path !~ CASE h.kind WHEN 'job' THEN " JOB_HISTORY " WHEN 'payout' THEN " PAYOUT_HISTORY " WHEN 'system' THEN " TASK_HISTORY
                " ELSE " ISSUE_HISTORY " END"
                "    OR h.status <> CASE WHEN h.step IN ('REVENUE_BOOKED', 'PAYOUT_DONE', 'META_RESOLVED')"
                "                             OR (h.kind, h.step) = ('system', 'EXECUTION_COMPLETED') THEN 'completed'"
                "                        WHEN h.step IN ('PAYMENT_EXPIRED', 'FINAL_FAIL') THEN 'final_fail' ELSE 'open' END"},
        {"I3", AUDIT_TIME, true,
                "SELECT e.chain_id, 'events without a chain' FROM event e LEFT JOIN chain c ON c.id = e.chain_id"
                " WHERE c.id IS NULL AND $1::bigint > 0"},
        {"I5", AUDIT_TIME, false,
                "SELECT c.id, 'more than one ' || e.type FROM chain c JOIN event e ON e.chain_id = c.id WHERE " MOVED
                "   AND e.type IN ('JOB_CREATED', 'TASK_CREATED', 'PAYMENT_REVERSED', 'PRICED', 'PAYMENT_CONFIRMED', 'EXECUTION_COMPLETED', "
                "'REVENUE_BOOKED', 'REFUND_CONFIRMED', "
                "'PAYOUT_EARNED', "
                "'PAYOUT_DONE')"
                " GROUP BY c.id, e.type HAVING count(*) > 1"},
        {"I5", AUDIT_TIME, false,
                "SELECT c.id, 'completed, with ' || count(p.id) || ' payouts of ' || coalesce(sum(p.amount), 0) || ' for ' || c.amount"
                " FROM chain c LEFT JOIN chain p ON p.parent = c.id WHERE c.kind = 'job' AND c.step = 'REVENUE_BOOKED' AND " MOVED
                " GROUP BY c.id HAVING count(p.id) <> 1 OR sum(p.amount) <> c.amount OR min(p.currency) <> c.currency"},
        {"I5", AUDIT_TIME, false,
                "SELECT c.id, 'a payout of a job that is not booked' FROM chain c LEFT JOIN chain j ON j.id = c.parent"
                " WHERE c.kind = 'payout' AND j.step IS DISTINCT FROM 'REVENUE_BOOKED' AND " MOVED},
        {"I5", AUDIT_TIME, true,
                "SELECT max(c.id::text)::uuid, count(*) || ' open tasks ' || c.task FROM chain c WHERE c.kind = 'system' AND c.status = 'open'"
                "   AND $1::bigint > 0 GROUP BY c.task HAVING count(*) > 1"},
        {"I6", AUDIT_TIME, false,
                "WITH due AS (SELECT e.chain_id, e.version, m.debit, m.credit, c.amount, c.currency FROM chain c JOIN event e ON e.chain_id = c.id"
                "   JOIN " POSTINGS " ON m.type = e.type AND m.kind = c.kind WHERE " MOVED "),"
                " booked AS (SELECT j.chain_id, j.version, j.debit, j.credit, j.amount, j.currency FROM chain c JOIN journal j ON j.chain_id = c.id"
                "   WHERE " MOVED ")"
                " SELECT chain_id, 'not booked: ' || debit || ' to ' || credit || ' ' || amount FROM (SELECT * FROM due EXCEPT SELECT * FROM booked) "
                "a"
                " UNION ALL"
                " SELECT chain_id, 'booked without cause: ' || debit || ' to ' || credit || ' ' || amount"
                " FROM (SELECT * FROM booked EXCEPT SELECT * FROM due) b"},
        {"I6", AUDIT_TIME, false, /* one statement: one moment. Balances from the journal against balances from where the chains stand */
                "WITH happened AS (SELECT c.currency, CASE c.kind WHEN 'system' THEN 'system ' ELSE '' END || e.type AS type, sum(c.amount) AS minor"
                "   FROM event e JOIN chain c ON c.id = e.chain_id WHERE e.type IN"
                "   ('PAYMENT_CONFIRMED', 'REVENUE_BOOKED', 'REFUND_CONFIRMED', 'PAYOUT_EARNED', 'PAYOUT_DONE', 'PAYMENT_REVERSED') GROUP BY 1, 2),"
                " due AS (SELECT currency, account, sum(sign * minor) AS minor FROM happened JOIN (VALUES ('PAYMENT_CONFIRMED', 'cash', 1),"
                "   ('PAYMENT_CONFIRMED', 'customer_prepayment', -1), ('REVENUE_BOOKED', 'customer_prepayment', 1), ('REVENUE_BOOKED', 'revenue', "
                "-1),"
                "   ('PAYOUT_EARNED', 'owner_earnings', 1), ('PAYOUT_EARNED', 'owner_payable', -1), ('PAYOUT_DONE', 'owner_payable', 1),"
                "   ('PAYOUT_DONE', 'cash', -1), ('REFUND_CONFIRMED', 'customer_prepayment', 1), ('REFUND_CONFIRMED', 'cash', -1),"
                "   ('system PAYMENT_CONFIRMED', 'system_expense', 1), ('system PAYMENT_CONFIRMED', 'system_account', -1),"
                "   ('system PAYMENT_REVERSED', 'system_account', 1), ('system PAYMENT_REVERSED', 'system_expense', -1)) AS s (type, "
                "account, sign) USING (type) GROUP BY 1, 2),"
                " booked AS (SELECT currency, account, sum(minor) AS minor FROM (SELECT currency, debit AS account, amount AS minor FROM journal"
                "   UNION ALL SELECT currency, credit, -amount FROM journal) j GROUP BY 1, 2)"
                " SELECT NULL::uuid, account || ' is ' || coalesce(b.minor, 0) || ', not ' || coalesce(d.minor, 0)"
                " FROM due d FULL JOIN booked b USING (currency, account) WHERE coalesce(b.minor, 0) <> coalesce(d.minor, 0) AND $1::bigint > 0"
                " UNION ALL SELECT NULL, 'the books do not balance in ' || currency FROM booked GROUP BY currency HAVING sum(minor) <> 0"
                " UNION ALL SELECT NULL, 'more was paid out or used up than there is: ' || account FROM booked"
                "   WHERE account IN ('customer_prepayment', 'owner_payable') AND minor > 0"},
        {"I7", AUDIT_TIME, false,
                "SELECT c.id, e.type || ' without evidence of its amount' FROM chain c JOIN event e ON e.chain_id = c.id"
                " WHERE e.type IN ('PAYMENT_CONFIRMED', 'REFUND_CONFIRMED', 'PAYOUT_DONE', 'PAYMENT_REVERSED') AND " MOVED
                "   AND NOT EXISTS (SELECT 1 FROM evidence v WHERE v.chain_id = c.id AND v.event = e.type AND v.version = e.version - 1"
                "                   AND v.amount = c.amount AND v.currency = c.currency AND (v.kind = 'internal') = (c.kind = 'system'))"},
        {"I1", AUDIT_JOBS, false,
                "SELECT x.id, 'receipted and lost: ' || x.key FROM " JOBS
                " LEFT JOIN chain c ON c.id = x.id WHERE x.id IS NOT NULL AND c.id IS NULL"},
        {"I9", AUDIT_JOBS, false,
                "SELECT s.job_id, 'another job than was receipted: ' || x.key FROM " JOBS
                " JOIN submission s ON s.client = 'default' AND s.key = x.key WHERE s.job_id <> x.id"},
        {"I9", AUDIT_JOBS, true,
                "SELECT s.job_id, 'nobody submitted ' || s.key FROM submission s"
                " WHERE s.key LIKE 'f%' AND NOT EXISTS (SELECT 1 FROM " JOBS " WHERE x.key = s.key)"},
        {"I9", AUDIT_TIME, true,
                "SELECT c.id, 'a job without a key' FROM chain c LEFT JOIN submission s ON s.job_id = c.id"
                " WHERE c.kind = 'job' AND s.key IS NULL AND $1::bigint > 0"},
        {"I9", AUDIT_JOBS, false,
                "SELECT x.id, 'not the job that was submitted as ' || x.key || ': ' || e.data FROM " JOBS
                " JOIN event e ON e.chain_id = x.id AND e.version = 1"
                " WHERE e.data::json ->> 'key' <> x.key OR e.data::json ->> 'type' <> x.type OR (e.data::json -> 'payload')::text <> x.payload"},
        {"I6", AUDIT_JOBS, false,
                "SELECT x.id, x.key || ' costs ' || c.amount || ' ' || c.currency || ', not ' || x.amount FROM " JOBS
                " JOIN chain c ON c.id = x.id WHERE c.amount <> x.amount OR c.currency <> 'EUR'"},
        {"I7", AUDIT_JOBS, false,
                "SELECT x.id, 'paid, but nobody has paid ' || x.key FROM " JOBS
                " JOIN event e ON e.chain_id = x.id AND e.type = 'PAYMENT_CONFIRMED' WHERE x.pay_sent = 0"},
        {"I7", AUDIT_JOBS, false,
                "SELECT x.id, 'paid out, but nobody has transferred ' || x.key FROM " JOBS
                " JOIN chain p ON p.parent = x.id WHERE p.step = 'PAYOUT_DONE' AND x.mark_sent = 0"},
        {"I7", AUDIT_JOBS, false,
                "SELECT x.id, v.event || ' by evidence that is not of ' || x.key || ': ' || v.reference FROM " JOBS
                " JOIN chain c ON c.id = x.id OR c.parent = x.id JOIN evidence v ON v.chain_id = c.id"
                " WHERE NOT CASE v.event WHEN 'PAYMENT_CONFIRMED' THEN v.reference IN ('pay ' || x.key, 'py_' || x.id)"
                "   WHEN 'REFUND_CONFIRMED' THEN v.reference = 'refund ' || x.key OR v.reference LIKE 'rf\\_%'"
                "   ELSE v.reference = 'transfer ' || x.key END"},
        {"I5", AUDIT_JOBS, false,
                "SELECT x.id, 'wrong result of ' || x.key || ': ' || e.data FROM " JOBS
                " JOIN event e ON e.chain_id = x.id AND e.type = 'EXECUTION_COMPLETED'"
                " WHERE (e.data::json -> 'result')::text NOT LIKE x.result OR x.ending = 'failed'"},
        {"I2", AUDIT_JOBS, false,
                "SELECT x.id, 'failed, though its operators do it: ' || x.key || ': ' || e.data FROM " JOBS
                " JOIN event e ON e.chain_id = x.id AND e.type = 'EXECUTION_FAILED' WHERE x.ending <> 'failed'"},
        {"I2", AUDIT_JOBS, false,
                "SELECT x.id, 'a sound job in quarantine: ' || x.key || ': ' || q.service || ': ' || q.reason FROM " JOBS
                " JOIN quarantine q ON q.chain_id = x.id"},
        {"I4", AUDIT_RUNS, false,
                "SELECT r.job, 'called before it was stored, at ' || r.operator FROM " RUNS
                " LEFT JOIN operator_run o ON o.id = r.id WHERE o.id IS NULL OR o.chain_id <> r.job OR o.step <> r.step"
                "    OR o.operator <> r.operator"},
        {"I4", AUDIT_RUNS, false,
                "SELECT r.job, 'executed unpaid, at ' || r.operator FROM " RUNS
                " WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.chain_id = r.job AND e.type = 'PAYMENT_CONFIRMED')"},
        {"I5", AUDIT_RUNS, false,
                "SELECT r.job, 'executed ' || sum(r.done) || ' times at step ' || r.step FROM " RUNS
                " GROUP BY r.job, r.step HAVING sum(r.done) > 1"},
        {"I5", AUDIT_RUNS, false,
                "SELECT r.job, 'sent again to an operator that cannot be asked and does not bear it' FROM " RUNS
                " WHERE r.operator = 'mute' AND r.again > 0"},
        {"I5", AUDIT_RUNS, false,
                "SELECT r.job, 'failed, but ' || r.operator || ' did it' FROM " RUNS
                " JOIN event e ON e.chain_id = r.job AND e.type = 'EXECUTION_FAILED'"
                " WHERE r.done > 0 AND (e.data::json -> 'error' ->> 'step')::int = r.step"},
        {"I5", AUDIT_RUNS, true,
                "SELECT e.chain_id, 'completed, but ' || r.operator || ' did not do it' FROM " RUNS
                " JOIN event e ON e.chain_id = r.job AND e.type = 'STEP_COMPLETED' AND e.data::json ->> 'run_id' = r.id::text"
                " WHERE r.done = 0"},
        {"webhooks", AUDIT_TOLD, false,
                "SELECT t.chain, 'told of what has not happened: ' || t.type || ' ' || t.version FROM " TOLD
                " LEFT JOIN event e ON e.chain_id = t.chain AND e.version = t.version WHERE e.type IS DISTINCT FROM t.type OR t.type <> ALL "
                "($4::text[])"},
};
const size_t audit_n_checks = ARRAY_SIZE(audit_checks);

const struct audit_check audit_standing = {"I2", AUDIT_JOBS, true,
        "WITH j AS (SELECT x.*, c.step, c.status, o.state FROM " JOBS " LEFT JOIN chain c ON c.id = x.id"
        "   LEFT JOIN operator_run o ON o.chain_id = c.id AND o.state IN ('calling', 'accepted', 'unknown'))"
        " SELECT j.id, j.key || ' stands at ' || coalesce(j.step || ' ' || j.status, 'nothing') FROM j"
        " WHERE j.status IS DISTINCT FROM 'completed' AND NOT CASE"
        "   WHEN j.pay_sent = 0 THEN coalesce(j.step = 'PAYMENT_INITIATED', false)"
        "   WHEN j.ending = 'failed' THEN j.step = 'FINAL_FAIL'"
        "   WHEN j.ending IN ('waits', 'either') THEN coalesce(j.state IN ('accepted', 'unknown'), false) ELSE false END"
        " UNION ALL"
        " SELECT p.id, 'payout of ' || x.key || ' stands at ' || p.step FROM " JOBS " JOIN chain p ON p.parent = x.id"
        " WHERE p.step <> CASE x.mark_sent WHEN 1 THEN 'PAYOUT_DONE' ELSE 'PAYOUT_READY' END"
        " UNION ALL"
        " SELECT c.id, c.kind || ' at ' || c.step || ' waits for a party, and its issue is ' || coalesce(i.kind || ' ' || i.state || ' '"
        "   || coalesce(i.waits_for, 'nobody'), 'not there') FROM chain c LEFT JOIN issue i ON i.chain_id = c.id AND i.closed_at IS NULL"
        " WHERE c.kind IN ('job', 'payout') AND c.status = 'open' AND (i.state IS DISTINCT FROM 'waiting_evidence' OR NOT"
        "   CASE WHEN c.kind = 'payout' THEN i.waits_for = 'person' WHEN c.step = 'PAYMENT_INITIATED' THEN i.waits_for IN ('payer', 'provider')"
        "     ELSE i.waits_for = 'operator' END)"
        " UNION ALL"
        " SELECT c.id, 'the task ' || c.task || ' stands at ' || c.step FROM chain c WHERE c.kind = 'system' AND c.status = 'open'"
        " UNION ALL"
        " SELECT c.id, c.kind || ' has ended at ' || c.step || ', and its issue is open: ' || i.kind FROM issue i JOIN chain c ON c.id = i.chain_id"
        " WHERE i.closed_at IS NULL AND c.status <> 'open'"};

const struct audit_check audit_untold = {"webhooks", AUDIT_TOLD, true,
        "SELECT e.chain_id, e.type FROM event e WHERE e.type = ANY ($4::text[])"
        " AND NOT EXISTS (SELECT 1 FROM " TOLD " WHERE t.chain = e.chain_id AND t.version = e.version)"};

static void add_rows(const PGresult *r, struct strbuf *text)
{
        for (int row = 0; row < PQntuples(r); row++) {
                strbuf_adds(text, "  ");
                for (int column = 0; column < PQnfields(r); column++)
                        strbuf_addf(text, "%s ", PQgetvalue(r, row, column));
                strbuf_addc(text, '\n');
        }
}

int auditor_store_counts(struct db *db, int64_t *ret_paid, int64_t *ret_refunded)
{
        static const char sql[] = "SELECT count(*) FILTER (WHERE e.type = 'PAYMENT_CONFIRMED'), count(*) FILTER (WHERE e.type = 'REFUND_CONFIRMED')"
                                  " FROM event e JOIN chain c ON c.id = e.chain_id WHERE c.kind = 'job'";
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, sql, NULL, &r);

        if (e < 0)
                return e;
        *ret_paid = db_int(r, 0, 0);
        *ret_refunded = db_int(r, 0, 1);
        return 0;
}

int auditor_store_unproven(struct db *db, int64_t *ret_n)
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, "SELECT count(*) FROM operator WHERE url IS NOT NULL AND successes = 0", NULL, &r);

        if (e == 0)
                *ret_n = db_int(r, 0, 0);
        return e;
}

int auditor_store_history(struct db *db, const char *chain, struct strbuf *text)
{
        static const char *const statements[] = {
                "SELECT version, at::time(3), type, left(data, 300) FROM event WHERE chain_id = $1::text::uuid ORDER BY version",
                "SELECT id, step, attempt, operator, state, error, owner, epoch, probes, started_at::time(3), lease_until::time(3), next_at::time(3)"
                " FROM operator_run WHERE chain_id = $1::text::uuid ORDER BY step, attempt",
                "SELECT version, event, kind, who, reference, amount, at::time(3) FROM evidence WHERE chain_id = $1::text::uuid",
                "SELECT service, reason, at::time(3) FROM quarantine WHERE chain_id = $1::text::uuid",
                "SELECT o.name, successes, failures, streak, avoid_until::time(3), now()::time(3), last_error FROM operator o"
                " WHERE $1::text IS NOT NULL AND url IS NOT NULL",
        };
        int e = 0;

        for (size_t i = 0; i < ARRAY_SIZE(statements) && e == 0; i++) {
                _cleanup_(db_args_done) struct db_args args = {0};
                _cleanup_(PQclearp) PGresult *r = NULL;

                db_arg_text(&args, chain);
                e = db_run(db, statements[i], &args, &r);
                if (e == 0)
                        add_rows(r, text);
        }
        return e;
}
