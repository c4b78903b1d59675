/* Messages: the queues between libnats' threads and the caller's, publishing, plain subscriptions, requests.
 *
 * Invariants: libnats' callbacks do nothing but queue, count and write the eventfd, so there is no state of ours they could race for. A natsMsg
 * is freed once, in message_free. The queues are bounded; what does not fit is dropped, because a doorbell may be lost but memory may not.
 * A crash here leaves nothing behind; unacknowledged messages come again.
 *
 * A publish can block in the socket while the server takes nothing; the write deadline then makes libnats shut the socket and reconnect. */
#include "bus_private.h"

#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define QUEUE_BYTES_MAX ((size_t)64 << 20)
#define REPORT_MS       5000

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

void on_inbox(natsConnection *nc, natsSubscription *sub, natsMsg *nats, void *closure)
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

void on_plain(natsConnection *nc, natsSubscription *sub, natsMsg *nats, void *closure)
{
        struct bus *b = closure;
        struct message *m = message_new(nats);
        bool first = false;

        (void)nc;
        (void)sub;
        /* Whoever answers does it with rights of its own: to an inbox, and to no subject that means something. */
        if (m->m.reply && strncmp(m->m.reply, "_INBOX", strlen("_INBOX")) != 0)
                m->m.reply = NULL;
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

/* --- called on the caller's thread --- */

bool bus_connected(const struct bus *b)
{
        return b->connected;
}

unsigned bus_epoch(const struct bus *b)
{
        return b->epoch;
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
