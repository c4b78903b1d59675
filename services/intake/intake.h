/* What the files of intake share. */
#ifndef AETHELOS_INTAKE_H
#define AETHELOS_INTAKE_H

#include "base/amount.h"
#include "service/service.h"
#include "services/intake/intake_core.h"
#include "services/intake/job_view.h"

struct intake_config {
        int64_t hold_ms;
};

enum intake_outcome {
        INTAKE_REFUSED,  /* the job itself cannot be admitted */
        INTAKE_NEW,      /* its chain was opened */
        INTAKE_REPLAY,   /* the same job stands under the key */
        INTAKE_CONFLICT, /* another job stands under the key */
};

/* A submission between its reading and the commit of its round. It has a request or a message. */
struct intake_item {
        struct http_request *request;
        struct bus_message *message;
        bool offer, async, protobuf, event;
        char *client, *key;
        uint8_t hash[SHA256_SIZE];
        bool refused; /* admitted all the same when it repeats a job that was admitted before */
        struct refusal refusal;
        enum lane lane;
        struct strbuf created; /* data of JOB_CREATED */
        struct uuid fresh_id;
        enum intake_outcome outcome;
        struct uuid id;
        struct amount price; /* of a replay; currency "": not priced yet */
};

/* A request that waits for its payment intent. */
struct intake_held {
        struct http_request *request;
        struct uuid id;
        int64_t due_ms; /* then it is answered with what is known */
        bool replay;
};

/* Where a chain stands. */
struct intake_stand {
        int64_t version; /* 0: there is no such job */
        bool over;       /* completed or failed for good: it moves again only when a person reopens it */
};

struct intake_streams; /* intake_stream.c */

struct intake_state {
        struct intake_catalogue catalogue;
        int64_t catalogue_ms; /* when it was read; 0: never */
        struct intake_item **items;
        size_t n_items, cap_items;
        size_t n_bus;     /* of them from the bus */
        int64_t admit_ms; /* until then they gather, unless they are many */
        struct intake_held *held;
        size_t n_held, cap_held;
        int64_t poll_ms, rested_ms; /* the held ones are looked at when both are over */
        struct uuid last,
                before;  /* job of the last round that took any from the bus, and of the one before: until that is at its payment a crowd rests */
        bool admitted;   /* a job from the bus in this round, and `last` is the last one */
        int64_t look_ms; /* when it is looked at next */
        struct intake_streams *streams; /* NULL until there was one */
};

/* --- intake_batch.c --- */
int intake_catalogue_fresh(struct service *s, bool at_once); /* re-reads when older than 1 s; 0 or a negative errno */
/* Checks what was read against the catalogue and gathers it for the round. Takes the item; offer_id NULL: not bought through an offer. */
void intake_submit(struct service *s, struct intake_item *item, const struct intake_submitted *submitted, const char *offer_id);
void intake_on_round(struct service *s);

/* --- intake_answer.c: how a submission ends; each consumes the item --- */
void intake_finish(struct service *s, struct intake_item *item); /* by its outcome, after the commit */
void intake_refuse(struct service *s, struct intake_item *item, const struct refusal *refusal);
void intake_postpone(struct service *s, struct intake_item *item); /* the database is away: 503, or the message comes again */
void intake_answer_away(struct http_request *r);
void intake_look_at_held(struct service *s);

/* --- intake_stream.c: events of a job as they happen --- */
/* Answers r with a stream behind version `after`. */
void intake_stream_job(
        struct service *s, struct http_request *r, const struct uuid *job, int64_t after, enum job_view_form form, const struct intake_stand *stand);
void intake_streams_round(struct service *s);
struct intake_streams *intake_streams_free(struct intake_streams *streams);

/* --- intake_http.c --- */
extern const struct http_route intake_routes[];

/* --- intake_bus.c --- */
void intake_on_message(struct service *s, struct bus_message *m);

#define INTAKE_CLIENT "default" /* of HTTP, until keys and people exist */

#endif
