#include "tests/support/scripted_server.h"

#include "base/strbuf.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 1024

struct client {
        int fd;
        struct strbuf in;
        size_t n_requests;
};

struct scripted_server server;
static struct {
        int listen_fd, stop_fd;
        pthread_t thread;
        struct client clients[CLIENTS_MAX];
        size_t n_clients;
        bool deaf; /* has closed its listening socket */
} own;

static void put(int fd, const char *s, size_t len)
{
        while (len > 0) {
                ssize_t n = send(fd, s, len, MSG_NOSIGNAL);

                if (n <= 0)
                        return;
                s += n;
                len -= (size_t)n;
        }
}

static void puts_to(int fd, const char *s)
{
        put(fd, s, strlen(s));
}

static void server_listen(void)
{
        struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)server.port)};
        socklen_t len = sizeof sa;
        int on = 1;

        own.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(own.listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(own.listen_fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(own.listen_fd, SOMAXCONN) < 0 ||
                getsockname(own.listen_fd, (struct sockaddr *)&sa, &len) < 0)
                die("server: no port");
        server.port = ntohs(sa.sin_port);
}

static bool endless(struct client *c)
{
        static char block[65536];

        memset(block, 'x', sizeof block);
        for (int i = 0; i < 1000; i++)
                if (send(c->fd, block, sizeof block, MSG_NOSIGNAL) < 0)
                        return false;
        return true;
}

static bool endless_header(struct client *c)
{
        for (int i = 0; i < 100000; i++)
                if (send(c->fd, "X-Y: 0123456789012345678901234567890123456789\r\n", 47, MSG_NOSIGNAL) < 0)
                        return false;
        return true;
}

static bool large(struct client *c)
{
        char block[1000];

        put(c->fd, memset(block, 'x', sizeof block), sizeof block);
        return true;
}

static bool hang_up(struct client *c)
{
        (void)c;
        return false;
}

static bool reset(struct client *c)
{
        struct linger l = {.l_onoff = 1, .l_linger = 0};

        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
        return false;
}

/* The connection dies with its second request, the way a kept connection does. */
static bool fragile(struct client *c)
{
        atomic_fetch_add(&server.n_fragile, 1);
        if (c->n_requests > 1)
                return false;
        puts_to(c->fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        return true;
}

static bool fragile_reset(struct client *c)
{
        return fragile(c) || reset(c);
}

/* And nothing listens any more when the client comes again. */
static bool fragile_deaf(struct client *c)
{
        if (fragile(c))
                return true;
        close(own.listen_fd);
        own.deaf = true;
        return false;
}

/* What is said, and what happens then: false closes the connection. */
static const struct script {
        const char *path, *answer;
        size_t len; /* 0: to its NUL */
        bool (*then)(struct client *c);
} scripts[] = {
        {"/ok", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"},
        {"/alone", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"},
        {"/chunked", "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
        {"/until-close", "HTTP/1.0 200 OK\r\n\r\nhello", .then = hang_up},
        {"/nul", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\0b", 41},
        {"/empty", "HTTP/1.1 204 No Content\r\n\r\n"},
        {"/error", "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops"},
        {"/interim", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
        {"/redirect", "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n"},
        {"/expectation", "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"},
        {"/challenge", "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n"},
        {"/ok-then-close", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", .then = hang_up},
        {"/large", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", .then = large},
        {"/endless", "HTTP/1.1 200 OK\r\n\r\n", .then = endless},
        {"/endless-header", "HTTP/1.1 200 OK\r\n", .then = endless_header},
        {"/cut", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", .then = hang_up},
        {"/cut-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", .then = hang_up},
        {"/cut-header", "HTTP/1.1 200 OK\r\nContent-Le", .then = hang_up},
        {"/garbage", "this is not HTTP\r\n\r\n", .then = hang_up},
        {"/old", "hello", .then = hang_up},
        {"/close", "", .then = hang_up},
        {"/reset", "", .then = reset},
        {"/fragile", "", .then = fragile},
        {"/fragile-reset", "", .then = fragile_reset},
        {"/fragile-deaf", "", .then = fragile_deaf},
};

static bool respond(struct client *c, const char *path)
{
        for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
                const struct script *s = &scripts[i];

                if (strcmp(path, s->path) != 0)
                        continue;
                put(c->fd, s->answer, s->len ? s->len : strlen(s->answer));
                return !s->then || s->then(c);
        }
        return true; /* silent */
}

/* Serves what is complete in c->in; false closes the connection. */
static bool serve(struct client *c)
{
        for (;;) {
                char *end = c->in.s ? strstr(c->in.s, "\r\n\r\n") : NULL;
                const char *length;
                char path[256];
                size_t len;

                if (!end)
                        return true;
                length = strcasestr(c->in.s, "\r\nContent-Length:");
                len = (size_t)(end - c->in.s) + 4 + (length && length < end ? strtoul(length + 17, NULL, 10) : 0);
                if (c->in.len < len)
                        return true;
                if (sscanf(c->in.s, "%*s %255[^ ?]", path) != 1)
                        return false;
                if (len >= sizeof server.last)
                        die("server: request too long");
                memcpy(server.last, c->in.s, len);
                server.last[len] = '\0';
                c->n_requests++;
                atomic_fetch_add(&server.n_requests, 1);
                memmove(c->in.s, c->in.s + len, c->in.len - len + 1);
                c->in.len -= len;
                if (!respond(c, path))
                        return false;
        }
}

static void drop(struct client *c)
{
        close(c->fd);
        strbuf_done(&c->in);
        *c = own.clients[--own.n_clients];
        atomic_fetch_add(&server.n_closed, 1);
}

static void *server_main(void *arg)
{
        static struct pollfd p[CLIENTS_MAX + 2];

        (void)arg;
        for (;;) {
                size_t n = own.n_clients;

                p[0] = (struct pollfd){.fd = own.stop_fd, .events = POLLIN};
                p[1] = (struct pollfd){.fd = own.deaf ? -1 : own.listen_fd, .events = POLLIN};
                for (size_t i = 0; i < n; i++)
                        p[i + 2] = (struct pollfd){.fd = own.clients[i].fd, .events = POLLIN};
                poll(p, n + 2, -1);
                if (p[0].revents)
                        break;
                for (size_t i = n; i-- > 0;) {
                        struct client *c = &own.clients[i];
                        ssize_t got;

                        if (!p[i + 2].revents)
                                continue;
                        got = recv(c->fd, strbuf_grow(&c->in, 65536), 65536, MSG_DONTWAIT);
                        if (got > 0) {
                                c->in.len += (size_t)got;
                                c->in.s[c->in.len] = '\0';
                        }
                        if (got <= 0 || !serve(c))
                                drop(c);
                }
                if (p[1].revents && !own.deaf && own.n_clients < CLIENTS_MAX) {
                        own.clients[own.n_clients++] = (struct client){.fd = accept4(own.listen_fd, NULL, NULL, SOCK_CLOEXEC)};
                        atomic_fetch_add(&server.n_connections, 1);
                }
        }
        while (own.n_clients > 0)
                drop(&own.clients[0]);
        if (!own.deaf)
                close(own.listen_fd);
        return NULL;
}

void server_start(void)
{
        memset(&server, 0, sizeof server);
        memset(&own, 0, sizeof own);
        server_listen();
        own.stop_fd = eventfd(0, EFD_CLOEXEC);
        if (pthread_create(&own.thread, NULL, server_main, NULL) != 0)
                die("server: no thread");
}

void server_end(void)
{
        eventfd_write(own.stop_fd, 1);
        pthread_join(own.thread, NULL);
        close(own.stop_fd);
}
