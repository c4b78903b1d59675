/* The source: declares a stream and its consumers, keeps one pull request standing per lane, and hands messages out by weight.
 *
 * Invariants:
 * - A lane has at most weight * window messages asked for, queued and handed out together, so a service never holds more than it can commit. (Late
 *   messages of a request given up for lost may come on top; a hard bound drops them, unacknowledged.)
 * - Every way in which a pull can get lost ends in a new one: answered (404, 408, 409, 503), silent (no heartbeat), forgotten (deadline), cut off
 *   (another connection). All but a plain 408 declare stream and consumers again first, because they may be gone as well.
 * - Nothing here waits: a declaration is a chain of requests (enum step), one at a time, moved on by its answer or its time-out.
 *
 * A message is told from a status by its $JS.ACK reply subject, which the server sets, never by a header, which its publisher sets. JetStream keeps
 * the subject of the stream on delivered messages, so a message does not tell which request it answers; statuses do (inbox "l.<lane>.<request>").
 *
 * Slowly but surely: every CHECK_MS the consumers are asked for their state. One that stands ahead of its stream (a broker file was damaged), or does
 * not move although messages and pulls are waiting, is deleted and made anew; its messages come again. */
#include "bus_private.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEARTBEAT_MS   1000
#define SILENCE_MS     2500 /* two heartbeats and a half */
#define EXPIRES_MS     10000
#define EXPIRES_LATE   2000
#define CALL_MS        2000
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
#define CHECK_FIRST_MS 1000 /* after a declaration: most damage is done while we were away */
#define CHECK_MS       10000
#define GIVE_BACK_MS   (HEARTBEAT_MS + 200)
#define STILL_MAX      2
#define WINDOW         16

enum step {
        STEP_LOST,          /* to be declared at retry_at */
        STEP_CREATE_STREAM, /* the steps with a call out */
        STEP_UPDATE_STREAM,
        STEP_CREATE_CONSUMER,
        STEP_CHECK_CONSUMER,
        STEP_CHECK_STREAM,
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
        unsigned epoch;
        bool paused;
        unsigned stamp;   /* counts the incarnations of the stream */
        char created[48]; /* of the stream, as the server says it */
};

int bus_source(struct bus *b, const struct bus_stream *stream, const struct bus_lane lanes[])
{
        struct source *s;

        if (b->source)
                return -EBUSY;
        s = xcalloc(1, sizeof(*s));
        for (; lanes[s->n_lanes].durable; s->n_lanes++) {
                const struct bus_lane *def = &lanes[s->n_lanes];

                if (s->n_lanes == BUS_LANES_MAX || def->weight == 0) {
                        free(s);
                        return -EINVAL;
                }
                s->lanes[s->n_lanes] = (struct lane){
                        .def = def,
                        .window = def->weight * (stream->window ? stream->window : WINDOW),
                };
        }
        s->stream = stream;
        s->backoff = BACKOFF_MIN_MS;
        b->source = s;
        bus_maintain(b);
        return 0;
}

size_t source_queued(const struct source *s)
{
        size_t n = 0;

        for (size_t i = 0; s && i < s->n_lanes; i++)
                n += s->lanes[i].queue.n;
        return n;
}

static int64_t earlier(int64_t a, int64_t b)
{
        return a < b ? a : b;
}

/* --- pulls --- */

/* True when a pull went out; the caller then flushes, since the lane stands still until the server has it. */
static bool lane_arm(struct bus *b, size_t i, int64_t now)
{
        struct source *s = b->source;
        struct lane *l = &s->lanes[i];
        char subject[256], reply[256], body[128];
        int n;

        if (!l->usable || s->paused || l->remaining > 0 || l->held > l->window / 2)
                return false;
        l->request = ++b->next_id;
        snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.MSG.NEXT.%s.%s", s->stream->name, l->def->durable);
        snprintf(reply, sizeof(reply), "%sl.%zu.%" PRIu64, b->inbox, i, l->request);
        n = snprintf(body, sizeof(body), "{\"batch\":%u,\"expires\":%" PRId64 ",\"idle_heartbeat\":%" PRId64 "}", l->window - l->held,
                (int64_t)EXPIRES_MS * 1000000, (int64_t)HEARTBEAT_MS * 1000000);
        if (bus_publish(b, subject, reply, NULL, 0, body, (size_t)n) < 0)
                return false; /* the reconnect declares and arms again */
        l->remaining = l->window - l->held;
        l->deadline = now + EXPIRES_MS + EXPIRES_LATE;
        l->heard = now;
        return true;
}

