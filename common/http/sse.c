/* The text of server-sent events. An event is complete with its empty line, and only then does a reader take its id: cut anywhere, it is sent again.
 */
#include "http/sse.h"

#include <string.h>

#define PENDING_MAX (256 * 1024)

static void send_text(struct sse *s, const struct strbuf *b)
{
        http_stream_send(s->stream, b->s, b->len);
        s->said_ms = now_mono_ms();
}

struct sse sse_open(struct http_request *r, const char *id)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct sse s;

        http_set_header(r, "X-Accel-Buffering", "no"); /* a proxy between us must not gather events */
        s.stream = http_answer_stream(r, "text/event-stream");
        strbuf_addf(&b, "id: %s\n\n", id);
        send_text(&s, &b);
        return s;
}

void sse_send(struct sse *s, const char *id, const char *data, size_t len)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        strbuf_addf(&b, "id: %s\ndata: ", id);
        for (size_t at = 0; at < len;) {
                size_t line = 0;

                while (at + line < len && data[at + line] != '\n' && data[at + line] != '\r')
                        line++;
                strbuf_add(&b, data + at, line);
                at += line;
                if (at < len) {
                        at++;
                        strbuf_adds(&b, "\ndata: ");
                }
        }
        strbuf_adds(&b, "\n\n");
        send_text(s, &b);
}

void sse_keep(struct sse *s, const char *id, int64_t now_ms)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        if (now_ms - s->said_ms < SSE_KEEP_MS)
                return;
        strbuf_addf(&b, ": here\nid: %s\n\n", id);
        send_text(s, &b);
}

bool sse_wants(const struct sse *s)
{
        return http_stream_pending(s->stream) < PENDING_MAX;
}

const char *sse_last_id(const struct http_request *r)
{
        const char *id = http_header(r, "Last-Event-ID");

        return id && *id ? id : http_query_arg(r, "after");
}
