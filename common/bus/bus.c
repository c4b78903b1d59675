/* The connection: publishing, plain subscriptions, requests, and the two queues between libnats' threads and the caller's.
 *
 * Invariants: libnats' callbacks do nothing but queue, count and write the eventfd, so there is no state of ours they could race for. A natsMsg
 * is freed once, in message_free. Both queues are bounded; what does not fit is dropped, because a doorbell may be lost but memory may not.
 * No subscription is destroyed while its thread may still run (libnats 3.4 crashes): bus_free closes the connection, waits for every delivery
 * thread and for the closed callback, and only then frees. A crash here leaves nothing behind; unacknowledged messages come again.
 *
 * A publish can block in the socket while the server takes nothing; the write deadline then makes libnats shut the socket and reconnect. */
#include "bus_private.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 1000
#define RECONNECT_WAIT_MS  200
#define PING_MS            2000
#define WRITE_DEADLINE_MS  2000
#define DRAIN_MS           500
#define QUEUE_BYTES_MAX    ((size_t)64 << 20)
#define REPORT_MS          5000

void message_push(struct message_list *list, struct message *m)
{
        m->next = NULL;
        if (list->last)
                list->last->next = m;
        else
                list->first = m;
        list->last = m;
        list->n++;
        list->bytes += m->m.len;
}

struct message *message_pop(struct message_list *list)
{
        struct message *m = list->first;

        if (!m)
                return NULL;
        list->first = m->next;
        if (!list->first)
                list->last = NULL;
        m->next = NULL;
        list->n--;
        list->bytes -= m->m.len;
        return m;
}

static struct message *message_new(natsMsg *nats)
{
        struct message *m = xcalloc(1, sizeof(*m));

        m->nats = nats;
        m->m = (struct bus_message){
                .subject = natsMsg_GetSubject(nats),
                .reply = natsMsg_GetReply(nats),
                .data = natsMsg_GetData(nats), /* libnats puts a NUL behind it */
                .len = (size_t)natsMsg_GetDataLength(nats),
                .delivered = 1,
                .lane = -1,
                .priv = m,
        };
        return m;
}

struct message *message_free(struct message *m)
{
        if (m) {
                natsMsg_Destroy(m->nats);
                free(m);
        }
        return NULL;
}

int message_status(struct message *m)
{
        const char *value = NULL;

        if (m->m.len > 0 || natsMsgHeader_Get(m->nats, "Status", &value) != NATS_OK || !value)
                return 0;
        return atoi(value);
}

void bus_wake(const struct bus *b)
{
        uint64_t one = 1;

        if (b->wake_fd >= 0 && write(b->wake_fd, &one, sizeof(one)) < 0) {
                /* EAGAIN: the counter is full, so the sleeper wakes anyway */
        }
}

/* --- called on libnats' threads --- */

static bool queue_message(struct bus *b, struct message_list *list, struct message *m)
{
        if (list->n >= BUS_PLAIN_MAX || list->bytes + m->m.len > QUEUE_BYTES_MAX) {
                b->dropped++;
                return false;
        }
        message_push(list, m);
        return true;
}

static void on_inbox(natsConnection *nc, natsSubscription *sub, natsMsg *nats, void *closure)
{
        struct bus *b = closure;
        struct message *m = message_new(nats);
        bool first = false;

        (void)nc;
        (void)sub;
        pthread_mutex_lock(&b->lock);
        if (strncmp(m->m.subject, b->inbox, b->inbox_len) == 0 && m->m.subject[b->inbox_len] == 'r') {
                if (b->request && !b->request_reply && strtoull(m->m.subject + b->inbox_len + 2, NULL, 10) == b->request) {
                        b->request_reply = TAKE_PTR(m);
                        pthread_cond_broadcast(&b->changed);
                }
        } else if (strncmp(m->m.subject, b->inbox, b->inbox_len) == 0 && m->m.subject[b->inbox_len] == 'q') {
                if (queue_message(b, &b->replies_in, m)) {
                        m = NULL;
                        first = b->replies_in.n == 1;
                }
        } else if (queue_message(b, &b->inbox_in, m)) {
                m = NULL;
                first = b->inbox_in.n == 1;
                b->n_arrived = b->inbox_in.n;
        }
        pthread_mutex_unlock(&b->lock);
        message_free(m);
        if (first)
                bus_wake(b);
}

