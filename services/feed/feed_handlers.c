/* One page a tick: read it, add it up, move the checkpoint with the figures, and tell. The figures are therefore exact at the checkpoint. A crash
 * after the commit leaves a page that was not told live; who needs every event catches up over HTTP. */
#include "base/crashpoint.h"
#include "base/util.h"
#include "feed.h"
#include "feed_store.h"
#include "proto/subjects.h"
#include "services/intake/public_data.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Under load pages grow, for a page costs more than an event in it: for so many events the next one is a millisecond later. */
#define ROWS_MS    12
#define IDLE_MS    20
#define LIVELY_MS  4    /* where something has just happened more will follow, and somebody listens for it */
#define LULL_MS    1000 /* for so long after it */
#define STANDBY_MS 1000 /* another instance is at work: it is enough to see whether it still is */
#define AWAY_MS    1000
#define PRICED_AT  3 /* a job has no price before this version */

struct item {
        struct feed_event event;
        struct feed_chain chain;
        int asked; /* row of `chains` that says it; -1: it was known */
};

struct page {
        struct item *items;
        size_t n;
        struct feed_figure *figures;
        size_t n_figures;
        PGresult *rows, *chains; /* what the items borrow from */
};

static void page_done(struct page *p)
{
        free(p->items);
        free(p->figures);
        PQclear(p->rows);
        PQclear(p->chains);
}

static int read_page(struct service *s, struct page *p)
{
        struct feed_state *state = s->state;
        int e = feed_page(s->db, &state->at, &p->rows);

        if (e < 0)
                return e;
        p->n = (size_t)PQntuples(p->rows);
        p->items = xcalloc(p->n + 1, sizeof(*p->items));
        for (size_t i = 0; i < p->n; i++)
                feed_event(p->rows, (int)i, &p->items[i].event);
        return 0;
}

/* The chains of the page: asked for where neither their events nor earlier pages say of them what must be known. */
static int read_chains(struct service *s, struct page *p)
{
        const struct feed_state *state = s->state;
        _cleanup_(freep) struct uuid *ids = xcalloc(p->n + 1, sizeof(*ids));
        int n = 0, e = 0;

        for (size_t i = 0; i < p->n; i++) {
                struct item *t = &p->items[i];
                const struct feed_event *event = &t->event;

                t->asked = -1;
                feed_known_learn(state->known, &event->chain_id, event->type, event->data.s);
                if (feed_known_get(state->known, &event->chain_id, &t->chain) && (t->chain.currency[0] || event->version < PRICED_AT))
                        continue;
                if (n == 0 || !uuid_equal(&ids[n - 1], &event->chain_id))
                        ids[n++] = event->chain_id;
                t->asked = n - 1;
        }
        if (n > 0)
                e = feed_chains(s->db, ids, (size_t)n, &p->chains);
        for (size_t i = 0; e == 0 && i < p->n; i++)
                if (p->items[i].asked >= 0)
                        feed_chain(p->chains, p->items[i].asked, &p->items[i].chain);
        return e;
}

static void remember(struct service *s, const struct page *p)
{
        const struct feed_state *state = s->state;

        for (size_t i = 0; i < p->n; i++)
                if (p->items[i].asked >= 0)
                        feed_known_put(state->known, &p->items[i].event.chain_id, &p->items[i].chain);
}

/* The events of a chain follow each other in the same order as those of the chain before: a figure is looked for from behind the last one found. */
static void add_up(struct page *p)
{
        size_t at = 0;

        p->figures = xcalloc(p->n + 1, sizeof(*p->figures));
        for (const struct item *t = p->items; t < p->items + p->n; t++) {
                const char *name = t->chain.system ? t->event.type : t->event.figure;
                struct feed_figure *f = NULL;
                size_t looked = 0;

                for (; looked < p->n_figures; looked++) {
                        at = at + 1 < p->n_figures ? at + 1 : 0;
                        f = &p->figures[at];
                        if (f->system == t->chain.system && strcmp(f->name, name) == 0 && strcmp(f->currency, t->chain.currency) == 0)
                                break;
                }
                if (looked == p->n_figures) {
                        at = p->n_figures++;
                        f = &p->figures[at];
                        *f = (struct feed_figure){.name = name, .currency = t->chain.currency, .system = t->chain.system};
                }
                f->minor += t->chain.minor;
                f->count++;
        }
}

