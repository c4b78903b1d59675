/* One transaction for a batch of plans: outcomes of open runs (fenced), transitions, new runs, statistics. Then the bells and the calls.
 *
 * Invariants: the answer of a run and the move of its chain are one transaction; a run is in the store before it is sent; a move that is lost takes
 * back the outcome that led to it. A crash before the commit leaves the runs open with their leases, a crash after it leaves new runs in state
 * `calling`: both are taken over and asked about. When the commit's own answer is lost, the new runs are not sent, and are marked so as soon as that
 * is possible. */
#include "services/execution/execution.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void execution_item_plan(struct service *s, struct execution_item *item, const struct execution_result *done)
{
        struct execution_state *state = s->state;

        execution_plan_make(&item->c, &state->operators, done, &item->p);
        item->planned = true;
        if (item->p.call) {
                item->run_id = uuid_v7();
                ++*item->p.call->in_flight;
        }
}

void execution_items_done(struct execution_item items[], size_t n)
{
        for (size_t i = 0; i < n; i++) {
                execution_plan_done(&items[i].p);
                execution_chain_done(&items[i].c);
                free(items[i].outcome_error);
        }
        free(items);
}

bool execution_items_want_fresh(const struct execution_item items[], size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (items[i].task || (items[i].p.n_events > 0 && strcmp(items[i].p.events[items[i].p.n_events - 1].type, "EXECUTION_FAILED") == 0))
                        return true;
        return false;
}

void execution_items_cancel(struct service *s, struct execution_item items[], size_t n)
{
        struct execution_state *state = s->state;

        for (size_t i = 0; i < n; i++)
                if (items[i].p.call)
                        --*items[i].p.call->in_flight;
        execution_items_done(items, n);
        state->operators_read_ms = 0;
}

struct batch {
        struct service *s;
        struct execution_item *items;
        size_t n;
        struct advance advance;
        int64_t began_mono_ms;
};

static int fence(struct batch *b, struct db *db)
{
        _cleanup_(freep) struct execution_outcome *outcomes = xcalloc(b->n + 1, sizeof(*outcomes));
        _cleanup_(freep) bool *in = xcalloc(b->n + 1, sizeof(*in));
        size_t n = 0;
        int e;

        for (size_t i = 0; i < b->n; i++)
                if (b->items[i].run)
                        outcomes[n++] = b->items[i].outcome;
        e = execution_store_outcomes(db, outcomes, n, in);
        if (e < 0)
                return e;
        n = 0;
        for (size_t i = 0; i < b->n; i++)
                b->items[i].in = b->items[i].run ? in[n++] : true;
        return 0;
}

static int work_on_tasks(struct batch *b, struct db *db)
{
        int e = 0;

        for (size_t i = 0; e == 0 && i < b->n; i++)
                if (b->items[i].task)
                        e = execution_task_plan(b->s, db, &b->items[i]);
        return e;
}

static int move(struct batch *b, struct db *db)
{
        advance_reset(&b->advance);
        for (size_t i = 0; i < b->n; i++) {
                struct execution_item *item = &b->items[i];

                item->t = SIZE_MAX;
                if (!item->in || item->p.n_events == 0)
                        continue;
                item->t = advance_move(&b->advance, &item->c.id, item->c.version);
                for (size_t k = 0; k < item->p.n_events; k++)
                        advance_event(&b->advance, item->t, item->p.events[k].type, item->p.events[k].data.s, item->p.events[k].data.len);
        }
        int e = advance_run(&b->advance, db);
        if (e < 0)
                return e;
        for (size_t i = 0; i < b->n; i++) {
                struct execution_item *item = &b->items[i];

                if (item->t == SIZE_MAX || b->advance.t[item->t].verdict == ADVANCE_WON)
                        continue;
                if (item->run || item->task)
                        return -ESTALE; /* its outcome must not be written without the move */
                item->in = false;
        }
        return 0;
}

