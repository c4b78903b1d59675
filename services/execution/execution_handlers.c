/* Bells: chains that execution must move on.
 *
 * Invariant: a chain is planned from what the store says, never from the message, and a chain with an open run is left alone. A crash before the
 * commit leaves the chain where it stood; one after it leaves either a moved chain, whose bell the redelivery rings again, or a committed run, which
 * is taken over when its lease is out. Chains that wait for room at an operator are remembered here only: lost, they are rung again. */
#include "services/execution/builtin.h"
#include "services/execution/execution.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OPERATORS_FRESH_MS 1000
#define WAITING_SERVED_MAX 256 /* chains in one go */

/* Connects the rows with what this instance knows, and drops those it cannot use. */
static void adopt(struct execution_state *state, struct execution_operators *ops)
{
        size_t kept = 0;

        for (size_t i = 0; i < ops->n; i++) {
                struct execution_operator op = ops->v[i];
                struct execution_slot *slot = execution_slot(state, op.name);

                if (!op.url && !builtin_find(op.name) && !execution_task_operator(op.name)) {
                        if (!slot->warned)
                                log_warning("an operator is registered as built in, and is not", LOG_S("operator", op.name));
                        slot->warned = true;
                        struct execution_operator *one = xcalloc(1, sizeof(*one));
                        *one = op;
                        struct execution_operators dropped = {.v = one, .n = 1};
                        execution_operators_done(&dropped);
                        continue;
                }
                op.in_flight = op.url ? &slot->in_flight : NULL;
                op.limit = &slot->limit;
                if (!execution_avoided(&op))
                        slot->avoided = false;
                else if (!slot->avoided) {
                        slot->avoided = true;
                        slot->answers = false;
                        slot->limit = 1;
                        for (size_t lane = 0; lane < WAITING_LANES; lane++)
                                slot->unsettled[lane] = waiting_count(slot->waiting.v[lane]);
                }
                ops->v[kept++] = op;
        }
        ops->n = kept;
}

int execution_refresh(struct service *s, bool *ret_fresh)
{
        struct execution_state *state = s->state;
        struct execution_operators ops;
        int64_t now = now_mono_ms();
        int e;

        *ret_fresh = !state->operators_read_ms || now - state->operators_read_ms >= OPERATORS_FRESH_MS;
        if (!*ret_fresh)
                return 0;
        e = execution_store_operators(s->db, &ops);
        if (e < 0)
                return e;
        adopt(state, &ops);
        execution_operators_done(&state->operators);
        state->operators = ops;
        state->operators_read_ms = now;
        return 0;
}

/* Whether the chain is ours to move; fills item->c. */
static bool take_chain(struct service *s, const struct execution_stand *stand, struct execution_item *item)
{
        const char *why = NULL;

        if (!stand->ours) {
                /* A bell that comes again: the next one may have been lost after our commit. */
                if (strcmp(stand->record.at, "EXECUTION_COMPLETED") == 0 || strcmp(stand->record.at, "EXECUTION_FAILED") == 0)
                        service_ring_one(s, stand->hearer, stand->lane, &stand->id, stand->version);
                return false;
        }
        if (execution_chain_parse(&stand->record, &item->c, &why) < 0) {
                service_quarantine(s, NULL, &stand->id, why, stand->record.job.s, stand->record.job.len);
                return false;
        }
        item->c.id = stand->id;
        item->c.version = stand->version;
        item->lane = stand->lane;
        return !item->c.live;
}

static int plan_bells(struct service *s, const struct uuid ids[], size_t n, struct execution_item items[], size_t *ret_kept)
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = execution_store_read(s->db, ids, n, &r);

        *ret_kept = 0;
        for (int row = 0; e == 0 && row < PQntuples(r); row++) {
                struct execution_stand stand = execution_store_stand(r, row);
                struct execution_item *item = &items[*ret_kept];

                if (take_chain(s, &stand, item)) {
                        item->task = stand.task;
                        if (!item->task)
                                execution_item_plan(s, item, NULL);
                        ++*ret_kept;
                } else {
                        execution_chain_done(&item->c);
                }
        }
        return e;
}

/* Jobs together; tasks one by one, because each is work of its own within its transaction. */
static int commit_all(struct service *s, struct execution_item items[], size_t n)
{
        size_t jobs = 0;
        int e;

        for (size_t i = 0; i < n; i++)
                if (!items[i].task) {
                        struct execution_item job = items[i];

                        items[i] = items[jobs];
                        items[jobs++] = job;
                }
        e = execution_commit(s, items, jobs);
        for (size_t i = jobs; e == 0 && i < n; i++) {
                items[i].broker = bus_connected(s->bus) && bus_flush(s->bus) == 0;
                e = execution_commit(s, &items[i], 1);
                if (e == -ESTALE)
                        e = 0; /* another was faster */
        }
        return e;
}

int execution_on_bells(struct service *s, const struct uuid ids[], size_t n)
{
        for (;;) {
                struct execution_item *items;
                size_t kept;
                bool fresh;
                int e = execution_refresh(s, &fresh);

                if (e < 0)
                        return e;
                items = xcalloc(n + 1, sizeof(*items));
                e = plan_bells(s, ids, n, items, &kept);
                if (e == 0 && !fresh && execution_items_want_fresh(items, kept)) {
                        execution_items_cancel(s, items, kept);
                        continue;
                }
                if (e == 0)
                        e = commit_all(s, items, kept);
                execution_items_done(items, kept);
                return e;
        }
}

_Static_assert(WAITING_LANES == (int)LANE_COUNT, "a list for each lane");

/* Those of one lane who waited before their operator was avoided; 0 when there are none. */
static size_t take_unsettled(struct service *s, struct execution_slot *slot, struct uuid ids[WAITING_SERVED_MAX])
{
        for (size_t i = 0; i < WAITING_LANES; i++) {
                size_t n = slot->unsettled[i] < WAITING_SERVED_MAX ? slot->unsettled[i] : WAITING_SERVED_MAX, taken;

                taken = n > 0 ? waiting_take(slot->waiting.v[i], ids, n) : 0;
                slot->unsettled[i] = taken < n ? 0 : slot->unsettled[i] - n;
                if (taken == 0)
                        continue;
                service_wake_in(s, 0);
                return taken;
        }
        return 0;
}

/* Chains that waited for room, as far as there is room now. Each operator has its own lists, so that a slow one holds up nobody else's. */
void execution_serve_waiting(struct service *s)
{
        struct execution_state *state = s->state;

        for (struct execution_slot *slot = state->slots; slot; slot = slot->next) {
                const struct execution_operator *op = execution_find(&state->operators, slot->name);
                struct uuid ids[WAITING_SERVED_MAX];
                int64_t room = op && !execution_out(op) ? execution_room(op) : INT64_MAX;
                size_t n = take_unsettled(s, slot, ids);

                if (n == 0 && room > 0)
                        n = waiting_lanes_take(&slot->waiting, ids, room < WAITING_SERVED_MAX ? (size_t)room : WAITING_SERVED_MAX);
                if (n == 0)
                        continue;
                if (execution_on_bells(s, ids, n) < 0)
                        log_warning("chains that waited for an operator wait for their next bell", LOG_I("chains", (int64_t)n),
                                LOG_S("error", db_error(s->db)));
        }
}
