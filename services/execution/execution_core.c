/* Pure decisions of execution: choice of operators, handling of open runs, what is sent.
 *
 * Invariant kept here: a run is sent a second time, or its step given to another operator, only when it is certain that it was not done, or when its
 * operator was registered as idempotent. Everything else is asked about, or waits where people can see it. No clock, no database, no network: a crash
 * leaves nothing. */
#include "services/execution/execution_core.h"

#include "proto/aethelos.pb-c.h"
#include "proto/pbjson.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- operators --- */

void execution_operators_done(struct execution_operators *ops)
{
        for (size_t i = 0; i < ops->n; i++) {
                struct execution_operator *op = &ops->v[i];
                for (size_t k = 0; k < op->n_tags; k++)
                        free(op->tags[k]);
                for (size_t k = 0; k < op->n_fallback_for; k++)
                        free(op->fallback_for[k]);
                free(op->tags);
                free(op->fallback_for);
                free(op->name);
                free(op->url);
                free(op->status_url);
        }
        free(ops->v);
        *ops = (struct execution_operators){0};
}

enum execution_health execution_health(const struct execution_operator *op)
{
        if (op->failures >= 3 && op->successes == 0)
                return EXECUTION_DISABLED;
        return op->failures > op->successes ? EXECUTION_DEGRADED : EXECUTION_HEALTHY;
}

const char *execution_health_name(const struct execution_operator *op)
{
        static const char *const names[] = {[EXECUTION_HEALTHY] = "healthy", [EXECUTION_DEGRADED] = "degraded", [EXECUTION_DISABLED] = "disabled"};

        return names[execution_health(op)];
}

double execution_score(const struct execution_operator *op)
{
        double runs = (double)op->successes + (double)op->failures;
        double rate = runs > 0 ? (double)op->successes / runs : 0.5;
        double average_ms = runs > 0 ? (double)op->total_ms / runs : 0;

        return 0.6 * rate + 0.3 / (average_ms + 1) + 0.1 * (execution_health(op) == EXECUTION_HEALTHY ? 1 : 0.7);
}

bool execution_avoided(const struct execution_operator *op)
{
        return op->avoided || execution_health(op) == EXECUTION_DISABLED;
}

bool execution_out(const struct execution_operator *op)
{
        return execution_health(op) == EXECUTION_DISABLED && !op->probe_due;
}

int64_t execution_room(const struct execution_operator *op)
{
        int64_t most = op->max_in_flight;

        if (!op->in_flight)
                return INT64_MAX;
        if (op->limit && *op->limit < most)
                most = *op->limit;
        if (execution_avoided(op))
                most = op->probe_due ? 1 : 0;
        return most > *op->in_flight ? most - *op->in_flight : 0;
}

bool execution_has_room(const struct execution_operator *op)
{
        return execution_room(op) > 0;
}

static bool listed(char *const list[], size_t n, const char *s)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(list[i], s) == 0)
                        return true;
        return false;
}

const struct execution_operator *execution_find(const struct execution_operators *ops, const char *name)
{
        for (size_t i = 0; i < ops->n; i++)
                if (strcmp(ops->v[i].name, name) == 0)
                        return &ops->v[i];
        return NULL;
}

static bool has_failed(const char *name, const struct execution_attempt failed[], size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(failed[i].who, name) == 0)
                        return true;
        return false;
}

static bool stands_in(const struct execution_operators *ops, const struct execution_operator *op, const char *tag,
        const struct execution_attempt failed[], size_t n_failed)
{
        for (size_t i = 0; i < op->n_fallback_for; i++) {
                const char *whom = op->fallback_for[i];
                const struct execution_operator *other = execution_find(ops, whom);

                if (strcmp(whom, tag) == 0 || has_failed(whom, failed, n_failed))
                        return true;
                if (other && other != op && listed(other->tags, other->n_tags, tag))
                        return true;
        }
        return false;
}

enum rank { RANK_PROBE, RANK_FIRST, RANK_SECOND, RANK_AVOIDED, RANK_NEVER };

/* An operator without a url computes at once, and risks nothing. */
static enum rank rank(const struct execution_operator *op, bool second)
{
        bool probe = op->probe_due && execution_has_room(op);

        if (!execution_avoided(op))
                return second ? RANK_SECOND : RANK_FIRST;
        if (probe && !second && (!op->url || op->status_url || op->idempotent))
                return RANK_PROBE;
        /* Who finds the probe under way waits for what comes of it. */
        return execution_out(op) ? RANK_NEVER : RANK_AVOIDED;
}

static const struct execution_operator *choose(
        const struct execution_operators *ops, const char *tag, const struct execution_attempt failed[], size_t n_failed, bool avoided_too)
{
        const struct execution_operator *best = NULL;
        enum rank best_rank = RANK_NEVER;

        for (size_t i = 0; i < ops->n; i++) {
                const struct execution_operator *op = &ops->v[i];
                /* Whoever is registered as a fallback here comes after those who are not, even if it has the tag too. */
                bool second = stands_in(ops, op, tag, failed, n_failed);

                if (!second && !listed(op->tags, op->n_tags, tag))
                        continue;
                enum rank r = rank(op, second);
                if (r == RANK_NEVER || (!avoided_too && execution_avoided(op)) || has_failed(op->name, failed, n_failed))
                        continue;
                if (best) {
                        double a = execution_score(op), b = execution_score(best);
                        if (r != best_rank ? r > best_rank : a < b || (a <= b && strcmp(op->name, best->name) > 0))
                                continue;
                }
                best = op;
                best_rank = r;
        }
        return best;
}