static void on_plain(natsConnection *nc, natsSubscription *sub, natsMsg *nats, void *closure)
{
        struct bus *b = closure;
        struct message *m = message_new(nats);
        bool first = false;

        (void)nc;
        (void)sub;
        pthread_mutex_lock(&b->lock);
        if (queue_message(b, &b->plain_in, m)) {
                m = NULL;
                first = b->plain_in.n == 1;
        }
        pthread_mutex_unlock(&b->lock);
        message_free(m);
        if (first)
                bus_wake(b);
}

static void on_sub_complete(void *closure)
{
        struct bus *b = closure;

        pthread_mutex_lock(&b->lock);
        b->live_subs--;
        pthread_cond_broadcast(&b->changed);
        pthread_mutex_unlock(&b->lock);
}

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
        pthread_mutex_lock(&b->lock);
        b->connected = false;
        pthread_cond_broadcast(&b->changed);
        pthread_mutex_unlock(&b->lock);
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
        if (!closing && b->epoch > 0) {
                natsConnection_GetLastError(nc, &why);
                log_error("bus connection closed for good", LOG_S("error", why));
                die("bus: connection closed for good (refused user or password, or a protocol error)");
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

static int errno_of(natsStatus s)
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
        if (s == NATS_OK)
                s = natsOptions_SetMaxPingsOut(o, 2);
        if (s == NATS_OK)
                s = natsOptions_SetWriteDeadline(o, WRITE_DEADLINE_MS);
        if (s == NATS_OK)
                s = natsOptions_SetSendAsap(o, config->send_asap);
        if (s == NATS_OK)
                s = natsOptions_SetRetryOnFailedConnect(o, true, on_connected, b);
        if (s == NATS_OK)
                s = natsOptions_SetReconnectedCB(o, on_connected, b);
        if (s == NATS_OK)
                s = natsOptions_SetDisconnectedCB(o, on_disconnected, b);
        if (s == NATS_OK)
                s = natsOptions_SetClosedCB(o, on_closed, b);
        if (s == NATS_OK)
                s = natsOptions_SetErrorHandler(o, on_error, b);
        return s;
}

static int subscribe_at(struct bus *b, struct subscription *to)
{
        natsStatus s;

        if (to->queue)
                s = natsConnection_QueueSubscribe(&to->sub, b->nc, to->subject, to->queue, to->handler, b);
        else
                s = natsConnection_Subscribe(&to->sub, b->nc, to->subject, to->handler, b);
        if (s != NATS_OK)
                return errno_of(s);
        pthread_mutex_lock(&b->lock);
        b->live_subs++;
        pthread_mutex_unlock(&b->lock);
        if (natsSubscription_SetOnCompleteCB(to->sub, on_sub_complete, b) != NATS_OK) { /* the connection has just been given up, and this with it */
                on_sub_complete(b);
                return -ENOTCONN;
        }
        return 0;
}

