/* What people ask of meta-repair, step by step: a step is one transaction that moves chains, stores the person's decisions and writes the progress,
 * so that a command is carried out, and counted, exactly once whatever dies. A decision and its move stand or fall together: where the database
 * refuses the move, no evidence of it stays behind to be in the way of another. */
#include "base/crashpoint.h"
#include "base/json.h"
#include "repair.h"
#include "repair_decisions.h"
#include "repair_progress.h"
#include "repair_texts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ISSUES_STEP 256
#define BROKEN_STEP 1000

/* One step of a command, made anew when the transaction is tried again. */
struct step {
        struct service *s;
        struct repair_command command;
        struct json_doc args;
        struct repair_progress progress;
        bool done;
        struct repair_work work; /* of auto_repair */
        struct advance moves;
        struct transition *decided; /* moves that went with evidence, each won */
        size_t n_decided;
        bool rules_changed;
};

static void step_done(struct step *st)
{
        repair_command_done(&st->command);
        json_done(&st->args);
        repair_progress_done(&st->progress);
        repair_work_done(&st->work);
        advance_done(&st->moves);
        free(st->decided);
        *st = (struct step){.s = st->s};
}

static json_value arg(const struct step *st, const char *name)
{
        return json_get(&st->args, json_root(&st->args), name);
}

static char *text_arg(const struct step *st, const char *name)
{
        return json_string(&st->args, arg(st, name), NULL);
}

static bool uuid_arg(const struct step *st, const char *name, struct uuid *ret_id)
{
        _cleanup_(freep) char *text = text_arg(st, name);

        return text && uuid_parse(text, strlen(text), ret_id);
}

static int unusable(struct step *st, const char *why)
{
        st->progress.error = xstrdup(why);
        st->done = true;
        return 0;
}

/* --- auto_repair --- */

static void count_plans(struct repair_progress *p, const struct repair_work *w)
{
        for (size_t k = 0; k < w->issues.n; k++) {
                const struct repair_plan *plan = &w->issues.v[k].plan;

                if (strcmp(plan->outcome, "moved_on") == 0 || (plan->state == REPAIR_FAILED && plan->move == REPAIR_STAY))
                        continue; /* it was over before it was asked for */
                p->found++;
                if (strcmp(plan->outcome, "refused") == 0)
                        p->refused++;
                else if (plan->state == REPAIR_WAITING || plan->state == REPAIR_QUARANTINED || plan->move == REPAIR_STAY)
                        p->waiting++;
                else
                        p->done++;
        }
}

/* What a dry run would open is judged as if it were open. */
static int judge_candidates(struct step *st, const struct repair_candidates *found, const char *kind)
{
        struct repair_work *w = &st->work;
        int e;

        w->issues.v = xcalloc(found->n + 1, sizeof(*w->issues.v));
        for (size_t k = 0; k < found->n; k++) {
                const struct repair_candidate *c = &found->v[k];
                struct repair_issue *i = &w->issues.v[w->issues.n];

                if (kind && strcmp(kind, c->rule->issue) != 0)
                        continue;
                w->issues.n++;
                i->early = true;
                i->of_chain = !c->operator[0];
                i->chain_id = c->chain_id;
                i->version = c->version;
                strcpy(i->kind, c->rule->issue);
                strcpy(i->antibody, c->rule->antibody);
                strcpy(i->step, c->step);
                strcpy(i->operator, c->operator);
        }
        e = repair_subjects_read(st->s->db, &w->issues);
        if (e < 0)
                return e;
        repair_work_prepare(st->s, w);
        repair_work_decide(w);
        count_plans(&st->progress, w);
        return 0;
}

enum { DETECT_STANDING, DETECT_WAITING, DETECT_BROKEN_STANDING, DETECT_BROKEN_WAITING, DETECT_MISMATCHES, DETECT_OPERATORS, HANDLE };

