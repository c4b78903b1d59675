/* What people ask of meta-repair, step by step: a step is one transaction that acts and writes the progress, so that a command is carried out, and
 * counted, exactly once whatever dies. */
#include "base/crashpoint.h"
#include "repair_step.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ISSUES_STEP 256
#define BROKEN_STEP 1000

static void step_done(struct repair_step *st)
{
        repair_command_done(&st->command);
        json_done(&st->args);
        repair_progress_done(&st->progress);
        repair_work_done(&st->work);
        advance_done(&st->moves);
        free(st->decided);
        *st = (struct repair_step){.s = st->s};
}

json_value repair_arg(const struct repair_step *st, const char *name)
{
        return json_get(&st->args, json_root(&st->args), name);
}

char *repair_text_arg(const struct repair_step *st, const char *name)
{
        return json_string(&st->args, repair_arg(st, name), NULL);
}

bool repair_uuid_arg(const struct repair_step *st, const char *name, struct uuid *ret_id)
{
        _cleanup_(freep) char *text = repair_text_arg(st, name);

        return text && uuid_parse(text, strlen(text), ret_id);
}

int repair_unusable(struct repair_step *st, const char *why)
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
static int judge_candidates(struct repair_step *st, const struct repair_candidates *found, const char *kind)
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
                i->of_chain = !c->operator[0] && !c->of_webhook;
                i->of_webhook = c->of_webhook;
                i->webhook_id = c->webhook_id;
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

static int detect(struct repair_step *st, struct repair_candidates *found, bool *ret_more)
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
                e = repair_sweep_operators(db, found);
                return e < 0 ? e : repair_sweep_webhooks(db, found);
        }
}

static int handle_issues(struct repair_step *st, bool dry, const char *kind, const struct uuid *only)
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

