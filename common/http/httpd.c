/* The server's life: finding a port, starting and ending libmicrohttpd, the queue between its thread and the service's, and the watch thread that
 * shuts down connections whose deadline has passed.
 *
 * Invariant: a request that was queued is answered exactly once, by the service or by httpd_free with 503, and a suspended connection is never left
 * behind (libmicrohttpd would abort). libmicrohttpd's own time-out is one of inactivity, which one byte every few seconds defeats; therefore every
 * connection has an absolute deadline here, except while its request is queued or held. The watch thread only shuts sockets down, under the lock, and
 * a connection leaves the list before libmicrohttpd closes its socket: it can never hit a number that means another socket by now. */
#include "http/httpd_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORTS_TRIED       100
#define CONNECTIONS       512
#define HEADER_MEMORY     (32 * 1024)
#define FAREWELL_MS       3000 /* httpd_free waits so long for answers to be written out, */
#define CLOSING_MS        1000 /* and then so long for connections to close */
#define WATCH_MS          1000
#define WATCH_FRACTION_OF 10 /* of receive_ms, when that is configured short */

void http_list_add(struct http_request_list *list, struct http_request *r)
{
        r->next = NULL;
        r->prev = list->last;
        if (list->last)
                list->last->next = r;
        else
                list->first = r;
        list->last = r;
}

void http_list_remove(struct http_request_list *list, struct http_request *r)
{
        if (r->prev)
                r->prev->next = r->next;
        else
                list->first = r->next;
        if (r->next)
                r->next->prev = r->prev;
        else
                list->last = r->prev;
        r->prev = r->next = NULL;
}

int64_t httpd_allowance_ms(uint64_t bytes)
{
        return (int64_t)(bytes / HTTPD_BYTES_PER_MS);
}

/* --- the port --- */

static int bind_port(const char *address, int64_t port)
{
        struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
        const struct sockaddr *sa;
        socklen_t len;
        int fd, on = 1, e;

        if (inet_pton(AF_INET, address, &in4.sin_addr) == 1) {
                sa = (const struct sockaddr *)&in4;
                len = sizeof in4;
        } else if (inet_pton(AF_INET6, address, &in6.sin6_addr) == 1) {
                sa = (const struct sockaddr *)&in6;
                len = sizeof in6;
        } else {
                return -EINVAL;
        }
        fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        /* For the TIME_WAIT remains of the process before us. Two sockets may then be bound to one port as long as none listens, so listen() is
         * part of the decision. */
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 && bind(fd, sa, len) == 0 && listen(fd, SOMAXCONN) == 0)
                return fd;
        e = errno;
        close(fd);
        return -e;
}

static int64_t bound_port(int fd)
{
        struct sockaddr_storage sa = {0};
        socklen_t len = sizeof sa;

        if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
                return -1;
        /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): getsockname() has filled it */
        return ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port : ((struct sockaddr_in *)&sa)->sin_port);
}

static int find_port(struct httpd *h)
{
        int fd = -EADDRINUSE;

        for (int64_t port = h->config.port; port < h->config.port + PORTS_TRIED && port <= UINT16_MAX; port++) {
                if (port != 0 && port == h->config.avoid_port)
                        continue;
                fd = bind_port(h->config.address, port);
                if (fd != -EADDRINUSE && fd != -EACCES)
                        break;
        }
        if (fd < 0)
                return fd;
        h->listen_fd = fd;
        h->port = bound_port(fd);
        return 0;
}

/* --- deadlines --- */

static struct timespec in_ms(int64_t ms)
{
        int64_t until = now_mono_ms() + ms;

