/* What operators answered, committed per round and set-based.
 *
 * Invariants: an outcome is written only while its run is open and its lease is ours (a `done` is a fact and counts in any case), together with the
 * move of its chain; an outcome that is not certain moves nothing. A crash before the commit leaves an open run: it is asked about after its lease.
 */
#include "services/execution/execution.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OUTCOMES_MAX   256
#define OUTCOME_TRIES  3
#define OUTCOMES_RETRY 200 /* ms */

static void outcome(struct execution_item *item, const char *state, const char *error, int64_t next_ms)
{
        item->outcome_error = error ? xstrdup(error) : NULL;
        item->outcome = (struct execution_outcome){.id = item->run->id,
                .epoch = item->run->epoch,
                .state = state,
                .error = item->outcome_error,
                .next_ms = next_ms,
                .probes = item->run->probes};
}

static void fail_run(struct service *s, struct execution_item *item)
{
        const char *error = item->run->answer.error;

        outcome(item, "failed", error, 0);
        item->outcome.refused = item->run->answer.refused;
        execution_chain_fail(&item->c, item->run->who, error);
        execution_item_plan(s, item, NULL);
}

/* It was certainly not done: the same operator again, another one, or nobody is left. */
static void not_done(struct service *s, struct execution_item *item)
{
        const struct execution_config *config = s->config;
        struct execution_state *state = s->state;
        struct execution_run *run = item->run;
        struct execution_attempt failed[EXECUTION_STEPS_MAX * 4];
        size_t n = 0;
        bool other;

        for (size_t i = 0; i < item->c.n_failed && n < ARRAY_SIZE(failed) - 1; i++)
                failed[n++] = item->c.failed[i];
        failed[n++] = (struct execution_attempt){.who = run->who, .error = run->answer.error};
        other = execution_other(&state->operators, item->c.tags[run->step], failed, n);
        if (execution_gives_up(run->answer.verdict, run->sends - 1, (int)config->resend_tries, other)) {
                fail_run(s, item);
                return;
        }
        _cleanup_(strbuf_done) struct strbuf error = {0};
        strbuf_addf(&error, EXECUTION_RESEND "%s", run->answer.error);
        outcome(item, "unknown", error.s, execution_backoff(state, run->sends - 1));
}

static void decide(struct service *s, struct execution_item *item)
{
        struct execution_state *state = s->state;
        struct execution_run *run = item->run;
        const struct execution_operator *op;

        switch (run->answer.verdict) {
        case EXECUTION_DONE:
                outcome(item, "done", NULL, 0);
                execution_item_plan(s, item,
                        &(struct execution_result){.who = run->who,
                                .run_id = run->id,
                                .attempt = run->attempt,
                                .took_ms = run->took_ms,
                                .output = slice_of(run->answer.output),
                                .evidence = slice_of(run->evidence)});
                break;
        case EXECUTION_ACCEPTED:
                op = execution_find(&state->operators, run->who);
                outcome(item, "accepted", NULL, execution_backoff(state, run->probes));
                if (op && op->transport == EXECUTION_BUS)
                        item->outcome.beat_ms = item->outcome.next_ms = op->lease_ms;
                item->outcome.worker = run->answer.worker;
                break;
        case EXECUTION_FAILED:
                fail_run(s, item);
                break;
        case EXECUTION_UNKNOWN:
                outcome(item, "unknown", run->answer.error, execution_backoff(state, run->probes));
                break;
        case EXECUTION_NOT_SENT:
        case EXECUTION_NOT_KNOWN:
                not_done(s, item);
                break;
        }
}

/* Whether the chain still waits for this run. */
static bool take_run(const PGresult *r, struct execution_run *run, struct execution_item *item)
{
        const char *why = NULL;

        for (int row = 0; row < PQntuples(r); row++) {
                struct execution_stand stand;
                struct uuid id = db_uuid(r, row, 0);

                if (!uuid_equal(&id, &run->chain_id))
                        continue;
                stand = execution_store_stand(r, row);
                if (!stand.ours || execution_chain_parse(&stand.record, &item->c, &why) < 0)
                        return false;
                item->c.id = stand.id;
                item->c.version = stand.version;
                item->lane = stand.lane;
                item->run = run;
                return item->c.live && item->c.step == run->step;
        }
        return false;
}

