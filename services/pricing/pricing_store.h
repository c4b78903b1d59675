/* All SQL of pricing. */
#ifndef AETHELOS_PRICING_STORE_H
#define AETHELOS_PRICING_STORE_H

#include "store/chain.h"

/* A job chain, with the data of its JOB_CREATED while it has no price ({NULL,0} later); borrowed from the result. */
struct pricing_row {
        struct uuid id;
        int version;
        enum lane lane;
        const char *step, *hearer;
        struct slice created;
};

int pricing_read(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_result);
void pricing_row(const PGresult *r, int row, struct pricing_row *ret_row);

#endif