static void arm_all(struct bus *b, int64_t now)
{
        bool armed = false;

        for (size_t i = 0; i < b->source->n_lanes; i++)
                armed |= lane_arm(b, i, now);
        if (armed)
                bus_flush(b);
}

static void lane_lose(struct lane *l)
{
        l->usable = false;
        l->remaining = 0;
        l->request = 0;
}

/* Declares everything anew after the backoff. Lanes that are still served go on meanwhile. Several lanes tell of the same trouble; it counts once. */
static void declare_later(struct source *s, int64_t now, const char *lane, const char *why)
{
        if (s->step == STEP_LOST)
                return;
        log_warning("bus source in trouble; declaring it again", LOG_S("stream", s->stream->name), LOG_S("lane", lane), LOG_S("why", why),
                LOG_I("in_ms", s->backoff));
        for (size_t i = 0; i < s->n_lanes; i++)
                s->lanes[i].served = false;
        s->step = STEP_LOST;
        s->call = 0;
        s->retry_at = now + s->backoff;
        s->backoff = earlier(s->backoff * 2, BACKOFF_MAX_MS);
}

static void lane_heard(struct source *s, struct lane *l, int64_t now)
{
        l->heard = now;
        l->served = true;
        if (s->backoff == BACKOFF_MIN_MS)
                return;
        for (size_t i = 0; i < s->n_lanes; i++)
                if (!s->lanes[i].served)
                        return;
        s->backoff = BACKOFF_MIN_MS;
}

/* --- declaring: one call at a time --- */

static void call(struct bus *b, enum step step, size_t lane, int64_t now)
{
        static const enum api_kind kinds[] = {
                [STEP_CREATE_STREAM] = API_STREAM_CREATE,
                [STEP_UPDATE_STREAM] = API_STREAM_UPDATE,
                [STEP_CREATE_CONSUMER] = API_CONSUMER_CREATE,
                [STEP_CHECK_CONSUMER] = API_CONSUMER_INFO,
                [STEP_CHECK_STREAM] = API_STREAM_INFO,
                [STEP_DELETE_CONSUMER] = API_CONSUMER_DELETE,
        };
        struct source *s = b->source;
        _cleanup_(strbuf_done) struct strbuf subject = {0};
        _cleanup_(strbuf_done) struct strbuf body = {0};
        bool of_consumer = step == STEP_CREATE_CONSUMER || step == STEP_CHECK_CONSUMER || step == STEP_DELETE_CONSUMER;
        char reply[256];

        s->step = step;
        s->step_lane = lane;
        s->call = ++b->next_id;
        s->call_deadline = now + CALL_MS;
        api_subject(&subject, kinds[step], s->stream->name, of_consumer ? s->lanes[lane].def->durable : NULL);
        if (step == STEP_CREATE_STREAM || step == STEP_UPDATE_STREAM)
                api_stream_body(&body, s->stream);
        else if (step == STEP_CREATE_CONSUMER)
                api_consumer_body(&body, s->stream, s->lanes[lane].def);
        snprintf(reply, sizeof(reply), "%sa.%" PRIu64, b->inbox, s->call);
        /* Should this fail, the time-out or the next connection takes it up. */
        bus_publish(b, subject.s, reply, NULL, 0, body.len ? body.s : "", body.len);
}

static void stand(struct source *s, int64_t now)
{
        s->step = STEP_STANDING;
        s->call = 0;
        s->check_at = now + CHECK_MS;
}

