/* The socket, on the caller's thread (what libnats calls an external event loop): reading, writing, and noticing that nobody answers.
 *
 * Invariants: while a connection stands, only the caller's thread reads and writes it, and only what it does there can end it; so no other thread
 * ever closes a descriptor that is just being read. What is published waits in libnats' buffer until bus_flush, bus_maintain or SEND_AT, and the
 * buffer is bounded: a server that takes nothing for WRITE_MS is hung up on, as is one that says nothing, although asked, for SILENT_MS of our
 * attention (a caller who was held up elsewhere has not listened, which is not the server's fault). A crash loses what was not written.
 *
 * A connection that has ended is not connected again by libnats: with an external event loop it would go on parsing where the old one broke off. */
#include "bus_private.h"

#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define SILENT_MS    5000
#define ATTENTION_MS 1200 /* from one look to the next, at most: a loop comes by once a second */
#define PATIENCE_MS  200  /* after a longer absence, until it counts what has not come */
#define READS_MAX    16
#define READ_BYTES   (1 << 20) /* in one read: a round of intake takes some hundred messages */
#define WRITE_MS     2000
#define OVERHEAD     ((size_t)256) /* subjects and headers of a message, about */
#define SEND_AT      ((size_t)64 << 10)
#define BUFFER_MAX   (8 << 20)

/* --- called by libnats: attach on the thread that connects, the others on the caller's as well --- */

static natsStatus on_attach(void **user_data, void *loop, natsConnection *nc, natsSock fd)
{
        struct bus *b = loop;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

        (void)nc;
        *user_data = b;
        if (epoll_ctl(b->ready_fd, EPOLL_CTL_ADD, fd, &event) < 0)
                return NATS_ERR;
        b->sock = fd;
        return NATS_OK;
}

static natsStatus on_read(void *user_data, bool add)
{
        struct bus *b = user_data;
        int fd = b->sock;

        if (add || fd < 0)
                return NATS_OK;
        b->sock = -1;
        b->writes_watched = false;
        (void)epoll_ctl(b->ready_fd, EPOLL_CTL_DEL, fd, NULL);
#if NATS_VERSION_NUMBER >= 0x030902 /* before it libnats closes it itself */
        natsConnection_ProcessCloseEvent(&fd);
#endif
        return NATS_OK;
}

static natsStatus on_write(void *user_data, bool add)
{
        struct bus *b = user_data;

        b->unwritten = add;
        if (add && !pthread_equal(pthread_self(), b->thread))
                bus_wake(b);
        return NATS_OK;
}

static natsStatus on_detach(void *user_data)
{
        (void)user_data; /* may be gone: polling has ended before */
        return NATS_OK;
}

natsStatus socket_options(natsOptions *options, struct bus *b)
{
        natsStatus s = natsOptions_SetEventLoop(options, b, on_attach, on_read, on_write, on_detach);

        if (s == NATS_OK)
                s = natsOptions_SetIOBufSize(options, READ_BYTES);
        /* What is published is to be written by our loop: libnats needs no thread that does it later. */
        return s == NATS_OK ? natsOptions_SetSendAsap(options, true) : s;
}

/* --- called on the caller's thread --- */

void bus_wake(const struct bus *b)
{
        (void)eventfd_write(b->wake_fd, 1);
}

int bus_fd(const struct bus *b)
{
        return b->ready_fd;
}

static void hang_up(const struct bus *b, const char *why)
{
        int fd = b->sock;

        if (fd < 0)
                return;
        log_warning("hanging up on the bus", LOG_S("why", why));
        (void)shutdown(fd, SHUT_RDWR); /* read as its end by the next look; open_again follows */
}

static void watch_writes(struct bus *b)
{
        int fd = b->sock;
        bool wanted = b->unwritten && fd >= 0;
        struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0u), .data.fd = fd};

        if (wanted == b->writes_watched)
                return;
        b->writes_watched = wanted;
        if (fd >= 0)
                (void)epoll_ctl(b->ready_fd, EPOLL_CTL_MOD, fd, &event);
}

static void write_out(struct bus *b)
{
        if (b->unwritten)
                natsConnection_ProcessWriteEvent(b->nc);
        if (!b->unwritten)
                b->unwritten_bytes = 0;
        watch_writes(b);
}

int bus_flush(struct bus *b)
{
        write_out(b);
        return b->connected ? 0 : -ENOTCONN;
}

natsStatus socket_published(struct bus *b, size_t len)
{
        int64_t now, until;

        b->unwritten_bytes += len + OVERHEAD;
        if (b->unwritten_bytes < SEND_AT)
                return NATS_OK;
        write_out(b);
        if (!b->unwritten || natsConnection_Buffered(b->nc) < BUFFER_MAX)
                return NATS_OK;
        now = now_mono_ms();
        until = now + WRITE_MS;
        while (b->unwritten && natsConnection_Buffered(b->nc) >= BUFFER_MAX / 2) {
                struct pollfd p = {.fd = b->sock, .events = POLLOUT};

                if (now >= until) {
                        hang_up(b, "it takes nothing");
                        return NATS_TIMEOUT;
                }
                (void)poll(&p, 1, (int)(until - now));
                write_out(b);
                now = now_mono_ms();
        }
        return NATS_OK;
}

static void notice_silence(struct bus *b, bool heard, int64_t since)
{
        if (heard || !b->connected || b->sock < 0)
                b->silent_ms = 0;
        else
                b->silent_ms += since < ATTENTION_MS ? since : ATTENTION_MS;
        if (b->silent_ms > SILENT_MS) {
                b->silent_ms = 0;
                hang_up(b, "it says nothing");
        }
}

/* One read; false when there was nothing to be read. */
static bool read_in(struct bus *b)
{
        struct epoll_event events[2];
        int n = epoll_wait(b->ready_fd, events, 2, 0);
        bool heard = false;
        eventfd_t count;

        for (int i = 0; i < n; i++) {
                if (events[i].data.fd == b->wake_fd) {
                        (void)eventfd_read(b->wake_fd, &count);
                } else if (events[i].events & ~(unsigned)EPOLLOUT) {
                        heard = true;
                        natsConnection_ProcessReadEvent(b->nc);
                }
        }
        return heard;
}

void socket_look(struct bus *b, int64_t now)
{
        int64_t since = now - b->looked_ms;
        bool heard = read_in(b);

        b->looked_ms = now;
        if (since > ATTENTION_MS && heard) { /* what came meanwhile is heard first, before anybody counts as silent */
                b->patient_until = now + PATIENCE_MS;
                for (int reads = 1; reads < READS_MAX && read_in(b);)
                        reads++;
        }
        write_out(b);
        notice_silence(b, heard, since);
}

void socket_wait(const struct bus *b, int64_t ms)
{
        struct pollfd p = {.fd = b->ready_fd, .events = POLLIN};

        (void)poll(&p, 1, (int)ms);
}

int socket_open(struct bus *b)
{
        struct epoll_event event = {.events = EPOLLIN};

        b->sock = -1;
        b->thread = pthread_self();
        b->looked_ms = now_mono_ms();
        b->ready_fd = epoll_create1(EPOLL_CLOEXEC);
        b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (b->ready_fd < 0 || b->wake_fd < 0)
                return -errno;
        event.data.fd = b->wake_fd;
        return epoll_ctl(b->ready_fd, EPOLL_CTL_ADD, b->wake_fd, &event) < 0 ? -errno : 0;
}

void socket_close(struct bus *b)
{
        closep(&b->ready_fd);
        closep(&b->wake_fd);
}
