/* All SQL of payouts. */
#ifndef AETHELOS_PAYOUTS_STORE_H
#define AETHELOS_PAYOUTS_STORE_H

#include "store/chain.h"

/* A payout chain; text is borrowed from the result. */
struct payouts_row {
        struct uuid id;
        int version;
        const char *step;
        struct amount amount;
        bool has_evidence;
        const char *kind, *who, *reference;
};

int payouts_read(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_result);
void payouts_row(const PGresult *result, int row, struct payouts_row *ret_row);
int payouts_heard(struct db *db, const struct uuid ids[], size_t n); /* empties the evidence inbox of them */

#endif
