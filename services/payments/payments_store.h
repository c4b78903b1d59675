/* All SQL of payments. */
#ifndef AETHELOS_PAYMENTS_STORE_H
#define AETHELOS_PAYMENTS_STORE_H

#include "store/chain.h"

#define PAYMENTS_SYSTEM "system"

/* A chain with what payments needs to know of it; text is borrowed from `result`. */
struct payments_row {
        struct chain chain;
        const char *hearer; /* of a step that is no longer ours; "" = none */
        bool expired;       /* by our clock (driver manual), or by the provider's evidence */
        bool has_evidence;
        const char *kind, *who, *reference; /* of the evidence */
        const char *expires_at;             /* of an intent made now */
        const char *driver;                 /* of the intent that is there; "" = none */
};

int payments_read(struct db *db, const struct uuid ids[], size_t n, int64_t expiry_ms, PGresult **ret_result);
void payments_row(const PGresult *result, int row, struct payments_row *ret_row);
int payments_insert_intents(struct db *db, const char *driver, const struct uuid ids[], const char *const expires_at[], size_t n);
/* The internal transfers of tasks: evidence of kind internal, by PAYMENTS_SYSTEM, with the task as its reference. */
int payments_transfer(struct db *db, const struct uuid ids[], size_t n);
int payments_heard(struct db *db, const struct uuid ids[], size_t n); /* empties the evidence inbox of them */

/* Unpaid intents that ran out after `after` (database text time, "-infinity" at first): at most 500 ids (malloc'ed), and where to go on. */
int payments_expired(struct db *db, const char *after, struct uuid **ret_ids, size_t *ret_n, char ret_next[64]);

#endif