static int do_auto_repair(struct repair_step *st)
{
        _cleanup_(repair_candidates_done) struct repair_candidates found = {0};
        _cleanup_(freep) char *kind = repair_text_arg(st, "kind");
        struct repair_progress *p = &st->progress;
        bool dry = json_is(repair_arg(st, "dry_run"), JSON_TRUE), more;
        struct uuid only;
        int e;

        if (repair_arg(st, "issue_id") && !json_is(repair_arg(st, "issue_id"), JSON_NULL)) {
                if (!repair_uuid_arg(st, "issue_id", &only))
                        return repair_unusable(st, "issue_id is no id");
                e = handle_issues(st, dry, kind, &only);
                st->done = true;
                return e;
        }
        if (kind && !repair_kind_known(kind))
                return repair_unusable(st, "there is no such kind of issue");
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

/* --- rules --- */

#define ORDER_OF_TIMES "late is at most the deadline; the first pause is above zero and at most the longest"

static bool seconds_arg(const struct repair_step *st, const char *name, int64_t *ms)
{
        int64_t n;

        if (!repair_arg(st, name) || json_is(repair_arg(st, name), JSON_NULL))
                return true;
        if (json_int64(&st->args, repair_arg(st, name), &n) < 0 || n < 0 || n > 10LL * 365 * 86400)
                return false;
        *ms = n * 1000;
        return true;
}

static int do_rule(struct repair_step *st)
{
        const struct repair_state *state = st->s->state;
        _cleanup_(freep) char *kind = repair_text_arg(st, "kind"), *where = repair_text_arg(st, "step"), *why = repair_text_arg(st, "why"),
                              *antibody = repair_text_arg(st, "antibody");
        const struct repair_rule *present = kind && where ? repair_rule_of(&state->rules, kind, where, "") : NULL;
        struct repair_rule rule;
        int64_t attempts;
        int e;

        if (!present)
                return repair_unusable(st, "there is no rule for this kind and step");
        if (!why || !*why)
                return repair_unusable(st, "a rule is changed for a reason: why");
        rule = *present;
        attempts = rule.attempts;
        if (!seconds_arg(st, "late_s", &rule.late_ms) || !seconds_arg(st, "deadline_s", &rule.deadline_ms) ||
                !seconds_arg(st, "backoff_first_s", &rule.backoff_first_ms) || !seconds_arg(st, "backoff_max_s", &rule.backoff_max_ms))
                return repair_unusable(st, "times are whole seconds from 0 to ten years");
        if (repair_arg(st, "attempts") && (json_int64(&st->args, repair_arg(st, "attempts"), &attempts) < 0 || attempts < 0 || attempts > 1000))
                return repair_unusable(st, "attempts is a number from 0 to 1000");
        if (antibody && !repair_antibody_known(antibody))
                return repair_unusable(st, "there is no such antibody");
        if (rule.deadline_ms < rule.late_ms || rule.backoff_first_ms < 1 || rule.backoff_max_ms < rule.backoff_first_ms)
                return repair_unusable(st, ORDER_OF_TIMES);
        rule.attempts = (int)attempts;
        if (antibody)
                copy_text(rule.antibody, sizeof(rule.antibody), antibody);
        rule.version++;
        e = repair_rule_write(st->s->db, &rule, st->command.by, why);
        st->progress.version = rule.version;
        st->done = st->rules_changed = true;
        return e;
}

/* What is not named stays as it is; a new label has its first pause and its longest from Code 19. */
static int do_haste(struct repair_step *st)
{
        _cleanup_(freep) char *label = repair_text_arg(st, "label"), *why = repair_text_arg(st, "why");
        struct repair_haste haste;
        int e;

        if (!label || !*label || strlen(label) >= sizeof(haste.label) ||
                strspn(label, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-") != strlen(label))
                return repair_unusable(st, "a label is 1 to 31 characters A-Z a-z 0-9 _ . : -");
        if (!why || !*why)
                return repair_unusable(st, "a label is changed for a reason: why");
        e = repair_haste_read(st->s->db, label, &haste);
        if (e < 0)
                return e;
        if (json_is(repair_arg(st, "remove"), JSON_TRUE)) {
                if (haste.version == 0 || haste.removed)
                        return repair_unusable(st, "there is no such label");
                haste.removed = true;
        } else {
                if (haste.version == 0)
                        haste = (struct repair_haste){.late_ms = -1, .deadline_ms = -1, .backoff_first_ms = 1000, .backoff_max_ms = 60000};
                copy_text(haste.label, sizeof(haste.label), label);
                haste.removed = false;
                if (!seconds_arg(st, "late_s", &haste.late_ms) || !seconds_arg(st, "deadline_s", &haste.deadline_ms) ||
                        !seconds_arg(st, "backoff_first_s", &haste.backoff_first_ms) || !seconds_arg(st, "backoff_max_s", &haste.backoff_max_ms))
                        return repair_unusable(st, "times are whole seconds from 0 to ten years");
                if (haste.late_ms < 0 || haste.deadline_ms < 0)
                        return repair_unusable(st, "a new label needs late_s and deadline_s");
        }
        if (haste.deadline_ms < haste.late_ms || haste.backoff_first_ms < 1 || haste.backoff_max_ms < haste.backoff_first_ms)
                return repair_unusable(st, ORDER_OF_TIMES);
        haste.version++;
        e = repair_haste_write(st->s->db, &haste, st->command.by, why);
        st->progress.version = haste.version;
        st->done = st->rules_changed = true;
        return e;
}

/* --- carrying out --- */

static const struct {
        const char *what;
        int (*run)(struct repair_step *st);
} commands[] = {
        {"auto_repair", do_auto_repair},
        {"redrive", repair_do_redrive},
        {"reopen", repair_do_reopen},
        {"refund", repair_do_refund},
        {"close", repair_do_close},
        {"rule", do_rule},
        {"haste", do_haste},
        {"task", repair_do_task},
};

static int run(struct repair_step *st)
{
        struct json_error error;

        if (json_parse_own(st->command.args, strlen(st->command.args), &st->args, &error) < 0 || !json_is(json_root(&st->args), JSON_OBJECT))
                return repair_unusable(st, "args is no JSON object");
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
                if (strcmp(commands[i].what, st->command.what) == 0)
                        return commands[i].run(st);
        return repair_unusable(st, "there is no such command");
}

static int write_progress(struct repair_step *st)
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
        struct repair_step *st = arg_;
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
        struct repair_step *st = arg_;
        _cleanup_(strbuf_done) struct strbuf text = {0};

        repair_progress_result(&text, st->command.what, &st->progress);
        return repair_command_write(db, &st->command.id, text.s, true);
}

/* The first line of an error, without its severity. */
static char *said(const char *error)
{
        static const char severity[] = "ERROR:  ";

        if (strncmp(error, severity, strlen(severity)) == 0)
                error += strlen(severity);
        return xstrndup(error, strcspn(error, "\n"));
}

bool repair_commands(struct service *s)
{
        struct repair_state *state = s->state;
        struct repair_step st = {.s = s};
        bool waits = false, more = false;
        int e = repair_command_waits(s->db, &waits);

        if (e < 0 || !waits)
                return false;
        ringer_look(s); /* not in the transaction */
        CRASH_POINT("meta-repair: before a command");
        e = db_transaction(s->db, work_step, &st);
        if (e == -EINVAL && st.command.what[0]) {
                free(st.progress.error);
                st.progress.error = said(db_error(s->db));
                e = db_transaction(s->db, work_fail, &st);
        }
        if (e == 0) {
                CRASH_POINT("meta-repair: after a command");
                service_ring(s, &st.moves);
                for (size_t i = 0; i < st.n_decided; i++)
                        service_ring_one(s, st.decided[i].hearer, st.decided[i].lane, &st.decided[i].id, st.decided[i].version);
                repair_work_ring(s, &st.work);
                repair_task_ring(s, &st.task, st.task_lane);
                if (st.rules_changed)
                        state->rules_ms = 0;
                more = true;
        } else if (e != -ENOENT && e != -ENOTCONN) {
                log_error("cannot carry out a command", LOG_S("error", db_error(s->db)));
        }
        step_done(&st);
        return more;
}
