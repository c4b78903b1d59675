/* Evidence from a person. Requests of a round are gathered and stored by one call of submit_evidence(); after the commit the hearer is rung and the
 * request is held until the chain has moved: 200. Stored and not moved within hold_ms (its service or the bus is away): 202, and the ringer sees to
 * the rest. Only what the store says is answered. A crash before the commit leaves nothing, after it a stored row: repeating the request with the
 * same reference is right in both cases. Each payment of a request with many goes the same way as a request of its own, and tells its outcome to
 * board_bulk.c in place of the client. */
#include "board.h"
#include "board_bulk.h"
#include "board_store.h"
#include "services/intake/job_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS    5
#define SUBMIT_MAX 2048 /* at once; a request may name 1,000 */

struct pending {
        struct http_request *request;
        struct board_bulk *bulk; /* NULL: the request is about this alone; else about many, which lie side by side, and this is the nth of them */
        size_t nth;
        enum board_kind kind;
        struct uuid id;
        struct board_evidence evidence;
        bool at_once;  /* Prefer: respond-async */
        bool stored;   /* committed: only waiting for the chain */
        bool finished; /* answered */
        bool moved;    /* where it stood at the last look; with at_once when it was submitted */
};

int board_init(struct service *s)
{
        s->state = xcalloc(1, sizeof(struct board_state));
        return 0;
}

void board_fini(struct service *s)
{
        struct board_state *state = s->state;

        /* Requests that are still held are answered by the server when it ends. */
        for (size_t i = 0; state && i < state->n; i++) {
                board_evidence_done(&state->v[i].evidence);
                if (state->v[i].bulk)
                        board_bulk_drop(state->v[i].bulk);
        }
        if (state) {
                state->commands = board_commands_free(state->commands);
                state->streams = board_streams_free(state->streams);
                strbuf_done(&state->metrics);
                free(state->v);
        }
        free(state);
}

static void gather(struct service *s, const struct pending *p)
{
        struct board_state *state = s->state;

        if (state->n == state->cap) {
                state->cap = state->cap ? 2 * state->cap : 256;
                state->v = xrealloc(state->v, state->cap * sizeof(*state->v));
        }
        state->v[state->n++] = *p;
}

static void confirm(struct service *s, struct http_request *r, enum board_kind kind)
{
        const char *text = http_path_arg(r, 0);
        struct slice body = http_body(r);
        struct board_evidence evidence;
        struct board_problem p;
        struct uuid id;

        if (!board_read_confirm(body.s, body.len, &evidence, &p)) {
                board_refuse(r, &p);
        } else if (!uuid_parse(text, strlen(text), &id)) {
                p = board_verdict_problem(kind, BOARD_UNKNOWN);
                board_evidence_done(&evidence);
                board_refuse(r, &p);
        } else {
                gather(s, &(struct pending){.request = r, .kind = kind, .id = id, .evidence = evidence, .at_once = http_prefers_async(r)});
        }
}

void board_confirm(void *ctx, struct http_request *r)
{
        confirm(ctx, r, BOARD_PAYMENT);
}

void board_confirm_refund(void *ctx, struct http_request *r)
{
        confirm(ctx, r, BOARD_REFUND);
}

void board_mark(void *ctx, struct http_request *r)
{
        struct slice body = http_body(r);
        struct board_evidence evidence;
        struct board_problem p;

        if (!board_read_mark(body.s, body.len, &evidence, &p))
                board_refuse(r, &p);
        else
                gather(ctx, &(struct pending){.request = r,
                                    .kind = BOARD_PAYOUT,
                                    .id = evidence.payout_id,
                                    .evidence = evidence,
                                    .at_once = http_prefers_async(r)});
}

void board_confirm_many(void *ctx, struct http_request *r)
{
        struct slice body = http_body(r);
        _cleanup_(board_payments_done) struct board_payments payments = {0};
        bool at_once = http_prefers_async(r);
        struct board_bulk *bulk;
        struct board_problem p;

        if (!board_read_payments(body.s, body.len, &payments, &p)) {
                board_refuse(r, &p);
                return;
        }
        bulk = board_bulk_new(r, &payments);
        p = board_verdict_problem(BOARD_PAYMENT, BOARD_UNKNOWN);
        for (size_t i = 0; i < payments.n; i++) {
                struct board_payment *payment = &payments.v[i];

                if (!payment->known) {
                        board_bulk_refuse(bulk, i, &p);
                        continue;
                }
                gather(ctx, &(struct pending){.request = r,
                                    .bulk = bulk,
                                    .nth = i,
                                    .kind = BOARD_PAYMENT,
                                    .id = payment->id,
                                    .evidence = payment->evidence,
                                    .at_once = at_once});
                payment->evidence = (struct board_evidence){0};
        }
        board_bulk_close(bulk);
}

