/* Counts and sums over everything, exact at any moment: what feed has summed up to its checkpoint, plus the events behind it, read in one statement
 * and so in one snapshot; feed moves figures and checkpoint together. It only reads. */
#include "board_store.h"

#include "services/intake/job_view.h"

/* total: events by name and currency, as this snapshot sees them. counts and sums: each figure is made of the names in its rows, added or taken off.
 * sums has [{"minor", "currency", "count"}] for the figures that are not empty. */
#define FIGURES                                                                                                                                      \
        "WITH at AS MATERIALIZED (SELECT coalesce(max(generation), 0)::smallint AS g, coalesce(max(xid), 0) AS x, coalesce(max(id), 0) AS i"         \
        "  FROM reader WHERE name = 'feed'),"                                                                                                        \
        " tail AS (SELECT " JOB_VIEW_FIGURE " AS name, coalesce(c.currency, '') AS currency,"                                                        \
        "   coalesce(c.amount, 0) AS amount FROM event e JOIN chain c ON c.id = e.chain_id"                                                          \
        "  WHERE (e.generation, e.xid, e.id) > ((SELECT g FROM at), (SELECT x FROM at), (SELECT i FROM at))),"                                       \
        " total AS MATERIALIZED (SELECT name, currency, sum(minor) AS minor, sum(count) AS count FROM"                                               \
        "  (SELECT name, currency, minor, count FROM figure"                                                                                         \
        "  UNION ALL SELECT name, currency, sum(amount), count(*) FROM tail GROUP BY 1, 2) u GROUP BY 1, 2),"                                        \
        " made (figure, name, sign) AS (VALUES"                                                                                                      \
        "  ('jobs', 'JOB_CREATED', 1),"                                                                                                              \
        "  ('completed', 'REVENUE_BOOKED', 1),"                                                                                                      \
        "  ('failed', 'FINAL_FAIL', 1), ('failed', 'FINAL_FAIL reopened', -1),"                                                                      \
        "  ('expired', 'PAYMENT_EXPIRED', 1), ('expired', 'PAYMENT_EXPIRED reopened', -1),"                                                          \
        "  ('earned', 'PAYOUT_EARNED', 1),"                                                                                                          \
        "  ('ready', 'PAYOUT_READY', 1), ('ready', 'PAYOUT_DONE', -1),"                                                                              \
        "  ('done', 'PAYOUT_DONE', 1),"                                                                                                              \
        "  ('pending', 'PAYOUT_EARNED', 1), ('pending', 'PAYOUT_DONE', -1)),"                                                                        \
        " counts AS (SELECT m.figure, coalesce(sum(m.sign * t.count), 0) AS n FROM made m LEFT JOIN total t USING (name) GROUP BY 1),"               \
        " sums AS (SELECT s.figure, json_agg(row_to_json(a) ORDER BY a.currency) AS list FROM"                                                       \
        "  (SELECT m.figure, t.currency, sum(m.sign * t.minor) AS minor, sum(m.sign * t.count) AS count FROM made m JOIN total t USING (name)"       \
        "   GROUP BY 1, 2 HAVING sum(m.sign * t.count) > 0) s"                                                                                       \
        "  CROSS JOIN LATERAL (SELECT s.minor, s.currency, s.count) a GROUP BY 1)"

struct document {
        const char *sql;
        struct strbuf *b;
};

static int read_document(struct db *db, void *arg)
{
        /* A third of the table is what the planner expects behind any checkpoint: it would scan all events, and all chains to join them. */
        static const char plan[] = "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),"
                                   " set_config('enable_mergejoin', 'off', true), set_config('enable_bitmapscan', 'off', true)";
        struct document *d = arg;
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, plan, NULL, NULL);

        if (e == 0)
                e = db_run(db, d->sql, NULL, &r);
        if (e == 0) {
                strbuf_reset(d->b);
                strbuf_adds(d->b, PQgetvalue(r, 0, 0));
        }
        return e;
}

/* As meta-repair left them: what stood in its last complete sweep, a few seconds ago, and its repairs since the installation. */
#define REPAIR                                                                                                                                       \
        "SELECT (SELECT to_char(max(f.at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM repair_figure f WHERE f.name <> 'repair') "  \
        "AS at,"                                                                                                                                     \
        " (SELECT coalesce(sum(f.value), 0) FROM repair_figure f WHERE f.name = 'past_bell') AS past_bell,"                                          \
        " (SELECT coalesce(json_agg(row_to_json(l)), '[]') FROM (SELECT split_part(f.label, '/', 1) AS kind, split_part(f.label, '/', 2) AS step,"   \
        "   max(f.value) FILTER (WHERE f.name = 'standing') AS standing, max(f.value) FILTER (WHERE f.name = 'past_bell') AS past_bell,"             \
        "   max(f.value) FILTER (WHERE f.name = 'past_deadline') AS past_deadline, max(f.value) FILTER (WHERE f.name = 'waiting') AS waiting,"       \
        "   max(f.value) FILTER (WHERE f.name = 'oldest_s') AS oldest_s FROM repair_figure f WHERE f.name NOT IN ('waiting_evidence', 'repair')"     \
        "   GROUP BY f.label ORDER BY f.label) l) AS steps,"                                                                                         \
        " (SELECT coalesce(json_agg(row_to_json(l)), '[]') FROM (SELECT f.label AS party, f.value AS issues FROM repair_figure f"                    \
        "   WHERE f.name = 'waiting_evidence' ORDER BY f.label) l) AS parties,"                                                                      \
        " (SELECT coalesce(json_agg(row_to_json(l)), '[]') FROM (SELECT split_part(f.label, '/', 1) AS antibody,"                                    \
        "   split_part(f.label, '/', 2) AS outcome, f.value AS count FROM repair_figure f WHERE f.name = 'repair' ORDER BY f.label) l) AS repairs"