static void format_time(int64_t us, char ret_text[40])
{
        time_t s = us / 1000000;
        struct tm tm;
        size_t n;

        gmtime_r(&s, &tm);
        n = strftime(ret_text, 40, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(ret_text + n, 40 - n, ".%06dZ", (int)(us % 1000000));
}

static int tell(struct service *s, const char *client, const struct feed_event *e, const char *time, struct strbuf *body)
{
        char subject[256], chain_id[UUID_TEXT_SIZE];

        uuid_format(&e->chain_id, chain_id);
        snprintf(subject, sizeof(subject), SUBJECT_EVENT, client, e->type, chain_id);
        strbuf_reset(body);
        strbuf_adds(body, "{\"id\":");
        strbuf_addi(body, e->at.id);
        strbuf_adds(body, ",\"type\":\"");
        strbuf_adds(body, e->type);
        strbuf_adds(body, "\",\"chain_id\":\"");
        strbuf_adds(body, chain_id);
        strbuf_adds(body, "\",\"version\":");
        strbuf_addi(body, e->version);
        strbuf_adds(body, ",\"time\":\"");
        strbuf_adds(body, time);
        strbuf_adds(body, "\",\"data\":");
        public_data_add(body, e->type, e->data);
        strbuf_addc(body, '}');
        return bus_publish(s->bus, subject, NULL, NULL, 0, body->s, body->len);
}

static void tell_all(struct service *s, const struct page *p)
{
        _cleanup_(strbuf_done) struct strbuf body = {0};
        char time[40] = "";

        CRASH_POINT("feed: before publish");
        for (size_t i = 0; i < p->n; i++) {
                const struct item *t = &p->items[i];

                if (i == 0 || t->event.time_us != t[-1].event.time_us) /* events of one transaction share it */
                        format_time(t->event.time_us, time);
                /* A broker that takes nothing must not hold up the figures once for each event. */
                if (tell(s, t->chain.client, &t->event, time, &body) == -ENOTCONN)
                        break;
        }
        CRASH_POINT("feed: after publish");
        (void)bus_flush(s->bus);
}

int feed_init(struct service *s)
{
        struct feed_state *state = s->state = xcalloc(1, sizeof(struct feed_state));

        state->known = feed_known_new();
        return bus_subscribe(s->bus, SUBJECT_INTENTS, NULL);
}

/* Intents have been made, and who pays at once listens for them. Who stands by, or cannot read, goes on looking when he meant to. */
void feed_on_message(struct service *s, struct bus_message *m)
{
        const struct feed_state *state = s->state;

        bus_drop(s->bus, m);
        if (state->knows)
                service_tick(s);
}

void feed_fini(struct service *s)
{
        struct feed_state *state = s->state;

        if (state)
                feed_known_free(state->known);
        free(state);
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
        _cleanup_(page_done) struct page page = {0};
        int e = 0;

        if (!state->knows) { /* where another instance may have been, prices may be others */
                feed_known_forget(state->known);
                e = feed_checkpoint(s->db, &state->at);
        }
        if (e == 0)
                e = read_page(s, &page);
        if (e == 0 && page.n > 0)
                e = read_chains(s, &page);
        state->knows = e == 0;
        if (e == 0 && page.n == 0)
                return idle_ms(s);
        if (e == 0) {
                add_up(&page);
                CRASH_POINT("feed: before commit");
                e = feed_count(s->db, &state->at, &page.items[page.n - 1].event.at, page.figures, page.n_figures);
                state->knows = e == 0;
                CRASH_POINT("feed: after commit");
        }
        if (e == 0) {
                state->at = page.items[page.n - 1].event.at;
                tell_all(s, &page);
                remember(s, &page);
                state->told_ms = now_mono_ms();
                return rest_ms(page.n);
        }
        if (e == -EBUSY)
                return STANDBY_MS;
        if (e != -ENOTCONN)
                log_error("cannot read the tail", LOG_S("error", db_error(s->db)));
        return AWAY_MS;
}
