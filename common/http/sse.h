/* Server-sent events over a stream of the HTTP server: text/event-stream, as browsers and every HTTP client read it. Each event carries an id, with
 * which a reader that was cut off goes on (Last-Event-ID). */
#ifndef AETHELOS_HTTP_SSE_H
#define AETHELOS_HTTP_SSE_H

#include "http/httpd.h"

#define SSE_KEEP_MS 15000 /* after so long without a word a comment says that the stream lives */

struct sse {
        struct http_stream *stream;
        int64_t said_ms; /* when something was sent last */
};

/* Answers r with a stream that stands at `id`: that goes out at once, so a reader that is cut off before its first event misses nothing. */
struct sse sse_open(struct http_request *r, const char *id);
void sse_send(struct sse *s, const char *id, const char *data, size_t len); /* one event; data may have lines */
/* A comment when nothing was said for SSE_KEEP_MS, with the position: what was passed over meanwhile is not read again after a reconnect. */
void sse_keep(struct sse *s, const char *id, int64_t now_ms);
bool sse_wants(const struct sse *s); /* may be given more: not much of it is pending */

/* Where the request wants to go on: the header Last-Event-ID, which a client sets when it reconnects to the same address, else ?after=; or NULL. */
const char *sse_last_id(const struct http_request *r);

#endif
