/* The HTTP server of a service (libmicrohttpd). Its thread only reads requests and queues them; the service's own thread takes them, and answers each
 * one when it likes, at once or after a commit. A request that is refused before routing (too large, unknown path, bad token) never reaches the
 * service.
 *
 * Problem documents are RFC 9457: {"type":"/problems/<slug>","title":"Unknown type","status","detail","field"};
 * `field` is a JSON Pointer into the body. */
#ifndef AETHELOS_HTTP_HTTPD_H
#define AETHELOS_HTTP_HTTPD_H

#include "base/strbuf.h"
#include "base/util.h"

#include <stdbool.h>
#include <stdint.h>

struct httpd;
struct http_request;
struct http_stream;

enum http_route_flags {
        HTTP_TOKEN = 1 << 0,           /* needs "Authorization: Bearer <token>" (compared in constant time), else 401 */
        HTTP_IDEMPOTENCY_KEY = 1 << 1, /* needs a header Idempotency-Key of [A-Za-z0-9_-]{1,128}, else 400 */
};

struct http_route {
        const char *method;  /* "GET"; NULL ends the table. HEAD is answered from GET. Another method on a known path is 405 with Allow. */
        const char *pattern; /* "/jobs/{id}/events": {x} matches one segment that is not empty */
        unsigned flags;
        void (*handle)(void *ctx, struct http_request *r); /* on the service's thread; owns r until it answers */
};

struct httpd_config {
        const char *address;             /* "127.0.0.1" or "::1"; no names */
        int64_t port;                    /* the first port tried; when occupied, the next ones up to port + 99; 0 = any free one */
        int64_t avoid_port;              /* a port never taken (the sibling's), 0 = none */
        const char *token;               /* for HTTP_TOKEN routes; NULL or "" refuses them all */
        size_t body_max;                 /* 413 above it, enforced on the running sum; the connection closes after the answer */
        const struct http_route *routes; /* borrowed */
        int wake_fd;                     /* an eventfd, written after a request was queued; take until NULL before sleeping on it */
        unsigned connections_max;        /* 0 = 512; further ones wait in the kernel's queue */
        /* A request must arrive within receive_ms plus 1 s for each 10 kB of body, else its connection is closed; the same holds for a client that
         * reads its answer slowly. The request line after an answer on a kept connection has idle_ms. 0 = 10 s and 30 s. */
        int64_t receive_ms, idle_ms;
};

/* Starts listening. 0 or a negative errno. The port that was taken is httpd_port(). */
int httpd_open(const struct httpd_config *config, struct httpd **ret_httpd);
int64_t httpd_port(const struct httpd *h);
void httpd_quiesce(struct httpd *h);       /* stops accepting; what is queued or held can still be answered */
struct httpd *httpd_free(struct httpd *h); /* answers what is queued or held with 503, writes answers out (at most 3 s); returns NULL */

/* Takes the next complete request and its route, or NULL. Service thread only. The caller runs route->handle(ctx, r). */
struct http_request *httpd_take(struct httpd *h, const struct http_route **ret_route);
size_t httpd_open_requests(const struct httpd *h); /* taken and not yet answered, plus queued */

/* What a request says; all borrowed until it is answered. */
const char *http_path_arg(const struct http_request *r, size_t i);          /* the i-th {x} of the pattern from 0, percent-decoded, valid UTF-8 */
const char *http_query_arg(const struct http_request *r, const char *name); /* the first one, percent-decoded, + is a blank; or NULL */
const char *http_header(const struct http_request *r, const char *name);    /* or NULL */
bool http_prefers_async(const struct http_request *r);                      /* Prefer: respond-async (RFC 7240) */
struct slice http_body(const struct http_request *r);
int64_t http_received_ms(const struct http_request *r); /* monotonic time of arrival, for time-outs */
bool http_gone(const struct http_request *r);           /* the client has closed the connection; answering is still needed and harmless */

/* Answers: each consumes r. Headers set before with http_set_header. Body is copied. Every answer has nosniff and no-store. A body that is empty has
 * no Content-Type. */
void http_set_header(struct http_request *r, const char *name, const char *value); /* CR, LF or NUL in value: the header is dropped */
void http_answer(struct http_request *r, int status, const char *type, const void *data, size_t len); /* any media type */
void http_answer_json(struct http_request *r, int status, const char *json, size_t len);
/* slug: machine-readable, stable ("unknown-type"); detail: for people, may be NULL; field: JSON Pointer or NULL. */
void http_answer_problem(struct http_request *r, int status, const char *slug, const char *detail, const char *field);

/* An answer that goes on until the service ends it, or the client leaves, or the client does not read: the server keeps what is given for him, so a
 * service gives no more while much is pending, and cuts him off when he takes nothing for receive_ms. Consumes r; status 200; the header goes out at
 * once. Every stream is ended by its service, before httpd_free. */
struct http_stream *http_answer_stream(struct http_request *r, const char *type);
void http_stream_send(struct http_stream *s, const void *data, size_t len); /* copied; nothing when the client is gone */
size_t http_stream_pending(const struct http_stream *s);                    /* bytes that are not written out yet */
bool http_stream_gone(const struct http_stream *s);                         /* nobody reads it any more */
struct http_stream *http_stream_end(struct http_stream *s);                 /* what is pending is still written; returns NULL */

/* The problem as JSON text, for other carriers (receipts on the bus). */
void http_problem_json(struct strbuf *b, int status, const char *slug, const char *detail, const char *field);

#endif