static int start_runs(struct batch *b, struct db *db)
{
        _cleanup_(freep) struct execution_new_run *runs = xcalloc(b->n + 1, sizeof(*runs));
        _cleanup_(freep) bool *in = xcalloc(b->n + 1, sizeof(*in));
        size_t n = 0;
        int e;

        for (size_t i = 0; i < b->n; i++) {
                const struct execution_item *item = &b->items[i];

                if (!item->in || !item->p.call)
                        continue;
                runs[n++] = (struct execution_new_run){
                        .id = item->run_id,
                        .chain_id = item->c.id,
                        .version = item->t == SIZE_MAX ? item->c.version : b->advance.t[item->t].version,
                        .step = item->p.step,
                        .attempt = item->p.attempt,
                        .tag = item->c.tags[item->p.step],
                        .who = item->p.call->name,
                        .lease_ms = item->p.call->timeout_ms + EXECUTION_LEASE_MARGIN_MS,
                };
        }
        e = execution_store_start(db, b->s->instance, runs, n, in);
        if (e < 0)
                return e;
        n = 0;
        for (size_t i = 0; i < b->n; i++) {
                struct execution_item *item = &b->items[i];
                item->starts = item->in && item->p.call && in[n++];
        }
        return 0;
}

/* --- statistics --- */

struct tallies {
        struct execution_tally *v;
        size_t n;
};

static struct execution_tally *tally_of(struct tallies *all, const char *who)
{
        size_t i = 0;

        while (i < all->n && strcmp(all->v[i].who, who) != 0)
                i++;
        if (i == all->n) {
                all->v = xrealloc(all->v, (all->n + 1) * sizeof(*all->v));
                all->v[all->n++] = (struct execution_tally){.who = who};
        }
        return &all->v[i];
}

static void tally(struct tallies *all, const char *who, const char *error, bool refused, int64_t ms)
{
        struct execution_tally *t = tally_of(all, who);

        if (error)
                t->error = error;
        if (refused) {
                t->refusals++; /* how soon it says no is no measure of its work */
                return;
        }
        *(error ? &t->failures : &t->successes) += 1;
        t->total_ms += ms;
}

static int by_name(const void *a, const void *b)
{
        return strcmp(((const struct execution_tally *)a)->who, ((const struct execution_tally *)b)->who);
}

static struct tallies tally_batch(const struct batch *b)
{
        struct tallies all = {0};

        for (size_t i = 0; i < b->n; i++) {
                const struct execution_item *item = &b->items[i];

                if (!item->in)
                        continue;
                for (size_t k = 0; k < item->p.n_counts; k++)
                        tally(&all, item->p.counts[k].op->name, item->p.counts[k].error, item->p.counts[k].refused, 0);
                if (item->run && item->run->evidence)
                        continue; /* says nothing of the operator */
                if (item->run && strcmp(item->outcome.state, "done") == 0)
                        tally(&all, item->run->who, NULL, false, item->run->took_ms);
                if (item->run && strcmp(item->outcome.state, "failed") == 0)
                        tally(&all, item->run->who, item->outcome.error, item->outcome.refused, item->run->took_ms);
                if (item->run && execution_fault(&item->run->answer))
                        tally_of(&all, item->run->who)->faults++;
        }
        if (all.n > 1)
                qsort(all.v, all.n, sizeof(*all.v), by_name);
        return all;
}

/* An operator that is taken back gets its work back by and by; whether it is avoided is known to the store alone, so its rows are read again. */
static void recover(struct execution_state *state, const struct execution_operator *op, const struct execution_tally *t)
{
        struct execution_slot *slot = execution_slot(state, op->name);

        if (slot->limit < op->max_in_flight)
                slot->limit += t->successes + t->refusals;
        if (t->faults > 0 || (op->avoided && t->successes + t->refusals > 0))
                state->operators_read_ms = 0;
}

