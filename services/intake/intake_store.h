/* All SQL of intake; what it shows of jobs is in job_view.h. */
#ifndef AETHELOS_INTAKE_STORE_H
#define AETHELOS_INTAKE_STORE_H

#include "services/intake/intake.h"

int intake_ping(struct db *db);
int intake_read_catalogue(struct db *db, struct intake_catalogue *ret_catalogue);

/* Inserts the keys of the items that are not refused; sets outcome INTAKE_NEW of those that won. */
int intake_claim(struct db *db, struct intake_item *const items[], size_t n);
/* Reads what stands under the keys of the others: sets id, price and outcome INTAKE_REPLAY or INTAKE_CONFLICT; a refused item of which nothing stands
 * stays INTAKE_REFUSED. */
int intake_find(struct db *db, struct intake_item *const items[], size_t n);

/* The job under a key. 0, -ENOENT, or a negative errno of db_run. */
int intake_find_key(struct db *db, const char *client, const char *key, struct uuid *ret_id, struct amount *ret_price);

/* Where the jobs stand, in their order; ret_stands of those that are none stay as they are. */
int intake_stands(struct db *db, const struct uuid jobs[], size_t n, struct intake_stand ret_stands[]);

/* Whether a job stands before its payment. 0 or a negative errno. */
int intake_on_its_way(struct db *db, const struct uuid *job, bool *ret_on_its_way);

/* Of held requests: a row (columns of job_view, then the index from 0) for each whose intent exists or that is due. */
int intake_read_held(struct db *db, const struct intake_held held[], size_t n, int64_t now_ms, PGresult **ret_result);

#endif
