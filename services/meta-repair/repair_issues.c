/* A batch of issues: decide, act, write what came of it. One transaction proves the leases, moves the chains by compare-and-set on their version,
 * writes the history of the issues and their rows; the bells come after it. A batch that the database will not have is tried one by one, and the one
 * that fails alone is put aside for a person, so that it is in nobody's way. A crash before the commit leaves the issues to whoever takes them when
 * the leases have run out; after it, the chains have moved, and a bell that was not rung the ringer rings. */
#include "base/crashpoint.h"
#include "base/json.h"
#include "base/util.h"
#include "repair.h"
#include "repair_texts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static double jitter(void)
{
        return uuid_v7().b[15] / 256.0;
}

static const struct repair_rule *rule_of(const struct repair_work *w, const struct repair_issue *i)
{
        const struct repair_rule *rule = repair_fixed_rule(i->kind);

        if (!rule)
                rule = repair_rule_of(w->rules, i->subject.kind, i->step, i->subject.label);
        return rule ? rule : repair_fixed_rule(ISSUE_EVIDENCE_MISMATCH); /* the pauses of something that only a person ends */
}

static bool moved(const struct repair_issue *i)
{
        return i->of_chain && (i->version != i->subject.version || strcmp(i->subject.status, "open") != 0);
}

void repair_work_prepare(struct service *s, struct repair_work *w)
{
        struct repair_state *state = s->state;

        w->owner = s->instance;
        w->rules = &state->rules;
        w->bell_held = xcalloc(w->issues.n + 1, sizeof(*w->bell_held));
        w->fenced = xcalloc(w->issues.n + 1, sizeof(*w->fenced));
        for (size_t k = 0; k < w->issues.n; k++) {
                struct repair_issue *i = &w->issues.v[k];

                i->rule = rule_of(w, i);
                w->bell_held[k] = i->subject.hearer[0] && ringer_holds(s, i->subject.hearer);
        }
}

void repair_work_done(struct repair_work *w)
{
        repair_issues_done(&w->issues);
        free(w->bell_held);
        free(w->fenced);
        free(w->tasks);
        advance_done(&w->moves);
        advance_done(&w->chains);
        *w = (struct repair_work){0};
}

static struct repair_facts facts_of(const struct repair_work *w, size_t k)
{
        const struct repair_issue *i = &w->issues.v[k];
        const struct subject *s = &i->subject;

        return (struct repair_facts){.rule = i->rule,
                .antibody = i->antibody,
                .attempts = i->attempts,
                .outcome = i->outcome,
                .early = i->early,
                .step = s->step,
                .status = s->status,
                .moved = moved(i),
                .driver = s->driver,
                .run_operator = s->run_operator,
                .operator_ready = s->operator_ready,
                .retries = s->retries,
                .bell_held = w->bell_held[k],
                .calls = s->calls,
                .failures = s->failures,
                .streak = s->streak,
                .avoided = s->avoided,
                .webhook = s->webhook,
                .task = strcmp(s->kind, "system") == 0,
                .listed = s->listed};
}

/* Under a rule that was made longer meanwhile it may be in time again: until when, or 0. */
static int64_t in_time_ms(const struct repair_issue *i)
{
        int64_t age = i->rule->since_created ? i->subject.created_ms : i->subject.age_ms;

        if (i->early || moved(i) || repair_fixed_rule(i->kind) || repair_grade(i->rule, age) == REPAIR_BEYOND)
                return 0;
        return i->rule->deadline_ms - age;
}

void repair_work_decide(struct repair_work *w)
{
        for (size_t k = 0; k < w->issues.n; k++) {
                struct repair_issue *i = &w->issues.v[k];
                struct repair_facts f = facts_of(w, k);

                if (in_time_ms(i) > 0)
                        i->plan = (struct repair_plan){.state = REPAIR_OPEN, .outcome = "in_time"};
                else
                        repair_decide(&f, &i->plan);
        }
}

/* --- the move of a chain --- */