static void finish(struct pending *p)
{
        p->request = NULL;
        p->bulk = NULL;
        p->finished = true;
}

static void refuse(struct pending *p, const struct board_problem *problem)
{
        if (p->bulk)
                board_bulk_refuse(p->bulk, p->nth, problem);
        else
                board_refuse(p->request, problem);
        finish(p);
}

static void refuse_by(struct pending *p, enum board_verdict verdict)
{
        struct board_problem problem = board_verdict_problem(p->kind, verdict);

        refuse(p, &problem);
}

static int compare_chains(const void *a, const void *b)
{
        return uuid_compare(&((const struct chain *)a)->id, &((const struct chain *)b)->id);
}

static const struct chain *chain_of(const struct chain chains[], size_t n, const struct uuid *id)
{
        struct chain key = {.id = *id};

        return n ? bsearch(&key, chains, n, sizeof(*chains), compare_chains) : NULL;
}

/* Where they stand, sorted by id. */
static int read_chains(struct service *s, struct pending *const pending[], size_t n, struct chain **ret_chains, size_t *ret_n)
{
        _cleanup_(freep) struct uuid *ids = xcalloc(n + 1, sizeof(*ids));
        int e;

        for (size_t i = 0; i < n; i++)
                ids[i] = pending[i]->id;
        e = chains_read(s->db, ids, n, ret_chains, ret_n);
        if (e == 0 && *ret_n > 1)
                qsort(*ret_chains, *ret_n, sizeof(**ret_chains), compare_chains);
        return e;
}

/* Whether there is what the request is about; otherwise that is the end of it. */
static bool present(struct pending *p, const struct chain *c)
{
        enum board_stand stand = c ? board_stand(p->kind, c->kind, c->step) : BOARD_ABSENT;

        p->moved = stand == BOARD_MOVED;
        if (stand == BOARD_ABSENT)
                refuse_by(p, BOARD_UNKNOWN);
        return stand != BOARD_ABSENT;
}

static void settle(struct service *s, struct pending *p, const struct board_submission *sub)
{
        static const char *const takers[] = {[BOARD_PAYMENT] = "payments", [BOARD_PAYOUT] = "payouts", [BOARD_REFUND] = "payments"};
        enum lane lane = LANE_NORMAL;

        switch (sub->verdict) {
        case BOARD_STORED:
        case BOARD_REPEATED:
                p->stored = true;
                /* It may have moved since it was read: who hears it then is not ours to ring. */
                if (strcmp(sub->hearer, takers[p->kind]) == 0 && lane_parse(sub->lane, strlen(sub->lane), &lane))
                        service_ring_one(s, sub->hearer, lane, &p->id, sub->version);
                break;
        case BOARD_CONFLICT:
        case BOARD_AMOUNT:
        case BOARD_EXPIRED:
        case BOARD_NOT_WAITING:
        case BOARD_UNKNOWN:
                refuse_by(p, sub->verdict);
                break;
        }
}

/* What could not be stored was not heard of: the sender repeats. */
static void fail_all(struct service *s, struct pending *const pending[], size_t n, int e)
{
        struct board_problem problem = board_failure(s, e);

        for (size_t i = 0; i < n; i++)
                refuse(pending[i], &problem);
}

/* submit_evidence() compares minor units; the currency is the chain's. Of those who name an amount it is compared here. */
static int compare_currencies(struct service *s, struct pending *const fresh[], size_t n)
{
        _cleanup_(freep) struct pending **named = xcalloc(n + 1, sizeof(struct pending *));
        _cleanup_(freep) struct chain *chains = NULL;
        size_t n_named = 0, n_chains = 0;
        int e;

        for (size_t i = 0; i < n; i++)
                if (fresh[i]->evidence.has_amount)
                        named[n_named++] = fresh[i];
        if (n_named == 0)
                return 0;
        e = read_chains(s, named, n_named, &chains, &n_chains);
        for (size_t i = 0; e == 0 && i < n_named; i++) {
                const struct chain *c = chain_of(chains, n_chains, &named[i]->id);

                if (present(named[i], c) && strcmp(named[i]->evidence.amount.currency, c->amount.currency) != 0)
                        refuse_by(named[i], BOARD_AMOUNT);
        }
        return e;
}

