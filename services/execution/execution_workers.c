/* What workers on the bus say of their own accord: beats, which renew the lease of a run, and results.
 *
 * Invariants: a worker hears "committed" only after the commit, and "over" only when the store says that the run is not its own; when the store
 * cannot be asked it hears nothing, and says it again. A crash forgets what was heard and not answered: it is said again too. */
#include "services/execution/execution.h"

#include "proto/encoding.h"
#include "proto/subjects.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE "execution"

int execution_workers_listen(struct service *s)
{
        char beats[64], results[64];
        int e;

        snprintf(beats, sizeof(beats), SUBJECT_BEAT, "*");
        snprintf(results, sizeof(results), SUBJECT_RESULT, "*");
        e = bus_subscribe(s->bus, beats, QUEUE);
        return e < 0 ? e : bus_subscribe(s->bus, results, QUEUE);
}

/* status: held, committed, over, invalid. */
static void answer(struct service *s, const struct execution_said *said, const char *status, const char *error)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        if (!said->reply)
                return;
        execution_word_answer(&b, said->result, status, error, said->protobuf);
        (void)bus_publish(s->bus, said->reply, NULL, &(struct bus_header){"Content-Type", encoding_content_type(said->protobuf)}, 1, b.s, b.len);
}

static void said_done(struct execution_said *said)
{
        execution_word_done(&said->word);
        free(said->who);
        free(said->reply);
}

void execution_workers_forget(struct execution_state *state)
{
        for (size_t i = 0; i < state->n_said; i++)
                said_done(&state->said[i]);
        free(state->said);
        state->said = NULL;
        state->n_said = 0;
}

/* aethelos.operator.<name>.<beat or result> */
static char *operator_of(const char *subject, bool *ret_result)
{
        const char *name = subject + strlen(SUBJECT_OPERATOR) - strlen("%s"), *end = strrchr(subject, '.');

        *ret_result = strcmp(end, ".result") == 0;
        return xstrndup(name, (size_t)(end - name));
}

/* JSON may begin with white space; no beat or result in protobuf does so before a '{'. */
static bool is_protobuf(const struct bus_message *m)
{
        size_t blank = strspn(m->data, " \t\r\n");

        return encoding_is_protobuf(bus_message_header(m, "Content-Type"), m->data + blank, m->len - blank);
}

void execution_workers_heard(struct service *s, struct bus_message *m)
{
        const struct execution_config *config = s->config;
        struct execution_state *state = s->state;
        struct execution_said said = {.reply = m->reply ? xstrdup(m->reply) : NULL};
        const char *why = "longer than an output may be";

        said.who = operator_of(m->subject, &said.result);
        said.protobuf = is_protobuf(m);
        if (m->len <= (size_t)config->output_max)
                why = execution_read_worker((struct slice){m->data, m->len}, said.protobuf, said.result, &said.word);
        if (why) {
                answer(s, &said, "invalid", why);
                said_done(&said);
        } else {
                state->said = xrealloc(state->said, (state->n_said + 1) * sizeof(*state->said));
                state->said[state->n_said++] = said;
        }
        bus_drop(s->bus, m);
}

void execution_workers_committed(struct service *s, struct execution_run *run)
{
        answer(s, &(struct execution_said){.reply = run->reply, .result = true, .protobuf = run->protobuf}, "committed", NULL);
}

/* The result stands for the answer to a call, under the epoch that was read: whoever takes the run meanwhile is not overtaken, but for a `done`. */
static void result(struct service *s, struct execution_said *said, const struct execution_due *held)
{
        struct execution_run *run = xcalloc(1, sizeof(*run));

        *run = (struct execution_run){.service = s,
                .id = said->word.run_id,
                .chain_id = held->chain_id,
                .step = held->step,
                .attempt = held->attempt,
                .epoch = held->epoch,
                .probes = held->probes,
                .sends = held->sends,
                .answer = said->word.answer,
                .age_ms = held->age_ms,
                .taken_mono_ms = now_mono_ms()};
        run->who = TAKE_PTR(said->who);
        run->reply = TAKE_PTR(said->reply);
        run->protobuf = said->protobuf;
        said->word.answer = (struct execution_answer){0};
        execution_run_ended(run);
}

static int serve_results(struct service *s, struct execution_said said[], size_t n)
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        _cleanup_(freep) bool *known = xcalloc(n, sizeof(*known));
        int e = execution_store_held(s->db, said, n, &r);

        for (int row = 0; e == 0 && row < PQntuples(r); row++) {
                struct execution_held held;
                struct execution_due run;
                size_t i = execution_store_held_row(r, row, &held, &run);

                known[i] = true;
                switch (execution_judge_result(&said[i].word, &held)) {
                case EXECUTION_CLAIM_TAKE:
                        result(s, &said[i], &run);
                        break;
                case EXECUTION_CLAIM_REPEATED:
                        answer(s, &said[i], "committed", NULL);
                        break;
                case EXECUTION_CLAIM_OVER:
                        answer(s, &said[i], "over", NULL);
                        break;
                }
        }
        for (size_t i = 0; e == 0 && i < n; i++)
                if (!known[i])
                        answer(s, &said[i], "over", NULL);
        return e;
}

static int serve_beats(struct service *s, struct execution_said said[], size_t n)
{
        int e = execution_store_beats(s->db, said, n);

        for (size_t i = 0; e == 0 && i < n; i++)
                answer(s, &said[i], said[i].held ? "held" : "over", NULL);
        return e;
}

void execution_workers_serve(struct service *s)
{
        struct execution_state *state = s->state;
        _cleanup_(freep) struct execution_said *results = NULL;
        size_t beats = 0, n = 0;
        int e = 0;

        if (state->n_said == 0)
                return;
        /* Beats to the front, results behind them. */
        results = xcalloc(state->n_said, sizeof(*results));
        for (size_t i = 0; i < state->n_said; i++)
                if (state->said[i].result)
                        results[n++] = state->said[i];
                else
                        state->said[beats++] = state->said[i];
        memcpy(state->said + beats, results, n * sizeof(*results));
        if (beats > 0)
                e = serve_beats(s, state->said, beats);
        if (e == 0 && n > 0)
                e = serve_results(s, state->said + beats, n);
        if (e < 0 && e != -ENOTCONN && e != -EAGAIN)
                log_warning("what workers say cannot be used now", LOG_I("messages", (int64_t)state->n_said), LOG_S("error", db_error(s->db)));
        execution_workers_forget(state);
}
