/* All on the thread of the world, over its connection to the bus, which is hurt like everybody's. Nothing here forgets: a worker that dies is a run
 * of which nobody says anything any more. */
#include "desk.h"

#include "base/strbuf.h"
#include "tests/support/stack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBJECT  "aethelos.operator." DESK
#define AGAIN_MS 400 /* a beat or a result that was not answered */

enum stage { UNBEGUN, WORKS, TELLS, OVER };

struct work {
        struct desk *desk;
        struct fake_run run;
        char mode[16];
        enum stage stage;
        int token, first; /* the latest, and that of who died */
        int64_t ms, finish_ms, beat_ms, tell_ms, zombie_ms;
        char reply[96];                                        /* where the answer to the call goes that comes after the result */
        bool telling, zombie_speaks, zombie_beat, zombie_over; /* zombie_beat: his beats are over, his result is not */
};

struct desk {
        struct bus *bus;
        struct work **works;
        size_t n, wrong, refused;
};

struct desk *desk_new(struct bus *bus)
{
        struct desk *d = xcalloc(1, sizeof(*d));

        d->bus = bus;
        if (bus_subscribe(bus, SUBJECT, DESK) < 0 || bus_subscribe(bus, SUBJECT ".status", DESK) < 0)
                die("desk: cannot listen on the bus");
        return d;
}

struct desk *desk_free(struct desk *d)
{
        for (size_t i = 0; d && i < d->n; i++)
                free(d->works[i]);
        if (d)
                free(d->works);
        free(d);
        return NULL;
}

static struct work *find(struct desk *d, const char *id)
{
        for (size_t i = 0; id && i < d->n; i++)
                if (strcmp(d->works[i]->run.id, id) == 0)
                        return d->works[i];
        return NULL;
}

static struct work *take(struct desk *d, const char *id, const char *job, const char *mode)
{
        struct work *w = find(d, id);

        if (w)
                return w;
        w = xcalloc(1, sizeof(*w));
        w->desk = d;
        snprintf(w->run.id, sizeof(w->run.id), "%s", id);
        snprintf(w->run.job, sizeof(w->run.job), "%s", job);
        snprintf(w->mode, sizeof(w->mode), "%s", mode);
        d->works = xrealloc(d->works, (d->n + 1) * sizeof(struct work *));
        return d->works[d->n++] = w;
}

static void say_outcome(const struct work *w, struct strbuf *b)
{
        if (w->run.done)
                strbuf_addf(b, "\"status\":\"done\",\"output\":{\"text\":\"done by " DESK "\",\"job\":\"%s\"}", w->run.job);
        else if (w->run.failed)
                strbuf_adds(b, "\"status\":\"failed\",\"error\":\"refused\",\"refused\":true");
        else
                strbuf_addf(b, "\"status\":\"%s\"", w->stage == WORKS ? "accepted" : "unknown");
}

static void answer(struct desk *d, const char *to, const struct work *w)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        strbuf_adds(&b, "{");
        say_outcome(w, &b);
        strbuf_adds(&b, "}");
        (void)bus_publish(d->bus, to, NULL, NULL, 0, b.s, b.len);
}

static bool is(const struct work *w, const char *mode)
{
        return strcmp(w->mode, mode) == 0;
}

/* The first call, or one of somebody else's run that he never began. */
static void begin(struct work *w, int64_t now)
{
        bool dies = is(w, "die") || is(w, "zombie");

        if (dies && w->first == 0) {
                w->first = w->token;
                return;
        }
        if (dies && w->token == w->first)
                return; /* the same call, come twice */
        w->run.failed = is(w, "failed");
        if (is(w, "first")) {
                w->run.done = true;
                w->stage = TELLS;
                return;
        }
        if (is(w, "accept") || is(w, "zombie")) {
                w->stage = WORKS;
                w->finish_ms = now + w->ms;
                w->beat_ms = now + DESK_LEASE_MS / 3;
                w->zombie_speaks = is(w, "zombie");
                return;
        }
        w->run.done = !w->run.failed;
        w->stage = OVER;
}

static void hear_call(struct desk *d, const struct bus_message *m)
{
        _cleanup_(freep) char *id = json_at(m->data, "run_id"), *job = json_at(m->data, "job_id"), *token = json_at(m->data, "token"),
                              *mode = json_at(m->data, "input.mode"), *ms = json_at(m->data, "input.ms"), *step = json_at(m->data, "step");
        struct work *w;

        if (!id || !job || !token || !mode || !ms || !step)
                return; /* spoiled on its way */
        w = take(d, id, job, mode);
        w->run.calls++;
        w->run.step = strtoll(step, NULL, 10);
        w->ms = strtoll(ms, NULL, 10);
        if (atoi(token) > w->token)
                w->token = atoi(token);
        if (w->stage == UNBEGUN)
                begin(w, now_mono_ms());
        if (is(w, "lost") || !m->reply || !m->reply[0])
                return;
        if (w->stage == TELLS && is(w, "first")) {
                snprintf(w->reply, sizeof(w->reply), "%s", m->reply);
                return;
        }
        if (w->stage == UNBEGUN) /* who is about to die accepts */
                (void)bus_publish(d->bus, m->reply, NULL, NULL, 0, "{\"status\":\"accepted\"}", strlen("{\"status\":\"accepted\"}"));
        else
                answer(d, m->reply, w);
}

