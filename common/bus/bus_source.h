/* What bus_source.c and bus_declare.c share: the source, its lanes, and where its declaration stands. */
#ifndef AETHELOS_BUS_SOURCE_H
#define AETHELOS_BUS_SOURCE_H

#include "bus_private.h"

#define BACKOFF_MIN_MS 100

enum step {
        STEP_LOST,          /* to be declared at retry_at */
        STEP_CREATE_STREAM, /* the steps with a call out */
        STEP_READ_STREAM,   /* it is there, and differs */
        STEP_UPDATE_STREAM,
        STEP_CREATE_CONSUMER,
        STEP_CHECK_CONSUMER,
        STEP_CHECK_STREAM,
        STEP_ALTER_STREAM, /* as STEP_UPDATE_STREAM, of one that is in use */
        STEP_DELETE_CONSUMER,
        STEP_STANDING, /* declared, nothing out */
};

struct lane {
        const struct bus_lane *def;
        unsigned window;
        unsigned held;      /* queued and handed out */
        unsigned remaining; /* of the standing request; 0: none stands */
        unsigned credit;    /* messages left in this round */
        uint64_t request;
        int64_t deadline, heard;
        struct message_list queue;
        bool usable;        /* its consumer is declared and not known to be lost */
        bool served;        /* heard since the last trouble */
        bool got_some;      /* messages since the last check */
        unsigned still;     /* checks in a row that found it standing still */
        uint64_t delivered; /* stream sequence, by the last check */
};

struct source {
        const struct bus_stream *stream;
        struct lane lanes[BUS_LANES_MAX];
        size_t n_lanes;
        enum step step;
        size_t step_lane;
        uint64_t call;
        int64_t call_deadline, retry_at, backoff, check_at;
        int64_t alter_at, alter_ms; /* when a change that was refused is asked for again, after which pause; 0: none was */
        unsigned copies;            /* nodes that keep the stream, as far as is known */
        char unaltered[160];        /* why it was refused last */
        unsigned epoch;
        bool paused;
        unsigned stamp;   /* counts the incarnations of the stream */
        char created[48]; /* of the stream, as the server says it */
};

static inline int64_t earlier(int64_t a, int64_t b)
{
        return a < b ? a : b;
}

/* --- bus_source.c --- */
bool lane_arm(struct bus *b, size_t i, int64_t now);
void lane_lose(struct lane *l);

/* --- bus_declare.c --- */
void declare_at_once(struct source *s, int64_t now); /* over a new connection */
void declare_later(struct source *s, int64_t now, const char *lane, const char *why);
void declare_answer(struct bus *b, const struct api_answer *a, int64_t now); /* to the call that is out */
void declare_maintain(struct bus *b, int64_t now);
int64_t declare_next(const struct source *s, int64_t next); /* when it wants to be looked after, next at the latest */

#endif
