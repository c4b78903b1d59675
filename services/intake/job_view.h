/* What people and programs see of chains: the public JSON of jobs, payment intents, events and payouts, folded from the chain row and its events.
 * One place, because intake (public) and board (admin) answer with the same documents. Reads by primary key only, a set at a time.
 *
 * Members are only ever added. Times are RFC 3339 in UTC; amounts {"minor","currency"}; every member is there, null while it is not known. */
#ifndef AETHELOS_INTAKE_JOB_VIEW_H
#define AETHELOS_INTAKE_JOB_VIEW_H

#include "base/amount.h"
#include "base/strbuf.h"
#include "base/uuid.h"
#include "store/db.h"

#include <stdbool.h>

/* Columns and tables of the three folds, for statements that choose rows in their own way: "SELECT " X_COLUMNS " FROM " X_TABLES " WHERE ...". `c` is
 * the chain. Whoever uses them needs SELECT on chain, event and (jobs) payment_intent. Further columns may follow. */
#define JOB_VIEW_TIME(t) "to_char(" t " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"

/* The result stands in the last event but one at most (EXECUTION_COMPLETED, then REVENUE_BOOKED); an error in the last one. */
#define JOB_VIEW_JOB_COLUMNS                                                                                                                         \
        "c.id, c.step, c.version, c.status, c.lane, c.amount, c.currency, " JOB_VIEW_TIME("c.created_at") ", " JOB_VIEW_TIME(                        \
                "c.updated_at") ", "                                                                                                                 \
                                "(SELECT f.data::json->>'type' FROM event f WHERE f.chain_id = c.id AND f.version = 1), "                            \
                                "CASE WHEN c.step IN ('EXECUTION_COMPLETED', 'REVENUE_BOOKED') THEN (SELECT r.data::json->'result' FROM event r "    \
                                "WHERE r.chain_id = c.id AND "                                                                                       \
                                "r.version > c.version - 2 AND r.type = 'EXECUTION_COMPLETED') END, "                                                \
                                "CASE WHEN c.step IN ('EXECUTION_FAILED', 'PAYMENT_EXPIRED', 'FINAL_FAIL') THEN (SELECT x.data::json->'error' FROM " \
                                "event x WHERE "                                                                                                     \
                                "x.chain_id = c.id AND "                                                                                             \
                                "x.version = c.version) END, "                                                                                       \
                                "i.driver, " JOB_VIEW_TIME("i.expires_at") ", "                                                                      \
                                                                           "CASE WHEN c.step = 'FINAL_FAIL' THEN EXISTS (SELECT 1 FROM event p "     \
                                                                           "WHERE p.chain_id = c.id AND p.version = "                                \
                                                                           "c.version - 1 AND p.type = 'REFUND_CONFIRMED') END"
/* OFFSET 0 pins the plan: one lookup by primary key per row, whatever the planner believes about the size of a table. */
#define JOB_VIEW_JOB_TABLES "chain c " JOB_VIEW_JOB_INTENT
#define JOB_VIEW_JOB_INTENT "LEFT JOIN LATERAL (SELECT p.driver, p.expires_at FROM payment_intent p WHERE p.id = c.id OFFSET 0) i ON true"
#define JOB_VIEW_JOB_N      15 /* columns; `c.kind = 'job'` belongs in the WHERE */

#define JOB_VIEW_EVENT_SOURCE  "(SELECT g.source FROM generation g WHERE g.n = e.generation)"
#define JOB_VIEW_EVENT_COLUMNS "e.id, e.type, e.chain_id, e.version, " JOB_VIEW_TIME("e.at") ", e.data, " JOB_VIEW_EVENT_SOURCE
#define JOB_VIEW_EVENT_N       7 /* FROM event e */

/* Events of a page weigh no more than this and the last one of them; the cursor says where to go on. */
#define JOB_VIEW_PAGE_BYTES "4194304"

/* Whether a reader may see a row of event yet: what is still under way must not be passed over; what an older generation of the cluster wrote is
 * always visible. Scalar sub-selects, so that an index yields the rows in order; a comparison of rows, so that it ends where they are not to be seen,
 * instead of reading everything behind the horizon to throw it away. */
#define JOB_VIEW_HORIZON "(generation, xid) < ((SELECT max(n) FROM generation), (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint))"

/* Of event `e` and its chain `c`: the name of the figure that counts it. Tasks stand apart, and a reopening counts what it takes back. */
#define JOB_VIEW_FIGURE        "CASE WHEN c.kind = 'system' THEN '" JOB_VIEW_FIGURE_SYSTEM "' || e.type ELSE " JOB_VIEW_FIGURE_PLAIN " END"
#define JOB_VIEW_FIGURE_SYSTEM "system "
#define JOB_VIEW_FIGURE_PLAIN  "coalesce(" JOB_VIEW_FIGURE_OTHER ", e.type)"
/* NULL where it is the event's own type. */
#define JOB_VIEW_FIGURE_OTHER                                                                                                                        \
        "CASE WHEN e.type = 'CHAIN_REOPENED' THEN (SELECT q.type FROM event q WHERE q.chain_id = e.chain_id AND q.version = e.version - 1)"          \
        " || ' reopened' END"

#define JOB_VIEW_PAYOUT_COLUMNS "c.id, c.parent, c.step, c.amount, c.currency, " JOB_VIEW_TIME("c.created_at") ", " JOB_VIEW_TIME("c.updated_at")
#define JOB_VIEW_PAYOUT_N       7 /* FROM chain c WHERE c.kind = 'payout' */

/* How an event is written: as it is, or as a CloudEvent (1.0). */
enum job_view_form { JOB_VIEW_EVENT, JOB_VIEW_CLOUDEVENT };
bool job_view_form_parse(const char *format, enum job_view_form *ret_form); /* "event", "cloudevents"; NULL: event */

/* Each adds one JSON object from the columns of a row that begin at `column`. */
void job_view_add_job(struct strbuf *b, const PGresult *r, int row, int column);
bool job_view_has_intent(const PGresult *r, int row, int column);                   /* PAYMENT_INITIATED has happened */
void job_view_add_intent(struct strbuf *b, const PGresult *r, int row, int column); /* from the columns of a job that has one */
void job_view_add_event(struct strbuf *b, const PGresult *r, int row, int column, enum job_view_form form);
/* The same, of its data what public_data.h shows. */
void job_view_add_public_event(struct strbuf *b, const PGresult *r, int row, int column, enum job_view_form form);
void job_view_add_payout(struct strbuf *b, const PGresult *r, int row, int column);

/* Jobs by id: rows of JOB_VIEW_JOB_COLUMNS in no particular order; an id that is no job has no row. 0 or a negative errno of db_run. */
int job_view_jobs(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_result);

/* A chain's events behind version `after`: rows for job_view_add_public_event. The chain without such events is one row of nulls, no such chain of
 * that kind is no row. */
int job_view_event_rows(struct db *db, const struct uuid *chain, const char *kind, int64_t after, int64_t limit, PGresult **ret_rows);
/* One page of a chain's events as the public may see them, behind version `after`, as {"items":[...],"next":"<cursor>"}. `next` is the cursor behind
 * the last item, so that a follower can go on from it; null when there is no item. 0, -ENOENT (no such chain of that kind), or a negative errno of
 * db_run. */
int job_view_events(
        struct db *db, const struct uuid *chain, const char *kind, int64_t after, int64_t limit, enum job_view_form form, struct strbuf *b);

#endif
