/* A growing byte buffer, always NUL-terminated behind len. {0} is an empty buffer. Growth failure ends the process. */
#ifndef AETHELOS_BASE_STRBUF_H
#define AETHELOS_BASE_STRBUF_H

#include "util.h"

#include <stdarg.h>
#include <stdint.h>

struct strbuf {
        char *s; /* NULL until something was added */
        size_t len, cap;
};

void strbuf_done(struct strbuf *b);  /* frees; also for _cleanup_(strbuf_done) */
void strbuf_reset(struct strbuf *b); /* len = 0, memory kept */
char *strbuf_take(struct strbuf *b); /* the text, malloc'ed ("" when empty); the buffer is empty afterwards */
/* The place behind len, with room for `more` bytes and a NUL; the caller writes both and adds to len itself. */
char *strbuf_grow(struct strbuf *b, size_t more);
void strbuf_add(struct strbuf *b, const void *data, size_t len);
void strbuf_adds(struct strbuf *b, const char *s);
void strbuf_addc(struct strbuf *b, char c);
void strbuf_addf(struct strbuf *b, const char *fmt, ...) _printf_(2, 3);
void strbuf_vaddf(struct strbuf *b, const char *fmt, va_list ap) _printf_(2, 0);
void strbuf_addi(struct strbuf *b, int64_t n); /* decimal */

/* Adds a JSON string literal with its quotes. Control characters are escaped; bytes that are not valid UTF-8 become U+FFFD. */
void strbuf_add_json(struct strbuf *b, const char *s, size_t len);
/* "name":"value", behind a comma unless it is the first member of its object. value NULL: nothing. name needs no escapes. */
void strbuf_add_member(struct strbuf *b, const char *name, const char *value);

/* One character of s (of which `left` > 0 bytes may be read) as it stands inside a JSON string literal, for writers without a strbuf. Yields the
 * bytes written; *ret_taken is the bytes consumed. */
#define JSON_ESCAPE_MAX 6
size_t json_escape_char(const char *s, size_t left, char ret_out[JSON_ESCAPE_MAX], size_t *ret_taken);

#endif
