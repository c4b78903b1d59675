/* The connection: its options, opening it, subscribing, opening it again when libnats has given it up, and its end.
 *
 * Invariant: no subscription is destroyed while its thread may still run (libnats 3.4 crashes): bus_free closes the connection, waits for the
 * threads of those that have one and for the closed callback, and only then frees. */
#include "bus_private.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNECT_TIMEOUT_MS 1000
#define RECONNECT_WAIT_MS  200
#define PING_MS            2000
#define WRITE_DEADLINE_MS  2000 /* of the handshake */
#define DRAIN_MS           500
#define WRITE_ALL_MS       1000
#define PENDING_BYTES_MAX  (64 << 20)

/* --- called on libnats' threads --- */

static void on_connected(natsConnection *nc, void *closure)
{
        struct bus *b = closure;

        (void)nc;
        b->epoch++;
        b->connected = true;
        bus_wake(b);
}

static void on_disconnected(natsConnection *nc, void *closure)
{
        struct bus *b = closure;

        (void)nc;
        b->connected = false;
        bus_wake(b);
}

static void on_closed(natsConnection *nc, void *closure)
{
        struct bus *b = closure;
        const char *why = NULL;
        bool closing;

        pthread_mutex_lock(&b->lock);
        closing = b->closing;
        pthread_mutex_unlock(&b->lock);
        /* NATS_ERR is what the server said in words: it would say it again. */
        if (!closing && b->epoch > 0 && natsConnection_GetLastError(nc, &why) == NATS_ERR) {
                log_error("bus connection closed for good", LOG_S("error", why));
                die("bus: connection closed for good by the server");
        }
        pthread_mutex_lock(&b->lock);
        b->connected = false;
        b->closed = true; /* bus_free goes on from here, and takes b with it */
        bus_wake(b);
        pthread_cond_broadcast(&b->changed);
        pthread_mutex_unlock(&b->lock);
}

/* Permission violations and slow consumers. Kept for the caller's thread, which logs them at a bounded rate: a denied publish in a loop must not
 * fill the log. */
static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus err, void *closure)
{
        struct bus *b = closure;
        natsStatus last = NATS_OK;
        const char *text = nats_GetLastError(&last);

        (void)nc;
        (void)sub;
        if (!text || last != err)
                text = natsStatus_GetText(err);
        pthread_mutex_lock(&b->lock);
        b->n_errors++;
        strncpy(b->error, text, sizeof(b->error) - 1);
        pthread_mutex_unlock(&b->lock);
        bus_wake(b);
}

/* --- called on the caller's thread --- */

int errno_of(natsStatus s)
{
        switch (s) {
        case NATS_OK:
                return 0;
        case NATS_NO_MEMORY:
                die("out of memory");
        case NATS_MAX_PAYLOAD:
                return -EMSGSIZE;
        case NATS_INVALID_ARG:
        case NATS_INVALID_SUBJECT:
        case NATS_INVALID_QUEUE_NAME:
        case NATS_ADDRESS_MISSING:
                return -EINVAL;
        default:
                return -ENOTCONN;
        }
}

static natsStatus set_servers(natsOptions *options, const char *urls)
{
        _cleanup_(freep) char *copy = xstrdup(urls);
        const char *list[16];
        char *save = NULL;
        int n = 0;

        for (char *url = strtok_r(copy, ", ", &save); url && n < (int)ARRAY_SIZE(list); url = strtok_r(NULL, ", ", &save))
                list[n++] = url;
        return n ? natsOptions_SetServers(options, list, n) : NATS_INVALID_ARG;
}

