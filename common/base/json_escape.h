/* Escapes in JSON strings, for json_parse.c and json.c. */
#ifndef AETHELOS_BASE_JSON_ESCAPE_H
#define AETHELOS_BASE_JSON_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int32_t json_hex4(const char *s, const char *end); /* the value of four hex digits, or -1 */
bool json_is_high_surrogate(int32_t c);
bool json_is_low_surrogate(int32_t c);

/* Decodes the checked escape at s to *out; yields its length and moves *out behind the 1 to 4 bytes written. */
size_t json_unescape_one(const char *s, char **out);
/* Decodes the inside of a checked string literal; yields the end of what it wrote. */
char *json_unescape(const char *s, const char *end, char *out);

#endif
