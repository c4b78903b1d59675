/* The pure part of the server: a request target taken apart, and the row of the route table it belongs to. */
#ifndef AETHELOS_HTTP_HTTP_ROUTE_H
#define AETHELOS_HTTP_HTTP_ROUTE_H

#include "base/strbuf.h"
#include "http/httpd.h"

#include <stdbool.h>

#define HTTP_SEGMENTS_MAX 16
#define HTTP_ARGS_MAX     8
#define HTTP_QUERY_MAX    32

struct http_target {
        char *text;                              /* owns what the pointers below point to */
        const char *segments[HTTP_SEGMENTS_MAX]; /* of the path, decoded: "/jobs/a%2Fb" is "jobs", "a/b"; "/" is one empty segment */
        size_t n_segments;
        struct {
                const char *name, *value; /* decoded; "?a" has the value "" */
        } query[HTTP_QUERY_MAX];
        size_t n_query;
};

struct http_match {
        const struct http_route *route;
        const char *args[HTTP_ARGS_MAX]; /* borrowed from the target */
        size_t n_args;
};

enum http_match_result { HTTP_MATCH, HTTP_MATCH_NO_PATH, HTTP_MATCH_NO_METHOD };

/* Takes "/path?query" or "http://host/path?query" apart. 0, or -EINVAL: a broken %XX, a NUL, text that is not UTF-8, or too many parts. On failure
 * too the target must be given to http_target_done(). */
int http_target_parse(struct http_target *ret_target, const char *raw);
void http_target_done(struct http_target *t);

/* The first row that fits path and method. With HTTP_MATCH_NO_METHOD, `allow` gets the methods the path knows ("GET, HEAD, POST"). */
enum http_match_result http_route_match(
        const struct http_route routes[], const char *method, const struct http_target *t, struct http_match *ret_match, struct strbuf *allow);

bool http_idempotency_key_valid(const char *key); /* [A-Za-z0-9_-]{1,128} */
#define HTTP_IDEMPOTENCY_KEY_RULE "the header Idempotency-Key must have 1 to 128 characters of A-Z a-z 0-9 _ -"
bool http_token_char(char c); /* of a field name or method (RFC 9110 section 5.6.2) */

#endif
