/* How far a command is, and its answer: one JSON object, exact at every commit. Pure. */
#ifndef AETHELOS_META_REPAIR_PROGRESS_H
#define AETHELOS_META_REPAIR_PROGRESS_H

#include "base/strbuf.h"
#include "base/uuid.h"

#define REPAIR_REFUSALS_MAX 100

struct repair_progress {
        int64_t phase;
        struct uuid after;
        int64_t found, done, waiting, refused, version;
        int64_t n_refusals;
        struct strbuf refusals; /* list elements, without brackets */
        char *error;            /* malloc'ed: the command cannot be carried out */
        struct uuid task;       /* of a command `task` */
        bool opened;
};

void repair_progress_done(struct repair_progress *p);                              /* also for _cleanup_ */
void repair_progress_read(const char *text, struct repair_progress *ret_progress); /* NULL: the beginning */
void repair_progress_write(struct strbuf *b, const struct repair_progress *p);
void repair_progress_refuse(struct repair_progress *p, const struct uuid *chain, const char *why);
/* The answer of a command that is done: `what` decides which counts it has. */
void repair_progress_result(struct strbuf *b, const char *what, const struct repair_progress *p);

#endif
