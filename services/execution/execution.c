/* aethelos-execution: runs the steps of paid jobs on operators, built in, over HTTP or on the bus. Built-in work is done within the batch that hears
 * of it; outside calls are committed first (operator_run), made afterwards, hundreds at once, and what came of them is committed again. */
#include "services/execution/execution.h"

#include "base/hash.h"

#include <stdlib.h>

static const struct setting settings[] = {
        {"resend_tries", SETTING_INT, "4", 0, 100, offsetof(struct execution_config, resend_tries), false,
                "how often a run that certainly reached no operator is sent again before it counts as failed"},
        {"status_timeout_ms", SETTING_INT, "10000", 100, 600000, offsetof(struct execution_config, status_timeout_ms), false,
                "time-out of a status query, ms"},
        {"output_max", SETTING_INT, "1048576", 1024, 16 << 20, offsetof(struct execution_config, output_max), false,
                "longest answer of an operator, bytes"},
        {"take_over", SETTING_INT, "128", 1, 1024, offsetof(struct execution_config, take_over), false, "open runs that are looked at in one go"},
        {"avoid_after", SETTING_INT, "5", 1, 1000, offsetof(struct execution_config, breaker.streak), false,
                "faults of an operator in a row after which it is avoided"},
        {"avoid_first_ms", SETTING_INT, "5000", 100, 3600000, offsetof(struct execution_config, breaker.first_ms), false,
                "first pause of an operator that is avoided, ms; doubles with every probe that fails"},
        {"avoid_max_ms", SETTING_INT, "300000", 100, 86400000, offsetof(struct execution_config, breaker.max_ms), false,
                "longest pause of an operator that is avoided, ms"},
        {0},
};

static const struct service_subject subjects[] = {
        {"says", "aethelos.hop.ledger.*", "Envelope"},
        {"says", "aethelos.hop.meta-repair.*", "Envelope"},
        {"says", "aethelos.operator.*", "Call"},
        {"says", "aethelos.operator.*.status", "Question"},
        {"hears", "aethelos.operator.*.beat", "Beat"},
        {"hears", "aethelos.operator.*.result", "Result"},
        {0},
};

static int init(struct service *s)
{
        struct execution_state *state = xcalloc(1, sizeof(*state));
        int e = httpc_open(&state->http);

        if (e < 0) {
                free(state);
                return e;
        }
        state->ended_tail = &state->ended;
        state->outcome_batch = SIZE_MAX;
        state->hears_since_ms = now_mono_ms();
        (void)random_bytes(state->jitter, sizeof(state->jitter));
        s->state = state;
        return execution_workers_listen(s);
}

/* Calls that are still under way end here as unknown; their runs stand in the store with a lease and are taken over. */
static void fini(struct service *s)
{
        struct execution_state *state = s->state;

        if (!state)
                return;
        state->http = httpc_free(state->http);
        bus_end_calls(s->bus);
        execution_workers_forget(state);
        for (struct execution_run *run = state->ended, *next; run; run = next) {
                next = run->next;
                execution_run_free(run);
        }
        for (struct execution_slot *slot = state->slots, *next; slot; slot = next) {
                next = slot->next;
                waiting_lanes_done(&slot->waiting);
                free(slot->name);
                free(slot);
        }
        execution_operators_done(&state->operators);
        free(state->unsent);
        free(state);
        s->state = NULL;
}

static void on_round(struct service *s)
{
        struct execution_state *state = s->state;
        int64_t ms;

        httpc_run(state->http);
        execution_workers_serve(s);
        execution_commit_outcomes(s);
        execution_serve_waiting(s);
        ms = httpc_timeout_ms(state->http);
        if (ms >= 0)
                service_wake_in(s, ms);
}

static int fd(struct service *s)
{
        return httpc_fd(((struct execution_state *)s->state)->http);
}

static size_t busy(struct service *s)
{
        const struct execution_state *state = s->state;

        return httpc_in_flight(state->http) + bus_calls(s->bus) + state->n_ended;
}

static const struct service_spec execution = {
        .name = "execution",
        .settings = settings,
        .config_size = sizeof(struct execution_config),
        .subjects = subjects,
        .hears_hops = true,
        .generic_plans = true,
        .init = init,
        .fini = fini,
        .on_bells = execution_on_bells,
        .on_message = execution_workers_heard,
        .on_round = on_round,
        .on_tick = execution_on_tick,
        .fd = fd,
        .busy = busy,
};

int main(int argc, char *argv[])
{
        return service_run(argc, argv, &execution);
}
