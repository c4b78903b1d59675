/* When meta-repair works: at a bell, because a chain came to it or a person asked for something, and once a second, because bells are lost. What it
 * knows between rounds may be lost at any time: everything is found again in the store. */
#include "base/crashpoint.h"
#include "base/util.h"
#include "repair.h"
#include "repair_texts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RULES_MS 5000 /* a rule that was changed elsewhere counts after this */
#define ROUND_MS 300  /* work in one round, so that bells and heartbeats are not held up */

int repair_init(struct service *s)
{
        struct repair_state *state = xcalloc(1, sizeof(*state));

        state->ringer = ringer_new();
        state->sweep = repair_sweep_new();
        s->state = state;
        return 0;
}

void repair_fini(struct service *s)
{
        struct repair_state *state = s->state;

        if (!state)
                return;
        ringer_free(state->ringer);
        repair_sweep_free(state->sweep);
        repair_rules_done(&state->rules);
        free(state->turn.client);
        free(state);
}

int repair_rules_fresh(struct service *s)
{
        struct repair_state *state = s->state;
        struct repair_rules rules;
        int e;

        if (state->rules_ms && now_mono_ms() - state->rules_ms < RULES_MS)
                return 0;
        e = repair_rules_read(s->db, &rules);
        if (e < 0)
                return e;
        repair_rules_done(&state->rules);
        state->rules = rules;
        state->rules_ms = now_mono_ms();
        return 0;
}

/* --- refunded: the end of the chain, with its dossier --- */

static void add_json(struct strbuf *b, const char *name, const char *json)
{
        if (json)
                strbuf_addf(b, "%s\"%s\":%s", b->len > 1 ? "," : "", name, json);
}

struct finish {
        const struct uuid *ids;
        size_t n;
        struct advance moves;
};

static int finish(struct db *db, void *arg)
{
        struct finish *f = arg;
        struct repair_refunded *v = NULL;
        size_t n = 0;
        int e = repair_refunded_read(db, f->ids, f->n, &v, &n);

        advance_reset(&f->moves);
        for (size_t i = 0; e == 0 && i < n; i++) {
                _cleanup_(strbuf_done) struct strbuf data = {0};

                strbuf_addc(&data, '{');
                add_json(&data, "error", v[i].error);
                add_json(&data, "rule", v[i].rule);
                strbuf_addf(&data, "%s\"retries\":%d", data.len > 1 ? "," : "", (int)v[i].retries);
                add_json(&data, "compensation", v[i].compensation);
                add_json(&data, "issue_id", v[i].issue_id);
                add_json(&data, "by", v[i].by);
                strbuf_addc(&data, '}');
                advance_event(&f->moves, advance_move(&f->moves, &v[i].id, v[i].version), "FINAL_FAIL", data.s, data.len);
        }
        repair_refunded_done(v, n);
        return e < 0 ? e : advance_run(&f->moves, db);
}

int repair_finish_refunded(struct service *s, const struct uuid ids[], size_t n)
{
        struct finish f = {.ids = ids, .n = n};
        int e;

        if (n == 0)
                return 0;
        CRASH_POINT("meta-repair: before the end");
        e = db_transaction(s->db, finish, &f);
        CRASH_POINT("meta-repair: after the end");
        if (e == 0)
                service_ring(s, &f.moves);
        advance_done(&f.moves);
        return e;
}

/* --- when --- */

int repair_on_bells(struct service *s, const struct uuid ids[], size_t n)
{
        struct repair_state *state = s->state;
        _cleanup_(repair_candidates_done) struct repair_candidates found = {0};
        int e = repair_rules_fresh(s);

        state->look = true;
        if (e == 0)
                e = repair_finish_refunded(s, ids, n);
        if (e == 0)
                e = repair_candidates_of(s->db, &state->rules, ids, n, &found);
        return e < 0 ? e : repair_open_now(s, &found);
}

static void work(struct service *s)
{
        struct repair_state *state = s->state;
        int64_t until = now_mono_ms() + ROUND_MS;
        bool commands = true, due = true;

        state->look = false;
        while ((commands || due) && now_mono_ms() < until) {
                if (repair_rules_fresh(s) < 0)
                        return;
                if (commands)
                        commands = repair_commands(s);
                if (due)
                        due = repair_due(s);
        }
        if (commands || due) {
                state->look = true;
                service_wake_in(s, 0);
        }
}

void repair_on_round(struct service *s)
{
        struct repair_state *state = s->state;

        if (state->look)
                work(s);
}

int64_t repair_on_tick(struct service *s)
{
        const struct repair_config *config = s->config;
        struct repair_state *state = s->state;

        if (repair_rules_fresh(s) < 0)
                return config->tick_ms;
        ringer_tick(s);
        repair_sweep_tick(s);
        state->look = true;
        service_wake_in(s, 0);
        return config->tick_ms;
}
