/* All SQL of meta-repair. */
#ifndef AETHELOS_META_REPAIR_STORE_H
#define AETHELOS_META_REPAIR_STORE_H

#include "store/chain.h"

struct repair_standing {
        struct uuid id;
        int version;
        enum lane lane;
        char hearer[16];
        int64_t since_ms; /* database clock, Unix time */
};

/* The database's clock. */
int repair_now(struct db *db, int64_t *ret_now_ms);

/* One page of what stands, by id behind *after: chains that must move by themselves, or (evidence) chains whose evidence was not heard. `each` is
 * called for those that have stood since `until_ms` or longer. *after moves on; *ret_more is false behind the last page. */
int repair_page(struct db *db, bool evidence, int64_t until_ms, struct uuid *after, void (*each)(void *arg, const struct repair_standing *s),
        void *arg, bool *ret_more);

#endif