static int detect(struct step *st, struct repair_candidates *found, bool *ret_more)
{
        struct repair_state *state = st->s->state;
        struct repair_progress *p = &st->progress;
        struct db *db = st->s->db;
        struct uuid *refunded = NULL;
        size_t n = 0;
        int e;

        *ret_more = false;
        switch (p->phase) {
        case DETECT_STANDING:
        case DETECT_WAITING:
                e = repair_sweep_chains(db, p->phase == DETECT_STANDING ? REPAIR_WALK_STANDING : REPAIR_WALK_WAITING, &state->rules, &p->after, NULL,
                        found, &refunded, &n, ret_more);
                free(refunded); /* the sweep ends these */
                return e;
        case DETECT_BROKEN_STANDING:
        case DETECT_BROKEN_WAITING:
                return repair_sweep_broken(
                        db, p->phase == DETECT_BROKEN_STANDING ? REPAIR_WALK_STANDING : REPAIR_WALK_WAITING, BROKEN_STEP, &p->after, found, ret_more);
        case DETECT_MISMATCHES:
                return repair_sweep_mismatches(db, &p->after, found, ret_more);
        default:
                return repair_sweep_operators(db, found);
        }
}

static int handle_issues(struct step *st, bool dry, const char *kind, const struct uuid *only)
{
        struct repair_progress *p = &st->progress;
        int e = repair_issues_page(st->s->db, st->s->instance, kind, only, !dry, &p->after, ISSUES_STEP, &st->work.issues);

        if (e < 0)
                return e;
        st->done = st->work.issues.n < ISSUES_STEP;
        e = repair_subjects_read(st->s->db, &st->work.issues);
        if (e < 0)
                return e;
        repair_work_prepare(st->s, &st->work);
        if (dry)
                repair_work_decide(&st->work);
        else
                e = repair_work_apply(st->s->db, &st->work);
        if (e == 0)
                count_plans(p, &st->work);
        return e;
}

static int do_auto_repair(struct step *st)
{
        _cleanup_(repair_candidates_done) struct repair_candidates found = {0};
        _cleanup_(freep) char *kind = text_arg(st, "kind");
        struct repair_progress *p = &st->progress;
        bool dry = json_is(arg(st, "dry_run"), JSON_TRUE), more;
        struct uuid only;
        int e;

        if (arg(st, "issue_id") && !json_is(arg(st, "issue_id"), JSON_NULL)) {
                if (!uuid_arg(st, "issue_id", &only))
                        return unusable(st, "issue_id is no id");
                e = handle_issues(st, dry, kind, &only);
                st->done = true;
                return e;
        }
        if (p->phase >= HANDLE)
                return handle_issues(st, dry, kind, NULL);
        e = detect(st, &found, &more);
        if (e == 0)
                e = dry ? judge_candidates(st, &found, kind) : repair_open(st->s->db, &found);
        if (e == 0 && !more) {
                p->phase++;
                p->after = (struct uuid){0};
        }
        return e;
}

/* --- redrive, reopen, refund, close --- */

static void add_decision(struct step *st, struct advance *a, const struct repair_target *t, const struct repair_decision *d)
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
                repair_text_fail(&data, "closed_by_person", t->step, 0, NULL, NULL, by);
        } else {
                const struct repair_rule *rule = repair_rule_of(&state->rules, "job", d->event);
                repair_text_reopened(&data, by, reference, now_wall_ms() + (rule ? rule->deadline_ms : 3600000));
        }
        move = advance_move(a, &t->id, t->version);
        advance_event(a, move, d->event, data.s, data.len);
}

static void count_verdict(struct step *st, const struct transition *t, const char *event)
{
        if (t->verdict == ADVANCE_WON)
                st->progress.done++;
        else
                repair_progress_refuse(&st->progress, &t->id, t->verdict == ADVANCE_LOST ? "under_way" : repair_refusal(event));
}