static natsStatus set_options(natsOptions *o, const struct bus_config *config, struct bus *b)
{
        natsStatus s = set_servers(o, config->url);

        if (s == NATS_OK && config->user)
                s = natsOptions_SetUserInfo(o, config->user, config->password ? config->password : "");
        if (s == NATS_OK && config->name)
                s = natsOptions_SetName(o, config->name);
        if (s == NATS_OK)
                s = natsOptions_SetTimeout(o, CONNECT_TIMEOUT_MS);
        /* The first connect is tried for ever; one that has stood and ends is made anew, by open_again. */
        if (s == NATS_OK)
                s = natsOptions_SetAllowReconnect(o, false);
        if (s == NATS_OK)
                s = natsOptions_SetMaxReconnect(o, -1);
        if (s == NATS_OK)
                s = natsOptions_SetReconnectWait(o, RECONNECT_WAIT_MS);
        if (s == NATS_OK)
                s = natsOptions_SetReconnectJitter(o, RECONNECT_WAIT_MS / 2, RECONNECT_WAIT_MS / 2);
        /* 0 makes libnats refuse to publish while it reconnects: nothing is sent later that its sender has long taken back. */
        if (s == NATS_OK)
                s = natsOptions_SetReconnectBufSize(o, 0);
        if (s == NATS_OK)
                s = natsOptions_SetPingInterval(o, PING_MS);
        /* Whether nobody answers is for bus_socket.c to judge: libnats would do it on another thread, also when it is we who have not listened. */
        if (s == NATS_OK)
                s = natsOptions_SetMaxPingsOut(o, INT_MAX);
        if (s == NATS_OK)
                s = natsOptions_SetWriteDeadline(o, WRITE_DEADLINE_MS);
        if (s == NATS_OK)
                s = socket_options(o, b);
        if (s == NATS_OK)
                s = natsOptions_SetRetryOnFailedConnect(o, true, on_connected, b);
        if (s == NATS_OK)
                s = natsOptions_SetDisconnectedCB(o, on_disconnected, b);
        if (s == NATS_OK)
                s = natsOptions_SetClosedCB(o, on_closed, b);
        if (s == NATS_OK)
                s = natsOptions_SetErrorHandler(o, on_error, b);
        return s;
}

static void on_sub_complete(void *closure)
{
        struct bus *b = closure;

        pthread_mutex_lock(&b->lock);
        b->live_subs--;
        pthread_cond_broadcast(&b->changed);
        bus_wake(b);
        pthread_mutex_unlock(&b->lock); /* bus_free goes on from here, and may take b with it */
}

/* Of a threaded subscription, on a thread of libnats. */
static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *nats, void *closure)
{
        struct subscription *to = closure;
        struct bus *b = to->bus;
        struct message *m = message_new(nats);
        bool first = false;

        (void)nc;
        (void)sub;
        pthread_mutex_lock(&b->lock);
        if (to->in.n < BUS_PLAIN_MAX && to->in.bytes + m->m.len <= PENDING_BYTES_MAX) {
                message_push(&to->in, TAKE_PTR(m));
                first = to->in.n == 1;
        } else {
                b->n_errors++;
                strcpy(b->error, "queue full, messages dropped");
        }
        pthread_mutex_unlock(&b->lock);
        message_free(m);
        if (first)
                bus_wake(b);
}

static int subscribe_at(struct bus *b, struct subscription *to)
{
        natsStatus s;

        if (to->threaded)
                s = natsConnection_Subscribe(&to->sub, b->nc, to->subject, on_message, to);
        else if (to->queue)
                s = natsConnection_QueueSubscribeSync(&to->sub, b->nc, to->subject, to->queue);
        else
                s = natsConnection_SubscribeSync(&to->sub, b->nc, to->subject);
        if (s == NATS_SYS_ERROR) /* no thread: the next connection may find one, this one would stay deaf */
                die("bus: cannot subscribe");
        if (s != NATS_OK)
                return errno_of(s);
        if (!to->threaded) /* the error: the connection has just been given up, and this with it */
                return natsSubscription_SetPendingLimits(to->sub, BUS_PLAIN_MAX, PENDING_BYTES_MAX) == NATS_OK ? 0 : -ENOTCONN;
        pthread_mutex_lock(&b->lock);
        b->live_subs++;
        pthread_mutex_unlock(&b->lock);
        if (natsSubscription_SetOnCompleteCB(to->sub, on_sub_complete, b) == NATS_OK)
                return 0;
        on_sub_complete(b);
        return -ENOTCONN;
}

