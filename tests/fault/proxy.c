/* One thread, one poll loop. A connection is two ways, each with what was read (`in`) and what may be written (`out`); between them stands the fault.
 * Orders come under a lock and wake the loop. */
#include "proxy.h"

#include "base/strbuf.h"
#include "base/util.h"
#include "nats_frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define BUFFER_MAX      ((size_t)4 << 20) /* above one message of the bus */
#define HELD_MAX        64
#define HOLD_MS         1500
#define TRUNCATE_BYTES  2000

/* Odds in percent of each message while there is mischief. */
#define DROP_ODDS   4
#define REPEAT_ODDS 10
#define HOLD_ODDS   10
#define GARBLE_ODDS 5

struct held {
        char *bytes;
        size_t n;
        int64_t until_ms;
};

struct way {
        int from, to;
        struct strbuf in, out;
        bool ended; /* `from` says no more */
        struct held held[HELD_MAX];
        size_t n_held;
};

struct connection {
        struct way ways[2];
        int64_t bytes_left; /* INT64_MAX: no limit */
        bool dead, reset;
        struct connection *next;
};

struct proxy {
        struct proxy_config config;
        char listen_path[108], to_path[108];
        int port, listener, wake;
        pthread_t thread;
        struct connection *connections;
        struct fault_random random;

        pthread_mutex_t lock; /* everything below */
        bool stop, cut, reset, truncate;
        int64_t stall_until_ms, refuse_until_ms, mischief_until_ms;
        struct proxy_counts counts;
};

