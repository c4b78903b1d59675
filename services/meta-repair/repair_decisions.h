/* What a person may have done with a chain. Pure; the database judges again. */
#ifndef AETHELOS_META_REPAIR_DECISIONS_H
#define AETHELOS_META_REPAIR_DECISIONS_H

#include <stdbool.h>

enum repair_wish { REPAIR_WISH_REDRIVE, REPAIR_WISH_REFUND, REPAIR_WISH_CLOSE };

struct repair_place {
        const char *kind, *step, *status;
        bool paid, refunding;
};

struct repair_decision {
        const char *event; /* that is written, NULL: refused */
        bool evidence;     /* the decision must be stored as evidence */
        const char *why;   /* it is refused */
};

void repair_wish(enum repair_wish wish, const struct repair_place *place, struct repair_decision *ret_decision);
/* Why the database refused a move that looked possible. */
const char *repair_refusal(const char *event);

#endif
