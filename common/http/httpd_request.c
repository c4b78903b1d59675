/* libmicrohttpd's side: a request from its first line to its place in the queue, and its end. Everything here runs on libmicrohttpd's thread.
 *
 * The order of refusals: broken framing (400), path and method (404, 405), token (401), Idempotency-Key (400), size (413). libmicrohttpd takes an
 * answer before the body or after it, never in between. A refused request is therefore read to its end and the body thrown away, which also keeps
 * the connection usable; if the body is too long for that or the client waits for "100 Continue", it is answered at once and the connection closes.
 *
 * libmicrohttpd 0.9.75 is lenient where request smuggling starts (RFC 9112 section 11.2): it takes Transfer-Encoding beside Content-Length, repeated
 * Content-Length and Host, and blanks before the colon. All that is refused here. What it refuses itself gets its own HTML page, and the connection
 * closes. */
#include "http/httpd_private.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* Headers of which a second one would be ambiguous. */
enum { ONCE_HOST, ONCE_LENGTH, ONCE_CODING, ONCE_AUTHORIZATION, ONCE_KEY, ONCE_EXPECT, N_ONCE };
static const char *const once_names[N_ONCE] = {
        [ONCE_HOST] = "Host",
        [ONCE_LENGTH] = "Content-Length",
        [ONCE_CODING] = "Transfer-Encoding",
        [ONCE_AUTHORIZATION] = "Authorization",
        [ONCE_KEY] = "Idempotency-Key",
        [ONCE_EXPECT] = "Expect",
};

struct header_scan {
        const char *value[N_ONCE];
        const char *fault; /* for people; NULL = none */
};

static void set_deadline(struct httpd *h, struct http_conn *conn, int64_t deadline_ms)
{
        pthread_mutex_lock(&h->lock);
        conn->deadline_ms = deadline_ms;
        pthread_mutex_unlock(&h->lock);
}

void httpd_on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context, enum MHD_ConnectionNotificationCode code)
{
        struct httpd *h = cls;
        struct http_conn *conn;

        if (code == MHD_CONNECTION_NOTIFY_STARTED) {
                conn = xcalloc(1, sizeof *conn);
                conn->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
                conn->deadline_ms = now_mono_ms() + h->config.receive_ms;
                *socket_context = conn;
                pthread_mutex_lock(&h->lock);
                conn->next = h->conns;
                if (h->conns)
                        h->conns->prev = conn;
                else
                        pthread_cond_broadcast(&h->changed); /* the watch sleeps while there are none */
                h->conns = conn;
                if (h->closed)
                        shutdown(conn->fd, SHUT_RDWR);
                pthread_mutex_unlock(&h->lock);
                return;
        }
        conn = *socket_context;
        if (!conn)
                return;
        pthread_mutex_lock(&h->lock);
        if (conn->prev)
                conn->prev->next = conn->next;
        else
                h->conns = conn->next;
        if (conn->next)
                conn->next->prev = conn->prev;
        if (!h->conns)
                pthread_cond_broadcast(&h->changed);
        pthread_mutex_unlock(&h->lock);
        *socket_context = NULL;
        free(conn);
}

void *httpd_on_target(void *cls, const char *target, struct MHD_Connection *mhd)
{
        struct httpd *h = cls;
        struct http_request *r = xcalloc(1, sizeof *r);

        r->httpd = h;
        r->mhd = mhd;
        r->conn = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
        r->start_ms = now_mono_ms();
        r->target_broken = http_target_parse(&r->target, target) < 0;
        /* The first request has had its time since the connection was accepted. */
        if (r->conn->used)
                set_deadline(h, r->conn, r->start_ms + h->config.receive_ms);
        r->conn->used = true;
        return r;
}

static enum MHD_Result scan_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len, const char *value, size_t value_len)
{
        struct header_scan *scan = cls;

