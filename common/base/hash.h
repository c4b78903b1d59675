/* SHA-256 over parts (OpenSSL), and a comparison that takes the same time whatever differs. */
#ifndef AETHELOS_BASE_HASH_H
#define AETHELOS_BASE_HASH_H

#include "util.h"

#include <stdbool.h>
#include <stdint.h>

#define SHA256_SIZE 32

/* Hashes the parts, each behind its length as 8 bytes big-endian: no two different lists of parts have the same input. */
void sha256_parts(const struct slice parts[], size_t n, uint8_t ret_hash[SHA256_SIZE]);
void sha256_bytes(const void *data, size_t len, uint8_t ret_hash[SHA256_SIZE]); /* plain SHA-256 */
void hex_format(const uint8_t *bytes, size_t n, char *ret_text);                /* 2 n lower-case digits and a NUL */
bool equal_constant_time(const void *a, size_t a_len, const void *b, size_t b_len);
int random_bytes(void *ret_bytes, size_t len); /* getrandom(); 0 or a negative errno */

#endif
