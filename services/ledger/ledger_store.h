/* All SQL of the ledger: it writes through advance() alone, so it only reads here. */
#ifndef AETHELOS_LEDGER_STORE_H
#define AETHELOS_LEDGER_STORE_H

#include "store/chain.h"

/* Payout chains of these jobs that have not been heard by their service: for ringing again. *ret_ids is malloc'ed, with versions and lanes. */
struct ledger_payout {
        struct uuid id;
        int version;
        enum lane lane;
};
int ledger_unheard_payouts(struct db *db, const struct uuid jobs[], size_t n, struct ledger_payout **ret_payouts, size_t *ret_n);

#endif