static void declare_consumer(struct bus *b, size_t lane, int64_t now)
{
        struct source *s = b->source;

        if (lane < s->n_lanes) {
                call(b, STEP_CREATE_CONSUMER, lane, now);
                return;
        }
        log_info("bus source declared", LOG_S("stream", s->stream->name));
        stand(s, now);
        s->check_at = now + CHECK_FIRST_MS;
}

/* A stream that was made anew counts its messages from 1 again: an ack for a message of the old one would acknowledge another message. */
static void note_incarnation(struct source *s, const struct api_answer *a)
{
        if (!a->created[0] || strcmp(s->created, a->created) == 0)
                return;
        snprintf(s->created, sizeof(s->created), "%s", a->created);
        s->stamp++;
}

static void refused(struct source *s, const char *what, const char *lane, const struct api_answer *a)
{
        log_warning(what, LOG_S("stream", s->stream->name), LOG_S("lane", lane), LOG_S("error", a->text), LOG_I("code", a->code));
}

/* True when the consumer should be thrown away. Only a consumer with something to deliver, somebody to deliver it to and room for acknowledgements
 * that has not moved from one check to the next is standing still; more than once in a row, because making it anew delivers the whole stream again.
 */
static bool lane_stuck(struct lane *l, const struct api_answer *a)
{
        bool still = !l->got_some && a->pending > 0 && a->waiting > 0 && a->ack_pending < API_ACK_PENDING_MAX / 2 && a->delivered == l->delivered;

        l->got_some = false;
        l->still = still ? l->still + 1 : 0;
        l->delivered = a->delivered;
        return l->still > STILL_MAX;
}

static void on_answer(struct bus *b, const struct api_answer *a, int64_t now)
{
        struct source *s = b->source;
        const char *lane = s->lanes[s->step_lane].def->durable;

        s->call = 0;
        if (a->code == 503 && !a->ok) {
                declare_later(s, now, NULL, "JetStream does not answer");
                return;
        }
        switch (s->step) {
        case STEP_CREATE_STREAM:
                if (!a->ok && a->code == API_STREAM_NAME_IN_USE) {
                        call(b, STEP_UPDATE_STREAM, 0, now);
                } else if (!a->ok) {
                        declare_later(s, now, NULL, a->text);
                } else {
                        note_incarnation(s, a);
                        declare_consumer(b, 0, now);
                }
                break;
        case STEP_UPDATE_STREAM:
                /* A stream with, say, another storage type cannot be changed, but it still carries messages. */
                if (!a->ok)
                        refused(s, "bus stream differs and cannot be changed; using it as it is", NULL, a);
                else
                        note_incarnation(s, a);
                declare_consumer(b, 0, now);
                break;
        case STEP_CREATE_CONSUMER:
                if (!a->ok && a->code == API_STREAM_NOT_FOUND) {
                        declare_later(s, now, lane, a->text);
                        break;
                }
                if (!a->ok)
                        refused(s, "bus consumer cannot be made or changed; using what is there", lane, a);
                s->lanes[s->step_lane].usable = true;
                s->lanes[s->step_lane].still = 0;
                lane_arm(b, s->step_lane, now);
                declare_consumer(b, s->step_lane + 1, now);
                break;
        case STEP_CHECK_CONSUMER:
                if (!a->ok && (a->code == API_CONSUMER_NOT_FOUND || a->code == API_STREAM_NOT_FOUND)) {
                        declare_later(s, now, lane, a->text);
                } else if (!a->ok) {
                        stand(s, now);
                } else if (lane_stuck(&s->lanes[s->step_lane], a)) {
                        log_warning("bus consumer is stuck; making it anew", LOG_S("stream", s->stream->name), LOG_S("lane", lane));
                        call(b, STEP_DELETE_CONSUMER, s->step_lane, now);
                } else if (s->step_lane + 1 < s->n_lanes) {
                        call(b, STEP_CHECK_CONSUMER, s->step_lane + 1, now);
                } else {
                        call(b, STEP_CHECK_STREAM, 0, now);
                }
                break;
        case STEP_CHECK_STREAM:
                stand(s, now);
                note_incarnation(s, a);
                for (size_t i = 0; a->ok && i < s->n_lanes; i++) {
                        /* The stream was asked after its consumers, so a sound one cannot be behind. */
                        if (s->lanes[i].delivered <= a->last_seq)
                                continue;
                        log_warning("bus consumer is ahead of its stream; making it anew", LOG_S("stream", s->stream->name),
                                LOG_S("lane", s->lanes[i].def->durable));
                        call(b, STEP_DELETE_CONSUMER, i, now);
                        break;
                }
                break;
        case STEP_DELETE_CONSUMER:
                lane_lose(&s->lanes[s->step_lane]);
                declare_later(s, now, lane, "consumer deleted by us");
                break;
        case STEP_LOST:
        case STEP_STANDING:
                break;
        }
}

