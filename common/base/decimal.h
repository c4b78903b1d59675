/* Exact decimal numbers: mantissa * 10^-scale in 128 bits, every operation checked. Enough for prices: five factors with together at most 19 decimal
 * places; an overflow of 128 bits then means a value far beyond 64 bits of minor units, so "overflow" and "amount too large" are the same answer. */
#ifndef AETHELOS_BASE_DECIMAL_H
#define AETHELOS_BASE_DECIMAL_H

#include "strbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct decimal {
        __int128 mantissa;
        int scale; /* >= 0 */
};

/* "12", "0.05", "-1.5": optional minus, digits, optional fraction; no exponent, no blanks, at most 18 digits before and 6 behind the point.
 * 0 or -EINVAL. */
int decimal_parse(const char *s, size_t len, struct decimal *ret_d);
struct decimal decimal_of_int(int64_t n);
int decimal_add(struct decimal a, struct decimal b, struct decimal *ret_d); /* 0 or -ERANGE */
int decimal_mul(struct decimal a, struct decimal b, struct decimal *ret_d); /* 0 or -ERANGE */
void decimal_add_text(struct strbuf *b, struct decimal d);                  /* shortest plain form: 25.878 */

/* Rounds half away from zero to `exponent` decimal places and yields that many minor units: 25.878, 2 -> 2588. 0 or -ERANGE. */
int decimal_round_minor(struct decimal d, int exponent, int64_t *ret_minor);

#endif