        return (struct timespec){.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
}

static void watch_connections(struct httpd *h, int64_t now)
{
        for (struct http_conn *c = h->conns; c; c = c->next) {
                if (c->deadline_ms > now)
                        continue;
                /* libmicrohttpd sees the end of the stream and closes. */
                shutdown(c->fd, SHUT_RDWR);
                c->deadline_ms = HTTPD_NEVER;
        }
}

static void *watch_main(void *arg)
{
        struct httpd *h = arg;
        int64_t every = h->config.receive_ms / WATCH_FRACTION_OF;

        if (every > WATCH_MS)
                every = WATCH_MS;
        if (every < 1)
                every = 1;
        pthread_mutex_lock(&h->lock);
        while (!h->stop) {
                if (h->conns) {
                        struct timespec until = in_ms(every);

                        pthread_cond_timedwait(&h->changed, &h->lock, &until);
                } else {
                        pthread_cond_wait(&h->changed, &h->lock);
                }
                watch_connections(h, now_mono_ms());
        }
        pthread_mutex_unlock(&h->lock);
        return NULL;
}

/* --- start --- */

static _Noreturn void on_panic(void *cls, const char *file, unsigned int line, const char *reason)
{
        (void)cls;
        (void)file;
        (void)line;
        die(reason ? reason : "libmicrohttpd: broken invariant");
}

/* The target reaches us raw through httpd_on_target; libmicrohttpd's own decoding would make a slash of %2F. */
static size_t leave_escaped(void *cls, struct MHD_Connection *mhd, char *s)
{
        (void)cls;
        (void)mhd;
        return strlen(s);
}

static int start_threads(struct httpd *h)
{
        /* poll, not epoll: with epoll, libmicrohttpd 0.9.75 slept on while 512 clients that came at once lay in its accept queue. */
        unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
        pthread_condattr_t attr;
        sigset_t all, before;
        int r;

        if (strchr(h->config.address, ':'))
                flags |= MHD_USE_IPv6;
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_mutex_init(&h->lock, NULL);
        pthread_cond_init(&h->changed, &attr);
        pthread_condattr_destroy(&attr);

        MHD_set_panic_func(on_panic, NULL);
        /* Signals belong to the service's thread. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        r = -pthread_create(&h->watch, NULL, watch_main, h);
        if (r == 0) {
                h->mhd = MHD_start_daemon(flags, 0, NULL, NULL, httpd_on_request, h, MHD_OPTION_LISTEN_SOCKET, h->listen_fd,
                        MHD_OPTION_CONNECTION_LIMIT, h->config.connections_max, MHD_OPTION_PER_IP_CONNECTION_LIMIT, h->config.connections_max,
                        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_MEMORY, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK,
                        httpd_on_target, h, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL, MHD_OPTION_NOTIFY_CONNECTION, httpd_on_connection, h,
                        MHD_OPTION_NOTIFY_COMPLETED, httpd_on_completed, h, MHD_OPTION_END);
                if (!h->mhd) {
                        r = errno > 0 ? -errno : -ENOMEM;
                        h->listen_fd = -1; /* it has closed that */
                }
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return r;
}

static void stop_watch(struct httpd *h)
{
        pthread_mutex_lock(&h->lock);
        h->stop = true;
        pthread_cond_broadcast(&h->changed);
        pthread_mutex_unlock(&h->lock);
        pthread_join(h->watch, NULL);
}

static struct httpd *httpd_release(struct httpd *h)
{
        if (h->listen_fd >= 0)
                close(h->listen_fd);
        if (h->config.token)
                explicit_bzero((char *)h->config.token, strlen(h->config.token));
        free((char *)h->config.token);
        free((char *)h->config.address);
        free(h);
        return NULL;
}

int httpd_open(const struct httpd_config *config, struct httpd **ret_httpd)
{
        struct httpd *h;
        int r;

        if (config->port < 0 || config->port > UINT16_MAX)
                return -EINVAL;
        h = xcalloc(1, sizeof *h);
        h->config = *config;
        h->config.address = xstrdup(config->address);
        h->config.token = config->token ? xstrdup(config->token) : NULL;
        if (h->config.connections_max == 0)
                h->config.connections_max = CONNECTIONS;
        if (h->config.receive_ms <= 0)
                h->config.receive_ms = HTTPD_RECEIVE_MS;
        if (h->config.idle_ms <= 0)
                h->config.idle_ms = HTTPD_IDLE_MS;
        h->listen_fd = -1;
        r = find_port(h);
        if (r == 0)
                r = start_threads(h);
        if (r < 0) {
                if (h->watch)
                        stop_watch(h);
                httpd_release(h);
                return r;
        }
        *ret_httpd = h;
        return 0;
}