static void subscription_free(struct subscription *sub)
{
        struct message *m;

        natsSubscription_Destroy(sub->sub);
        while ((m = message_pop(&sub->in)))
                message_free(m);
        free(sub->subject);
        free(sub->queue);
        free(sub);
}

int subscribe(struct bus *b, const char *subject, const char *queue, bool plain, bool threaded, struct subscription **ret_sub)
{
        struct subscription *sub = xcalloc(1, sizeof(*sub));
        int r;

        *sub = (struct subscription){
                .bus = b, .subject = xstrdup(subject), .queue = queue ? xstrdup(queue) : NULL, .plain = plain, .threaded = threaded};
        r = subscribe_at(b, sub);
        if (r == -ENOTCONN) /* given up just now: open_again subscribes */
                r = 0;
        if (r < 0) {
                subscription_free(sub);
                return r;
        }
        b->subs = xrealloc(b->subs, (b->n_subs + 1) * sizeof(*b->subs));
        b->subs[b->n_subs++] = sub;
        if (ret_sub)
                *ret_sub = sub;
        return 0;
}

int subscribe_inbox(struct bus *b, char kind, bool threaded, struct subscription **ret_sub)
{
        _cleanup_(strbuf_done) struct strbuf subject = {0};

        strbuf_addf(&subject, "%s%c.>", b->inbox, kind);
        return subscribe(b, subject.s, NULL, false, threaded, ret_sub);
}

static struct message *pop_in(struct subscription *sub)
{
        struct message *m;

        pthread_mutex_lock(&sub->bus->lock);
        m = message_pop(&sub->in);
        pthread_mutex_unlock(&sub->bus->lock);
        return m;
}

struct message *subscription_next(struct subscription *sub, bool *ret_nobody)
{
        uint64_t waiting = 0;
        natsMsg *m;
        natsStatus s;

        if (sub && sub->threaded)
                return pop_in(sub);
        /* Asked first, because libnats writes a whole error text when there is nothing. */
        if (!sub || !sub->sub || natsSubscription_QueuedMsgs(sub->sub, &waiting) != NATS_OK || waiting == 0)
                return NULL;
        do {
                s = natsSubscription_NextMsg(&m, sub->sub, 0);
                if (s == NATS_NO_RESPONDERS && ret_nobody)
                        *ret_nobody = true;
        } while (s == NATS_NO_RESPONDERS || s == NATS_SLOW_CONSUMER); /* what was dropped is said by on_error */
        return s == NATS_OK ? message_new(m) : NULL;
}

static natsStatus connect_now(struct bus *b)
{
        natsStatus s = natsConnection_Connect(&b->nc, b->options), last;
        const char *why;

        /* An immediate success calls no callback. */
        if (s == NATS_OK)
                on_connected(b->nc, b);
        if (s != NATS_NOT_YET_CONNECTED)
                return s;
        /* A refusal is said here, until the connection is given up a moment later. Who misses that moment comes by again. */
        last = natsConnection_GetLastError(b->nc, &why);
        return last == NATS_CONNECTION_AUTH_FAILED ? last : NATS_OK;
}

/* A connection that has ended is followed by a new one with the same subscriptions; so is one whose first handshake broke off (a server that dies or
 * hangs, a proxy that resets), which libnats gives up. While nobody takes the connection libnats tries on a thread of its own, but the first try is
 * made here, and takes a second for each server that takes it and says nothing: so after one that took long the loop has the next four fifths of the
 * time. */
void open_again(struct bus *b, int64_t now)
{
        int64_t after;
        bool closed;

        pthread_mutex_lock(&b->lock);
        closed = b->closed && b->live_subs == 0;
        pthread_mutex_unlock(&b->lock);
        if (!closed || now < b->open_again_at)
                return;
        for (size_t i = 0; i < b->n_subs; i++) {
                natsSubscription_Destroy(b->subs[i]->sub);
                b->subs[i]->sub = NULL;
        }
        natsConnection_Destroy(b->nc);
        b->nc = NULL;
        pthread_mutex_lock(&b->lock);
        b->closed = false;
        pthread_mutex_unlock(&b->lock);
        if (connect_now(b) != NATS_OK)
                die("bus: the server refuses us");
        after = now_mono_ms();
        b->open_again_at = after + RECONNECT_WAIT_MS + 4 * (after - now);
        for (size_t i = 0; i < b->n_subs; i++)
                if (subscribe_at(b, b->subs[i]) < 0)
                        return; /* closed again: the next round */
}

