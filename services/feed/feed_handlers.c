/* One page a tick: read it, add it up, move the checkpoint with the figures, and tell. The figures are therefore exact at the checkpoint. A crash
 * after the commit leaves a page that was not told live; who needs every event catches up over HTTP. */
#include "base/crashpoint.h"
#include "base/util.h"
#include "feed.h"
#include "feed_store.h"
#include "proto/subjects.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Under load pages grow, for a page costs more than an event in it: for so many events the next one is a millisecond later. */
#define ROWS_MS    32
#define IDLE_MS    20
#define LIVELY_MS  4    /* where something has just happened more will follow, and somebody listens for it */
#define LULL_MS    1000 /* for so long after it */
#define STANDBY_MS 1000 /* another instance is at work: it is enough to see whether it still is */
#define AWAY_MS    1000

struct page {
        struct feed_event *events;
        size_t n;
        struct feed_figure *figures;
        size_t n_figures;
};

static void page_done(struct page *p)
{
        free(p->events);
        free(p->figures);
}

static void add_up(struct page *p, const struct feed_event *e)
{
        struct feed_figure *f = p->figures, *end = p->figures + p->n_figures;

        while (f < end && (strcmp(f->name, e->figure) != 0 || strcmp(f->currency, e->currency) != 0))
                f++;
        if (f == end) {
                *f = (struct feed_figure){.name = e->figure, .currency = e->currency};
                p->n_figures++;
        }
        f->minor += e->minor;
        f->count++;
}

static void unpack(const PGresult *rows, struct page *ret_page)
{
        struct page p = {.n = (size_t)PQntuples(rows)};

        p.events = xcalloc(p.n + 1, sizeof(*p.events));
        p.figures = xcalloc(p.n + 1, sizeof(*p.figures));
        for (size_t i = 0; i < p.n; i++) {
                feed_event(rows, (int)i, &p.events[i]);
                add_up(&p, &p.events[i]);
        }
        *ret_page = p;
}

static void format_time(double seconds, char ret_text[40])
{
        int64_t us = (int64_t)(seconds * 1e6 + 0.5);
        time_t s = us / 1000000;
        struct tm tm;
        size_t n;

        gmtime_r(&s, &tm);
        n = strftime(ret_text, 40, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(ret_text + n, 40 - n, ".%06dZ", (int)(us % 1000000));
}

static int tell(struct service *s, const struct feed_event *e, const char *time)
{
        _cleanup_(strbuf_done) struct strbuf body = {0};
        char subject[256];

        snprintf(subject, sizeof(subject), SUBJECT_EVENT, e->client, e->type, e->chain_id);
        strbuf_adds(&body, "{\"id\":");
        strbuf_addi(&body, e->at.id);
        strbuf_adds(&body, ",\"type\":\"");
        strbuf_adds(&body, e->type);
        strbuf_adds(&body, "\",\"chain_id\":\"");
        strbuf_adds(&body, e->chain_id);
        strbuf_adds(&body, "\",\"version\":");
        strbuf_addi(&body, e->version);
        strbuf_adds(&body, ",\"time\":\"");
        strbuf_adds(&body, time);
        strbuf_adds(&body, "\",\"data\":");
        strbuf_add(&body, e->data.s, e->data.len);
        strbuf_addc(&body, '}');
        return bus_publish(s->bus, subject, NULL, NULL, 0, body.s, body.len);
}

static void tell_all(struct service *s, const struct page *p)
{
        char time[40] = "";

        CRASH_POINT("feed: before publish");
        for (size_t i = 0; i < p->n; i++) {
                if (i == 0 || p->events[i].time != p->events[i - 1].time) /* events of one transaction share it */
                        format_time(p->events[i].time, time);
                /* A broker that takes nothing must not hold up the figures once for each event. */
                if (tell(s, &p->events[i], time) == -ENOTCONN)
                        break;
        }
        CRASH_POINT("feed: after publish");
        (void)bus_flush(s->bus);
}

int feed_init(struct service *s)
{
        s->state = xcalloc(1, sizeof(struct feed_state));
        return 0;
}

void feed_fini(struct service *s)
{
        free(s->state);
}

static int64_t rest_ms(size_t n_events)
{
        int64_t ms = LIVELY_MS + (int64_t)n_events / ROWS_MS;

        if (n_events == FEED_PAGE) /* behind */
                return 0;
        return ms < IDLE_MS ? ms : IDLE_MS;
}

static int64_t idle_ms(const struct service *s)
{
        const struct feed_state *state = s->state;

        return state->told_ms && now_mono_ms() - state->told_ms < LULL_MS ? LIVELY_MS : IDLE_MS;
}

int64_t feed_on_tick(struct service *s)
{
        struct feed_state *state = s->state;
        _cleanup_(PQclearp) PGresult *rows = NULL;
        _cleanup_(page_done) struct page page = {0};
        int e = state->knows ? 0 : feed_checkpoint(s->db, &state->at);

        if (e == 0)
                e = feed_page(s->db, &state->at, &rows);
        state->knows = e == 0;
        if (e == 0 && PQntuples(rows) == 0)
                return idle_ms(s);
        if (e == 0) {
                unpack(rows, &page);
                CRASH_POINT("feed: before commit");
                e = feed_count(s->db, &state->at, &page.events[page.n - 1].at, page.figures, page.n_figures);
                state->knows = e == 0;
                CRASH_POINT("feed: after commit");
        }
        if (e == 0) {
                state->at = page.events[page.n - 1].at;
                tell_all(s, &page);
                state->told_ms = now_mono_ms();
                return rest_ms(page.n);
        }
        if (e == -EBUSY)
                return STANDBY_MS;
        if (e != -ENOTCONN)
                log_error("cannot read the tail", LOG_S("error", db_error(s->db)));
        return AWAY_MS;
}