/* The member of the failure {"reason", "step", ...}. */
static char *failure(const struct repair_issue *i, int64_t *ret_step)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;
        char *reason;

        *ret_step = 0;
        if (!i->subject.error || json_parse_own(i->subject.error, strlen(i->subject.error), &doc, &error) < 0)
                return xstrdup(repair_end_reason(i->subject.step));
        (void)json_int64(&doc, json_get(&doc, json_root(&doc), "step"), ret_step);
        reason = json_string(&doc, json_get(&doc, json_root(&doc), "reason"), NULL);
        return reason ? reason : xstrdup(repair_end_reason(i->subject.step));
}

static const char *event_of(enum repair_move move)
{
        static const char *const events[] = {[REPAIR_RUN_AGAIN] = "EXECUTION_REQUIRED",
                [REPAIR_REFUND] = "REFUND_REQUIRED",
                [REPAIR_FAIL] = "FINAL_FAIL",
                [REPAIR_REVERSE] = "PAYMENT_REVERSED",
                [REPAIR_REFOLD] = NULL};

        return events[move];
}

static void add_move(struct repair_work *w, struct repair_issue *i)
{
        _cleanup_(strbuf_done) struct strbuf data = {0};
        _cleanup_(freep) char *reason = NULL;
        int64_t step;
        size_t t;

        if (!event_of(i->plan.move))
                return;
        reason = failure(i, &step);
        if (i->plan.move == REPAIR_RUN_AGAIN)
                repair_text_execution(&data, (int)step, &i->id, NULL, NULL);
        else if (i->plan.move == REPAIR_REFUND)
                repair_text_refund(&data, i->subject.amount, reason, i->rule, &i->id, NULL);
        else if (i->plan.move == REPAIR_REVERSE)
                repair_text_reversed(&data, i->subject.amount, reason, &i->id);
        else
                repair_text_fail(&data, reason, i->subject.step, i->attempts, i->rule, &i->id, NULL, NULL);
        t = advance_move(&w->moves, &i->chain_id, i->subject.version);
        advance_event(&w->moves, t, event_of(i->plan.move), data.s, data.len);
        if (i->plan.move != REPAIR_REVERSE)
                return;
        strbuf_reset(&data);
        repair_text_fail(&data, reason, i->subject.step, i->attempts, i->rule, &i->id, NULL, &i->subject.amount);
        advance_event(&w->moves, t, "FINAL_FAIL", data.s, data.len);
}

/* What the database said of the moves becomes the plan. */
static void take_verdicts(struct repair_work *w)
{
        size_t t = 0;

        for (size_t k = 0; k < w->issues.n && t < w->moves.n; k++) {
                struct repair_issue *i = &w->issues.v[k];

                if (!w->fenced[k] || !event_of(i->plan.move))
                        continue; /* it made no move */
                if (w->moves.t[t].verdict == ADVANCE_LOST)
                        i->plan = (struct repair_plan){.state = REPAIR_OPEN, .outcome = "moved_on"};
                else if (w->moves.t[t].verdict == ADVANCE_REFUSED)
                        i->plan = (struct repair_plan){
                                .state = REPAIR_OPEN, .outcome = "refused", .counts = true, .told = strcmp(i->outcome, "refused") != 0};
                t++;
        }
}

/* --- the history and the row of an issue --- */

static bool ends(const struct repair_issue *i)
{
        return i->plan.state == REPAIR_RESOLVED || i->plan.state == REPAIR_FAILED;
}

static void add_history(struct repair_work *w, const struct repair_issue *i)
{
        _cleanup_(strbuf_done) struct strbuf data = {0};
        int attempts = i->attempts + (i->plan.counts ? 1 : 0);
        size_t t;

        if (!i->plan.told && !ends(i))
                return;
        t = advance_move(&w->chains, &i->id, i->chain_version);
        if (i->plan.told) {
                repair_text_repair(&data, attempts, i->antibody, i->plan.outcome);
                advance_event(&w->chains, t, "META_REPAIR", data.s, data.len);
                strbuf_reset(&data);
        }
        if (ends(i)) {
                repair_text_resolved(&data, i->plan.outcome, attempts);
                advance_event(&w->chains, t, "META_RESOLVED", data.s, data.len);
        }
}