const struct execution_operator *execution_choose(
        const struct execution_operators *ops, const char *tag, const struct execution_attempt failed[], size_t n_failed)
{
        return choose(ops, tag, failed, n_failed, true);
}

bool execution_other(const struct execution_operators *ops, const char *tag, const struct execution_attempt failed[], size_t n_failed)
{
        return choose(ops, tag, failed, n_failed, false) != NULL;
}

/* --- a run whose outcome is open --- */

enum execution_next execution_resolve(const struct execution_operator *op, const struct execution_open_run *run)
{
        if (run->decided)
                return EXECUTION_NEXT_DECIDED;
        if (!op || !op->url)
                return EXECUTION_NEXT_WAIT;
        if (run->resend_marked)
                return EXECUTION_NEXT_SEND;
        if (op->idempotent && run->other && run->probes >= EXECUTION_PROBES_BEFORE_OTHER)
                return EXECUTION_NEXT_OTHER;
        if (op->status_url)
                return EXECUTION_NEXT_ASK;
        return op->idempotent ? EXECUTION_NEXT_SEND : EXECUTION_NEXT_WAIT;
}

enum execution_next execution_spare(const struct execution_operator *op, const struct execution_open_run *run)
{
        return run->other && (run->resend_marked || op->idempotent) ? EXECUTION_NEXT_OTHER : EXECUTION_NEXT_WAIT;
}

bool execution_gives_up(enum execution_verdict verdict, int tries, int tries_max, bool other)
{
        if (tries >= tries_max)
                return true;
        /* An operator that cannot be reached is left at once when there is another; one that lost the run has it sent again. */
        return verdict == EXECUTION_NOT_SENT && other;
}

int64_t execution_backoff_ms(int probes, double jitter)
{
        int64_t ms = probes < 0 ? 1000 : probes >= 6 ? EXECUTION_BACKOFF_MAX_MS : (int64_t)1000 << probes;

        return ms - (int64_t)((double)ms * 0.25 * jitter);
}

/* --- what is sent --- */

bool execution_in_time(int64_t held_up_ms, int64_t margin_ms)
{
        return held_up_ms < margin_ms;
}

void execution_call_body(struct strbuf *b, const struct execution_call *call)
{
        char run_id[UUID_TEXT_SIZE], job_id[UUID_TEXT_SIZE];

        uuid_format(&call->run_id, run_id);
        uuid_format(&call->job_id, job_id);
        strbuf_addf(b, "{\"run_id\":\"%s\",\"job_id\":\"%s\",\"step\":%d,\"attempt\":%d,\"input\":", run_id, job_id, call->step, call->attempt);
        strbuf_add(b, call->input.s, call->input.len);
        strbuf_adds(b, ",\"context\":");
        if (call->context.len > 0)
                strbuf_add(b, call->context.s, call->context.len);
        else
                strbuf_adds(b, "{}");
        if (call->lease_ms > 0)
                strbuf_addf(b, ",\"token\":%d,\"lease_ms\":%" PRId64, call->token, call->lease_ms);
        strbuf_addc(b, '}');
}

static ProtobufCBinaryData bytes_of(struct slice s)
{
        return (ProtobufCBinaryData){.len = s.len, .data = (uint8_t *)s.s};
}

void execution_call_message(struct strbuf *b, const struct execution_call *call)
{
        char run_id[UUID_TEXT_SIZE], job_id[UUID_TEXT_SIZE];
        Aethelos__Call m = AETHELOS__CALL__INIT;

        uuid_format(&call->run_id, run_id);
        uuid_format(&call->job_id, job_id);
        m.run_id = run_id;
        m.job_id = job_id;
        m.step = call->step;
        m.attempt = call->attempt;
        m.input = bytes_of(call->input);
        m.context = bytes_of(call->context.len > 0 ? call->context : slice_of("{}"));
        m.token = call->token;
        m.lease_ms = call->lease_ms;
        pbjson_add_packed(b, &m.base);
}

void execution_question_body(struct strbuf *b, const struct uuid *run_id, bool protobuf)
{
        char id[UUID_TEXT_SIZE];
        Aethelos__Question m = AETHELOS__QUESTION__INIT;

        uuid_format(run_id, id);
        m.run_id = id;
        (protobuf ? pbjson_add_packed : pbjson_add)(b, &m.base);
}

void execution_word_answer(struct strbuf *b, bool result, const char *status, const char *error, bool protobuf)
{
        _cleanup_(strbuf_done) struct strbuf json = {0};

        strbuf_addc(&json, '{');
        strbuf_add_member(&json, "status", status);
        strbuf_add_member(&json, "error", error);
        strbuf_addc(&json, '}');
        if (protobuf)
                pbjson_pack(b, result ? &aethelos__result_answer__descriptor : &aethelos__beat_answer__descriptor, json.s, json.len);
        else
                strbuf_add(b, json.s, json.len);
}

void execution_status_url(struct strbuf *b, const char *status_url, const struct uuid *run_id)
{
        char id[UUID_TEXT_SIZE];

        uuid_format(run_id, id);
        strbuf_adds(b, status_url);
        strbuf_addf(b, "%crun_id=%s", strchr(status_url, '?') ? '&' : '?', id);
}
