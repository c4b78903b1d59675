/* Open runs whose time has come: the outcome is asked, the run is sent again where that is allowed, or it waits, visible.
 *
 * Invariants: whoever looks at a run has taken it first (epoch + 1, committed), so that two instances never act on one; nothing is sent twice unless
 * it is certain that it was not done, or its operator is idempotent. A crash after the take leaves an open run that comes due again. */
#include "services/execution/execution.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS      1000
#define TICK_MORE_MS 20 /* when there was as much as may be taken at once */
#define NO_ROOM_MS   1000
#define SPARED_MS    15000 /* a run of an avoided operator is looked at again at least so often: nobody tells it when the operator is back */

/* One run on its way through a tick. */
struct taken {
        struct execution_due due;
        struct execution_chain c;
        const struct execution_operator *op; /* NULL: not registered any more */
        enum execution_next next;
        bool over;    /* its chain does not wait for it any more */
        bool clean;   /* certainly not done so far */
        bool counted; /* in in_flight */
        struct execution_take take;
};

static bool marked(const struct execution_due *due)
{
        return slice_equal(due->state, "unknown") && due->error.s && strncmp(due->error.s, EXECUTION_RESEND, strlen(EXECUTION_RESEND)) == 0;
}

static bool read_chain(const PGresult *chains, struct taken *t)
{
        const char *why;

        for (int row = 0; row < PQntuples(chains); row++) {
                struct uuid id = db_uuid(chains, row, 0);
                struct execution_stand stand;

                if (!uuid_equal(&id, &t->due.chain_id))
                        continue;
                stand = execution_store_stand(chains, row);
                return stand.ours && execution_chain_parse(&stand.record, &t->c, &why) == 0 && t->c.step == t->due.step;
        }
        return false;
}

static bool other_there(const struct execution_state *state, struct taken *t)
{
        execution_chain_fail(&t->c, t->due.who.s, "its outcome is not known");
        return execution_other(&state->operators, t->due.tag.s, t->c.failed, t->c.n_failed);
}

/* An operator that is avoided is asked and sent to by one probe at a time. One that answers queries is asked for everything that is open there:
 * it may know none of it, which is no success that would end its avoidance, and one query a pause would then go on for hours. */
static bool spared(struct execution_state *state, const struct execution_operator *op, enum execution_next next)
{
        struct execution_slot *slot = execution_slot(state, op->name);

        if (!execution_avoided(op) || (next == EXECUTION_NEXT_ASK && slot->answers))
                return false;
        if (!op->probe_due || slot->in_flight + slot->queries > 0 || slot->probed_ms == state->operators_read_ms)
                return true;
        slot->probed_ms = state->operators_read_ms;
        return false;
}

/* How long to wait with a run because of the bus: without a connection nobody can be called; and after one was missing, or this instance, or all of
 * it stood still for a good part of a lease (the worker too, when it was the machine), its worker has the time of a lease to be heard again. 0: not
 * at all. */
static int64_t deaf_ms(struct service *s, const struct execution_operator *op, bool beaten)
{
        const struct execution_state *state = s->state;
        int64_t since_ms = state->hears_since_ms, hears_ms;

        if (!op || op->transport != EXECUTION_BUS)
                return 0;
        if (!bus_connected(s->bus))
                return NO_ROOM_MS;
        if (2 * state->stood_ms >= op->lease_ms && state->stood_until_ms > since_ms)
                since_ms = state->stood_until_ms;
        hears_ms = now_mono_ms() - since_ms;
        return beaten && hears_ms < op->lease_ms ? op->lease_ms - hears_ms : 0;
}

/* Whether beats may have gone unheard since the last look. Standing still again and again does not count again and again: a worker that is dead must
 * be noticed by an execution that is always late, too. */
static void notice_breaks(struct service *s)
{
        struct execution_state *state = s->state;
        int64_t now = now_mono_ms(), stood_ms = now - state->ticked_ms - TICK_MS;
        unsigned epoch = bus_epoch(s->bus);

        if (!bus_connected(s->bus) || epoch != state->bus_epoch)
                state->hears_since_ms = now;
        state->bus_epoch = epoch;
        if (state->ticked_ms && stood_ms > 0 && (stood_ms > state->stood_ms || now - state->stood_until_ms > 4 * state->stood_ms)) {
                state->stood_ms = stood_ms;
                state->stood_until_ms = now;
        }
        state->ticked_ms = now;
}