static int64_t next_ms(const struct repair_issue *i)
{
        int attempts = i->attempts + (i->plan.counts ? 1 : 0);
        int64_t in_time = in_time_ms(i);

        if (in_time > 0)
                return in_time;
        if (i->early && !ends(i))
                return -1;
        if (ends(i) || strcmp(i->plan.outcome, "moved_on") == 0)
                return 0;
        return repair_backoff_ms(i->rule, i->plan.longest ? 64 : attempts, jitter());
}

static int probe(struct repair_work *w, struct db *db)
{
        _cleanup_(freep) struct uuid *operators = xcalloc(w->issues.n + 1, sizeof(*operators));
        _cleanup_(freep) struct uuid *providers = xcalloc(w->issues.n + 1, sizeof(*providers));
        size_t n_operators = 0, n_providers = 0;
        int e;

        for (size_t k = 0; k < w->issues.n; k++) {
                if (w->fenced[k] && w->issues.v[k].plan.move == REPAIR_ASK_OPERATOR)
                        operators[n_operators++] = w->issues.v[k].chain_id;
                if (w->fenced[k] && w->issues.v[k].plan.move == REPAIR_ASK_PROVIDER)
                        providers[n_providers++] = w->issues.v[k].chain_id;
        }
        e = repair_probe_operators(db, operators, n_operators);
        return e < 0 ? e : repair_probe_providers(db, providers, n_providers);
}

static int write_outcomes(struct repair_work *w, struct db *db)
{
        _cleanup_(freep) struct repair_result *results = xcalloc(w->issues.n + 1, sizeof(*results));
        size_t n = 0;
        int e;

        for (size_t k = 0; k < w->issues.n; k++)
                if (w->fenced[k]) {
                        add_history(w, &w->issues.v[k]);
                        results[n++] = (struct repair_result){.issue = &w->issues.v[k], .next_ms = next_ms(&w->issues.v[k])};
                }
        e = advance_run(&w->chains, db);
        for (size_t t = 0; e == 0 && t < w->chains.n; t++)
                if (w->chains.t[t].verdict != ADVANCE_WON)
                        e = -EAGAIN; /* the leases say that nobody else writes it: look again */
        if (e == 0)
                e = repair_issues_update(db, results, n);
        return e < 0 ? e : repair_count(db, results, n);
}

int repair_work_apply(struct db *db, void *arg)
{
        struct repair_work *w = arg;
        int e;

        advance_reset(&w->moves);
        advance_reset(&w->chains);
        repair_work_decide(w);
        e = repair_issues_fence(db, w->owner, &w->issues, w->fenced);
        for (size_t k = 0; e == 0 && k < w->issues.n; k++) {
                struct repair_issue *i = &w->issues.v[k];

                if (!w->fenced[k])
                        continue;
                if (i->plan.move == REPAIR_REFOLD) {
                        struct repair_facts f = facts_of(w, k);
                        char answer[16] = "";

                        e = repair_refold(db, &i->chain_id, answer);
                        repair_refolded(&f, answer, &i->plan);
                } else {
                        add_move(w, i);
                }
        }
        if (e == 0)
                e = repair_tasks_reverse(w, db);
        if (e == 0)
                e = advance_run(&w->moves, db);
        if (e == 0) {
                take_verdicts(w);
                e = probe(w, db);
        }
        if (e == 0)
                e = repair_tasks_open(w, db);
        return e < 0 ? e : write_outcomes(w, db);
}

void repair_work_ring(struct service *s, const struct repair_work *w)
{
        service_ring(s, &w->moves);
        for (size_t k = 0; k < w->n_tasks; k++)
                repair_task_ring(s, &w->tasks[k], LANE_LOW);
        for (size_t k = 0; k < w->issues.n; k++) {
                const struct repair_issue *i = &w->issues.v[k];

                if (!w->fenced[k])
                        continue;
                if (i->plan.move == REPAIR_RING || i->plan.move == REPAIR_ASK_OPERATOR || i->plan.move == REPAIR_ASK_PROVIDER)
                        service_ring_one(s, i->subject.hearer, i->subject.lane, &i->chain_id, i->subject.version);
                if (i->plan.counts)
                        log_info("repair", LOG_S("issue", i->kind), LOG_S("antibody", i->antibody), LOG_S("outcome", i->plan.outcome),
                                LOG_S("step", i->step));
        }
}