/* --- what comes in --- */

static void on_status(struct bus *b, struct message *m, int64_t now)
{
        struct source *s = b->source;
        const char *text = NULL;
        char *end;
        size_t i = strtoul(m->m.subject + b->inbox_len + 2, &end, 10);
        uint64_t request = *end == '.' ? strtoull(end + 1, NULL, 10) : 0;
        int status = message_status(m);
        struct lane *l;

        if (i >= s->n_lanes || request == 0 || s->lanes[i].request != request)
                return; /* of a request that was given up */
        l = &s->lanes[i];
        switch (status) {
        case 100:
                lane_heard(s, l, now);
                break;
        case 408: /* expired in peace */
                lane_heard(s, l, now);
                l->remaining = 0; /* bus_maintain arms it again */
                break;
        default:
                lane_lose(l);
                natsMsgHeader_Get(m->nats, "Description", &text);
                declare_later(s, now, l->def->durable, text ? text : status == 503 ? "no responder" : "refused");
                break;
        }
}

static void on_data(struct bus *b, struct message *m, int64_t now)
{
        struct source *s = b->source;
        struct slice stream, durable;
        struct lane *l = NULL;

        if (api_parse_ack(m->m.reply, &stream, &durable, &m->m.delivered) == 0 && slice_equal(stream, s->stream->name))
                for (size_t i = 0; i < s->n_lanes && !l; i++)
                        if (slice_equal(durable, s->lanes[i].def->durable)) {
                                l = &s->lanes[i];
                                m->m.lane = (int)i;
                        }
        if (!l || l->queue.n >= (size_t)4 * l->window) {
                message_free(m);
                return;
        }
        m->stamp = s->stamp;
        if (l->remaining > 0)
                l->remaining--;
        l->held++;
        l->got_some = true;
        lane_heard(s, l, now);
        message_push(&l->queue, m);
}

void source_dispatch(struct bus *b, struct message *m)
{
        struct source *s = b->source;
        const char *tail = strncmp(m->m.subject, b->inbox, b->inbox_len) == 0 ? m->m.subject + b->inbox_len : NULL;
        int64_t now = now_mono_ms();

        if (!s || !tail) {
                if (s)
                        on_data(b, m, now);
                else
                        message_free(m);
                return;
        }
        if (tail[0] == 'l' && tail[1] == '.') {
                on_status(b, m, now);
        } else if (tail[0] == 'a' && tail[1] == '.' && s->call && strtoull(tail + 2, NULL, 10) == s->call) {
                struct api_answer a;

                api_parse(m, &a);
                on_answer(b, &a, now);
        }
        message_free(m);
}

static void take_arrived(struct bus *b)
{
        struct message_list arrived;
        struct message *m;

        if (b->n_arrived == 0)
                return;
        pthread_mutex_lock(&b->lock);
        arrived = b->inbox_in;
        b->inbox_in = (struct message_list){0};
        b->n_arrived = 0;
        pthread_mutex_unlock(&b->lock);
        while ((m = message_pop(&arrived)))
                source_dispatch(b, m);
}

struct source *source_free(struct bus *b)
{
        struct source *s = b->source;
        struct message *m;

        if (!s)
                return NULL;
        s->paused = true;
        take_arrived(b);
        /* Another instance shall have them soon, not after the ack wait. The delay lets the server forget our pulls first: 2.9 loses its place when
         * it wants to deliver a message again and finds only pulls whose inbox is gone. */
        for (size_t i = 0; i < s->n_lanes; i++)
                while ((m = message_pop(&s->lanes[i].queue)))
                        bus_nak(b, &m->m, GIVE_BACK_MS);
        free(s);
        return NULL;
}

