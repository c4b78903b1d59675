/* What the files of the ring share. bus.c owns the messages and the queues, bus_connection.c the connection, bus_source.c the pull loop,
 * bus_declare.c what it stands on, bus_call.c the requests under way, bus_api.c the text of JetStream's API. */
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
struct message *message_pop(struct message_list *list); /* NULL when empty */
struct message *message_free(struct message *m);        /* returns NULL */
int message_status(struct message *m);                  /* 404 of a headers-only status message; 0 if it is none */

struct source;
struct calls;

struct bus {
        natsConnection *nc;
        natsOptions *options;
        struct subscription {
                natsSubscription *sub;
                char *subject, *queue; /* queue NULL: none */
                natsMsgHandler handler;
        } * subs;
        size_t n_subs;
        char *inbox; /* "_INBOX_<service>.<random>." */
        size_t inbox_len;
        int wake_fd;
        bool send_asap;
        _Atomic bool connected;
        _Atomic unsigned epoch;   /* counts connections */
        _Atomic size_t n_arrived; /* inbox_in.n, readable without the lock */

        pthread_mutex_t lock; /* of the block below, which libnats' threads touch */
        pthread_cond_t changed;
        struct message_list inbox_in, plain_in, replies_in;
        bool closing; /* bus_free is at work */
        bool closed;
        size_t live_subs;
        uint64_t dropped, n_errors;
        char error[256];
        uint64_t request; /* the request bus_request waits for, 0: none */
        struct message *request_reply;

        uint64_t next_id; /* the rest belongs to the caller's thread */
        struct source *source;
        struct calls *calls; /* NULL: there never was one */
        int64_t report_at, open_again_at;
};

void bus_wake(const struct bus *b);                                                     /* from any thread */
void on_inbox(natsConnection *nc, natsSubscription *sub, natsMsg *nats, void *closure); /* called by libnats; closure: the bus */
void on_plain(natsConnection *nc, natsSubscription *sub, natsMsg *nats, void *closure);
natsStatus publish_status(
        struct bus *b, const char *subject, const char *reply, const struct bus_header headers[], size_t n_headers, const void *data, size_t len);

/* --- bus_connection.c --- */
int errno_of(natsStatus s);                                                                   /* negative; 0 for NATS_OK */
int subscribe(struct bus *b, const char *subject, const char *queue, natsMsgHandler handler); /* kept, and made again with a new connection */
void open_again(struct bus *b, int64_t now); /* when libnats has given the connection up; at most every RECONNECT_WAIT_MS */

/* --- bus_call.c --- */
int64_t calls_maintain(struct bus *b, int64_t now); /* ends what was answered or timed out; ms until it wants to be called again */

/* --- bus_source.c --- */
void source_dispatch(struct bus *b, struct message *m); /* takes a message of the inbox */
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