int repair_issue_close(struct db *db, struct repair_issue *i, const char *by, const char *reference)
{
        struct repair_result result = {.issue = i};
        _cleanup_(strbuf_done) struct strbuf data = {0};
        _cleanup_(advance_done) struct advance a = {0};
        int e;

        i->plan = (struct repair_plan){.state = REPAIR_RESOLVED, .outcome = "closed_by_person"};
        repair_text_resolved_by(&data, i->plan.outcome, i->attempts, by, reference);
        advance_event(&a, advance_move(&a, &i->id, i->chain_version), "META_RESOLVED", data.s, data.len);
        e = advance_run(&a, db);
        return e < 0 ? e : repair_issues_update(db, &result, 1);
}

static void look_at_hearers(struct service *s, const struct repair_issues *issues)
{
        for (size_t k = 0; k < issues->n; k++)
                if (issues->v[k].subject.hearer[0])
                        (void)ringer_holds(s, issues->v[k].subject.hearer); /* makes it known */
        ringer_look(s);
}

static int handle(struct service *s, struct repair_work *w)
{
        int e = repair_subjects_read(s->db, &w->issues);

        if (e < 0)
                return e;
        look_at_hearers(s, &w->issues);
        repair_work_prepare(s, w);
        CRASH_POINT("meta-repair: before writing");
        e = db_transaction(s->db, repair_work_apply, w);
        CRASH_POINT("meta-repair: after writing");
        if (e == 0)
                repair_work_ring(s, w);
        return e;
}

/* Data that cannot be used, a constraint, what a function raised: it will be so again. Everything else (a full disk, a statement that took too long,
 * a database of another version) is no fault of the issue. */
static bool lasting(const char *sqlstate)
{
        return strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0 || strncmp(sqlstate, "P0", 2) == 0;
}

/* Those of a batch that failed as a whole, each by itself. */
static int handle_alone(struct service *s, const struct repair_issues *issues)
{
        int e = 0;

        for (size_t k = 0; k < issues->n && (e == 0 || e == -EINVAL); k++) {
                const struct repair_issue *from = &issues->v[k];
                struct repair_work w = {.issues = {.v = xcalloc(1, sizeof(*w.issues.v)), .n = 1}};

                w.issues.v[0] = *from;
                w.issues.v[0].subject.error = NULL;
                e = handle(s, &w);
                repair_work_done(&w);
                if (e != -EINVAL || !lasting(db_sqlstate(s->db)))
                        continue;
                log_error("an issue cannot be handled", LOG_S("issue", from->kind), LOG_S("error", db_error(s->db)));
                if (strcmp(from->outcome, REPAIR_UNHANDLED) != 0)
                        service_quarantine(
                                s, NULL, from->of_chain ? &from->chain_id : NULL, "an issue cannot be handled", from->kind, strlen(from->kind));
                e = repair_issue_aside(s->db, s->instance, from);
        }
        return e;
}

bool repair_due(struct service *s)
{
        const struct repair_config *config = s->config;
        struct repair_state *state = s->state;
        struct repair_work w = {0};
        bool wrapped, more = false;
        int e = repair_issues_take(s->db, s->instance, config->lease_ms, &state->turn, &w.issues);

        wrapped = !state->turn.client;
        if (e == 0 && w.issues.n > 0) {
                CRASH_POINT("meta-repair: after taking");
                e = handle(s, &w);
                if (e == -EINVAL) {
                        log_warning("issues failed as a batch and are tried one by one", LOG_I("issues", (int64_t)w.issues.n),
                                LOG_S("error", db_error(s->db)));
                        e = handle_alone(s, &w.issues);
                }
        }
        more = e == 0 && (w.issues.n > 0 || !wrapped);
        if (e < 0 && e != -ENOTCONN)
                log_error("cannot repair", LOG_S("error", db_error(s->db)));
        repair_work_done(&w);
        return more;
}