/* The decision and its move, or neither. */
static int decide_and_move(struct step *st, const struct repair_target *t, const struct repair_decision *d)
{
        _cleanup_(advance_done) struct advance a = {0};
        struct db *db = st->s->db;
        char reference[UUID_TEXT_SIZE];
        bool stored = false, won = false;
        int e = db_run(db, "SAVEPOINT decision", NULL, NULL);

        uuid_format(&st->command.id, reference);
        if (e == 0)
                e = repair_decision_store(db, t, d->event, st->command.by, reference, &stored);
        if (e == 0 && stored) {
                add_decision(st, &a, t, d);
                e = advance_run(&a, db);
        }
        if (e < 0)
                return e;
        if (stored) {
                count_verdict(st, &a.t[0], d->event);
                won = a.t[0].verdict == ADVANCE_WON;
        } else {
                repair_progress_refuse(&st->progress, &t->id, "under_way"); /* other evidence is there */
        }
        if (won) {
                st->decided = xrealloc(st->decided, (st->n_decided + 1) * sizeof(*st->decided));
                st->decided[st->n_decided++] = a.t[0];
        }
        return db_run(db, won ? "RELEASE SAVEPOINT decision" : "ROLLBACK TO SAVEPOINT decision", NULL, NULL);
}

static int wish_all(struct step *st, enum repair_wish wish, const struct repair_target targets[], size_t n, bool dry)
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