        (void)kind;
        if (name_len == 0 || !value) {
                scan->fault = "a header field without a name";
                return MHD_NO;
        }
        for (size_t i = 0; i < name_len; i++)
                if (!http_token_char(name[i]))
                        scan->fault = "a header field name with a character that is not allowed";
        for (size_t i = 0; i < value_len; i++)
                if (((unsigned char)value[i] < 0x20 && value[i] != '\t') || value[i] == 0x7f)
                        scan->fault = "a header field with a control character";
        for (size_t i = 0; i < N_ONCE && !scan->fault; i++) {
                if (strcasecmp(name, once_names[i]) != 0)
                        continue;
                if (scan->value[i])
                        scan->fault = "a header field that may stand only once is repeated";
                scan->value[i] = value;
        }
        return MHD_YES;
}

static const char *framing_fault(const struct http_request *r, const struct header_scan *scan)
{
        if (scan->fault)
                return scan->fault;
        if (scan->value[ONCE_CODING] && scan->value[ONCE_LENGTH])
                return "both Transfer-Encoding and Content-Length";
        if (scan->value[ONCE_CODING] && strcasecmp(scan->value[ONCE_CODING], "chunked") != 0)
                return "a Transfer-Encoding other than chunked";
        if (r->target_broken)
                return "the request target cannot be decoded";
        return NULL;
}

static bool token_fits(const char *token, const char *authorization)
{
        if (!token || !*token || !authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
                return false;
        authorization += 7 + strspn(authorization + 7, " ");
        return equal_constant_time(token, strlen(token), authorization, strlen(authorization));
}

static void refuse(struct http_request *r, int status, const char *slug, const char *detail)
{
        r->stage = HTTP_REFUSED;
        http_make_problem(r, status, slug, detail, NULL);
        strbuf_done(&r->body);
}

static void refuse_too_large(struct http_request *r)
{
        _cleanup_(strbuf_done) struct strbuf detail = {0};

        strbuf_addf(&detail, "the body may have at most %zu bytes", r->httpd->config.body_max);
        http_set_header(r, "Connection", "close");
        refuse(r, 413, "body-too-large", detail.s);
}

/* Refuses the request if its head is reason enough. */
static void check_head(struct http_request *r, const char *method, const struct header_scan *scan, uint64_t declared)
{
        const struct httpd_config *config = &r->httpd->config;
        _cleanup_(strbuf_done) struct strbuf allow = {0};
        const char *fault = framing_fault(r, scan);

        if (fault) {
                http_set_header(r, "Connection", "close");
                refuse(r, 400, "malformed-request", fault);
                return;
        }
        switch (http_route_match(config->routes, method, &r->target, &r->match, &allow)) {
        case HTTP_MATCH_NO_PATH:
                refuse(r, 404, "not-found", "there is nothing at this path");
                return;
        case HTTP_MATCH_NO_METHOD:
                http_set_header(r, "Allow", allow.s);
                refuse(r, 405, "method-not-allowed", "this path does not know the method; see Allow");
                return;
        case HTTP_MATCH:
                break;
        }
        if ((r->match.route->flags & HTTP_TOKEN) && !token_fits(config->token, scan->value[ONCE_AUTHORIZATION])) {
                http_set_header(r, "WWW-Authenticate", "Bearer realm=\"aethelos\"");
                refuse(r, 401, "unauthorized", "the header Authorization must carry a valid bearer token");
                return;
        }
        if ((r->match.route->flags & HTTP_IDEMPOTENCY_KEY) && (!scan->value[ONCE_KEY] || !http_idempotency_key_valid(scan->value[ONCE_KEY]))) {
                refuse(r, 400, scan->value[ONCE_KEY] ? "idempotency-key-invalid" : "idempotency-key-missing", HTTP_IDEMPOTENCY_KEY_RULE);
                return;
        }
        if (declared > config->body_max)
                refuse_too_large(r);
}

static enum MHD_Result send_response(struct http_request *r)
{
        return MHD_queue_response(r->mhd, r->status, r->response);
}

static void extend_deadline(struct http_request *r, uint64_t size)
{
        const struct httpd_config *config = &r->httpd->config;

        if (size > config->body_max)
                size = config->body_max;
        set_deadline(r->httpd, r->conn, r->start_ms + config->receive_ms + httpd_allowance_ms(size));
}

static enum MHD_Result on_head(struct http_request *r, const char *method)
{
        struct header_scan scan = {0};
        uint64_t declared = 0;

        r->stage = HTTP_READING;
        MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, scan_header, &scan);
        /* libmicrohttpd has refused what is no number below 2^64. */
        if (scan.value[ONCE_LENGTH])
                declared = strtoull(scan.value[ONCE_LENGTH], NULL, 10);
        check_head(r, method, &scan, declared);
        if (r->stage == HTTP_REFUSED && (scan.value[ONCE_EXPECT] || declared > HTTPD_DRAIN_MAX || framing_fault(r, &scan)))
                return send_response(r);
        if (declared > 0)
                extend_deadline(r, declared);
        return MHD_YES;
}

