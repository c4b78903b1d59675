/* The dossier of a job: everything that is known of it, why it ended or for whom it waits, and what a person may still do. The public one is without
 * the names of people and the references of their evidence. */
#ifndef AETHELOS_INTAKE_DOSSIER_H
#define AETHELOS_INTAKE_DOSSIER_H

#include "base/strbuf.h"
#include "base/uuid.h"
#include "store/db.h"

/* Adds one JSON object. id: of the job; on the private side also of a system task, a payout or an issue of a chain, which are told in the dossier of
 * the job or task they belong to. 0, -ENOENT (no such job), or a negative errno of db_run. */
int dossier(struct db *db, const struct uuid *id, bool public_side, struct strbuf *b);

#endif
