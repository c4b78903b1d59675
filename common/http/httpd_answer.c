/* What a request says and how it is answered, seen from the service's thread, and the problem documents (RFC 9457).
 *
 * Invariant: nothing in an answer's header comes from outside unchecked; every answer is nosniff and no-store. An answer is only built here: the
 * other thread queues it when the connection has been resumed. */
#include "http/httpd_private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

const char *http_path_arg(const struct http_request *r, size_t i)
{
        return i < r->match.n_args ? r->match.args[i] : NULL;
}

const char *http_query_arg(const struct http_request *r, const char *name)
{
        for (size_t i = 0; i < r->target.n_query; i++)
                if (strcmp(r->target.query[i].name, name) == 0)
                        return r->target.query[i].value;
        return NULL;
}

/* The other thread leaves a suspended connection alone, so its headers may be read here. */
const char *http_header(const struct http_request *r, const char *name)
{
        return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

bool http_prefers_async(const struct http_request *r)
{
        const char *prefer = http_header(r, "Prefer");

        return prefer && strcasestr(prefer, "respond-async");
}

struct slice http_body(const struct http_request *r)
{
        return (struct slice){.s = r->body.s ? r->body.s : "", .len = r->body.len};
}

int64_t http_received_ms(const struct http_request *r)
{
        return r->received_ms;
}

/* libmicrohttpd does not watch a suspended connection, but it keeps the socket open until it is resumed. */
bool http_conn_gone(const struct http_conn *c)
{
        struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};

        return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

bool http_gone(const struct http_request *r)
{
        return http_conn_gone(r->conn);
}

void http_set_header(struct http_request *r, const char *name, const char *value)
{
        if (*name == '\0')
                return;
        for (const char *c = name; *c; c++)
                if (!http_token_char(*c))
                        return;
        for (const char *c = value; *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        return;
        strbuf_add(&r->headers, name, strlen(name) + 1);
        strbuf_add(&r->headers, value, strlen(value) + 1);
}

void http_make_response(struct http_request *r, int status, const char *type, const void *data, size_t len)
{
        r->response = MHD_create_response_from_buffer(len, len > 0 ? (void *)data : (void *)"", MHD_RESPMEM_MUST_COPY);
        if (!r->response)
                die("out of memory: response");
        r->status = (unsigned)status;
        r->response_len = len;
        http_finish_response(r, len > 0 ? type : NULL);
}

void http_finish_response(struct http_request *r, const char *type)
{
        if (type)
                MHD_add_response_header(r->response, "Content-Type", type);
        MHD_add_response_header(r->response, "X-Content-Type-Options", "nosniff");
        MHD_add_response_header(r->response, "Cache-Control", "no-store");
        for (size_t at = 0; at < r->headers.len;) {
                const char *name = r->headers.s + at;
                const char *value = name + strlen(name) + 1;

                MHD_add_response_header(r->response, name, value);
                at = (size_t)(value - r->headers.s) + strlen(value) + 1;
        }
}

void http_make_problem(struct http_request *r, int status, const char *slug, const char *detail, const char *field)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        http_problem_json(&b, status, slug, detail, field);
        http_make_response(r, status, "application/problem+json", b.s, b.len);
}

void http_make_stopping(struct http_request *r)
{
        http_set_header(r, "Connection", "close");
        http_make_problem(r, 503, "shutting-down", "the service is stopping; try again", NULL);
}

void http_answer(struct http_request *r, int status, const char *type, const void *data, size_t len)
{
        http_make_response(r, status, type, data, len);
        httpd_answered(r);
}

void http_answer_json(struct http_request *r, int status, const char *json, size_t len)
{
        http_answer(r, status, "application/json", json, len);
}

void http_answer_problem(struct http_request *r, int status, const char *slug, const char *detail, const char *field)
{
        http_make_problem(r, status, slug, detail, field);
        httpd_answered(r);
}

void http_problem_json(struct strbuf *b, int status, const char *slug, const char *detail, const char *field)
{
        _cleanup_(strbuf_done) struct strbuf text = {0};

        strbuf_addf(&text, "/problems/%s", slug);
        strbuf_adds(b, "{\"type\":");
        strbuf_add_json(b, text.s, text.len);

        strbuf_reset(&text);
        for (const char *c = slug; *c; c++) {
                bool first = c == slug && *c >= 'a' && *c <= 'z';

                strbuf_addc(&text, *c == '-' ? ' ' : first ? (char)(*c - 'a' + 'A') : *c);
        }
        strbuf_add_member(b, "title", text.s ? text.s : "");
        strbuf_addf(b, ",\"status\":%d", status);
        strbuf_add_member(b, "detail", detail);
        strbuf_add_member(b, "field", field);
        strbuf_addc(b, '}');
}
