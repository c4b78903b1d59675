/* Money: integer minor units of an ISO 4217 currency. No floating point touches it (I6).
 * The table of exponents is ISO 4217 list one as published 2024-06-25; codes without a minor unit (gold, test codes) are not money and unknown here.
 */
#ifndef AETHELOS_BASE_AMOUNT_H
#define AETHELOS_BASE_AMOUNT_H

#include "strbuf.h"

#include <stdbool.h>
#include <stdint.h>

struct amount {
        int64_t minor;
        char currency[4]; /* "EUR", NUL-terminated; "" = no amount */
};

/* Decimal places of a currency's minor unit (EUR 2, JPY 0, BHD 3), or -ENOENT for an unknown code. */
int currency_exponent(const char *code);

bool amount_equal(struct amount a, struct amount b);
void amount_add_json(struct strbuf *b, struct amount a);  /* {"minor":2588,"currency":"EUR"} */
void amount_add_human(struct strbuf *b, struct amount a); /* EUR 25.88 */

#endif
