/* The bus (NATS JetStream through libnats), as a doorbell: everything here may be lost, repeated or reordered, and nothing may break by it.
 *
 * Own pull loop instead of natsSubscription_Fetch (libnats 3.4 has a heap overflow there): standing pull requests on $JS.API.CONSUMER.MSG.NEXT,
 * re-armed when used up, on missed idle heartbeats, on status 404, 408, 409, 503 and after a reconnect; acknowledgements are published to the
 * message's reply subject. The socket is read and written on the caller's thread (bus_maintain, bus_flush); libnats' threads only try to connect,
 * and bring answers to calls and what strangers say. Reconnects are unlimited; the server may be away at start. Streams and consumers are declared by
 * raw JSON API requests, again whenever they may have been lost, so that a deleted broker storage heals by itself.
 *
 * All functions belong to one thread. libnats' threads inherit its signal mask: block what you handle yourself before bus_open. A loop sleeps on
 * bus_fd, calls bus_maintain, and takes until bus_next and bus_next_plain yield NULL; one that stops earlier asks bus_queued before it sleeps. A
 * connection that the server ends with words (user or password refused, broken protocol) ends the process. */
#ifndef AETHELOS_BUS_BUS_H
#define AETHELOS_BUS_BUS_H

#include "base/util.h"

#include <stdbool.h>
#include <stdint.h>

struct bus;

struct bus_config {
        const char *url;
        const char *user, *password; /* NULL: none */
        const char *name;            /* connection name: aethelos-<service>/<instance> */
        const char *inbox_prefix;    /* "_INBOX_<service>" */
};

/* Does not wait for the server (1 s when it takes the connection but says nothing); copies the config. 0, -EINVAL, or -ENOTCONN when refused at once.
 */
int bus_open(const struct bus_config *config, struct bus **ret_bus);
/* Gives queued messages of the source back (nak), flushes (all within 2 s), ends libnats' threads. Messages handed out must be acked or dropped
 * before. Returns NULL. */
struct bus *bus_free(struct bus *b);
bool bus_connected(const struct bus *b);
int bus_fd(const struct bus *b); /* readable when bus_maintain should be called: something has come, can be written, or the connection has changed */
unsigned bus_epoch(const struct bus *b); /* counts connections: another number, and something may not have been heard in between */

/* Call on every round of the loop: (re)declares, re-arms pulls, notices missed heartbeats. Does not wait for answers. Returns ms until it wants to be
 * called again. */
int64_t bus_maintain(struct bus *b);

struct bus_header {
        const char *name, *value;
};

/* Fire and forget: 0 when buffered, to be written by bus_flush or bus_maintain (many messages, one write); -ENOTCONN while there is no connection
 * (nothing is kept for later) or when the server takes nothing for 2 s; -EMSGSIZE above its max_payload; -EINVAL for a subject or header that would
 * break the protocol (blanks, control characters). */
int bus_publish(
        struct bus *b, const char *subject, const char *reply, const struct bus_header headers[], size_t n_headers, const void *data, size_t len);
int bus_flush(struct bus *b); /* hands what is buffered to the kernel, as far as it takes it, the rest later; 0 or -ENOTCONN */

/* --- streams and pull consumers --- */
struct bus_stream {
        const char *name;              /* HOP_PRICING */
        const char *subjects[4];       /* NULL-terminated */
        bool memory;                   /* storage memory, else file */
        int64_t max_bytes, max_age_ms; /* limits retention, discard old; 0: no such limit */
        int64_t ack_wait_ms;           /* 0: 30 s */
        unsigned window;               /* messages a lane may hold per unit of its weight; 0: 16 */
        bool strangers;                /* not only our own services publish to it */
        unsigned replicas;             /* nodes of the broker that keep it, at least; 0: one. Never made fewer */
};

struct bus_lane {
        const char *durable; /* consumer name; NULL ends the list */
        const char *filter;  /* subject filter */
        unsigned weight;     /* messages taken per round when all lanes have work (8:3:1) */
};

