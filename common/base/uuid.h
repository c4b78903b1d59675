/* UUID version 7 (RFC 9562 section 5.7): 48 bits of Unix milliseconds, then 74 random bits, fresh from getrandom() for every id, because the
 * id of a public resource is its secret. Rising in time, so that primary keys grow at their right edge. */
#ifndef AETHELOS_BASE_UUID_H
#define AETHELOS_BASE_UUID_H

#include "util.h"

#include <stdbool.h>
#include <stdint.h>

#define UUID_TEXT_SIZE 37 /* with the NUL */

struct uuid {
        uint8_t b[16];
};

struct uuid uuid_v7(void);                                              /* thread-safe */
bool uuid_parse(const char *s, size_t len, struct uuid *ret_id);        /* the 36-character form, either case, nothing around it */
void uuid_format(const struct uuid *id, char ret_text[UUID_TEXT_SIZE]); /* lower case */
int uuid_compare(const void *a, const void *b);                         /* like memcmp; fits qsort; the order PostgreSQL uses */
bool uuid_equal(const struct uuid *a, const struct uuid *b);

#endif