int64_t httpd_port(const struct httpd *h)
{
        return h->port;
}

/* --- the queue --- */

struct http_request *httpd_take(struct httpd *h, const struct http_route **ret_route)
{
        struct http_request *r;

        pthread_mutex_lock(&h->lock);
        r = h->queued.first;
        if (r) {
                http_list_remove(&h->queued, r);
                http_list_add(&h->held, r);
                r->stage = HTTP_HELD;
        }
        pthread_mutex_unlock(&h->lock);
        if (r)
                *ret_route = r->match.route;
        return r;
}

size_t httpd_open_requests(const struct httpd *h)
{
        struct httpd *writable = (struct httpd *)h; /* only for its lock */
        size_t n;

        pthread_mutex_lock(&writable->lock);
        n = h->n_open;
        pthread_mutex_unlock(&writable->lock);
        return n;
}

void httpd_answered(struct http_request *r)
{
        struct httpd *h = r->httpd;
        struct MHD_Connection *mhd = r->mhd;

        pthread_mutex_lock(&h->lock);
        http_list_remove(r->stage == HTTP_QUEUED ? &h->queued : &h->held, r);
        r->stage = HTTP_ANSWERED;
        r->conn->deadline_ms = now_mono_ms() + h->config.receive_ms + httpd_allowance_ms(r->response_len);
        h->n_open--;
        h->n_unsent++;
        pthread_mutex_unlock(&h->lock);
        /* From here on r may be gone. */
        MHD_resume_connection(mhd);
}

/* --- the end --- */

void httpd_quiesce(struct httpd *h)
{
        if (h->quiesced)
                return;
        h->quiesced = true;
        MHD_quiesce_daemon(h->mhd);
        /* Refuses new connections at once. It is closed only when the other thread is gone, which may be about to accept(). */
        shutdown(h->listen_fd, SHUT_RDWR);
}

static void answer_leftovers(struct httpd *h)
{
        struct http_request *r;

        pthread_mutex_lock(&h->lock);
        h->closing = true;
        while ((r = h->queued.first ? h->queued.first : h->held.first)) {
                pthread_mutex_unlock(&h->lock);
                http_make_stopping(r);
                httpd_answered(r);
                pthread_mutex_lock(&h->lock);
        }
        pthread_mutex_unlock(&h->lock);
}

static void wait_for_answers(struct httpd *h)
{
        struct timespec until = in_ms(FAREWELL_MS);

        pthread_mutex_lock(&h->lock);
        while (h->n_unsent > 0 && pthread_cond_timedwait(&h->changed, &h->lock, &until) != ETIMEDOUT)
                ;
        pthread_mutex_unlock(&h->lock);
}

/* libmicrohttpd 0.9.75 crashes when a malformed request reaches it after it was told to stop: it builds its error page without having queued it. So
 * it is told only when no connection is left. */
static void close_connections(struct httpd *h)
{
        struct timespec until = in_ms(CLOSING_MS);

        pthread_mutex_lock(&h->lock);
        h->closed = true;
        for (struct http_conn *c = h->conns; c; c = c->next)
                shutdown(c->fd, SHUT_RDWR);
        while (h->conns && pthread_cond_timedwait(&h->changed, &h->lock, &until) != ETIMEDOUT)
                ;
        pthread_mutex_unlock(&h->lock);
}

struct httpd *httpd_free(struct httpd *h)
{
        if (!h)
                return NULL;
        httpd_quiesce(h);
        answer_leftovers(h);
        wait_for_answers(h);
        close_connections(h);
        MHD_stop_daemon(h->mhd);
        stop_watch(h);
        pthread_cond_destroy(&h->changed);
        pthread_mutex_destroy(&h->lock);
        return httpd_release(h);
}
