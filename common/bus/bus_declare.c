/* Declares the stream of a source and its consumers, and looks after them.
 *
 * Nothing here waits: a declaration is a chain of requests (enum step), one at a time, moved on by its answer or its time-out. A crash leaves what
 * the server has taken, and whoever comes next declares the same again.
 *
 * Slowly but surely: every CHECK_MS the consumers are asked for their state. One that stands ahead of its stream (a broker file was damaged), or does
 * not move although messages and pulls are waiting, is deleted and made anew; its messages come again. A stream that could not be changed to what it
 * shall be, or that fewer nodes keep, is changed when that can be done. Copies are never made fewer here: an instance with a setting of before would
 * undo what the others have raised. */
#include "bus_source.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CALL_MS        2000
#define BACKOFF_MAX_MS 5000
#define CHECK_FIRST_MS 1000 /* after a declaration: most damage is done while we were away */
#define CHECK_MS       10000
#define ALTER_FIRST_MS 1000 /* until a change that was refused is asked for again, doubling to CHECK_MS */
#define STILL_MAX      2

/* Declares everything anew after the backoff. Lanes that are still served go on meanwhile. Several lanes tell of the same trouble; it counts once. */
void declare_later(struct source *s, int64_t now, const char *lane, const char *why)
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

static unsigned copies_wanted(const struct source *s)
{
        return s->stream->replicas ? s->stream->replicas : 1;
}

static void call(struct bus *b, enum step step, size_t lane, int64_t now)
{
        static const enum api_kind kinds[] = {
                [STEP_CREATE_STREAM] = API_STREAM_CREATE,
                [STEP_READ_STREAM] = API_STREAM_INFO,
                [STEP_UPDATE_STREAM] = API_STREAM_UPDATE,
                [STEP_ALTER_STREAM] = API_STREAM_UPDATE,
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
        if (step == STEP_CREATE_STREAM)
                api_stream_body(&body, s->stream, copies_wanted(s));
        else if (step == STEP_UPDATE_STREAM || step == STEP_ALTER_STREAM)
                api_stream_body(&body, s->stream, s->copies > copies_wanted(s) ? s->copies : copies_wanted(s));
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

static void refused(struct source *s, const char *what, const char *lane, const struct api_answer *a)
{
        log_warning(what, LOG_S("stream", s->stream->name), LOG_S("lane", lane), LOG_S("error", a->text), LOG_I("code", a->code));
}

/* A stream with, say, another storage type cannot be changed, but it still carries messages. */
static void note_update(struct source *s, const struct api_answer *a, int64_t now)
{
        if (a->ok) {
                if (s->alter_at > 0)
                        log_info("bus stream is as it shall be", LOG_S("stream", s->stream->name));
                s->alter_at = s->alter_ms = 0;
                s->unaltered[0] = '\0';
                s->copies = a->replicas;
                return;
        }
        if (strcmp(s->unaltered, a->text) != 0)
                refused(s, "bus stream differs and cannot be changed; using it as it is, and asking again", NULL, a);
        copy_text(s->unaltered, sizeof(s->unaltered), a->text);
        s->alter_ms = s->alter_ms > 0 ? earlier(s->alter_ms * 2, CHECK_MS) : ALTER_FIRST_MS;
        s->alter_at = now + s->alter_ms;
}

/* A stream that was made anew counts its messages from 1 again: an ack for a message of the old one would acknowledge another message. */
static void note_incarnation(struct source *s, const struct api_answer *a)
{
        if (!a->created[0] || strcmp(s->created, a->created) == 0)
                return;
        copy_text(s->created, sizeof(s->created), a->created);
        s->stamp++;
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

void declare_answer(struct bus *b, const struct api_answer *a, int64_t now)
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
                        call(b, STEP_READ_STREAM, 0, now);
                } else if (!a->ok) {
                        declare_later(s, now, NULL, a->text);
                } else {
                        note_incarnation(s, a);
                        note_update(s, a, now);
                        declare_consumer(b, 0, now);
                }
                break;
        case STEP_READ_STREAM:
                if (!a->ok) {
                        declare_later(s, now, NULL, a->text);
                } else {
                        s->copies = a->replicas;
                        call(b, STEP_UPDATE_STREAM, 0, now);
                }
                break;
        case STEP_UPDATE_STREAM:
                note_update(s, a, now);
                if (a->ok)
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
                if (!a->ok)
                        break;
                note_incarnation(s, a);
                for (size_t i = 0; i < s->n_lanes; i++) {
                        /* The stream was asked after its consumers, so a sound one cannot be behind. */
                        if (s->lanes[i].delivered <= a->last_seq)
                                continue;
                        log_warning("bus consumer is ahead of its stream; making it anew", LOG_S("stream", s->stream->name),
                                LOG_S("lane", s->lanes[i].def->durable));
                        call(b, STEP_DELETE_CONSUMER, i, now);
                        return;
                }
                s->copies = a->replicas;
                if (s->alter_at == 0 && s->copies < copies_wanted(s))
                        s->alter_at = now;
                break;
        case STEP_ALTER_STREAM:
                note_update(s, a, now);
                s->step = STEP_STANDING;
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

/* --- by the clock --- */

void declare_at_once(struct source *s, int64_t now)
{
        s->step = STEP_LOST;
        s->call = 0;
        s->retry_at = now;
        s->backoff = BACKOFF_MIN_MS;
}

void declare_maintain(struct bus *b, int64_t now)
{
        struct source *s = b->source;

        if (s->step == STEP_LOST && now >= s->retry_at)
                call(b, STEP_CREATE_STREAM, 0, now);
        if (s->call && now >= s->call_deadline) {
                if (s->step == STEP_CHECK_CONSUMER || s->step == STEP_CHECK_STREAM || s->step == STEP_ALTER_STREAM || s->step == STEP_DELETE_CONSUMER)
                        stand(s, now); /* a check that is not answered says nothing; the heartbeats do */
                else
                        declare_later(s, now, NULL, "declaration not answered");
        }
        if (s->step == STEP_STANDING && now >= s->check_at)
                call(b, STEP_CHECK_CONSUMER, 0, now);
        if (s->step == STEP_STANDING && s->alter_at > 0 && now >= s->alter_at) {
                s->alter_at = now + CHECK_MS; /* should it not be answered */
                call(b, STEP_ALTER_STREAM, 0, now);
        }
}

int64_t declare_next(const struct source *s, int64_t next)
{
        if (s->step == STEP_LOST)
                next = earlier(next, s->retry_at);
        return s->call ? earlier(next, s->call_deadline) : next;
}
