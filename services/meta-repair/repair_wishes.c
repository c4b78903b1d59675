/* Commands that move chains on a person's word: redrive, reopen, refund, close. A decision and its move stand or fall together: where the database
 * refuses the move, no evidence of it stays behind to be in the way of another. */
#include "repair_decisions.h"
#include "repair_step.h"
#include "repair_texts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void add_decision(struct repair_step *st, struct advance *a, const struct repair_target *t, const struct repair_decision *d)
{
        _cleanup_(strbuf_done) struct strbuf data = {0};
        const struct repair_state *state = st->s->state;
        const char *by = st->command.by;
        char reference[UUID_TEXT_SIZE];
        size_t move;

        uuid_format(&st->command.id, reference);
        if (strcmp(d->event, "EXECUTION_REQUIRED") == 0) {
                repair_text_execution(&data, t->failed_step, NULL, by, reference);
        } else if (strcmp(d->event, "REFUND_REQUIRED") == 0) {
                repair_text_refund(&data, t->amount, "person", NULL, NULL, by);
        } else if (strcmp(d->event, "FINAL_FAIL") == 0) {
                repair_text_fail(&data, "closed_by_person", t->step, 0, NULL, NULL, by, NULL);
        } else {
                const struct repair_rule *rule = repair_rule_of(&state->rules, "job", d->event, "");
                repair_text_reopened(&data, by, reference, now_wall_ms() + (rule ? rule->deadline_ms : 3600000));
        }
        move = advance_move(a, &t->id, t->version);
        advance_event(a, move, d->event, data.s, data.len);
}

static void count_verdict(struct repair_step *st, const struct transition *t, const char *event)
{
        if (t->verdict == ADVANCE_WON)
                st->progress.done++;
        else
                repair_progress_refuse(&st->progress, &t->id, t->verdict == ADVANCE_LOST ? "under_way" : repair_refusal(event));
}

/* The decision and its move, or neither. */
static int decide_and_move(struct repair_step *st, const struct repair_target *t, const struct repair_decision *d)
{
        _cleanup_(advance_done) struct advance a = {0};
        struct db *db = st->s->db;
        char reference[UUID_TEXT_SIZE];
        const struct transition *moved;
        bool stored = false, won = false;
        int e = db_run(db, "SAVEPOINT decision", NULL, NULL);

        uuid_format(&st->command.id, reference);
        if (e == 0 && strcmp(t->step, "PAYMENT_REQUIRED") == 0)
                e = repair_drop_refused_intent(db, &t->id);
        if (e == 0)
                e = repair_decision_store(db, t, d->event, st->command.by, reference, &stored);
        if (e == 0 && stored) {
                add_decision(st, &a, t, d);
                e = advance_run(&a, db);
        }
        if (e < 0)
                return e;
        moved = a.t; /* NULL: nothing was stored */
        if (moved) {
                count_verdict(st, moved, d->event);
                won = moved->verdict == ADVANCE_WON;
        } else {
                repair_progress_refuse(&st->progress, &t->id, "under_way"); /* other evidence is there */
        }
        if (moved && won) {
                st->decided = xrealloc(st->decided, (st->n_decided + 1) * sizeof(*st->decided));
                st->decided[st->n_decided++] = *moved;
        }
        return db_run(db, won ? "RELEASE SAVEPOINT decision" : "ROLLBACK TO SAVEPOINT decision", NULL, NULL);
}

static int wish_all(struct repair_step *st, enum repair_wish wish, const struct repair_target targets[], size_t n, bool dry)
{
        _cleanup_(freep) const char **events = xcalloc(n + 1, sizeof(*events));
        int e = 0;

        for (size_t i = 0; e == 0 && i < n; i++) {
                const struct repair_target *t = &targets[i];
                struct repair_place place = {.kind = t->kind, .step = t->step, .status = t->status, .paid = t->paid, .refunding = t->refunding};
                struct repair_decision d;

                st->progress.found++;
                repair_wish(wish, &place, &d);
                if (!d.event) {
                        repair_progress_refuse(&st->progress, &t->id, d.why);
                } else if (dry) {
                        st->progress.done++;
                } else if (d.evidence) {
                        e = decide_and_move(st, t, &d);
                } else {
                        events[st->moves.n] = d.event;
                        add_decision(st, &st->moves, t, &d);
                }
        }
        if (e == 0)
                e = advance_run(&st->moves, st->s->db);
        for (size_t i = 0; e == 0 && i < st->moves.n; i++)
                count_verdict(st, &st->moves.t[i], events[i]);
        return e;
}

