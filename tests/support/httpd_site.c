/* The HTTP server of a test and its clients. The test is the service's thread, site_pump its loop; clients are raw sockets, so that they can send
 * what no client library would. */
#include "tests/support/httpd_site.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct site *site;

/* --- the service --- */

static void on_root(void *ctx, struct http_request *r)
{
        (void)ctx;
        http_answer_json(r, 200, "{}", 2);
}

static void on_job(void *ctx, struct http_request *r)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        const char *q = http_query_arg(r, "q");
        const char *header = http_header(r, "x-test");

        (void)ctx;
        assert_null(http_path_arg(r, 2));
        assert_null(http_query_arg(r, "absent"));
        assert_null(http_header(r, "absent"));
        strbuf_addf(&b, "%s|%s|%s|%s", http_path_arg(r, 0), http_path_arg(r, 1), q ? q : "-", header ? header : "-");
        http_answer(r, 200, "text/plain", b.s, b.len);
}

static void on_echo(void *ctx, struct http_request *r)
{
        struct slice body = http_body(r);

        (void)ctx;
        http_answer(r, 201, "application/octet-stream", body.s, body.len);
}

static void on_headers(void *ctx, struct http_request *r)
{
        (void)ctx;
        http_set_header(r, "Retry-After", "7");
        http_set_header(r, "X-Evil", "a\r\nX-Injected: 1");
        http_set_header(r, "X Evil", "1");
        http_set_header(r, "", "1");
        http_set_header(r, "Location", "/jobs/1");
        http_answer_problem(r, 429, "too-many", "slow \"down\"", NULL);
}

static void on_hold(void *ctx, struct http_request *r)
{
        struct site *f = ctx;

        assert_true(f->n_held < HELD_MAX);
        f->held[f->n_held++] = r;
}

static void on_empty(void *ctx, struct http_request *r)
{
        (void)ctx;
        http_answer_json(r, 204, NULL, 0);
}

static void on_large(void *ctx, struct http_request *r)
{
        static char large[LARGE];

        (void)ctx;
        memset(large, 'x', sizeof large);
        http_answer_json(r, 200, large, sizeof large);
}

const struct http_route site_routes[] = {
        {.method = "GET", .pattern = "/", .handle = on_root},
        {.method = "GET", .pattern = "/jobs/{id}/events/{n}", .handle = on_job},
        {.method = "POST", .pattern = "/echo", .handle = on_echo},
        {.method = "GET", .pattern = "/echo", .handle = on_root},
        {.method = "POST", .pattern = "/pay", .flags = HTTP_TOKEN | HTTP_IDEMPOTENCY_KEY, .handle = on_echo},
        {.method = "GET", .pattern = "/headers", .handle = on_headers},
        {.method = "GET", .pattern = "/hold", .handle = on_hold},
        {.method = "GET", .pattern = "/empty", .handle = on_empty},
        {.method = "GET", .pattern = "/large", .handle = on_large},
        {.method = NULL},
};

void site_open(struct httpd_config config)
{
        config.address = "127.0.0.1";
        config.token = TOKEN;
        config.body_max = BODY_MAX;
        config.routes = site_routes;
        config.wake_fd = site->wake_fd;
        assert_int_equal(httpd_open(&config, &site->httpd), 0);
}

static void site_take_all(void)
{
        const struct http_route *route;
        struct http_request *r;

        while ((r = httpd_take(site->httpd, &route))) {
                site->n_handled++;
                route->handle(site, r);
        }
}