static void hear_question(struct desk *d, const struct bus_message *m)
{
        _cleanup_(freep) char *id = json_at(m->data, "run_id");
        struct work *w = find(d, id);

        if (!id || !m->reply || !m->reply[0])
                return;
        if (w)
                w->run.queries++;
        if (w && w->stage == WORKS)
                (void)bus_publish(d->bus, m->reply, NULL, NULL, 0, "{\"status\":\"running\"}", strlen("{\"status\":\"running\"}"));
        else
                answer(d, m->reply, w ? w : &(struct work){0});
}

bool desk_hear(struct desk *d, const struct bus_message *m)
{
        if (strcmp(m->subject, SUBJECT) == 0)
                hear_call(d, m);
        else if (strcmp(m->subject, SUBJECT ".status") == 0)
                hear_question(d, m);
        else
                return false;
        return true;
}

/* --- beats and results --- */

static void say(struct work *w, const char *what, int token, const char *more, void (*done)(void *arg, const struct bus_reply *reply))
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        char subject[64];

        snprintf(subject, sizeof(subject), SUBJECT ".%s", what);
        strbuf_addf(&b, "{\"run_id\":\"%s\",\"token\":%d,\"worker\":\"%d\"%s}", w->run.id, token, token, more);
        bus_call(w->desk->bus, &(struct bus_call){.subject = subject, .body = {b.s, b.len}, .timeout_ms = AGAIN_MS, .done = done, .arg = w});
}

static bool told(const struct bus_reply *reply, const char *status)
{
        _cleanup_(freep) char *text = reply->outcome == BUS_ANSWERED ? xstrndup(reply->body.s ? reply->body.s : "", reply->body.len) : NULL,
                              *is = text ? json_at(text, "status") : NULL;

        return is && strcmp(is, status) == 0;
}

static void on_beaten(void *arg, const struct bus_reply *reply)
{
        (void)arg, (void)reply; /* the next one follows anyway */
}

/* Over: it is known by a question already, or it was sent again; what was done is done, and asked for. */
static void on_result(void *arg, const struct bus_reply *reply)
{
        struct work *w = arg;

        w->telling = false;
        if (told(reply, "committed") || told(reply, "over"))
                w->stage = OVER;
        if (w->stage == OVER && w->reply[0]) {
                answer(w->desk, w->reply, w);
                w->reply[0] = '\0';
        }
}

static void on_zombie(void *arg, const struct bus_reply *reply)
{
        struct work *w = arg;

        w->telling = false;
        if (told(reply, "committed") || told(reply, "held"))
                w->desk->wrong++;
        if (told(reply, "over")) {
                w->zombie_over = w->zombie_beat;
                w->zombie_beat = true;
                w->desk->refused += w->zombie_over;
        }
}

static void speak_as_zombie(struct work *w, int64_t now)
{
        if (w->zombie_over || w->telling || now < w->zombie_ms)
                return;
        w->zombie_ms = now + AGAIN_MS;
        w->telling = true;
        if (!w->zombie_beat)
                say(w, "beat", w->first, "", on_zombie);
        else
                say(w, "result", w->first, ",\"status\":\"done\",\"output\":{\"text\":\"done by a zombie\"}", on_zombie);
}

static void go_on(struct work *w, int64_t now)
{
        _cleanup_(strbuf_done) struct strbuf outcome = {0};

        if (w->zombie_speaks)
                speak_as_zombie(w, now);
        if (w->stage == WORKS && now >= w->beat_ms) {
                w->beat_ms = now + DESK_LEASE_MS / 3;
                say(w, "beat", w->token, ",\"percent\":50", on_beaten);
        }
        if (w->stage == WORKS && now >= w->finish_ms && (!w->zombie_speaks || w->zombie_over)) {
                w->run.done = true;
                w->stage = TELLS;
        }
        if (w->stage != TELLS || w->telling || now < w->tell_ms)
                return;
        w->tell_ms = now + AGAIN_MS;
        w->telling = true;
        strbuf_adds(&outcome, ",");
        say_outcome(w, &outcome);
        say(w, "result", w->token, outcome.s, on_result);
}

void desk_round(struct desk *d)
{
        int64_t now = now_mono_ms();

        for (size_t i = 0; i < d->n; i++)
                if (d->works[i]->stage == WORKS || d->works[i]->stage == TELLS)
                        go_on(d->works[i], now);
}

struct fake_run *desk_runs(struct desk *d, size_t *ret_n)
{
        struct fake_run *runs = xmalloc((d->n + 1) * sizeof(*runs));

        for (size_t i = 0; i < d->n; i++)
                runs[i] = d->works[i]->run;
        *ret_n = d->n;
        return runs;
}

size_t desk_wrong(const struct desk *d)
{
        return d->wrong;
}

size_t desk_refused(const struct desk *d)
{
        return d->refused;
}