int bus_open(const struct bus_config *config, struct bus **ret_bus)
{
        struct bus *b = xcalloc(1, sizeof(*b));
        _cleanup_(strbuf_done) struct strbuf inbox = {0};
        pthread_condattr_t attr;
        uint8_t nonce[8];
        natsStatus s;
        int r;

        pthread_mutex_init(&b->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&b->changed, &attr);
        pthread_condattr_destroy(&attr);

        if (random_bytes(nonce, sizeof(nonce)) < 0)
                die("bus: no random bytes");
        strbuf_addf(&inbox, "%s.", config->inbox_prefix ? config->inbox_prefix : "_INBOX");
        for (size_t i = 0; i < sizeof(nonce); i++)
                strbuf_addf(&inbox, "%02x", nonce[i]);
        strbuf_addc(&inbox, '.');
        b->inbox_len = inbox.len;
        b->inbox = strbuf_take(&inbox);

        r = socket_open(b);
        s = natsOptions_Create(&b->options);
        if (s == NATS_OK)
                s = set_options(b->options, config, b);
        if (s == NATS_OK && r == 0)
                s = connect_now(b);
        if (r == 0)
                r = errno_of(s);
        if (r < 0) {
                bus_free(b);
                return r;
        }
        *ret_bus = b;
        return 0;
}

/* Waits until no thread of libnats can call back any more. */
static bool wait_closed(struct bus *b)
{
        struct timespec until;
        int r = 0;
        bool done;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 10;
        pthread_mutex_lock(&b->lock);
        while (r == 0 && (!b->closed || b->live_subs > 0))
                r = pthread_cond_timedwait(&b->changed, &b->lock, &until);
        done = b->closed && b->live_subs == 0;
        pthread_mutex_unlock(&b->lock);
        return done;
}

/* Without their inbox the standing pulls are void; otherwise the server would send what we give back to us again. */
static void end_deliveries(struct bus *b)
{
        int64_t until = now_mono_ms() + DRAIN_MS;

        if (!b->connected || natsSubscription_DrainTimeout(b->deliveries->sub, DRAIN_MS) != NATS_OK)
                return;
        bus_source_pause(b);
        do {
                bus_maintain(b);
        } while (natsSubscription_WaitForDrainCompletion(b->deliveries->sub, 1) == NATS_TIMEOUT && now_mono_ms() < until);
}

static void write_all(struct bus *b)
{
        int64_t now = now_mono_ms(), until = now + WRITE_ALL_MS;

        for (bus_flush(b); b->connected && b->unwritten && now < until; now = now_mono_ms()) {
                socket_wait(b, until - now);
                socket_look(b, now);
        }
}

struct bus *bus_free(struct bus *b)
{
        if (!b)
                return NULL;
        bus_end_calls(b);
        if (b->nc) {
                if (b->source)
                        end_deliveries(b);
                b->source = source_free(b);
                write_all(b);
                pthread_mutex_lock(&b->lock);
                b->closing = true;
                pthread_mutex_unlock(&b->lock);
                natsConnection_Close(b->nc);
                if (!wait_closed(b)) {
                        /* A thread of libnats hangs somewhere and may still come back to this memory: better to lose it. */
                        log_warning("bus connection did not end; leaving its memory behind");
                        return NULL;
                }
        }
        for (size_t i = 0; i < b->n_subs; i++)
                subscription_free(b->subs[i]);
        natsConnection_Destroy(b->nc);
        natsOptions_Destroy(b->options);
        socket_close(b);
        pthread_cond_destroy(&b->changed);
        pthread_mutex_destroy(&b->lock);
        free(b->subs);
        free(b->inbox);
        free(b);
        return NULL;
}