static int subscribe(struct bus *b, const char *subject, const char *queue, natsMsgHandler handler)
{
        struct subscription sub = {.subject = xstrdup(subject), .queue = queue ? xstrdup(queue) : NULL, .handler = handler};
        int r = subscribe_at(b, &sub);

        if (r == -ENOTCONN && b->epoch == 0) /* given up already: open_again subscribes */
                r = 0;
        if (r < 0) {
                natsSubscription_Destroy(sub.sub);
                free(sub.subject);
                free(sub.queue);
                return r;
        }
        b->subs = xrealloc(b->subs, (b->n_subs + 1) * sizeof(*b->subs));
        b->subs[b->n_subs++] = sub;
        return 0;
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

/* libnats 3.4 gives a connection up when the very first handshake breaks off (a server that dies, a proxy that resets), although it is told to try
 * for ever. Then there is a new one, with the same subscriptions. */
static void open_again(struct bus *b, int64_t now)
{
        bool closed;

        pthread_mutex_lock(&b->lock);
        closed = b->closed;
        pthread_mutex_unlock(&b->lock);
        if (!closed || now < b->open_again_at)
                return;
        b->open_again_at = now + RECONNECT_WAIT_MS;
        for (size_t i = 0; i < b->n_subs; i++) {
                natsSubscription_Destroy(b->subs[i].sub);
                b->subs[i].sub = NULL;
        }
        natsConnection_Destroy(b->nc);
        b->nc = NULL;
        pthread_mutex_lock(&b->lock);
        b->closed = false;
        pthread_mutex_unlock(&b->lock);
        if (connect_now(b) != NATS_OK)
                die("bus: the server refuses us");
        for (size_t i = 0; i < b->n_subs; i++)
                if (subscribe_at(b, &b->subs[i]) < 0)
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

        b->wake_fd = config->wake_fd;
        b->send_asap = config->send_asap;
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

        s = natsOptions_Create(&b->options);
        if (s == NATS_OK)
                s = set_options(b->options, config, b);
        if (s == NATS_OK)
                s = connect_now(b);
        r = errno_of(s);
        if (r == 0) {
                strbuf_addf(&inbox, "%s>", b->inbox);
                r = subscribe(b, inbox.s, NULL, on_inbox);
        }
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

struct bus *bus_free(struct bus *b)
{
        struct message *m;

        if (!b)
                return NULL;
        bus_end_calls(b);
        if (b->nc) {
                /* Without the inbox the standing pulls are void; otherwise the server would send what we give back to us again. */
                if (b->source && b->connected && natsSubscription_DrainTimeout(b->subs[0].sub, DRAIN_MS) == NATS_OK)
                        natsSubscription_WaitForDrainCompletion(b->subs[0].sub, DRAIN_MS);
                b->source = source_free(b);
                if (b->connected)
                        natsConnection_FlushTimeout(b->nc, 1000);
                pthread_mutex_lock(&b->lock);
                b->closing = true;
                pthread_mutex_unlock(&b->lock);
                natsConnection_Close(b->nc);
                if (!wait_closed(b)) {
                        /* A thread of libnats hangs somewhere and may still come back to this memory: better to lose it. */
                        log_warning("bus connection did not end; leaving its memory behind");
                        return NULL;
                }
                for (size_t i = 0; i < b->n_subs; i++)
                        natsSubscription_Destroy(b->subs[i].sub);
                natsConnection_Destroy(b->nc);
        }
        natsOptions_Destroy(b->options);
        for (size_t i = 0; i < b->n_subs; i++) {
                free(b->subs[i].subject);
                free(b->subs[i].queue);
        }
        while ((m = message_pop(&b->inbox_in)))
                message_free(m);
        while ((m = message_pop(&b->plain_in)))
                message_free(m);
        while ((m = message_pop(&b->replies_in)))
                message_free(m);
        message_free(b->request_reply);
        pthread_cond_destroy(&b->changed);
        pthread_mutex_destroy(&b->lock);
        free(b->subs);
        free(b->inbox);
        free(b);
        return NULL;
}

bool bus_connected(const struct bus *b)
{
        return b->connected;
}

/* libnats writes a subject as it is given: a blank or a line break in it would become protocol. */
static bool subject_ok(const char *s)
{
        if (!*s)
                return false;
        for (; *s; s++)
                if ((unsigned char)*s <= ' ' || *s == 0x7f)
                        return false;
        return true;
}

static bool header_ok(const struct bus_header *h)
{
        return subject_ok(h->name) && !strchr(h->name, ':') && !strpbrk(h->value, "\r\n");
}

static natsStatus publish_with_headers(
        struct bus *b, const char *subject, const char *reply, const struct bus_header headers[], size_t n_headers, const void *data, int len)
{
        natsMsg *msg = NULL;
        natsStatus s = natsMsg_Create(&msg, subject, reply, data, len);

        for (size_t i = 0; s == NATS_OK && i < n_headers; i++)
                s = header_ok(&headers[i]) ? natsMsgHeader_Set(msg, headers[i].name, headers[i].value) : NATS_INVALID_ARG;
        if (s == NATS_OK)
                s = natsConnection_PublishMsg(b->nc, msg);
        natsMsg_Destroy(msg);
        return s;
}

natsStatus publish_status(
        struct bus *b, const char *subject, const char *reply, const struct bus_header headers[], size_t n_headers, const void *data, size_t len)
{
        if (!subject_ok(subject) || (reply && !subject_ok(reply)))
                return NATS_INVALID_SUBJECT;
        if (len > INT_MAX)
                return NATS_MAX_PAYLOAD;
        if (!b->connected)
                return NATS_CONNECTION_DISCONNECTED;
        if (n_headers > 0)
                return publish_with_headers(b, subject, reply, headers, n_headers, data, (int)len);
        if (reply)
                return natsConnection_PublishRequest(b->nc, subject, reply, data, (int)len);
        return natsConnection_Publish(b->nc, subject, data, (int)len);
}

int bus_publish(
        struct bus *b, const char *subject, const char *reply, const struct bus_header headers[], size_t n_headers, const void *data, size_t len)
{
        return errno_of(publish_status(b, subject, reply, headers, n_headers, data, len));
}

int bus_flush(struct bus *b)
{
        if (!b->connected)
                return -ENOTCONN;
        /* libnats has no call that only writes its buffer; this writes it at once, then waits for the PONG, which is not worth more than 1 ms. */
        if (!b->send_asap)
                natsConnection_FlushTimeout(b->nc, 1);
        return 0;
}

int bus_subscribe(struct bus *b, const char *subject, const char *queue)
{
        return subscribe(b, subject, queue, on_plain);
}

struct bus_message *bus_next_plain(struct bus *b)
{
        struct message *m;

        pthread_mutex_lock(&b->lock);
        m = message_pop(&b->plain_in);
        pthread_mutex_unlock(&b->lock);
        return m ? &m->m : NULL;
}

size_t bus_queued(const struct bus *b)
{
        pthread_mutex_t *lock = (pthread_mutex_t *)&b->lock;
        size_t n = source_queued(b->source);

        pthread_mutex_lock(lock);
        n += b->plain_in.n;
        pthread_mutex_unlock(lock);
        return n;
}

const char *bus_message_header(const struct bus_message *m, const char *name)
{
        const struct message *own = m->priv;
        const char *value = NULL;

        return natsMsgHeader_Get(own->nats, name, &value) == NATS_OK ? value : NULL;
}

static void release(struct bus *b, struct bus_message *m)
{
        struct message *own = m->priv;

        if (m->lane >= 0)
                source_release(b, own);
        message_free(own);
}

void bus_ack(struct bus *b, struct bus_message *m)
{
        /* natsMsg_Ack() is not for messages of a raw subscription: libnats 3.4 crashes in it. */
        if (m->lane >= 0 && source_may_ack(b, m->priv))
                bus_publish(b, m->reply, NULL, NULL, 0, "+ACK", 4);
        release(b, m);
}

void bus_nak(struct bus *b, struct bus_message *m, int64_t delay_ms)
{
        char text[64];
        int n = snprintf(text, sizeof(text), delay_ms > 0 ? "-NAK {\"delay\":%" PRId64 "}" : "-NAK", delay_ms * 1000000);

        if (m->lane >= 0 && source_may_ack(b, m->priv))
                bus_publish(b, m->reply, NULL, NULL, 0, text, (size_t)n);
        release(b, m);
}

void bus_drop(struct bus *b, struct bus_message *m)
{
        release(b, m);
}

int bus_request(struct bus *b, const char *subject, const void *data, size_t len, int64_t timeout_ms, struct bus_message **ret_reply)
{
        _cleanup_(strbuf_done) struct strbuf reply = {0};
        struct message *m = NULL;
        uint64_t id = ++b->next_id;
        unsigned epoch = b->epoch;
        struct timespec until;
        int r;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += timeout_ms % 1000 * 1000000;
        if (until.tv_nsec >= 1000000000) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000;
        }
        strbuf_addf(&reply, "%sr.%" PRIu64, b->inbox, id);
        pthread_mutex_lock(&b->lock);
        b->request = id;
        pthread_mutex_unlock(&b->lock);

        r = bus_publish(b, subject, reply.s, NULL, 0, data, len);
        if (r == 0)
                r = bus_flush(b);

        pthread_mutex_lock(&b->lock);
        /* A reply cannot come over another connection than the request went out on. */
        while (r == 0 && !b->request_reply && b->connected && b->epoch == epoch)
                r = -pthread_cond_timedwait(&b->changed, &b->lock, &until);
        m = TAKE_PTR(b->request_reply);
        b->request = 0;
        pthread_mutex_unlock(&b->lock);

        if (!m)
                return r < 0 ? r : -ENOTCONN;
        if (message_status(m) == 503) {
                message_free(m);
                return -EHOSTUNREACH;
        }
        *ret_reply = &m->m;
        return 0;
}

int bus_backlog(struct bus *b, const char *stream, const char *durable, int64_t timeout_ms, struct bus_backlog *ret_backlog)
{
        _cleanup_(strbuf_done) struct strbuf subject = {0};
        struct bus_message *reply;
        struct api_answer answer;
        int r;

        api_subject(&subject, API_CONSUMER_INFO, stream, durable);
        r = bus_request(b, subject.s, "", 0, timeout_ms, &reply);
        if (r == -EHOSTUNREACH)
                return -ENOTCONN; /* JetStream is not there */
        if (r < 0)
                return r;
        api_parse(reply->priv, &answer);
        bus_drop(b, reply);
        if (!answer.ok)
                return answer.code == API_CONSUMER_NOT_FOUND || answer.code == API_STREAM_NOT_FOUND ? -ENOENT : -EPROTO;
        *ret_backlog = (struct bus_backlog){.pending = answer.pending, .ack_pending = answer.ack_pending, .acked = answer.ack_floor};
        return 0;
}

/* Writes down what libnats' threads have noted, at most every REPORT_MS. */
static void report(struct bus *b, int64_t now)
{
        char error[sizeof(b->error)];
        uint64_t n_errors, dropped;

        if (now < b->report_at)
                return;
        pthread_mutex_lock(&b->lock);
        n_errors = b->n_errors;
        dropped = b->dropped;
        memcpy(error, b->error, sizeof(error));
        b->n_errors = b->dropped = 0;
        pthread_mutex_unlock(&b->lock);
        if (n_errors == 0 && dropped == 0)
                return;
        if (n_errors > 0)
                log_warning("bus error", LOG_S("error", error), LOG_I("times", (int64_t)n_errors));
        if (dropped > 0)
                log_warning("bus queue full; messages dropped", LOG_I("messages", (int64_t)dropped));
        b->report_at = now + REPORT_MS;
}

int64_t bus_maintain(struct bus *b)
{
        int64_t now = now_mono_ms();

        open_again(b, now);
        report(b, now);
        int64_t source_ms = source_maintain(b, now), calls_ms = calls_maintain(b, now);
        return calls_ms < source_ms ? calls_ms : source_ms;
}
