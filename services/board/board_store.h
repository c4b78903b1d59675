/* The SQL of documents, figures and evidence. Results are 0 or a negative errno of db_run unless said otherwise. */
#ifndef AETHELOS_BOARD_STORE_H
#define AETHELOS_BOARD_STORE_H

#include "board_core.h"
#include "services/intake/job_view.h"
#include "store/db.h"

/* --- documents that the database makes: each adds JSON text --- */
int board_overview(struct db *db, struct strbuf *b);
int board_revenue(struct db *db, struct strbuf *b);
int board_payouts_summary(struct db *db, struct strbuf *b);
int board_metrics(struct db *db, struct strbuf *b); /* Prometheus text */

/* --- pages, as {"items", "next"} --- */
void board_add_page(struct strbuf *b, const PGresult *r, int64_t limit); /* rows of (cursor, JSON), one more than limit when there is a next page */
/* One document, the first column of the row that sql finds by id ($1). -ENOENT: there is none. */
int board_document(struct db *db, const char *sql, const struct uuid *id, struct strbuf *b);
int board_payouts(struct db *db, const char *step, const struct uuid *job, const struct uuid *after, int64_t limit,
        struct strbuf *b);                                                                   /* step, job, after: NULL */
int board_refunds(struct db *db, const struct uuid *after, int64_t limit, struct strbuf *b); /* that are asked for and not confirmed */
int board_quarantine(struct db *db, int64_t after, int64_t limit, struct strbuf *b);
/* Latest first, from behind `older_than` (NULL: the end); or with `since` in the order of happening. Of one chain, or of all (NULL). */
int board_events(struct db *db, const struct uuid *chain, const struct board_cursor *older_than, const struct board_cursor *since, int64_t limit,
        enum job_view_form form, struct strbuf *b);

/* --- the tail, for streams: what is behind `at`, oldest first, at most 500 events and not much more than 1 MiB of data --- */
int board_tail(struct db *db, const struct board_cursor *at, PGresult **ret_page, bool *ret_full); /* full: there may be more; columns of job_view */
struct board_cursor board_tail_cursor(const PGresult *page, int row);
const char *board_tail_client(const PGresult *page, int row);
int board_tail_end(struct db *db, struct board_cursor *ret_at); /* the last event */

/* --- a job with everything; -ENOENT when there is none --- */
int board_job(struct db *db, const struct uuid *id, struct strbuf *b);

/* --- evidence --- */
struct board_submission {
        enum board_kind kind;
        struct uuid id;
        const char *reference, *by;
        bool has_amount;
        int64_t minor;
        /* the answer */
        enum board_verdict verdict;
        char hearer[16];
        char lane[8];
        int version;
};
/* One call of submit_evidence() for all of them, committed. -EBADMSG: a verdict that this program does not know. */
int board_submit(struct db *db, struct board_submission submissions[], size_t n);

/* Payouts by id: rows for board_add_payout, column 0 is the id. */
int board_payouts_by_id(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_result);
void board_add_payout(struct strbuf *b, const PGresult *r, int row);

#endif