/* Serves until fd has something to read; false after `ms`. */
bool site_pump_for(int fd, int ms)
{
        int64_t until = now_mono_ms() + ms;

        for (;;) {
                struct pollfd p[] = {{.fd = site->wake_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
                int64_t left = until - now_mono_ms();

                if (left < 0)
                        return false;
                poll(p, 2, (int)left);
                if (p[0].revents & POLLIN) {
                        eventfd_t n;

                        eventfd_read(site->wake_fd, &n);
                        site_take_all();
                }
                if (p[1].revents)
                        return true;
        }
}

void site_pump(int fd)
{
        if (!site_pump_for(fd, PATIENCE))
                fail_msg("nothing came within %d ms", PATIENCE);
}

void site_pump_until_held(size_t n)
{
        while (site->n_held < n)
                site_pump(site->wake_fd);
}

/* --- clients --- */

int peer_dial_port(int64_t port)
{
        struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        if (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
                int e = errno;

                close(fd);
                return -e;
        }
        return fd;
}

int peer_dial(void)
{
        int fd = peer_dial_port(httpd_port(site->httpd));

        assert_true(fd >= 0);
        return fd;
}

void peer_put_bytes(int fd, const char *s, size_t len)
{
        while (len > 0) {
                ssize_t n = send(fd, s, len, MSG_NOSIGNAL);

                assert_true(n > 0);
                s += n;
                len -= (size_t)n;
        }
}

void peer_put(int fd, const char *s)
{
        peer_put_bytes(fd, s, strlen(s));
}

void peer_answer_done(struct peer_answer *a)
{
        strbuf_done(&a->head);
        strbuf_done(&a->body);
}

/* One byte of the answer, -1 at the end of the connection. */
int peer_get_byte(int fd, bool serving)
{
        unsigned char c;
        ssize_t n;

        if (serving && recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN)
                site_pump(fd);
        n = recv(fd, &c, 1, 0);
        return n == 1 ? c : -1;
}

void peer_read_answer(int fd, struct peer_answer *ret_a, bool serving, bool has_body)
{
        const char *length;
        size_t len;
        int c;

        memset(ret_a, 0, sizeof *ret_a);
        while (!ret_a->head.s || !strstr(ret_a->head.s, "\r\n\r\n")) {
                c = peer_get_byte(fd, serving);
                if (c < 0)
                        return;
                strbuf_addc(&ret_a->head, (char)c);
        }
        assert_int_equal(sscanf(ret_a->head.s, "HTTP/1.1 %d", &ret_a->status), 1);
        length = strcasestr(ret_a->head.s, "\r\nContent-Length:");
        len = length && has_body ? strtoul(length + 17, NULL, 10) : 0;
        while (ret_a->body.len < len) {
                c = peer_get_byte(fd, serving);
                if (c < 0)
                        return;
                strbuf_addc(&ret_a->body, (char)c);
        }
}

struct peer_answer peer_answer_of(int fd)
{
        struct peer_answer a;

        peer_read_answer(fd, &a, true, true);
        return a;
}

struct peer_answer peer_exchange(int fd, const char *request)
{
        peer_put(fd, request);
        return peer_answer_of(fd);
}

bool peer_has_header(const struct peer_answer *a, const char *line)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        strbuf_addf(&b, "\r\n%s\r\n", line);
        return strcasestr(a->head.s, b.s) != NULL;
}

const char *peer_body_text(const struct peer_answer *a)
{
        return a->body.s ? a->body.s : "";
}

void peer_assert_closed(int fd)
{
        assert_int_equal(peer_get_byte(fd, true), -1);
}

/* The same, whatever else comes before: libmicrohttpd 0.9.75 sends the head of some of its own refusals twice. */
void peer_assert_closes(int fd)
{
        while (peer_get_byte(fd, true) >= 0)
                ;
}

void peer_assert_kept(int fd)
{
        struct peer_answer a = peer_exchange(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");

        assert_int_equal(a.status, 200);
        peer_answer_done(&a);
}

/* Sends on a fresh connection; the status. */
int peer_status_of(const char *request)
{
        _cleanup_(closep) int fd = peer_dial();
        struct peer_answer a = peer_exchange(fd, request);

        peer_answer_done(&a);
        return a.status;
}

/* --- fixtures --- */

int site_set_up(void **state)
{
        site = xcalloc(1, sizeof *site);
        site->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        *state = site;
        return site->wake_fd >= 0 ? 0 : -1;
}

int site_tear_down(void **state)
{
        (void)state;
        site->httpd = httpd_free(site->httpd);
        close(site->wake_fd);
        free(site);
        return 0;
}
