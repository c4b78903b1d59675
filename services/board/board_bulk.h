/* One request that confirms many payments: it gathers what became of each, in any order, and answers when nothing is open any more. Whoever works on
 * the payments need not know of one another, and nobody answers the request beside this. */
#ifndef AETHELOS_BOARD_BULK_H
#define AETHELOS_BOARD_BULK_H

#include "board.h"

struct board_bulk;

/* All of the payments are open, and one place more, which is whose it is that hands them out: board_bulk_close(). Owns r; takes the texts of the ids.
 */
struct board_bulk *board_bulk_new(struct http_request *r, struct board_payments *payments);

/* Each closes a place; the last one answers r and frees the bulk. */
void board_bulk_stored(struct board_bulk *b, size_t i, bool moved);                    /* committed; moved: so is what it allows */
void board_bulk_refuse(struct board_bulk *b, size_t i, const struct board_problem *p); /* status 500 and more: the store failed */
void board_bulk_close(struct board_bulk *b);

void board_bulk_drop(struct board_bulk *b); /* closes a place, and leaves r to the server, which is ending; the last one frees the bulk */

#endif