/* The cached rows follow at once, so that an operator that has become DISABLED is not chosen for another second. */
static void count_cached(struct batch *b)
{
        struct execution_state *state = b->s->state;
        struct tallies all = tally_batch(b);

        for (size_t i = 0; i < all.n; i++)
                for (size_t k = 0; k < state->operators.n; k++)
                        if (strcmp(state->operators.v[k].name, all.v[i].who) == 0) {
                                state->operators.v[k].successes += all.v[i].successes;
                                state->operators.v[k].failures += all.v[i].failures;
                                state->operators.v[k].total_ms += all.v[i].total_ms;
                                recover(state, &state->operators.v[k], &all.v[i]);
                        }
        free(all.v);
}

/* --- the transaction --- */

static int work(struct db *db, void *arg)
{
        struct batch *b = arg;
        int e = fence(b, db);

        if (e == 0)
                e = work_on_tasks(b, db);
        if (e == 0)
                e = move(b, db);
        if (e == 0)
                e = start_runs(b, db);
        if (e == 0) {
                /* Last, because other instances wait for these rows. */
                struct tallies all = tally_batch(b);
                e = execution_store_tally(db, &((const struct execution_config *)b->s->config)->breaker, all.v, all.n);
                free(all.v);
        }
        return e;
}

static void wait_for_room(struct execution_state *state, const struct execution_item *item)
{
        struct execution_slot *slot = execution_slot(state, item->p.room_for->name);

        (void)waiting_lanes_put(&slot->waiting, item->lane, &item->c.id); /* no place: its bell comes again */
}

static void start_item(struct service *s, const struct execution_item *item, int64_t began_mono_ms)
{
        const struct execution_operator *op = item->p.call;
        struct execution_run *run = xcalloc(1, sizeof(*run));
        struct execution_call call = {
                .run_id = item->run_id,
                .job_id = item->c.id,
                .step = item->p.step,
                .attempt = item->p.attempt,
                .input = slice_of(item->p.input),
                .context = item->c.context,
        };

        run->id = item->run_id;
        run->chain_id = item->c.id;
        run->step = item->p.step;
        run->attempt = item->p.attempt;
        run->epoch = run->sends = 1;
        run->clean = true;
        run->lease_mono_ms = began_mono_ms;
        execution_start_call(s, op, run, &call);
}

static void give_up(struct batch *b, bool uncertain)
{
        struct execution_state *state = b->s->state;

        for (size_t i = 0; i < b->n; i++) {
                if (!b->items[i].p.call)
                        continue;
                --*b->items[i].p.call->in_flight;
                if (!uncertain)
                        continue;
                state->unsent = xrealloc(state->unsent, (state->n_unsent + 1) * sizeof(*state->unsent));
                state->unsent[state->n_unsent++] = b->items[i].run_id;
        }
}

int execution_commit(struct service *s, struct execution_item items[], size_t n)
{
        struct batch b = {.s = s, .items = items, .n = n, .began_mono_ms = now_mono_ms()};
        bool something = false;
        int e = 0;

        for (size_t i = 0; i < n; i++)
                something |= items[i].run || items[i].task || items[i].p.n_events > 0 || items[i].p.call;
        if (something)
                e = db_transaction(s->db, work, &b);
        if (e < 0) {
                give_up(&b, e == -ENOTCONN);
                advance_done(&b.advance);
                return e;
        }

        /* What is ours to move on next we start or remember ourselves. */
        for (size_t i = 0; i < b.advance.n; i++)
                if (strcmp(b.advance.t[i].hearer, s->spec->name) == 0)
                        b.advance.t[i].hearer[0] = '\0';
        service_ring(s, &b.advance);
        if (something)
                count_cached(&b);
        for (size_t i = 0; i < n; i++) {
                if (items[i].run && !items[i].in && items[i].planned)
                        execution_log_late(items[i].run);
                if (items[i].run && items[i].in)
                        execution_workers_committed(s, items[i].run);
                if (items[i].starts)
                        start_item(s, &items[i], b.began_mono_ms);
                else if (items[i].p.call)
                        --*items[i].p.call->in_flight;
                if (items[i].p.room_for && (items[i].in || !something))
                        wait_for_room(s->state, &items[i]);
        }
        advance_done(&b.advance);
        return 0;
}