/* Who is stored now was waiting for it. Where the others stand is looked up: who has moved by what is repeated is answered at once, and of a chain
 * that is none of the kind, or had no intent yet when it was asked, is said that there is none. */
static void settle_all(struct service *s, struct pending *const pending[], const struct board_submission subs[], size_t n)
{
        _cleanup_(freep) struct pending **others = xcalloc(n + 1, sizeof(struct pending *));
        _cleanup_(freep) struct chain *chains = NULL;
        size_t n_others = 0, n_chains = 0;
        int e = 0;

        for (size_t i = 0; i < n; i++)
                if (subs[i].verdict != BOARD_STORED)
                        others[n_others++] = pending[i];
        if (n_others > 0)
                e = read_chains(s, others, n_others, &chains, &n_chains);
        for (size_t i = 0; i < n; i++) {
                const struct chain *c = e == 0 ? chain_of(chains, n_chains, &pending[i]->id) : NULL;

                if (subs[i].verdict == BOARD_STORED || (e < 0 && subs[i].verdict == BOARD_REPEATED))
                        settle(s, pending[i], &subs[i]);
                else if (e < 0)
                        fail_all(s, &pending[i], 1, e);
                else if (!present(pending[i], c))
                        continue;
                else if (subs[i].verdict == BOARD_NOT_WAITING && pending[i]->kind == BOARD_PAYMENT &&
                         board_stand(BOARD_PAYMENT, c->kind, c->step) == BOARD_WAITS)
                        refuse_by(pending[i], BOARD_UNKNOWN);
                else
                        settle(s, pending[i], &subs[i]);
        }
}

/* What is not stored yet: one call. What is beyond SUBMIT_MAX has its turn in the next round. */
static void submit_gathered(struct service *s)
{
        struct board_state *state = s->state;
        _cleanup_(freep) struct pending **fresh = xcalloc(state->n + 1, sizeof(struct pending *));
        _cleanup_(freep) struct board_submission *subs = xcalloc(state->n + 1, sizeof(*subs));
        size_t n = 0, kept = 0;
        int e;

        for (size_t i = 0; i < state->n && n < SUBMIT_MAX; i++)
                if (!state->v[i].stored && !state->v[i].finished)
                        fresh[n++] = &state->v[i];
        if (n == 0)
                return;
        if (n == SUBMIT_MAX)
                service_wake_in(s, 0);
        e = compare_currencies(s, fresh, n);
        if (e < 0) {
                fail_all(s, fresh, n, e);
                return;
        }
        for (size_t i = 0; i < n; i++) {
                struct pending *p = fresh[i];

                if (p->finished)
                        continue;
                subs[kept] = (struct board_submission){.kind = p->kind,
                        .id = p->id,
                        .reference = p->evidence.reference,
                        .by = p->evidence.by,
                        .has_amount = p->evidence.has_amount,
                        .minor = p->evidence.amount.minor};
                fresh[kept++] = p;
        }
        e = board_submit(s->db, subs, kept);
        if (e < 0 && e != -ENOTCONN && e != -EAGAIN && kept > 1) {
                /* One that the database refuses must not take the others along. */
                log_warning("evidence is stored one by one", LOG_S("error", db_error(s->db)));
                for (size_t i = 0; i < kept; i++) {
                        e = board_submit(s->db, &subs[i], 1);
                        if (e < 0)
                                fail_all(s, &fresh[i], 1, e);
                        else
                                settle_all(s, &fresh[i], &subs[i], 1);
                }
                return;
        }
        if (e < 0)
                fail_all(s, fresh, kept, e);
        else
                settle_all(s, fresh, subs, kept);
}