static int address_socket(const char *path, int port, struct sockaddr_storage *ret_address, socklen_t *ret_len)
{
        memset(ret_address, 0, sizeof(*ret_address));
        if (path) {
                struct sockaddr_un *a = (struct sockaddr_un *)ret_address;

                a->sun_family = AF_UNIX;
                snprintf(a->sun_path, sizeof(a->sun_path), "%s", path);
                *ret_len = sizeof(*a);
        } else {
                struct sockaddr_in *a = (struct sockaddr_in *)ret_address;

                a->sin_family = AF_INET;
                a->sin_port = htons((uint16_t)port);
                a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
                *ret_len = sizeof(*a);
        }
        return socket(ret_address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static void end_socket(int fd, bool reset)
{
        if (fd < 0)
                return;
        if (reset)
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
        close(fd);
}

static void connection_free(struct connection *c)
{
        end_socket(c->ways[0].from, c->reset);
        end_socket(c->ways[1].from, c->reset);
        for (size_t w = 0; w < 2; w++) {
                for (size_t i = 0; i < c->ways[w].n_held; i++)
                        free(c->ways[w].held[i].bytes);
                strbuf_done(&c->ways[w].in);
                strbuf_done(&c->ways[w].out);
        }
        free(c);
}

static void accept_one(struct proxy *p, bool refuse)
{
        struct sockaddr_storage address;
        socklen_t len;
        int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), up;
        struct connection *c;

        if (fd < 0)
                return;
        if (refuse) {
                end_socket(fd, true);
                return;
        }
        up = address_socket(p->config.to_path, p->config.to_port, &address, &len);
        if (up < 0 || (connect(up, (struct sockaddr *)&address, len) < 0 && errno != EINPROGRESS)) {
                end_socket(fd, true);
                end_socket(up, true);
                return;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* fails on unix sockets, which need none */
        (void)setsockopt(up, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        c = xcalloc(1, sizeof(*c));
        c->bytes_left = INT64_MAX;
        c->ways[0].from = c->ways[1].to = fd;
        c->ways[0].to = c->ways[1].from = up;
        c->next = p->connections;
        p->connections = c;
}

static void consume(struct strbuf *b, size_t n)
{
        memmove(b->s, b->s + n, b->len - n);
        b->len -= n;
}

static void hold(struct proxy *p, struct way *w, const char *bytes, size_t n)
{
        struct held *h = &w->held[w->n_held++];

        h->bytes = xstrndup("", 0);
        h->bytes = xrealloc(h->bytes, n);
        memcpy(h->bytes, bytes, n);
        h->n = n;
        h->until_ms = now_mono_ms() + fault_random_between(&p->random, 1, HOLD_MS);
}

static void release(struct way *w, int64_t now)
{
        for (size_t i = 0; i < w->n_held;)
                if (w->held[i].until_ms <= now) {
                        strbuf_add(&w->out, w->held[i].bytes, w->held[i].n);
                        free(w->held[i].bytes);
                        w->held[i] = w->held[--w->n_held];
                } else {
                        i++;
                }
}

/* One message in a time of mischief. */
static void suffer(struct proxy *p, struct way *w, char *bytes, const struct nats_frame *f)
{
        int64_t dice = fault_random_between(&p->random, 0, 99);

        if (dice < DROP_ODDS) {
                p->counts.dropped++;
                return;
        }
        dice -= DROP_ODDS;
        if (dice < HOLD_ODDS && w->n_held < HELD_MAX) {
                p->counts.held++;
                hold(p, w, bytes, f->len);
                return;
        }
        dice -= HOLD_ODDS;
        if (dice < REPEAT_ODDS) {
                p->counts.repeated++;
                strbuf_add(&w->out, bytes, f->len);
        }
        dice -= REPEAT_ODDS;
        if (dice >= 0 && dice < GARBLE_ODDS) {
                p->counts.garbled++;
                nats_frame_garble(bytes, f, &p->random);
        }
        strbuf_add(&w->out, bytes, f->len);
}

static void pass_frames(struct proxy *p, struct way *w, bool mischief)
{
        struct nats_frame f;
        size_t at = 0;

        release(w, now_mono_ms());
        while (at < w->in.len && nats_frame_read(w->in.s + at, w->in.len - at, &f)) {
                if (f.message && mischief)
                        suffer(p, w, w->in.s + at, &f);
                else
                        strbuf_add(&w->out, w->in.s + at, f.len);
                p->counts.passed += f.message;
                at += f.len;
        }
        if (at > 0)
                consume(&w->in, at);
        if (w->ended) { /* half a frame cannot be judged any more */
                strbuf_add(&w->out, w->in.s ? w->in.s : "", w->in.len);
                strbuf_reset(&w->in);
        }
}

/* Reads what is there. */
static void take(struct connection *c, struct way *w)
{
        ssize_t n = read(w->from, strbuf_grow(&w->in, 65536), 65536);

        if (n > 0) {
                w->in.len += (size_t)n;
                w->in.s[w->in.len] = '\0';
        } else if (n == 0) {
                w->ended = true;
        } else if (errno != EAGAIN && errno != EINTR) {
                c->dead = c->reset = true;
        }
}

static void give(struct connection *c, struct way *w)
{
        size_t n = w->out.len;
        ssize_t sent;

        if (c->bytes_left < (int64_t)n)
                n = (size_t)c->bytes_left;
        sent = n > 0 ? send(w->to, w->out.s, n, MSG_NOSIGNAL) : 0;
        if (sent > 0)
                consume(&w->out, (size_t)sent);
        else if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOTCONN)
                c->dead = c->reset = true;
        if (c->bytes_left < INT64_MAX) {
                c->bytes_left -= sent > 0 ? sent : 0;
                if (c->bytes_left == 0)
                        c->dead = c->reset = true;
        }
        if (w->ended && w->out.len == 0 && w->in.len == 0 && w->n_held == 0)
                c->dead = true; /* both sides of every protocol here end together */
}

static void obey(struct proxy *p)
{
        for (struct connection *c = p->connections; c; c = c->next) {
                if (p->cut || p->reset)
                        c->dead = true, c->reset = p->reset;
                if (p->truncate)
                        c->bytes_left = fault_random_between(&p->random, 1, TRUNCATE_BYTES);
        }
        p->cut = p->reset = p->truncate = false;
}

static void bury(struct proxy *p)
{
        for (struct connection **at = &p->connections, *c; (c = *at) != NULL;)
                if (c->dead) {
                        *at = c->next;
                        p->counts.ended++;
                        connection_free(c);
                } else {
                        at = &c->next;
                }
}

/* Poll entries: wake, listener, then two a connection: its two sockets. */
static size_t watch(struct proxy *p, struct pollfd fds[], bool stalled)
{
        size_t n = 0;

        fds[n++] = (struct pollfd){.fd = p->wake, .events = POLLIN};
        fds[n++] = (struct pollfd){.fd = stalled ? -1 : p->listener, .events = POLLIN};
        for (struct connection *c = p->connections; c && n + 2 <= 2 + 2 * CONNECTIONS_MAX; c = c->next)
                for (int w = 0; w < 2; w++) {
                        short events = 0;

                        if (!c->ways[w].ended && c->ways[w].in.len + c->ways[w].out.len < BUFFER_MAX)
                                events |= POLLIN;
                        if (c->ways[!w].out.len > 0)
                                events |= POLLOUT;
                        fds[n++] = (struct pollfd){.fd = stalled || events == 0 ? -1 : c->ways[w].from, .events = events};
                }
        return n;
}

static void serve(struct proxy *p, const struct pollfd fds[], size_t n, bool mischief)
{
        size_t i = 2;

        for (struct connection *c = p->connections; c && i + 2 <= n; c = c->next) {
                for (int w = 0; w < 2; w++, i++)
                        if (fds[i].revents & (POLLIN | POLLHUP | POLLERR))
                                take(c, &c->ways[w]);
                for (int w = 0; w < 2 && !c->dead; w++) {
                        if (p->config.nats) {
                                pass_frames(p, &c->ways[w], mischief);
                        } else {
                                strbuf_add(&c->ways[w].out, c->ways[w].in.s ? c->ways[w].in.s : "", c->ways[w].in.len);
                                strbuf_reset(&c->ways[w].in);
                        }
                        give(c, &c->ways[w]);
                }
        }
}

static void *run(void *arg)
{
        struct proxy *p = arg;
        struct pollfd *fds = xcalloc(2 + 2 * CONNECTIONS_MAX, sizeof(*fds));
        bool stalled = false;

        for (;;) {
                size_t n = watch(p, fds, stalled);
                uint64_t count;

                (void)poll(fds, n, 20); /* held messages and the ends of stalls come due by the clock */
                (void)!read(p->wake, &count, sizeof(count));
                pthread_mutex_lock(&p->lock);
                int64_t now = now_mono_ms();
                bool stop = p->stop, refuse = now < p->refuse_until_ms, was_stalled = stalled;
                stalled = now < p->stall_until_ms;
                obey(p);
                if (!was_stalled && !stalled && !stop)
                        serve(p, fds, n, now < p->mischief_until_ms);
                if (!was_stalled && !stalled && fds[1].revents & POLLIN) {
                        accept_one(p, refuse);
                        p->counts.connections++;
                }
                bury(p);
                pthread_mutex_unlock(&p->lock);
                if (stop)
                        break;
        }
        free(fds);
        return NULL;
}

struct proxy *proxy_start(const struct proxy_config *config)
{
        struct proxy *p = xcalloc(1, sizeof(*p));
        struct sockaddr_storage address;
        struct sockaddr_in bound;
        socklen_t len;

        p->config = *config;
        p->random.state = config->seed;
        if (config->listen_path)
                p->config.listen_path = strncpy(p->listen_path, config->listen_path, sizeof(p->listen_path) - 1);
        if (config->to_path)
                p->config.to_path = strncpy(p->to_path, config->to_path, sizeof(p->to_path) - 1);
        pthread_mutex_init(&p->lock, NULL);
        p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        p->listener = address_socket(p->config.listen_path, 0, &address, &len);
        if (p->wake < 0 || p->listener < 0 || bind(p->listener, (struct sockaddr *)&address, len) < 0 || listen(p->listener, 512) < 0)
                die("proxy: cannot listen");
        if (p->config.listen_path)
                (void)chmod(p->config.listen_path, 0777);
        len = sizeof(bound);
        if (!p->config.listen_path && getsockname(p->listener, (struct sockaddr *)&bound, &len) == 0)
                p->port = ntohs(bound.sin_port);
        if (pthread_create(&p->thread, NULL, run, p) != 0)
                die("proxy: cannot start a thread");
        return p;
}

static void wake(struct proxy *p)
{
        (void)!write(p->wake, &(uint64_t){1}, sizeof(uint64_t));
}

struct proxy *proxy_free(struct proxy *p)
{
        if (!p)
                return NULL;
        pthread_mutex_lock(&p->lock);
        p->stop = p->reset = true;
        pthread_mutex_unlock(&p->lock);
        wake(p);
        pthread_join(p->thread, NULL);
        close(p->listener);
        close(p->wake);
        if (p->config.listen_path)
                unlink(p->config.listen_path);
        pthread_mutex_destroy(&p->lock);
        free(p);
        return NULL;
}

int proxy_port(const struct proxy *p)
{
        return p->port;
}

void proxy_order(struct proxy *p, enum proxy_order order, int64_t ms)
{
        int64_t until = now_mono_ms() + ms;

        pthread_mutex_lock(&p->lock);
        switch (order) {
        case PROXY_CUT:
                p->cut = true;
                break;
        case PROXY_RESET:
                p->reset = true;
                break;
        case PROXY_TRUNCATE:
                p->truncate = true;
                break;
        case PROXY_STALL:
                p->stall_until_ms = until;
                break;
        case PROXY_REFUSE:
                p->refuse_until_ms = until;
                break;
        case PROXY_MISCHIEF:
                p->mischief_until_ms = until;
                break;
        case PROXY_HEAL:
                p->stall_until_ms = p->refuse_until_ms = p->mischief_until_ms = 0;
                break;
        }
        pthread_mutex_unlock(&p->lock);
        wake(p);
}

struct proxy_counts proxy_counts(struct proxy *p)
{
        struct proxy_counts counts;

        pthread_mutex_lock(&p->lock);
        counts = p->counts;
        pthread_mutex_unlock(&p->lock);
        return counts;
}