static int wish_one(struct step *st, enum repair_wish wish)
{
        struct repair_target target;
        struct uuid id;
        int e;

        if (!uuid_arg(st, "chain_id", &id))
                return unusable(st, "chain_id is no id");
        st->done = true;
        e = repair_target_read(st->s->db, &id, &target);
        if (e == -ENOENT) {
                st->progress.found++;
                repair_progress_refuse(&st->progress, &id, "unknown");
                return 0;
        }
        return e < 0 ? e : wish_all(st, wish, &target, 1, json_is(arg(st, "dry_run"), JSON_TRUE));
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

static int do_redrive(struct step *st)
{
        _cleanup_(filter_done) struct repair_filter filter = {0};
        _cleanup_(freep) struct repair_target *targets = NULL;
        struct repair_progress *p = &st->progress;
        json_value f = arg(st, "filter");
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
        return wish_all(st, REPAIR_WISH_REDRIVE, targets, n, json_is(arg(st, "dry_run"), JSON_TRUE));
}

static int do_reopen(struct step *st)
{
        return wish_one(st, REPAIR_WISH_REDRIVE);
}

static int do_refund(struct step *st)
{
        return wish_one(st, REPAIR_WISH_REFUND);
}

/* An issue that only a person can end. */
static int close_issue(struct step *st, const struct uuid *id)
{
        _cleanup_(repair_issues_done) struct repair_issues issues = {0};
        struct uuid after = {0};
        char reference[UUID_TEXT_SIZE];
        int e = repair_issues_page(st->s->db, st->s->instance, NULL, id, true, &after, 1, &issues);

        if (e < 0)
                return e;
        st->done = true;
        st->progress.found++;
        uuid_format(&st->command.id, reference);
        if (issues.n == 0) {
                repair_progress_refuse(&st->progress, id, "unknown");
                return 0;
        }
        e = repair_issue_close(st->s->db, &issues.v[0], st->command.by, reference);
        if (e == 0)
                st->progress.done++;
        return e;
}

static int do_close(struct step *st)
{
        struct uuid id;

        return uuid_arg(st, "issue_id", &id) ? close_issue(st, &id) : wish_one(st, REPAIR_WISH_CLOSE);
}

/* --- rules --- */

static bool seconds_arg(const struct step *st, const char *name, int64_t *ms)
{
        int64_t n;

        if (!arg(st, name) || json_is(arg(st, name), JSON_NULL))
                return true;
        if (json_int64(&st->args, arg(st, name), &n) < 0 || n < 0 || n > 10LL * 365 * 86400)
                return false;
        *ms = n * 1000;
        return true;
}

static int do_rule(struct step *st)
{
        const struct repair_state *state = st->s->state;
        _cleanup_(freep) char *kind = text_arg(st, "kind"), *where = text_arg(st, "step"), *why = text_arg(st, "why"),
                              *antibody = text_arg(st, "antibody");
        const struct repair_rule *present = kind && where ? repair_rule_of(&state->rules, kind, where) : NULL;
        struct repair_rule rule;
        int64_t attempts;
        int e;

        if (!present)
                return unusable(st, "there is no rule for this kind and step");
        if (!why || !*why)
                return unusable(st, "a rule is changed for a reason: why");
        rule = *present;
        attempts = rule.attempts;
        if (!seconds_arg(st, "late_s", &rule.late_ms) || !seconds_arg(st, "deadline_s", &rule.deadline_ms) ||
                !seconds_arg(st, "backoff_first_s", &rule.backoff_first_ms) || !seconds_arg(st, "backoff_max_s", &rule.backoff_max_ms))
                return unusable(st, "times are whole seconds from 0 to ten years");
        if (arg(st, "attempts") && (json_int64(&st->args, arg(st, "attempts"), &attempts) < 0 || attempts < 0 || attempts > 1000))
                return unusable(st, "attempts is a number from 0 to 1000");
        if (antibody && !repair_antibody_known(antibody))
                return unusable(st, "there is no such antibody");
        if (rule.deadline_ms < rule.late_ms || rule.backoff_first_ms < 1 || rule.backoff_max_ms < rule.backoff_first_ms)
                return unusable(st, "late is at most the deadline; the first pause is above zero and at most the longest");
        rule.attempts = (int)attempts;
        if (antibody)
                snprintf(rule.antibody, sizeof(rule.antibody), "%s", antibody);
        rule.version++;
        e = repair_rule_write(st->s->db, &rule, st->command.by, why);
        st->progress.version = rule.version;
        st->done = st->rules_changed = true;
        return e;
}

/* --- carrying out --- */

static const struct {
        const char *what;
        int (*run)(struct step *st);
} commands[] = {
        {"auto_repair", do_auto_repair},
        {"redrive", do_redrive},
        {"reopen", do_reopen},
        {"refund", do_refund},
        {"close", do_close},
        {"rule", do_rule},
};

static int run(struct step *st)
{
        struct json_error error;

        if (json_parse_own(st->command.args, strlen(st->command.args), &st->args, &error) < 0 || !json_is(json_root(&st->args), JSON_OBJECT))
                return unusable(st, "args is no JSON object");
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
                if (strcmp(commands[i].what, st->command.what) == 0)
                        return commands[i].run(st);
        return unusable(st, "there is no such command");
}

static int write_progress(struct step *st)
{
        _cleanup_(strbuf_done) struct strbuf text = {0};

        if (st->done)
                repair_progress_result(&text, st->command.what, &st->progress);
        else
                repair_progress_write(&text, &st->progress);
        return repair_command_write(st->s->db, &st->command.id, text.s, st->done);
}

static int work_step(struct db *db, void *arg_)
{
        struct step *st = arg_;
        int e;

        step_done(st);
        e = repair_command_take(db, &st->command);
        if (e < 0)
                return e;
        repair_progress_read(st->command.progress, &st->progress);
        e = run(st);
        return e < 0 ? e : write_progress(st);
}

/* A command that the database will not have, for instance a date that is none, is answered with what it said. */
static int work_fail(struct db *db, void *arg_)
{
        struct step *st = arg_;
        _cleanup_(strbuf_done) struct strbuf text = {0};

        repair_progress_result(&text, st->command.what, &st->progress);
        return repair_command_write(db, &st->command.id, text.s, true);
}

bool repair_commands(struct service *s)
{
        struct repair_state *state = s->state;
        struct step st = {.s = s};
        bool more = false;
        int e;

        ringer_look(s);
        CRASH_POINT("meta-repair: before a command");
        e = db_transaction(s->db, work_step, &st);
        if (e == -EINVAL && st.command.what[0]) {
                free(st.progress.error);
                st.progress.error = xstrdup(db_error(s->db));
                e = db_transaction(s->db, work_fail, &st);
        }
        if (e == 0) {
                CRASH_POINT("meta-repair: after a command");
                service_ring(s, &st.moves);
                for (size_t i = 0; i < st.n_decided; i++)
                        service_ring_one(s, st.decided[i].hearer, st.decided[i].lane, &st.decided[i].id, st.decided[i].version);
                repair_work_ring(s, &st.work);
                if (st.rules_changed)
                        state->rules_ms = 0;
                more = true;
        } else if (e != -ENOENT && e != -ENOTCONN) {
                log_error("cannot carry out a command", LOG_S("error", db_error(s->db)));
        }
        step_done(&st);
        return more;
}