/* The documents of one kind for all who are answered now. Without the store (false) a stored row is still a stored row: 202 with the id. */
static void answer_kind(struct service *s, enum board_kind kind, struct pending *const due[], size_t n)
{
        _cleanup_(freep) struct uuid *ids = xcalloc(n + 1, sizeof(*ids));
        _cleanup_(PQclearp) PGresult *rows = NULL;
        size_t m = 0;
        int e;

        for (size_t i = 0; i < n; i++)
                if (due[i]->kind == kind)
                        ids[m++] = due[i]->id;
        if (m == 0)
                return;
        e = kind == BOARD_PAYOUT ? board_payouts_by_id(s->db, ids, m, &rows) : job_view_jobs(s->db, ids, m, &rows);
        for (size_t i = 0; i < n; i++) {
                _cleanup_(strbuf_done) struct strbuf b = {0};
                char id[UUID_TEXT_SIZE];

                if (due[i]->kind != kind)
                        continue;
                uuid_format(&due[i]->id, id);
                for (int row = 0; e == 0 && b.len == 0 && row < PQntuples(rows); row++) {
                        if (strcmp(PQgetvalue(rows, row, 0), id) != 0)
                                continue;
                        if (kind == BOARD_PAYOUT) {
                                board_add_payout(&b, rows, row);
                        } else {
                                strbuf_adds(&b, "{\"job\":");
                                job_view_add_job(&b, rows, row, 0);
                                strbuf_adds(&b, ",\"payment_intent\":");
                                job_view_add_intent(&b, rows, row, 0);
                                strbuf_addc(&b, '}');
                        }
                }
                if (b.len == 0)
                        strbuf_addf(&b, "{\"id\":\"%s\",\"status\":\"stored\"}", id);
                board_answer(due[i]->request, due[i]->moved ? 200 : 202, &b);
                finish(due[i]);
        }
}

/* Where the stored ones stand: who has moved, or has waited long enough, is answered. */
static void look(struct service *s, int64_t now_ms)
{
        const struct board_config *config = s->config;
        struct board_state *state = s->state;
        _cleanup_(freep) struct pending **due = xcalloc(state->n + 1, sizeof(struct pending *));
        _cleanup_(freep) struct chain *chains = NULL;
        const struct http_request *asked = NULL;
        size_t n = 0, n_chains = 0;
        bool over = false;

        for (size_t i = 0; i < state->n; i++)
                if (state->v[i].stored && !state->v[i].finished && !state->v[i].at_once)
                        due[n++] = &state->v[i];
        (void)read_chains(s, due, n, &chains, &n_chains); /* away: nobody has moved as far as is known */
        n = 0;
        for (size_t i = 0; i < state->n; i++) {
                struct pending *p = &state->v[i];
                const struct chain *c;

                if (!p->stored || p->finished)
                        continue;
                c = chain_of(chains, n_chains, &p->id);
                p->moved = p->at_once ? p->moved : c && board_stand(p->kind, c->kind, c->step) == BOARD_MOVED;
                if (!p->moved && !p->at_once && p->request != asked) { /* once for all that share it */
                        asked = p->request;
                        over = now_ms - http_received_ms(asked) >= config->hold_ms || http_gone(asked);
                }
                if (!p->moved && !p->at_once && !over)
                        continue;
                if (p->bulk) {
                        board_bulk_stored(p->bulk, p->nth, p->moved);
                        finish(p);
                } else {
                        due[n++] = p;
                }
        }
        answer_kind(s, BOARD_PAYMENT, due, n);
        answer_kind(s, BOARD_PAYOUT, due, n);
        answer_kind(s, BOARD_REFUND, due, n);
}

void board_on_round(struct service *s)
{
        struct board_state *state = s->state;
        int64_t now_ms;
        size_t kept = 0;
        bool waits = false;

        if (state->n == 0)
                return;
        submit_gathered(s);
        now_ms = now_mono_ms();
        for (size_t i = 0; i < state->n; i++) /* who is new and needs no waiting is answered in the round of the commit */
                waits |= state->v[i].stored && !state->v[i].finished && (state->v[i].at_once || state->v[i].moved);
        if (waits || now_ms >= state->look_at_ms) {
                look(s, now_ms);
                state->look_at_ms = now_ms + LOOK_MS;
        }
        for (size_t i = 0; i < state->n; i++) {
                if (state->v[i].finished)
                        board_evidence_done(&state->v[i].evidence);
                else
                        state->v[kept++] = state->v[i];
        }
        state->n = kept;
        if (kept > 0)
                service_wake_in(s, LOOK_MS);
}
