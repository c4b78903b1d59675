/* Strict JSON (RFC 8259) that keeps the text: a document is checked as a whole, copied without insignificant white space ("minified"), and indexed
 * by tokens that point into that copy, so that a payload travels on exactly as its sender wrote it.
 *
 * Refused: text that is not UTF-8, NUL (raw or as \u0000), control characters in strings, lone surrogates (\ud800), duplicate member names in an
 * object (compared after unescaping), nesting of arrays and objects deeper than JSON_DEPTH_MAX (the root counts 1), trailing bytes, a byte-order
 * mark, and everything else the RFC does not allow. */
#ifndef AETHELOS_BASE_JSON_H
#define AETHELOS_BASE_JSON_H

#include "strbuf.h"
#include "util.h"

#include <stdbool.h>
#include <stdint.h>

#define JSON_DEPTH_MAX 32 /* of what comes from outside */
#define JSON_DEPTH_OWN 64 /* of our own documents, which hold such ones: events, answers, calls */

enum json_kind { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* One value. Tokens stand in document order; the members of an object are pairs (name token, value token); a name is a JSON_STRING. */
struct json_token {
        enum json_kind kind;
        uint32_t start, end; /* span in json_doc.text; strings with their quotes */
        uint32_t n;          /* members of an object, elements of an array, bytes of a string once unescaped */
        uint32_t next;       /* index of the token behind this value and all it holds */
};

struct json_doc {
        char *text; /* the minified document, NUL-terminated */
        size_t len;
        struct json_token *tokens; /* tokens[0] is the root */
        size_t n_tokens;
};

struct json_error {
        size_t offset;   /* in the text as received */
        const char *why; /* static, for people: "duplicate member name" */
};

/* Parses. 0, or -EINVAL with *ret_error filled. *ret_doc must be given to json_done() after success only. Members are compared in
 * O(n log n) or by hash, so that a hostile object with 100,000 members is no denial of service. Thread-safe. */
int json_parse(const char *text, size_t len, struct json_doc *ret_doc, struct json_error *ret_error);
int json_parse_own(const char *text, size_t len, struct json_doc *ret_doc, struct json_error *ret_error); /* the same, down to JSON_DEPTH_OWN */
void json_done(struct json_doc *doc); /* {0} is allowed; also for _cleanup_(json_done) */

typedef const struct json_token *json_value; /* borrowed from its document; NULL = absent */

json_value json_root(const struct json_doc *doc);
json_value json_get(const struct json_doc *doc, json_value object, const char *name); /* NULL when absent, or `object` is NULL or no object */
json_value json_first(const struct json_doc *doc, json_value array_or_object);        /* first element, or first member NAME; NULL if empty */
json_value json_after(const struct json_doc *doc, json_value container,
        json_value v); /* the token behind v inside its container, or NULL; a name's value, a value's next name */
struct slice json_raw(const struct json_doc *doc, json_value v); /* its exact text (minified); {NULL,0} for NULL */
bool json_is(json_value v, enum json_kind kind);                 /* false for NULL */

char *json_string(const struct json_doc *doc, json_value v,
        size_t *ret_len); /* unescaped, malloc'ed, NUL-terminated; NULL unless a string; ret_len may be NULL */
bool json_string_is(const struct json_doc *doc, json_value v, const char *s); /* compares after unescaping */

/* An integer literal (no fraction, no exponent; "-0" is 0): 0; -ERANGE outside int64; -EINVAL if it is no integer literal. */
int json_int64(const struct json_doc *doc, json_value v, int64_t *ret_n);
int json_double(const struct json_doc *doc, json_value v, double *ret_d); /* -EINVAL if no number, -ERANGE if it overflows */

/* Unicode characters (code points) in UTF-8 text that is known to be valid. */
size_t utf8_length(const char *s, size_t len);
bool utf8_valid(const char *s, size_t len);
/* A line of text for people: UTF-8, 1 to max characters, none of them an ASCII control character. */
bool utf8_line(const char *s, size_t len, size_t max);

/* Adds a double in the shortest form that reads back the same; whole numbers below 2^53 without a fraction. d must be finite. */
void json_add_double(struct strbuf *b, double d);

#endif