int board_overview(struct db *db, struct strbuf *b)
{
        static const char sql[] =
                FIGURES ","
                        " issues AS (SELECT count(*) AS n, count(*) FILTER (WHERE state = 'waiting_evidence') AS waiting,"
                        "  count(*) FILTER (WHERE grade = 'repair' AND chain_id IS NOT NULL) AS past FROM issue WHERE closed_at IS NULL),"
                        " kept AS (SELECT count(*) AS n FROM quarantine)"
                        " SELECT row_to_json(o)::text FROM (SELECT"
                        " (SELECT n FROM counts WHERE figure = 'jobs') AS jobs_total,"
                        " (SELECT n FROM counts WHERE figure = 'completed') AS jobs_completed,"
                        " (SELECT n FROM counts WHERE figure = 'failed') AS jobs_failed,"
                        " (SELECT n FROM counts WHERE figure = 'expired') AS jobs_expired,"
                        " coalesce((SELECT list FROM sums WHERE figure = 'completed'), '[]') AS revenue,"
                        " (SELECT n FROM counts WHERE figure = 'earned') AS payouts_earned,"
                        " (SELECT n FROM counts WHERE figure = 'ready') AS payouts_ready,"
                        " (SELECT n FROM counts WHERE figure = 'done') AS payouts_done,"
                        " coalesce((SELECT list FROM sums WHERE figure = 'earned'), '[]') AS payouts_earned_amounts,"
                        " coalesce((SELECT list FROM sums WHERE figure = 'ready'), '[]') AS payouts_ready_amounts,"
                        " coalesce((SELECT list FROM sums WHERE figure = 'done'), '[]') AS payouts_done_amounts,"
                        " i.n + k.n AS open_issues,"
                        " i.waiting AS waiting_evidence,"
                        " i.past AS past_deadline,"
                        " (SELECT count(*) FROM chain c WHERE c.status = 'open' AND c.aside IS NULL AND c.waits_for IS NULL) AS standing,"
                        " (SELECT count(*) FROM webhook WHERE state = 'disabled') AS webhooks_disabled,"
                        " k.n AS quarantined,"
                        " (SELECT row_to_json(x) FROM (" REPAIR ") x) AS repair"
                        " FROM issues i CROSS JOIN kept k) o";
        struct document d = {sql, b};

        return db_transaction(db, read_document, &d);
}

int board_revenue(struct db *db, struct strbuf *b)
{
        static const char sql[] = FIGURES " SELECT row_to_json(o)::text FROM (SELECT"
                                          " coalesce((SELECT list FROM sums WHERE figure = 'completed'), '[]') AS items, NULL AS next) o";
        struct document d = {sql, b};

        return db_transaction(db, read_document, &d);
}

/* Prometheus text. What an operator has is not in the queue of execution: more instances would not make it faster. Costs what stands and the
 * short waits, over the partial index chain_standing. */
int board_metrics(struct db *db, struct strbuf *b)
{
        static const char sql[] =
                "WITH standing AS (SELECT s.hearer, c.updated_at AS since FROM chain c JOIN step s ON s.kind = c.kind AND s.name = c.step"
                "   WHERE c.status = 'open' AND c.aside IS NULL AND c.waits_for IS NULL AND s.hearer IS NOT NULL AND NOT EXISTS"
                "    (SELECT 1 FROM operator_run r WHERE r.chain_id = c.id AND r.state IN ('calling', 'accepted', 'unknown'))"
                "  UNION ALL SELECT s.hearer, i.at FROM evidence_inbox i JOIN chain c ON c.id = i.chain_id"
                "   JOIN step s ON s.kind = c.kind AND s.name = c.step WHERE s.hearer IS NOT NULL),"
                " queue AS (SELECT h.hearer, count(t.since) AS n, greatest(coalesce(extract(epoch FROM now() - min(t.since)), 0), 0) AS age"
                "   FROM (SELECT DISTINCT hearer FROM step WHERE hearer IS NOT NULL) h LEFT JOIN standing t USING (hearer) GROUP BY 1)"
                " SELECT E'# HELP aethelos_queue_oldest_seconds Age of the oldest chain that this service must move on.\n"
                "# TYPE aethelos_queue_oldest_seconds gauge\n'"
                " || string_agg(format(E'aethelos_queue_oldest_seconds{service=\"%s\"} %s\n', hearer, round(age, 3)), '' ORDER BY hearer)"
                " || E'# HELP aethelos_queue_chains Chains that this service must move on.\n# TYPE aethelos_queue_chains gauge\n'"
                " || string_agg(format(E'aethelos_queue_chains{service=\"%s\"} %s\n', hearer, n), '' ORDER BY hearer) FROM queue";
        struct document d = {sql, b};

        return db_transaction(db, read_document, &d);
}

int board_payouts_summary(struct db *db, struct strbuf *b)
{
        static const char sql[] = FIGURES " SELECT row_to_json(o)::text FROM (SELECT"
                                          " coalesce((SELECT list FROM sums WHERE figure = 'earned'), '[]') AS earned,"
                                          " coalesce((SELECT list FROM sums WHERE figure = 'pending'), '[]') AS pending,"
                                          " coalesce((SELECT list FROM sums WHERE figure = 'done'), '[]') AS paid_out,"
                                          " (SELECT n FROM counts WHERE figure = 'pending') AS open) o";
        struct document d = {sql, b};

        return db_transaction(db, read_document, &d);
}
