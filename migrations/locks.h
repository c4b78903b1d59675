/* What the statements of a migration lock, and whether that takes as long as a table is large. Pure: text in, notes out. */
#ifndef AETHELOS_MIGRATIONS_LOCKS_H
#define AETHELOS_MIGRATIONS_LOCKS_H

#include <stdbool.h>
#include <stddef.h>

enum lock_work {
        LOCK_MOMENT,   /* the catalogue alone */
        LOCK_READS,    /* every row is read */
        LOCK_BUILDS,   /* an index is built from every row */
        LOCK_REWRITES, /* every row is written again */
        LOCK_CHANGES,  /* rows are changed, and stay locked until the end */
        LOCK_UNKNOWN,  /* a DO block: what it does stands in a program of its own */
};

struct lock_note {
        char table[64];
        const char *lock, *waits; /* PostgreSQL's name of the lock; who must wait for it */
        enum lock_work work;
};

struct lock_notes {
        struct lock_note *v;
        size_t n;
};

/* Of tables that the text itself creates nothing is said: nobody uses them yet. */
void locks_of(const char *sql, struct lock_notes *ret_notes);
void locks_done(struct lock_notes *notes);
const char *lock_work_text(enum lock_work work);
/* It takes the longer the larger the table is, and somebody waits for it; of tables whose rows people register or the schema brings that is no
 * matter. */
bool lock_is_long(const struct lock_note *note);

#endif
