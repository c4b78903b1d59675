/* All SQL of webhooks. Results are 0 or a negative errno of db_run. */
#ifndef AETHELOS_WEBHOOKS_STORE_H
#define AETHELOS_WEBHOOKS_STORE_H

#include "store/db.h"
#include "webhooks.h"

/* The active subscriptions; see webhooks_subscription. */
int webhooks_active(struct db *db, PGresult **ret_rows);

struct webhooks_subscription {
        struct uuid id;
        const char *url, *secret, *old_secrets; /* borrowed; old_secrets: those that still sign, with blanks between */
        bool behind;                            /* the store has events behind its place */
        bool due;                               /* a delivery is due */
        bool cloudevents;                       /* the form in which it is told */
};
void webhooks_subscription(const PGresult *rows, int row, struct webhooks_subscription *ret_subscription);

/* Makes deliveries of the next events behind its place, and moves the place, together; nothing while another instance is at it or very much is
 * pending. */
int webhooks_gather(struct db *db, const struct uuid *webhook);

/* Takes at most n deliveries that are due, for lease_ms: the attempt is on record before it is made. Rows: event columns of job_view, then id,
 * message, attempts. */
int webhooks_claim(struct db *db, const struct uuid *webhook, int64_t n, int64_t lease_ms, PGresult **ret_rows);

/* What came of an attempt. */
int webhooks_delivered(struct db *db, const struct webhooks_attempt *a);
/* *ret_disabled: the subscription is, since now. gone: at once. */
int webhooks_failed(
        struct db *db, const struct webhooks_attempt *a, bool gone, int64_t delay_ms, const struct webhooks_config *config, bool *ret_disabled);

int webhooks_forget_secrets(struct db *db); /* whose time is over */

/* Forgets what was done longer ago than keep_s, a part of it at a time. *ret_more: there is more. */
int webhooks_prune(struct db *db, int64_t keep_s, bool *ret_more);

#endif
