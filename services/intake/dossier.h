/* The dossier of a job: everything that is known of it, why it ended or for whom it waits, and what a person may still do. The public one is without
 * the names of people and the references of their evidence. */
#ifndef AETHELOS_INTAKE_DOSSIER_H
#define AETHELOS_INTAKE_DOSSIER_H

#include "base/strbuf.h"
#include "base/uuid.h"
#include "store/db.h"

/* Adds one JSON object. 0, -ENOENT (no such job), or a negative errno of db_run. */
int dossier(struct db *db, const struct uuid *job, bool public_side, struct strbuf *b);

#endif
