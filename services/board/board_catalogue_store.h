/* The SQL of the catalogue. Results are 0 or a negative errno of db_run unless said otherwise. */
#ifndef AETHELOS_BOARD_CATALOGUE_STORE_H
#define AETHELOS_BOARD_CATALOGUE_STORE_H

#include "board_core.h"
#include "store/db.h"

/* Rows of one operator or flow each, see board_add_operator and board_add_flow. */
int board_operators(struct db *db, PGresult **ret_result);
void board_add_operator(struct strbuf *b, const PGresult *r, int row);
/* Registers. 0: *ret_new says whether it is new or the same stood already; -EEXIST: another of that name. */
int board_register_operator(struct db *db, const struct board_operator *o, bool *ret_new, struct strbuf *b);
int board_flows(struct db *db, PGresult **ret_result);
void board_add_flow(struct strbuf *b, const PGresult *r, int row);
/* A new version of the flow. -EEXIST: the type belongs to another flow, or the flow to another type (*ret_owner, malloc'ed: which). */
int board_register_flow(struct db *db, const struct board_flow *f, struct strbuf *b, char **ret_owner);

#endif