/* The oldest answers, at most one per chain, in their order. */
static size_t pick(struct execution_state *state, struct execution_run *picked[OUTCOMES_MAX])
{
        size_t n = 0, max = state->outcome_batch < OUTCOMES_MAX ? state->outcome_batch : OUTCOMES_MAX;

        for (struct execution_run *run = state->ended; run && n < max; run = run->next) {
                bool twice = false;
                for (size_t i = 0; i < n; i++)
                        twice |= uuid_equal(&picked[i]->chain_id, &run->chain_id);
                if (!twice)
                        picked[n++] = run;
        }
        return n;
}

/* Takes the picked ones off the list. Both are in the same order. */
static void drop(struct execution_state *state, struct execution_run *const picked[], size_t n)
{
        struct execution_run **at = &state->ended;

        for (size_t i = 0; i < n;) {
                struct execution_run *run = *at;
                if (run != picked[i]) {
                        at = &run->next;
                        continue;
                }
                *at = run->next;
                execution_run_free(run);
                state->n_ended--;
                i++;
        }
        while (*at)
                at = &(*at)->next;
        state->ended_tail = at;
        if (!state->ended)
                state->outcome_batch = OUTCOMES_MAX;
}

void execution_log_late(const struct execution_run *run)
{
        char id[UUID_TEXT_SIZE];

        uuid_format(&run->id, id);
        log_warning("an answer came for a run that is over, ignoring it", LOG_S("operator", run->who), LOG_S("run", id),
                LOG_S("answer", run->answer.verdict == EXECUTION_DONE ? "done"
                                : run->answer.error                   ? run->answer.error
                                                                      : "not final"));
}

static size_t plan_outcomes(struct service *s, const PGresult *r, struct execution_run *const picked[], size_t n, struct execution_item items[])
{
        size_t kept = 0;

        for (size_t i = 0; i < n; i++) {
                if (take_run(r, picked[i], &items[kept])) {
                        decide(s, &items[kept]);
                        kept++;
                } else {
                        execution_log_late(picked[i]);
                        execution_chain_done(&items[kept].c);
                        items[kept] = (struct execution_item){0};
                }
        }
        return kept;
}

static int commit(struct service *s, struct execution_run *const picked[], size_t n)
{
        struct uuid ids[OUTCOMES_MAX];

        for (size_t i = 0; i < n; i++)
                ids[i] = picked[i]->chain_id;
        for (;;) {
                _cleanup_(PQclearp) PGresult *r = NULL;
                struct execution_item *items;
                size_t kept;
                bool fresh;
                int e = execution_refresh(s, &fresh);

                if (e == 0)
                        e = execution_store_read(s->db, ids, n, &r);
                if (e < 0)
                        return e;
                items = xcalloc(n + 1, sizeof(*items));
                kept = plan_outcomes(s, r, picked, n, items);
                if (!fresh && execution_items_want_fresh(items, kept)) {
                        execution_items_cancel(s, items, kept);
                        continue;
                }
                e = execution_commit(s, items, kept);
                execution_items_done(items, kept);
                return e;
        }
}

void execution_commit_outcomes(struct service *s)
{
        struct execution_state *state = s->state;
        struct execution_run *picked[OUTCOMES_MAX];
        int64_t now = now_mono_ms();
        size_t n;
        int e;

        if (!state->ended)
                return;
        if (now < state->outcomes_at_ms) {
                service_wake_in(s, state->outcomes_at_ms - now);
                return;
        }
        n = pick(state, picked);
        if (n == 0)
                return;
        e = commit(s, picked, n);
        if (e == 0) {
                drop(state, picked, n);
        } else if (e == -ENOTCONN || e == -EAGAIN) {
                state->outcomes_at_ms = now + OUTCOMES_RETRY;
        } else if (n > 1) {
                log_warning("outcomes failed as a batch and are tried one by one", LOG_I("runs", (int64_t)n), LOG_S("error", db_error(s->db)));
                state->outcome_batch = 1;
        } else if (++picked[0]->tries >= OUTCOME_TRIES) {
                service_quarantine(s, NULL, &picked[0]->chain_id, "the outcome of a run cannot be committed", picked[0]->answer.output,
                        picked[0]->answer.output ? strlen(picked[0]->answer.output) : 0);
                drop(state, picked, n);
        } else {
                state->outcomes_at_ms = now + OUTCOMES_RETRY;
        }
        if (state->ended)
                service_wake_in(s, state->outcomes_at_ms > now ? state->outcomes_at_ms - now : 0);
}
