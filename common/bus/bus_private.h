/* What the files of the ring share. bus.c owns the messages, bus_connection.c the connection and its subscriptions, bus_socket.c what goes over it,
 * bus_source.c the pull loop, bus_declare.c what it stands on, bus_call.c the requests under way, bus_api.c the text of JetStream's API. */
#ifndef AETHELOS_BUS_PRIVATE_H
#define AETHELOS_BUS_PRIVATE_H

#include "base/strbuf.h"
#include "bus/bus.h"

#include <nats/nats.h>
#include <pthread.h>
#include <stdatomic.h>

struct message {
        struct bus_message m;
        natsMsg *nats; /* owns what m points to */
        struct message *next;
        unsigned stamp; /* the incarnation of the stream it was delivered from */
};

struct message_list {
        struct message *first, *last;
        size_t n, bytes;
};

void message_push(struct message_list *list, struct message *m);
struct message *message_new(natsMsg *nats);             /* takes it */
struct message *message_pop(struct message_list *list); /* NULL when empty */
struct message *message_free(struct message *m);        /* returns NULL */
int message_status(struct message *m);                  /* 404 of a headers-only status message; 0 if it is none */

struct source;
struct calls;

struct subscription {
        struct bus *bus;
        natsSubscription *sub;
        char *subject, *queue; /* queue NULL: none */
        bool plain;            /* its messages are for bus_next_plain */
        /* A thread of libnats brings its messages. Otherwise our own takes them, but then libnats keeps to itself what is empty and has a header
         * "Status: 503": that is "nobody listens" to something asked, unless it was written by whoever publishes what is subscribed to. */
        bool threaded;
        struct message_list in; /* of a threaded one; under the lock of the bus */
};

struct bus {
        natsConnection *nc;
        natsOptions *options;
        char *inbox; /* "_INBOX_<service>.<random>.", then what comes in: a (answers of JetStream's API), l (lanes), q (calls), r (requests) */
        size_t inbox_len;
        pthread_t thread; /* the caller's */
        int ready_fd;     /* an epoll of the next two */
        int wake_fd;      /* an eventfd */
        _Atomic int sock; /* -1: none */
        _Atomic bool unwritten, writes_watched;
        _Atomic bool connected;
        _Atomic unsigned epoch; /* counts connections */

        pthread_mutex_t lock; /* of the block below, which libnats' threads touch */
        pthread_cond_t changed;
        bool closing; /* bus_free is at work */
        bool closed;
        size_t live_subs; /* of the threaded ones */
        uint64_t n_errors;
        char error[256];

        struct subscription **subs; /* the rest belongs to the caller's thread */
        size_t n_subs, next_sub;
        struct subscription *deliveries, *answers, *requests, *replies; /* of the inbox, each made when it is needed */
        size_t unwritten_bytes;
        int64_t looked_ms, silent_ms, patient_until; /* before the last nothing that was awaited counts as not come */
        uint64_t next_id;
        struct source *source;
        struct calls *calls; /* NULL: there never was one */
        int64_t report_at, open_again_at;
};

natsStatus publish_status(
        struct bus *b, const char *subject, const char *reply, const struct bus_header headers[], size_t n_headers, const void *data, size_t len);

/* --- bus_socket.c --- */
int socket_open(struct bus *b); /* 0 or a negative errno */
void socket_close(struct bus *b);
natsStatus socket_options(natsOptions *options, struct bus *b);
void socket_look(struct bus *b, int64_t now);           /* reads once what has come, writes what can go; does not wait */
void socket_wait(const struct bus *b, int64_t ms);      /* until there is something for socket_look */
natsStatus socket_published(struct bus *b, size_t len); /* after each publish: keeps the buffer bounded, NATS_TIMEOUT when the server takes nothing */
void bus_wake(const struct bus *b);                     /* from any thread */

/* --- bus_connection.c --- */
int errno_of(natsStatus s); /* negative; 0 for NATS_OK */
/* Kept, and made again with a new connection. ret_sub (may be NULL) is borrowed. */
int subscribe(struct bus *b, const char *subject, const char *queue, bool plain, bool threaded, struct subscription **ret_sub);
int subscribe_inbox(struct bus *b, char kind, bool threaded, struct subscription **ret_sub);
/* NULL when there is none. Sets *ret_nobody (may be NULL) when the server said meanwhile that nobody listens to what was asked. */
struct message *subscription_next(struct subscription *sub, bool *ret_nobody);
void open_again(struct bus *b, int64_t now); /* when libnats has given the connection up; at most every RECONNECT_WAIT_MS */

/* --- bus_call.c --- */
int64_t calls_maintain(struct bus *b, int64_t now); /* ends what was answered or timed out; ms until it wants to be called again */

/* --- bus_source.c --- */
int64_t source_maintain(struct bus *b, int64_t now);
void source_release(struct bus *b, struct message *m); /* a message handed out comes back: its place in the window is free */
bool source_may_ack(const struct bus *b, const struct message *m);
size_t source_queued(const struct source *s);
struct source *source_free(struct bus *b); /* naks what is queued; returns NULL */

/* --- bus_api.c --- */
#define API_ACK_PENDING_MAX 1000

enum api_kind {
        API_STREAM_CREATE,
        API_STREAM_UPDATE,
        API_STREAM_INFO,
        API_CONSUMER_CREATE,
        API_CONSUMER_INFO,
        API_CONSUMER_DELETE,
};

/* JetStream's own error codes, as far as they decide what to do. */
enum {
        API_CONSUMER_NOT_FOUND = 10014,
        API_STREAM_NAME_IN_USE = 10058,
        API_STREAM_NOT_FOUND = 10059,
};

/* One answer. An answer that could not be read has ok false and code -1; no responder (JetStream is off or not there yet) has code 503. */
struct api_answer {
        bool ok;
        int64_t code;
        char text[160];
        char created[48];     /* stream or consumer: when it was made, an opaque stamp */
        unsigned replicas;    /* stream: nodes that keep it; 0: not said */
        uint64_t last_seq;    /* stream */
        uint64_t delivered;   /* consumer: stream sequence */
        uint64_t ack_floor;   /* consumer: stream sequence */
        uint64_t pending;     /* consumer */
        uint64_t ack_pending; /* consumer */
        uint64_t waiting;     /* consumer: pull requests standing */
};

void api_subject(struct strbuf *s, enum api_kind kind, const char *stream, const char *durable);
void api_stream_body(struct strbuf *s, const struct bus_stream *stream, unsigned replicas);
void api_consumer_body(struct strbuf *s, const struct bus_stream *stream, const struct bus_lane *lane);
void api_parse(struct message *m, struct api_answer *ret_answer);

/* The consumer's name and the delivered count out of "$JS.ACK....", in its 9-token and its 11- or 12-token form. 0 or -EINVAL. */
int api_parse_ack(const char *reply, struct slice *ret_stream, struct slice *ret_durable, unsigned *ret_delivered);

#endif
