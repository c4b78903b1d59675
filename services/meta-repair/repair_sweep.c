/* The second clock: the instance that holds the lease `sweep` walks over what stands, what waits and what is open, a bounded number of rows of each a
 * tick, and opens issues. Where it is in a walk is memory that may be lost: the next holder begins anew, and a row that has an issue gets no second
 * one. */
#include "base/crashpoint.h"
#include "base/util.h"
#include "repair.h"
#include "repair_texts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LEASE       "sweep"
#define PAGES_TICK  4   /* of each walk */
#define BROKEN_TICK 200 /* chains whose events are folded */
#define OPEN_BATCH  256 /* issues opened in one transaction */
#define FIGURES_MS  10000
#define LOG_MS      60000

struct repair_sweep {
        int64_t epoch;
        struct walk {
                struct uuid after;
                struct repair_gauges now, last; /* of the round under way, and of the last whole one */
                bool whole;                     /* a round has ended since figures were written */
        } walks[REPAIR_WALKS];
        enum repair_walk broken_walk;
        struct uuid broken_after, issue_after, mismatch_after;
        int64_t figures_ms, log_ms;
};

struct repair_sweep *repair_sweep_new(void)
{
        return xcalloc(1, sizeof(struct repair_sweep));
}

struct repair_sweep *repair_sweep_free(struct repair_sweep *sweep)
{
        free(sweep);
        return NULL;
}

/* --- opening --- */

static int64_t first_look_ms(const struct repair_candidate *c)
{
        if (c->grade == REPAIR_LATE)
                return c->rule->deadline_ms - c->age_ms;
        /* What has just failed gets time to come to itself. */
        return strcmp(c->rule->antibody, "run_again") == 0 ? repair_backoff_ms(c->rule, 1, 0) : 0;
}

static int open_some(struct db *db, struct repair_candidates *found)
{
        _cleanup_(freep) struct uuid *ids = xcalloc(found->n + 1, sizeof(*ids));
        _cleanup_(advance_done) struct advance a = {0};
        static const struct uuid none;
        int64_t now_ms = now_wall_ms();
        int e;

        for (size_t i = 0; i < found->n; i++)
                found->v[i].next_ms = first_look_ms(&found->v[i]);
        e = repair_issues_insert(db, found, ids);
        for (size_t i = 0; e == 0 && i < found->n; i++) {
                const struct repair_candidate *c = &found->v[i];
                _cleanup_(strbuf_done) struct strbuf data = {0};
                size_t t;

                if (uuid_equal(&ids[i], &none))
                        continue;
                t = advance_open(&a, &ids[i], "issue", c->operator[0] || !* c->client ? "system" : c->client, LANE_LOW);
                repair_text_issue(&data, c->rule, repair_grade_name(c->grade), c->operator[0] || c->of_webhook ? NULL : & c->chain_id, c->operator,
                        c->of_webhook ? &c->webhook_id : NULL, c->step, now_ms - c->age_ms);
                advance_event(&a, t, "META_ISSUE", data.s, data.len);
        }
        return e < 0 ? e : advance_run(&a, db);
}

int repair_open(struct db *db, struct repair_candidates *found)
{
        int e = 0;

        for (size_t at = 0; at < found->n && e == 0; at += OPEN_BATCH) {
                struct repair_candidates part = {.v = found->v + at, .n = found->n - at < OPEN_BATCH ? found->n - at : OPEN_BATCH};

                e = open_some(db, &part);
        }
        return e;
}

static int open_work(struct db *db, void *arg)
{
        return open_some(db, arg);
}

int repair_open_now(struct service *s, struct repair_candidates *found)
{
        int e = 0;

        if (found->n == 0)
                return 0;
        for (size_t at = 0; at < found->n && e == 0; at += OPEN_BATCH) {
                struct repair_candidates part = {.v = found->v + at, .n = found->n - at < OPEN_BATCH ? found->n - at : OPEN_BATCH};

                CRASH_POINT("meta-repair: before opening");
                e = db_transaction(s->db, open_work, &part);
                CRASH_POINT("meta-repair: after opening");
        }
        if (e == 0)
                log_info("issues", LOG_I("found", (int64_t)found->n));
        return e;
}

/* --- walking --- */

/* What waits for somebody may be a thousand times what stands: what has failed is not found later for it, but for the unpaid jobs of the last
 * minute, which are walked over with what stands. */