static void decide(struct service *s, struct taken *t)
{
        const struct execution_config *config = s->config;
        struct execution_state *state = s->state;
        struct execution_open_run open = {.decided = t->due.decided.len > 0, .resend_marked = marked(&t->due), .probes = t->due.probes};
        /* Who is found calling has ended without writing what came of it. */
        bool lost = slice_equal(t->due.state, "calling"), accepted = slice_equal(t->due.state, "accepted");
        int64_t deaf = deaf_ms(s, execution_find(&state->operators, t->due.who.s), t->due.beaten);
        bool silent = accepted && t->due.beaten && deaf == 0;
        const char *waits = accepted && !silent ? "accepted" : "unknown";
        bool spares = false;

        t->take = (struct execution_take){.id = t->due.id,
                .state = waits,
                .error = lost     ? "the caller ended before an answer came"
                         : silent ? "its worker has fallen silent"
                                  : t->due.error.s,
                .probes = t->due.probes + 1};
        if (t->over) {
                t->take.state = "failed";
                t->take.error = "its step is over";
                return;
        }
        t->op = execution_find(&state->operators, t->due.who.s);
        t->clean = open.resend_marked;
        open.other = other_there(state, t);
        t->next = execution_resolve(t->op, &open);
        if (deaf > 0 && t->next != EXECUTION_NEXT_DECIDED) {
                t->next = EXECUTION_NEXT_WAIT;
                t->take.probes = t->due.probes;
        } else if ((t->next == EXECUTION_NEXT_ASK || t->next == EXECUTION_NEXT_SEND) && spared(state, t->op, t->next)) {
                t->next = execution_spare(t->op, &open);
                t->take.probes = t->due.probes;
                spares = true;
        }
        switch (t->next) {
        case EXECUTION_NEXT_ASK:
                t->take.hold_ms = config->status_timeout_ms + EXECUTION_LEASE_MARGIN_MS;
                break;
        case EXECUTION_NEXT_SEND:
                if (!execution_has_room(t->op)) {
                        t->next = EXECUTION_NEXT_WAIT;
                        t->take.probes = t->due.probes;
                        t->take.hold_ms = NO_ROOM_MS;
                        break;
                }
                ++*t->op->in_flight;
                t->counted = true;
                t->take.state = "calling";
                t->take.error = NULL;
                t->take.call = true;
                if (t->clean)
                        t->take.probes = 0; /* as if for the first time: what was asked before says nothing about this call */
                t->take.hold_ms = t->op->timeout_ms + EXECUTION_LEASE_MARGIN_MS;
                break;
        case EXECUTION_NEXT_WAIT:
                t->take.hold_ms = deaf > 0 ? deaf
                                  : spares ? (t->op->pause_ms < SPARED_MS ? t->op->pause_ms : SPARED_MS) + execution_backoff(state, 0)
                                           : execution_backoff(state, t->due.probes);
                break;
        case EXECUTION_NEXT_OTHER:
        case EXECUTION_NEXT_DECIDED:
                t->take.hold_ms = EXECUTION_LEASE_MARGIN_MS;
                break;
        }
}

static int take(struct service *s, struct taken **ret_taken, size_t *ret_n, PGresult **ret_due)
{
        const struct execution_config *config = s->config;
        _cleanup_(PQclearp) PGresult *chains = NULL;
        _cleanup_(freep) struct uuid *ids = NULL;
        _cleanup_(freep) struct execution_take *takes = NULL;
        size_t n;
        int e = execution_store_due(s->db, config->take_over, ret_due);

        if (e < 0)
                return e;
        n = (size_t)PQntuples(*ret_due);
        *ret_taken = xcalloc(n + 1, sizeof(**ret_taken));
        *ret_n = n;
        if (n == 0)
                return 0;
        ids = xcalloc(n, sizeof(*ids));
        takes = xcalloc(n, sizeof(*takes));
        for (size_t i = 0; i < n; i++) {
                (*ret_taken)[i].due = execution_store_due_row(*ret_due, (int)i);
                ids[i] = (*ret_taken)[i].due.chain_id;
        }
        e = execution_store_read(s->db, ids, n, &chains);
        if (e < 0)
                return e;
        for (size_t i = 0; i < n; i++) {
                struct taken *t = &(*ret_taken)[i];
                t->over = !read_chain(chains, t);
                decide(s, t);
                takes[i] = t->take;
        }
        return execution_store_take(s->db, s->instance, takes, n);
}

