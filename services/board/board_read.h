/* What the readers of bodies share. Pure. Those that refuse fill the problem and return false. */
#ifndef AETHELOS_BOARD_READ_H
#define AETHELOS_BOARD_READ_H

#include "board_core.h"

bool board_read_refuse(struct board_problem *ret, int status, const char *slug, const char *detail, const char *field); /* field NULL: none */
bool board_read_bad(struct board_problem *ret, const char *detail, const char *field);                                  /* 422 invalid-value */

/* A body that is a JSON object. After false there is nothing to free. */
bool board_read_object(const char *body, size_t len, struct json_doc *ret_doc, struct board_problem *ret_problem);

/* A member of an object; null is as good as absent: NULL. The string is malloc'ed, NULL when it is none. */
json_value board_read_member(const struct json_doc *doc, json_value object, const char *name);
char *board_read_string(const struct json_doc *doc, json_value object, const char *name);

#endif