static int walk_chains(struct service *s, struct repair_sweep *w, enum repair_walk which)
{
        struct repair_state *state = s->state;
        struct walk *k = &w->walks[which];
        bool more = true;
        int e = 0;

        for (int page = 0; page < PAGES_TICK && e == 0 && more; page++) {
                _cleanup_(repair_candidates_done) struct repair_candidates found = {0};
                _cleanup_(freep) struct uuid *refunded = NULL;
                size_t n_refunded = 0;

                e = repair_sweep_chains(s->db, which, &state->rules, &k->after, &k->now, &found, &refunded, &n_refunded, &more);
                if (e == 0)
                        e = repair_open_now(s, &found);
                if (e == 0)
                        e = repair_finish_refunded(s, refunded, n_refunded);
        }
        if (e == 0 && !more) {
                k->after = (struct uuid){0};
                k->last = k->now;
                k->now.n = 0;
                k->whole = true;
        }
        return e;
}

static int walk_broken(struct service *s, struct repair_sweep *w)
{
        _cleanup_(repair_candidates_done) struct repair_candidates found = {0};
        bool more = false;
        int e = repair_sweep_broken(s->db, w->broken_walk, BROKEN_TICK, &w->broken_after, &found, &more);

        if (e < 0)
                return e;
        if (!more) {
                w->broken_after = (struct uuid){0};
                w->broken_walk = (w->broken_walk + 1) % REPAIR_WALKS;
        }
        return repair_open_now(s, &found);
}

static int walk_others(struct service *s, struct repair_sweep *w)
{
        struct repair_state *state = s->state;
        _cleanup_(repair_candidates_done) struct repair_candidates found = {0};
        bool more = true;
        int e = repair_sweep_operators(s->db, &found);

        if (e == 0)
                e = repair_sweep_webhooks(s->db, &found);
        if (e == 0)
                e = repair_sweep_mismatches(s->db, &w->mismatch_after, &found, &more);
        if (e == 0 && !more)
                w->mismatch_after = (struct uuid){0};
        if (e == 0)
                e = repair_open_now(s, &found);
        for (int page = 0; page < PAGES_TICK && e == 0; page++) {
                e = repair_sweep_issues(s->db, &state->rules, &w->issue_after, &more);
                if (e == 0 && !more) {
                        w->issue_after = (struct uuid){0};
                        break;
                }
        }
        return e;
}

static void say(const struct repair_gauges *gauges)
{
        int64_t bell = 0, deadline = 0, waiting = 0, oldest = 0;
        const char *step = "";

        for (size_t i = 0; i < gauges->n; i++) {
                const struct repair_gauge *g = &gauges->v[i];

                bell += g->past_bell;
                deadline += g->past_deadline;
                waiting += g->waiting;
                if (g->standing > 0 && g->oldest_ms > oldest) {
                        oldest = g->oldest_ms;
                        step = g->step;
                }
        }
        log_info("what stands", LOG_I("past_bell", bell), LOG_I("past_deadline", deadline), LOG_I("waiting", waiting), LOG_I("oldest_ms", oldest),
                LOG_S("oldest_step", step));
}

/* Written when each walk has been round, so that all of them are as new as their time says. */
static int figures(struct service *s, struct repair_sweep *w)
{
        int64_t now = now_mono_ms();
        struct repair_gauges all = {0};
        int e = 0;

        for (size_t i = 0; i < ARRAY_SIZE(w->walks); i++) {
                if (!w->walks[i].whole)
                        return 0;
                repair_gauges_add(&all, &w->walks[i].last);
        }
        if (w->figures_ms == 0 || now - w->figures_ms >= FIGURES_MS) {
                e = repair_gauges_write(s->db, &all);
                w->figures_ms = now;
        }
        if (w->log_ms == 0 || now - w->log_ms >= LOG_MS) {
                say(&all);
                w->log_ms = now;
        }
        for (size_t i = 0; i < ARRAY_SIZE(w->walks); i++)
                w->walks[i].whole = false;
        return e;
}

void repair_sweep_tick(struct service *s)
{
        const struct repair_config *config = s->config;
        struct repair_sweep *w = ((struct repair_state *)s->state)->sweep;
        int64_t epoch = 0;
        int e = repair_lease(s->db, LEASE, s->instance, 3 * config->tick_ms, &epoch);

        if (e == 0 && epoch == 0)
                return; /* another instance does it */
        if (e == 0 && epoch != w->epoch)
                *w = (struct repair_sweep){.epoch = epoch};
        for (enum repair_walk which = 0; which < REPAIR_WALKS && e == 0; which++)
                e = walk_chains(s, w, which);
        if (e == 0)
                e = figures(s, w);
        if (e == 0)
                e = walk_others(s, w);
        if (e == 0)
                e = walk_broken(s, w);
        if (e < 0 && e != -ENOTCONN)
                log_error("cannot look for what is late", LOG_S("error", db_error(s->db)));
}