static void take_decision(const struct execution_due *due, struct execution_run *run)
{
        struct strbuf evidence = {0};

        execution_read_decision(slice_equal(due->decided, "done"), due->output, &run->answer);
        strbuf_adds(&evidence, "{\"kind\":\"person\",\"who\":");
        strbuf_add_json(&evidence, due->by.s, due->by.len);
        strbuf_adds(&evidence, ",\"reference\":");
        strbuf_add_json(&evidence, due->reference.s, due->reference.len);
        strbuf_addc(&evidence, '}');
        run->evidence = strbuf_take(&evidence);
}

static void act(struct service *s, struct taken *t, int64_t began_mono_ms)
{
        struct execution_run *run;

        if (t->over || t->next == EXECUTION_NEXT_WAIT)
                return;
        run = xcalloc(1, sizeof(*run));
        run->id = t->due.id;
        run->chain_id = t->due.chain_id;
        run->step = t->due.step;
        run->attempt = t->due.attempt;
        run->epoch = t->due.epoch + 1;
        run->probes = t->take.probes;
        run->sends = t->due.sends + t->take.call;
        run->age_ms = t->due.age_ms;
        run->call_over = t->due.call_over;
        run->clean = t->clean;
        run->lease_mono_ms = began_mono_ms;
        if (t->next == EXECUTION_NEXT_ASK) {
                execution_start_query(s, t->op, run);
        } else if (t->next == EXECUTION_NEXT_SEND) {
                struct execution_call call = {.run_id = run->id,
                        .job_id = run->chain_id,
                        .step = run->step,
                        .attempt = run->attempt,
                        .input = t->c.input,
                        .context = t->c.context};
                execution_start_call(s, t->op, run, &call);
        } else {
                run->service = s;
                run->who = xstrndup(t->due.who.s, t->due.who.len);
                run->taken_mono_ms = now_mono_ms();
                if (t->next == EXECUTION_NEXT_DECIDED)
                        take_decision(&t->due, run);
                else
                        run->answer = (struct execution_answer){
                                .verdict = EXECUTION_FAILED, .error = xstrdup("no outcome in time: given to another operator")};
                execution_run_ended(run);
        }
}

static int take_over(struct service *s, bool *ret_more)
{
        const struct execution_config *config = s->config;
        _cleanup_(PQclearp) PGresult *due = NULL;
        struct taken *taken = NULL;
        size_t n = 0;
        int64_t began_mono_ms = now_mono_ms();
        int e = db_begin(s->db);

        if (e < 0)
                return e;
        e = take(s, &taken, &n, &due);
        if (e == 0)
                e = db_commit(s->db);
        if (e < 0)
                db_rollback(s->db);
        for (size_t i = 0; i < n; i++) {
                if (e == 0)
                        act(s, &taken[i], began_mono_ms);
                else if (taken[i].counted)
                        --*taken[i].op->in_flight;
                execution_chain_done(&taken[i].c);
        }
        free(taken);
        if (n > 0)
                service_wake_in(s, 0); /* a tick comes after its round: what was begun here must not wait for the next bell */
        *ret_more = e == 0 && (int64_t)n == config->take_over;
        return e;
}

int64_t execution_on_tick(struct service *s)
{
        struct execution_state *state = s->state;
        bool more = false, fresh;
        int e;

        notice_breaks(s);
        if (!db_connected(s->db))
                return TICK_MS;
        e = execution_refresh(s, &fresh);
        if (e == 0 && state->n_unsent > 0) {
                e = execution_store_unsent(s->db, s->instance, state->unsent, state->n_unsent);
                if (e == 0)
                        state->n_unsent = 0;
        }
        if (e == 0)
                e = take_over(s, &more);
        if (e < 0 && e != -ENOTCONN && e != -EAGAIN)
                log_error("cannot look at open runs", LOG_S("error", db_error(s->db)));
        return more ? TICK_MORE_MS : TICK_MS;
}
