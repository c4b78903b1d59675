/* Messages: publishing, plain subscriptions, requests.
 *
 * Invariants: a natsMsg is freed once, in message_free. What a subscription holds for us is bounded by libnats; what does not fit is dropped, because
 * a doorbell may be lost but memory may not. A crash here leaves nothing behind; unacknowledged messages come again. */
#include "bus_private.h"

#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define REPORT_MS 5000

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

struct message *message_new(natsMsg *nats)
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
        natsStatus s;

        if (!subject_ok(subject) || (reply && !subject_ok(reply)))
                return NATS_INVALID_SUBJECT;
        if (len > INT_MAX)
                return NATS_MAX_PAYLOAD;
        if (!b->connected)
                return NATS_CONNECTION_DISCONNECTED;
        if (n_headers > 0)
                s = publish_with_headers(b, subject, reply, headers, n_headers, data, (int)len);
        else if (reply)
                s = natsConnection_PublishRequest(b->nc, subject, reply, data, (int)len);
        else
                s = natsConnection_Publish(b->nc, subject, data, (int)len);
        return s == NATS_OK ? socket_published(b, len) : s;
}

int bus_publish(
        struct bus *b, const char *subject, const char *reply, const struct bus_header headers[], size_t n_headers, const void *data, size_t len)
{
        return errno_of(publish_status(b, subject, reply, headers, n_headers, data, len));
}

int bus_subscribe(struct bus *b, const char *subject, const char *queue)
{
        return subscribe(b, subject, queue, true, false, NULL);
}

struct bus_message *bus_next_plain(struct bus *b)
{
        for (size_t tried = 0; tried < b->n_subs; tried++) {
                struct subscription *sub = b->subs[b->next_sub++ % b->n_subs];
                struct message *m = sub->plain ? subscription_next(sub, NULL) : NULL;

                if (m) {
                        /* Whoever answers does it with rights of its own: to an inbox, and to no subject that means something. */
                        if (m->m.reply && strncmp(m->m.reply, "_INBOX", strlen("_INBOX")) != 0)
                                m->m.reply = NULL;
                        return &m->m;
                }
        }
        return NULL;
}

size_t bus_queued(const struct bus *b)
{
        size_t n = source_queued(b->source);

        for (size_t i = 0; i < b->n_subs; i++) {
                uint64_t waiting = 0;

                if (b->subs[i]->plain && b->subs[i]->sub && natsSubscription_QueuedMsgs(b->subs[i]->sub, &waiting) == NATS_OK)
                        n += waiting;
        }
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

/* The answer to request `id`, among those to requests that were given up. */
static struct message *take_reply(struct bus *b, uint64_t id, bool *ret_nobody)
{
        struct message *m;

        while ((m = subscription_next(b->requests, ret_nobody))) {
                if (strtoull(m->m.subject + b->inbox_len + 2, NULL, 10) == id)
                        return m;
                message_free(m);
        }
        return NULL;
}

int bus_request(struct bus *b, const char *subject, const void *data, size_t len, int64_t timeout_ms, struct bus_message **ret_reply)
{
        _cleanup_(strbuf_done) struct strbuf reply = {0};
        struct message *m = NULL;
        uint64_t id = ++b->next_id;
        unsigned epoch = b->epoch;
        int64_t now = now_mono_ms(), until = now + timeout_ms;
        bool nobody = false;
        int r = b->requests ? 0 : subscribe_inbox(b, 'r', false, &b->requests);

        if (r < 0)
                return r;
        message_free(take_reply(b, 0, &nobody)); /* late, and nobody's */
        nobody = false;
        strbuf_addf(&reply, "%sr.%" PRIu64, b->inbox, id);
        r = bus_publish(b, subject, reply.s, NULL, 0, data, len);
        while (r == 0) {
                socket_look(b, now);
                m = take_reply(b, id, &nobody);
                /* A reply cannot come over another connection than the request went out on. */
                if (m || nobody || !b->connected || b->epoch != epoch)
                        break;
                if (now >= until)
                        r = -ETIMEDOUT;
                else
                        socket_wait(b, until - now);
                now = now_mono_ms();
        }
        bus_wake(b); /* what else has come meanwhile is to be looked at */
        if (m)
                *ret_reply = &m->m;
        return m ? 0 : nobody ? -EHOSTUNREACH : r < 0 ? r : -ENOTCONN;
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
        uint64_t n_errors;

        if (now < b->report_at)
                return;
        pthread_mutex_lock(&b->lock);
        n_errors = b->n_errors;
        memcpy(error, b->error, sizeof(error));
        b->n_errors = 0;
        pthread_mutex_unlock(&b->lock);
        if (n_errors == 0)
                return;
        log_warning("bus error", LOG_S("error", error), LOG_I("times", (int64_t)n_errors));
        b->report_at = now + REPORT_MS;
}

int64_t bus_maintain(struct bus *b)
{
        int64_t now = now_mono_ms(), source_ms, calls_ms;

        socket_look(b, now);
        open_again(b, now);
        report(b, now);
        source_ms = source_maintain(b, now);
        calls_ms = calls_maintain(b, now);
        bus_flush(b);
        return calls_ms < source_ms ? calls_ms : source_ms;
}