/* libmicrohttpd would close without a word; nothing else has been written for this request, so these bytes are its whole answer. */
static void send_too_large(const struct http_request *r)
{
        static const char answer[] = "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

        if (send(r->conn->fd, answer, sizeof answer - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                return;
}

static enum MHD_Result on_body(struct http_request *r, const char *data, size_t *size)
{
        r->seen += *size;
        if (r->stage == HTTP_READING && r->seen > r->httpd->config.body_max)
                refuse_too_large(r);
        if (r->stage == HTTP_REFUSED && r->seen > r->httpd->config.body_max + HTTPD_DRAIN_MAX) {
                send_too_large(r);
                return MHD_NO;
        }
        if (r->stage == HTTP_READING)
                strbuf_add(&r->body, data, *size);
        *size = 0;
        if (!MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, once_names[ONCE_LENGTH]))
                extend_deadline(r, r->seen);
        return MHD_YES;
}

static enum MHD_Result queue_request(struct http_request *r)
{
        struct httpd *h = r->httpd;
        bool closing;

        /* Suspended first: as soon as it is in the queue, the other thread may resume it. */
        MHD_suspend_connection(r->mhd);
        r->received_ms = now_mono_ms();
        pthread_mutex_lock(&h->lock);
        closing = h->closing;
        if (closing) {
                r->stage = HTTP_ANSWERED;
                h->n_unsent++;
        } else {
                r->stage = HTTP_QUEUED;
                r->conn->deadline_ms = HTTPD_NEVER;
                http_list_add(&h->queued, r);
                h->n_open++;
        }
        pthread_mutex_unlock(&h->lock);
        if (closing) {
                http_make_stopping(r);
                MHD_resume_connection(r->mhd);
        } else {
                eventfd_write(h->config.wake_fd, 1);
        }
        return MHD_YES;
}

enum MHD_Result httpd_on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version, const char *data,
        size_t *size, void **request_context)
{
        struct http_request *r = *request_context;

        (void)cls;
        (void)mhd;
        (void)url;
        (void)version;
        if (r->stage == HTTP_FRESH)
                return on_head(r, method);
        if (*size > 0)
                return on_body(r, data, size);
        if (r->response)
                return send_response(r);
        return queue_request(r);
}

void httpd_on_completed(void *cls, struct MHD_Connection *mhd, void **request_context, enum MHD_RequestTerminationCode code)
{
        struct httpd *h = cls;
        struct http_request *r = *request_context;

        (void)mhd;
        (void)code;
        if (!r)
                return;
        pthread_mutex_lock(&h->lock);
        r->conn->deadline_ms = now_mono_ms() + h->config.idle_ms;
        if (r->stage == HTTP_ANSWERED && --h->n_unsent == 0)
                pthread_cond_broadcast(&h->changed);
        pthread_mutex_unlock(&h->lock);
        *request_context = NULL;
        if (r->stream)
                httpd_stream_gone(r->stream);
        if (r->response)
                MHD_destroy_response(r->response);
        http_target_done(&r->target);
        strbuf_done(&r->body);
        strbuf_done(&r->headers);
        free(r);
}