static int wish_one(struct repair_step *st, enum repair_wish wish)
{
        struct repair_target target;
        struct uuid id;
        int e;

        if (!repair_uuid_arg(st, "chain_id", &id))
                return repair_unusable(st, "chain_id is no id");
        st->done = true;
        e = repair_target_read(st->s->db, &id, &target);
        if (e == -ENOENT) {
                st->progress.found++;
                repair_progress_refuse(&st->progress, &id, "unknown");
                return 0;
        }
        return e < 0 ? e : wish_all(st, wish, &target, 1, json_is(repair_arg(st, "dry_run"), JSON_TRUE));
}

static void filter_done(struct repair_filter *f)
{
        free(f->reason);
        free(f->type);
        free(f->client);
        free(f->step);
        free(f->since);
        free(f->until);
}

int repair_do_redrive(struct repair_step *st)
{
        _cleanup_(filter_done) struct repair_filter filter = {0};
        _cleanup_(freep) struct repair_target *targets = NULL;
        struct repair_progress *p = &st->progress;
        json_value f = repair_arg(st, "filter");
        int64_t limit = INT64_MAX;
        size_t n = 0;
        bool more = false;
        int e;

        if (!json_is(f, JSON_OBJECT))
                return wish_one(st, REPAIR_WISH_REDRIVE);
        filter.reason = json_string(&st->args, json_get(&st->args, f, "reason"), NULL);
        filter.type = json_string(&st->args, json_get(&st->args, f, "type"), NULL);
        filter.client = json_string(&st->args, json_get(&st->args, f, "client"), NULL);
        filter.step = json_string(&st->args, json_get(&st->args, f, "step"), NULL);
        filter.since = json_string(&st->args, json_get(&st->args, f, "since"), NULL);
        filter.until = json_string(&st->args, json_get(&st->args, f, "until"), NULL);
        (void)json_int64(&st->args, json_get(&st->args, f, "limit"), &limit);
        if (limit < 0)
                limit = 0;
        e = repair_targets_page(st->s->db, (enum repair_redrive_walk)p->phase, &filter, &p->after, &targets, &n, &more);
        if (e < 0)
                return e;
        if ((int64_t)n >= limit - p->found) {
                n = (size_t)(limit - p->found);
                st->done = true;
        }
        if (!more) {
                p->after = (struct uuid){0};
                st->done |= ++p->phase == REPAIR_REDRIVE_WALKS;
        }
        return wish_all(st, REPAIR_WISH_REDRIVE, targets, n, json_is(repair_arg(st, "dry_run"), JSON_TRUE));
}

int repair_do_reopen(struct repair_step *st)
{
        return wish_one(st, REPAIR_WISH_REDRIVE);
}

int repair_do_refund(struct repair_step *st)
{
        return wish_one(st, REPAIR_WISH_REFUND);
}

/* An issue that only a person can end: any other would be found again at once, its attempts forgotten. */
static int close_issue(struct repair_step *st, const struct uuid *id)
{
        _cleanup_(repair_issues_done) struct repair_issues issues = {0};
        bool dry = json_is(repair_arg(st, "dry_run"), JSON_TRUE);
        struct uuid after = {0};
        char reference[UUID_TEXT_SIZE];
        int e = repair_issues_page(st->s->db, st->s->instance, NULL, id, !dry, &after, 1, &issues);

        if (e < 0)
                return e;
        st->done = true;
        st->progress.found++;
        uuid_format(&st->command.id, reference);
        if (issues.n == 0 || strcmp(issues.v[0].kind, ISSUE_EVIDENCE_MISMATCH) != 0) {
                repair_progress_refuse(&st->progress, id, issues.n == 0 ? "over" : "not_closable");
                return 0;
        }
        e = dry ? 0 : repair_issue_close(st->s->db, &issues.v[0], st->command.by, reference);
        if (e == 0)
                st->progress.done++;
        return e;
}

int repair_do_close(struct repair_step *st)
{
        struct uuid id;

        return repair_uuid_arg(st, "issue_id", &id) ? close_issue(st, &id) : wish_one(st, REPAIR_WISH_CLOSE);
}