/* Declares the stream and one pull consumer a lane (explicit ack, ack_wait 30 s, max_deliver -1, max_ack_pending 1000) and keeps pulls standing.
 * At most one such source per bus, BUS_LANES_MAX lanes. The tables must live as long as the bus. 0, -EINVAL or -EBUSY (there is one).
 * Permissions: publish $JS.API.STREAM.{CREATE,UPDATE,INFO}.<stream>, $JS.API.CONSUMER.{DURABLE.CREATE,INFO,DELETE,MSG.NEXT}.<stream>.<durable> and
 * $JS.ACK.<stream>.>, subscribe <inbox_prefix>.>.
 * A lane never holds more than weight * window messages: asked for, queued and handed out together. A new pull goes out when half of it is free. */
#define BUS_LANES_MAX 8
int bus_source(struct bus *b, const struct bus_stream *stream, const struct bus_lane lanes[]);
void bus_source_pause(struct bus *b); /* no new pulls: for draining, or while the database is away; bus_source_resume undoes it */
void bus_source_resume(struct bus *b);
bool bus_source_ready(const struct bus *b); /* declared since the last trouble */

struct bus_message {
        const char *subject, *reply;
        const char *data; /* NUL-terminated behind len */
        size_t len;
        unsigned delivered; /* how often the broker has delivered it; 1 = first */
        int lane;           /* index into the lanes; -1 for a plain subscription */
        void *priv;
};

/* The next message of the source, lanes mixed by weight, or NULL when none is queued. Owned by the caller until bus_ack or bus_drop. */
struct bus_message *bus_next(struct bus *b);
size_t bus_queued(const struct bus *b);                                        /* messages waiting for bus_next and bus_next_plain */
const char *bus_message_header(const struct bus_message *m, const char *name); /* case-sensitive; borrowed from m; or NULL */
void bus_ack(struct bus *b, struct bus_message *m);                            /* acknowledges and frees */
void bus_drop(struct bus *b, struct bus_message *m);                           /* frees without acknowledging: it comes again */
void bus_nak(struct bus *b, struct bus_message *m, int64_t delay_ms);          /* asks for redelivery after delay_ms, and frees */

/* --- plain subscriptions (requests, receipts, live events) --- */
/* Messages of the subscription are handed out by bus_next_plain. queue may be NULL. May be called several times; kept across reconnects, but for what
 * had come and was not taken. At most
 * BUS_PLAIN_MAX messages (and 64 MiB) of each wait; what comes above that is dropped and logged; an empty one with a header "Status: 503" is not
 * handed out. 0, -EINVAL or another negative errno. */
#define BUS_PLAIN_MAX 8192
int bus_subscribe(struct bus *b, const char *subject, const char *queue);
struct bus_message *bus_next_plain(struct bus *b); /* free with bus_drop */

/* Pending messages and progress of any hop consumer, for the ringer: one CONSUMER.INFO request (needs the permission). 0, -ENOENT (no such consumer),
 * -ENOTCONN, -ETIMEDOUT or -EPROTO (an answer that is none). */
struct bus_backlog {
        uint64_t pending;     /* not yet delivered */
        uint64_t ack_pending; /* delivered, not acknowledged */
        uint64_t acked;       /* ack floor, stream sequence: rises while the consumer moves */
};
int bus_backlog(struct bus *b, const char *stream, const char *durable, int64_t timeout_ms, struct bus_backlog *ret_backlog);

/* --- requests, many at once --- */
enum bus_outcome {
        BUS_ANSWERED,
        BUS_NOT_SENT, /* certainly nobody has it: no connection, refused by the client library, or nobody listens */
        BUS_LOST,     /* no answer in time: somebody may have it */
};

struct bus_reply {
        enum bus_outcome outcome;
        struct slice body; /* borrowed until the callback returns */
        const char *why;   /* for people; NULL when answered */
};

struct bus_call {
        const char *subject;
        const struct bus_header *headers;
        size_t n_headers;
        struct slice body;
        int64_t timeout_ms;
        void (*done)(void *arg, const struct bus_reply *reply);
        void *arg;
};
void bus_call(struct bus *b, const struct bus_call *call); /* `done` runs inside bus_maintain, bus_end_calls or bus_free, never inside bus_call */
size_t bus_calls(const struct bus *b);                     /* under way */
void bus_end_calls(struct bus *b);                         /* those under way end as BUS_LOST */

/* One request with one reply; waits for it. *ret_reply is freed with bus_drop. 0, -ETIMEDOUT, -EHOSTUNREACH (no responder), or as bus_publish. */
int bus_request(struct bus *b, const char *subject, const void *data, size_t len, int64_t timeout_ms, struct bus_message **ret_reply);

#endif