/* --- the caller's side --- */

int64_t source_maintain(struct bus *b, int64_t now)
{
        struct source *s = b->source;
        int64_t next = now + HEARTBEAT_MS;

        take_arrived(b);
        if (!s || !b->connected)
                return HEARTBEAT_MS;
        if (s->epoch != b->epoch) {
                s->epoch = b->epoch;
                for (size_t i = 0; i < s->n_lanes; i++)
                        lane_lose(&s->lanes[i]);
                s->step = STEP_LOST;
                s->call = 0;
                s->retry_at = now;
                s->backoff = BACKOFF_MIN_MS;
        }
        if (s->step == STEP_LOST && now >= s->retry_at)
                call(b, STEP_CREATE_STREAM, 0, now);
        if (s->call && now >= s->call_deadline) {
                if (s->step == STEP_CHECK_CONSUMER || s->step == STEP_CHECK_STREAM || s->step == STEP_DELETE_CONSUMER)
                        stand(s, now); /* a check that is not answered says nothing; the heartbeats do */
                else
                        declare_later(s, now, NULL, "declaration not answered");
        }
        for (size_t i = 0; i < s->n_lanes; i++) {
                struct lane *l = &s->lanes[i];

                if (l->remaining > 0 && now - l->heard > SILENCE_MS) {
                        lane_lose(l);
                        declare_later(s, now, l->def->durable, "heartbeats missed");
                }
                if (l->remaining > 0 && now >= l->deadline) /* 2.9 does not always announce it */
                        l->remaining = 0;
        }
        arm_all(b, now);
        if (s->step == STEP_STANDING && now >= s->check_at)
                call(b, STEP_CHECK_CONSUMER, 0, now);

        if (s->step == STEP_LOST)
                next = earlier(next, s->retry_at);
        if (s->call)
                next = earlier(next, s->call_deadline);
        return next > now ? next - now : 0;
}

struct bus_message *bus_next(struct bus *b)
{
        struct source *s = b->source;

        take_arrived(b);
        for (int round = 0; s && round < 2; round++) {
                for (size_t i = 0; i < s->n_lanes; i++) {
                        struct lane *l = &s->lanes[i];
                        struct message *m = l->credit > 0 ? message_pop(&l->queue) : NULL;

                        if (m) {
                                l->credit--;
                                return &m->m;
                        }
                }
                /* Whoever has messages has had its share: a new round. */
                for (size_t i = 0; i < s->n_lanes; i++)
                        s->lanes[i].credit = s->lanes[i].def->weight;
        }
        return NULL;
}

void source_release(struct bus *b, struct message *m)
{
        struct lane *l = &b->source->lanes[m->m.lane];

        if (l->held > 0)
                l->held--;
        /* With messages arriving faster than the caller looks after the bus, this keeps the lane at full speed. */
        if (l->remaining == 0 && l->held == l->window / 2 && lane_arm(b, (size_t)m->m.lane, now_mono_ms()))
                bus_flush(b);
}

bool source_may_ack(const struct bus *b, const struct message *m)
{
        const struct source *s = b->source;

        /* After a reconnect or a lost consumer the stream may be a new one, until the declaration has told. An ack withheld is only a repeat. */
        return s->epoch == b->epoch && s->lanes[m->m.lane].usable && m->stamp == s->stamp;
}

void bus_source_pause(struct bus *b)
{
        if (b->source)
                b->source->paused = true;
}

void bus_source_resume(struct bus *b)
{
        if (!b->source || !b->source->paused)
                return;
        b->source->paused = false;
        arm_all(b, now_mono_ms());
}

bool bus_source_ready(const struct bus *b)
{
        const struct source *s = b->source;

        if (!s || !b->connected || s->epoch != b->epoch)
                return false;
        for (size_t i = 0; i < s->n_lanes; i++)
                if (!s->lanes[i].usable)
                        return false;
        return true;
}
