/* The source: keeps one pull request standing per lane, and hands messages out by weight. Declaring it is in bus_declare.c.
 *
 * Invariants:
 * - A lane has at most weight * window messages asked for, queued and handed out together, so a service never holds more than it can commit. (Late
 *   messages of a request given up for lost may come on top; a hard bound drops them, unacknowledged.)
 * - Every way in which a pull can get lost ends in a new one: answered (404, 408, 409, 503), silent (no heartbeat), forgotten (deadline), cut off
 *   (another connection). All but a plain 408 declare stream and consumers again first, because they may be gone as well.
 *
 * A message is told from a status by its $JS.ACK reply subject, which the server sets, never by a header, which its publisher sets. JetStream keeps
 * the subject of the stream on delivered messages, so a message does not tell which request it answers; statuses do (inbox "l.<lane>.<request>"). */
#include "bus_source.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEARTBEAT_MS 1000
#define SILENCE_MS   2500 /* two heartbeats and a half */
#define EXPIRES_MS   10000
#define EXPIRES_LATE 2000
#define GIVE_BACK_MS (HEARTBEAT_MS + 200)
#define WINDOW       16

int bus_source(struct bus *b, const struct bus_stream *stream, const struct bus_lane lanes[])
{
        struct source *s;
        int r = 0;

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
        if (!b->deliveries)
                r = subscribe_inbox(b, 'l', stream->strangers, &b->deliveries);
        if (r == 0 && !b->answers)
                r = subscribe_inbox(b, 'a', false, &b->answers);
        if (r < 0) {
                free(s);
                return r;
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

/* --- pulls --- */

/* True when a pull went out; the caller then flushes, since the lane stands still until the server has it. */
bool lane_arm(struct bus *b, size_t i, int64_t now)
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

void lane_lose(struct lane *l)
{
        l->usable = false;
        l->remaining = 0;
        l->request = 0;
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

static void on_answer(struct bus *b, struct message *m, int64_t now)
{
        struct source *s = b->source;
        struct api_answer a;

        if (s->call && strtoull(m->m.subject + b->inbox_len + 2, NULL, 10) == s->call) {
                api_parse(m, &a);
                declare_answer(b, &a, now);
        }
        message_free(m);
}

static void take_arrived(struct bus *b, int64_t now)
{
        struct source *s = b->source;
        struct message *m;
        bool nobody = false;

        while ((m = subscription_next(b->deliveries, &nobody)))
                if (strncmp(m->m.subject, b->inbox, b->inbox_len) == 0) {
                        on_status(b, m, now);
                        message_free(m);
                } else {
                        on_data(b, m, now);
                }
        for (size_t i = 0; nobody && i < s->n_lanes; i++)
                if (s->lanes[i].remaining > 0) {
                        lane_lose(&s->lanes[i]);
                        declare_later(s, now, s->lanes[i].def->durable, "no responder");
                }
        nobody = false;
        while ((m = subscription_next(b->answers, &nobody)))
                on_answer(b, m, now);
        if (nobody && s->call)
                declare_answer(b, &(struct api_answer){.code = 503}, now);
}

struct source *source_free(struct bus *b)
{
        struct source *s = b->source;
        struct message *m;

        if (!s)
                return NULL;
        s->paused = true;
        take_arrived(b, now_mono_ms());
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

        if (!s)
                return HEARTBEAT_MS;
        take_arrived(b, now);
        if (!b->connected)
                return HEARTBEAT_MS;
        if (s->epoch != b->epoch) {
                s->epoch = b->epoch;
                for (size_t i = 0; i < s->n_lanes; i++)
                        lane_lose(&s->lanes[i]);
                declare_at_once(s, now);
        }
        for (size_t i = 0; i < s->n_lanes; i++) {
                struct lane *l = &s->lanes[i];

                if (l->remaining > 0 && now - l->heard > SILENCE_MS && (now >= b->patient_until || now - l->heard > 4 * SILENCE_MS)) {
                        lane_lose(l);
                        declare_later(s, now, l->def->durable, "heartbeats missed");
                }
                if (l->remaining > 0 && now >= l->deadline) /* 2.9 does not always announce it */
                        l->remaining = 0;
        }
        declare_maintain(b, now);
        arm_all(b, now);
        next = declare_next(s, next);
        return next > now ? next - now : 0;
}

struct bus_message *bus_next(struct bus *b)
{
        struct source *s = b->source;

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
