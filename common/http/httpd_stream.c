/* An answer without an end: the service's thread adds bytes to it for as long as it likes, libmicrohttpd's thread writes them out.
 *
 * Invariant: a stream lives until both sides have let go of it, its request with its connection and the service with http_stream_end. While nothing
 * is left to write the connection is suspended; with something to write it has a deadline like any other answer, so a reader who does not read is cut
 * by the watch thread, and what is kept for him is what the service gave before it asked http_stream_pending. A crash closes the connections. */
#include "http/httpd_private.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK (32 * 1024)

struct http_stream {
        struct httpd *httpd;
        struct MHD_Connection *mhd;
        struct http_conn *conn; /* this and all below under httpd.lock */
        struct strbuf unsent;
        size_t sent; /* bytes of `unsent` that are written out */
        bool idle;   /* the connection is suspended and waits for bytes */
        bool ended;  /* by the service */
        bool gone;   /* the connection is */
};

static void release(struct http_stream *s)
{
        strbuf_done(&s->unsent);
        free(s);
}

/* A block that the other side has taken earns time for the next one. */
static void extend_deadline(struct http_stream *s)
{
        s->conn->deadline_ms = now_mono_ms() + s->httpd->config.receive_ms;
}

static size_t take(struct http_stream *s, char *block, size_t max)
{
        size_t n = s->unsent.len - s->sent;

        if (n > max)
                n = max;
        if (n > 0)
                memcpy(block, s->unsent.s + s->sent, n);
        extend_deadline(s);
        s->sent += n;
        if (s->sent == s->unsent.len) {
                strbuf_reset(&s->unsent);
                s->sent = 0;
        }
        return n;
}

/* Bytes for the socket, on libmicrohttpd's thread; none: the connection sleeps until there are some. */
static ssize_t on_more(void *cls, uint64_t position, char *block, size_t max)
{
        struct http_stream *s = cls;
        struct httpd *h = s->httpd;
        bool ended;
        size_t n;

        (void)position;
        pthread_mutex_lock(&h->lock);
        n = take(s, block, max);
        ended = s->ended;
        pthread_mutex_unlock(&h->lock);
        if (n > 0)
                return (ssize_t)n;
        if (ended)
                return MHD_CONTENT_READER_END_OF_STREAM;
        /* Suspended first: as soon as it is idle, the other thread may resume it. */
        MHD_suspend_connection(s->mhd);
        pthread_mutex_lock(&h->lock);
        s->idle = s->unsent.len == 0 && !s->ended;
        if (s->idle)
                s->conn->deadline_ms = HTTPD_NEVER;
        bool idle = s->idle;
        pthread_mutex_unlock(&h->lock);
        if (!idle)
                MHD_resume_connection(s->mhd);
        return 0;
}

void httpd_stream_gone(struct http_stream *s)
{
        bool ended;

        pthread_mutex_lock(&s->httpd->lock);
        s->gone = true;
        s->conn = NULL;
        ended = s->ended;
        pthread_mutex_unlock(&s->httpd->lock);
        if (ended)
                release(s);
}

struct http_stream *http_answer_stream(struct http_request *r, const char *type)
{
        struct http_stream *s = xcalloc(1, sizeof *s);

        s->httpd = r->httpd;
        s->mhd = r->mhd;
        s->conn = r->conn;
        r->stream = s;
        r->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, on_more, s, NULL);
        if (!r->response)
                die("out of memory: response");
        r->status = 200;
        http_finish_response(r, type);
        httpd_answered(r);
        return s;
}

/* Under the lock. True: the connection is to be resumed when the lock is given back. */
static bool wake(struct http_stream *s)
{
        bool idle = s->idle;

        if (idle)
                extend_deadline(s);
        s->idle = false;
        return idle;
}

/* Where the reader is never quite done, what he has taken must not pile up; moved rarely enough to cost nothing a byte. */
static void drop_sent(struct http_stream *s)
{
        if (s->sent <= s->unsent.len / 2)
                return;
        memmove(s->unsent.s, s->unsent.s + s->sent, s->unsent.len - s->sent);
        s->unsent.len -= s->sent;
        s->sent = 0;
}

void http_stream_send(struct http_stream *s, const void *data, size_t len)
{
        struct httpd *h = s->httpd;
        bool resume = false;

        pthread_mutex_lock(&h->lock);
        if (!s->gone && len > 0) {
                drop_sent(s);
                strbuf_add(&s->unsent, data, len);
                resume = wake(s);
        }
        pthread_mutex_unlock(&h->lock);
        if (resume)
                MHD_resume_connection(s->mhd);
}

size_t http_stream_pending(const struct http_stream *s)
{
        size_t n;

        pthread_mutex_lock(&s->httpd->lock);
        n = s->unsent.len - s->sent;
        pthread_mutex_unlock(&s->httpd->lock);
        return n;
}

bool http_stream_gone(const struct http_stream *s)
{
        bool gone;

        pthread_mutex_lock(&s->httpd->lock);
        gone = s->gone || (s->idle && http_conn_gone(s->conn));
        pthread_mutex_unlock(&s->httpd->lock);
        return gone;
}

struct http_stream *http_stream_end(struct http_stream *s)
{
        struct httpd *h;
        bool gone, resume;

        if (!s)
                return NULL;
        h = s->httpd;
        pthread_mutex_lock(&h->lock);
        s->ended = true;
        gone = s->gone;
        resume = wake(s);
        pthread_mutex_unlock(&h->lock);
        if (gone)
                release(s);
        else if (resume)
                MHD_resume_connection(s->mhd);
        return NULL;
}
