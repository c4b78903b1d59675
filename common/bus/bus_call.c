/* Requests, many at once, on the caller's own thread.
 *
 * Invariants: a call ends exactly once, by its callback; it ends as "not sent" only when nobody can have received it: the client library refused it,
 * or the server said that nobody listens. A connection that breaks ends nothing: the reply may still come over the next one, until the time-out.
 * Bounded by its caller, who counts what is under way. A crash forgets the calls, and their replies reach nobody. */
#include "bus_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define BUCKETS         1024
#define PATIENCE_MAX_MS 5000 /* a caller who is always held up gets to know in the end, too */

struct call {
        struct call *next; /* in its bucket */
        uint64_t id;
        int64_t until_ms;
        const char *refused; /* why it was not sent; NULL: it was */
        void (*done)(void *arg, const struct bus_reply *reply);
        void *arg;
};

struct calls {
        struct call *buckets[BUCKETS];
        size_t n;
        int64_t due_ms; /* not later than the earliest until_ms */
};

static struct call **find(struct calls *calls, uint64_t id)
{
        struct call **at = &calls->buckets[id % BUCKETS];

        while (*at && (*at)->id != id)
                at = &(*at)->next;
        return at;
}

/* Off the table before the callback, which may begin new calls. */
static void end(struct bus *b, struct call **at, const struct bus_reply *reply)
{
        struct call *call = *at;

        *at = call->next;
        b->calls->n--;
        call->done(call->arg, reply);
        free(call);
}

/* Why a publish that failed has certainly reached nobody; NULL: it may have. */
static const char *refusal(natsStatus status)
{
        switch (status) {
        case NATS_MAX_PAYLOAD:
                return "larger than the broker takes";
        case NATS_INVALID_ARG:
        case NATS_INVALID_SUBJECT:
                return "no usable subject or header";
        case NATS_CONNECTION_CLOSED:
        case NATS_CONNECTION_DISCONNECTED:
        case NATS_INSUFFICIENT_BUFFER: /* it is reconnecting, and keeps nothing for later */
                return "no connection to the broker";
        default:
                return NULL;
        }
}

void bus_call(struct bus *b, const struct bus_call *call)
{
        _cleanup_(strbuf_done) struct strbuf reply = {0};
        struct call *c = xcalloc(1, sizeof(*c)), **at;
        natsStatus status;

        if (!b->calls) {
                b->calls = xcalloc(1, sizeof(*b->calls));
                b->calls->due_ms = INT64_MAX;
        }
        *c = (struct call){.id = ++b->next_id, .until_ms = now_mono_ms() + call->timeout_ms, .done = call->done, .arg = call->arg};
        strbuf_addf(&reply, "%sq.%" PRIu64, b->inbox, c->id);
        if (!b->replies)
                (void)subscribe_inbox(b, 'q', true, &b->replies); /* threaded: which call it is that nobody listens to */
        status = publish_status(b, call->subject, reply.s, call->headers, call->n_headers, call->body.s, call->body.len);
        if (status != NATS_OK) {
                c->refused = refusal(status);
                c->until_ms = c->refused ? 0 : c->until_ms;
        }
        at = find(b->calls, c->id);
        *at = c;
        b->calls->n++;
        if (c->until_ms < b->calls->due_ms) {
                b->calls->due_ms = c->until_ms;
                bus_wake(b); /* whoever sleeps does so until a later time */
        }
}

static void take_replies(struct bus *b)
{
        struct message *m;

        while ((m = subscription_next(b->replies, NULL))) {
                struct call **at = b->calls ? find(b->calls, strtoull(m->m.subject + b->inbox_len + 2, NULL, 10)) : NULL;
                struct bus_reply reply = {.outcome = BUS_ANSWERED, .body = {m->m.data, m->m.len}};

                if (message_status(m) == 503)
                        reply = (struct bus_reply){.outcome = BUS_NOT_SENT, .why = "nobody listens"};
                if (at && *at)
                        end(b, at, &reply);
                message_free(m);
        }
}

int64_t calls_maintain(struct bus *b, int64_t now)
{
        struct calls *calls = b->calls;
        int64_t due;

        take_replies(b);
        if (!calls)
                return INT64_MAX;
        if (now >= calls->due_ms && (now >= b->patient_until || now >= calls->due_ms + PATIENCE_MAX_MS)) {
                calls->due_ms = INT64_MAX;
                for (size_t i = 0; i < BUCKETS; i++)
                        for (struct call **at = &calls->buckets[i]; *at;) {
                                const char *refused = (*at)->refused;

                                if (now >= (*at)->until_ms) {
                                        end(b, at,
                                                &(struct bus_reply){.outcome = refused ? BUS_NOT_SENT : BUS_LOST,
                                                        .why = refused ? refused : "no answer in time"});
                                        continue;
                                }
                                if ((*at)->until_ms < calls->due_ms)
                                        calls->due_ms = (*at)->until_ms;
                                at = &(*at)->next;
                        }
        }
        due = calls->due_ms > b->patient_until ? calls->due_ms : b->patient_until;
        return calls->due_ms == INT64_MAX ? INT64_MAX : due > now ? due - now : 0;
}

size_t bus_calls(const struct bus *b)
{
        return b->calls ? b->calls->n : 0;
}

void bus_end_calls(struct bus *b)
{
        if (!b->calls)
                return;
        for (size_t i = 0; i < BUCKETS; i++)
                while (b->calls->buckets[i])
                        end(b, &b->calls->buckets[i], &(struct bus_reply){.outcome = BUS_LOST, .why = "the client was stopped"});
        free(b->calls);
        b->calls = NULL;
}
