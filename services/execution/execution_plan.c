/* How far a job can go now. Built-in steps are computed at once; the plan ends at the first step that needs an outside call, at the end of the flow,
 * or where nobody is left for a step.
 *
 * Invariants: a step is completed exactly once and in order, its output is the next step's input, and a plan starts at most one run. Pure: a crash
 * before the plan is committed leaves the chain where it stood, and the next bell makes the plan again. */
#include "services/execution/execution_plan.h"

#include "services/execution/builtin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- the chain --- */

static int parse(struct slice text, struct json_doc *ret_doc)
{
        struct json_error error;
        struct json_doc doc;

        if (json_parse_own(text.s ? text.s : "", text.len, &doc, &error) < 0)
                return -EINVAL;
        *ret_doc = doc;
        return 0;
}

static int parse_steps(struct execution_chain *c)
{
        json_value steps = json_get(&c->job, json_get(&c->job, json_root(&c->job), "flow"), "steps");

        if (!json_is(steps, JSON_ARRAY))
                return -EINVAL;
        for (json_value v = json_first(&c->job, steps); v; v = json_after(&c->job, steps, v)) {
                if (c->n_steps == EXECUTION_STEPS_MAX || !json_is(v, JSON_STRING))
                        return -EINVAL;
                c->tags[c->n_steps++] = json_string(&c->job, v, NULL);
        }
        return c->n_steps > 0 ? 0 : -EINVAL;
}

static void parse_runs(struct execution_chain *c)
{
        json_value list = json_root(&c->runs);

        for (json_value v = json_first(&c->runs, list); v; v = json_after(&c->runs, list, v)) {
                int64_t step = -1;
                json_int64(&c->runs, json_get(&c->runs, v, "step"), &step);
                json_value state = json_get(&c->runs, v, "state");
                if (!json_string_is(&c->runs, state, "failed") && !json_string_is(&c->runs, state, "done"))
                        c->live = true;
                if (step != c->step)
                        continue;
                c->n_runs++;
                if (!c->again && c->n_runs > c->attempts_before && json_string_is(&c->runs, state, "failed")) {
                        _cleanup_(freep) char *who = json_string(&c->runs, json_get(&c->runs, v, "operator"), NULL);
                        _cleanup_(freep) char *error = json_string(&c->runs, json_get(&c->runs, v, "error"), NULL);
                        execution_chain_fail(c, who ? who : "", error ? error : "failed");
                }
        }
        if (c->again)
                c->attempts_before = c->n_runs;
}

int execution_chain_parse(const struct execution_record *record, struct execution_chain *ret_chain, const char **ret_why)
{
        struct execution_chain *c = ret_chain;

        *c = (struct execution_chain){
                .started = strcmp(record->at, "EXECUTION_STARTED") == 0 || strcmp(record->at, "STEP_COMPLETED") == 0,
                .again = strcmp(record->at, "EXECUTION_REQUIRED") == 0,
                .attempts_before = record->attempts_before,
        };
        if (parse(record->job, &c->job) < 0) {
                *ret_why = "data of JOB_CREATED are not JSON";
                return -EINVAL;
        }
        if (parse_steps(c) < 0) {
                *ret_why = "JOB_CREATED has no usable flow.steps";
                return -EINVAL;
        }
        c->input = json_raw(&c->job, json_get(&c->job, json_root(&c->job), "payload"));
        c->context = json_raw(&c->job, json_get(&c->job, json_root(&c->job), "context"));
        if (record->last.len > 0) {
                int64_t step = -1;
                if (parse(record->last, &c->last) < 0 || json_int64(&c->last, json_get(&c->last, json_root(&c->last), "step"), &step) < 0 ||
                        step < 0 || step >= c->n_steps) {
                        *ret_why = "data of STEP_COMPLETED are unusable";
                        return -EINVAL;
                }
                c->step = (int)step + 1;
                c->input = json_raw(&c->last, json_get(&c->last, json_root(&c->last), "output"));
        }
        if (!c->input.s) {
                *ret_why = "no input for the step";
                return -EINVAL;
        }
        if (record->runs.len > 0) {
                if (parse(record->runs, &c->runs) < 0) {
                        *ret_why = "the list of runs is unusable";
                        return -EINVAL;
                }
                parse_runs(c);
        }
        return 0;
}

void execution_chain_done(struct execution_chain *c)
{
        for (int i = 0; i < c->n_steps; i++)
                free(c->tags[i]);
        for (size_t i = 0; i < c->n_failed; i++) {
                free(c->failed[i].who);
                free(c->failed[i].error);
        }
        free(c->failed);
        json_done(&c->job);
        json_done(&c->last);
        json_done(&c->runs);
        *c = (struct execution_chain){0};
}

void execution_chain_fail(struct execution_chain *c, const char *who, const char *error)
{
        c->failed = xrealloc(c->failed, (c->n_failed + 1) * sizeof(*c->failed));
        c->failed[c->n_failed++] = (struct execution_attempt){.who = xstrdup(who), .error = xstrdup(error)};
}

/* --- the plan --- */

struct planner {
        const struct execution_chain *c;
        const struct execution_operators *ops;
        struct execution_plan *p;
        bool started;
        int step;
        struct slice input;      /* into `outputs` or the chain */
        struct json_doc outputs; /* the input parsed, when it is not part of a document of the chain */
        const struct json_doc *doc;
        json_value value;
        struct execution_attempt failed[EXECUTION_STEPS_MAX * 4]; /* of the present step; borrowed texts */
        size_t n_failed;
};

static struct strbuf *event(struct planner *m, const char *type)
{
        struct execution_event *e = &m->p->events[m->p->n_events++];

        e->type = type;
        return &e->data;
}

static void start(struct planner *m)
{
        if (m->started)
                return;
        m->started = true;
        if (m->c->again)
                strbuf_addf(event(m, "EXECUTION_STARTED"), "{\"steps\":%d,\"from_step\":%d,\"attempts_before\":%d}", m->c->n_steps, m->c->step,
                        m->c->attempts_before);
        else
                strbuf_addf(event(m, "EXECUTION_STARTED"), "{\"steps\":%d}", m->c->n_steps);
}

static void complete_step(struct planner *m, const struct execution_result *r, bool builtin)
{
        struct strbuf *b = event(m, "STEP_COMPLETED");
        const char *tag = m->c->tags[m->step];
        char id[UUID_TEXT_SIZE];

        strbuf_addf(b, "{\"step\":%d,\"tag\":", m->step);
        strbuf_add_json(b, tag, strlen(tag));
        strbuf_adds(b, ",\"operator\":");
        strbuf_add_json(b, r->who, strlen(r->who));
        if (builtin) {
                strbuf_adds(b, ",\"run_id\":null");
        } else {
                uuid_format(&r->run_id, id);
                strbuf_addf(b, ",\"run_id\":\"%s\"", id);
        }
        strbuf_addf(b, ",\"attempt\":%d,\"took_ms\":", r->attempt);
        strbuf_addi(b, r->took_ms);
        if (r->evidence.len > 0) {
                strbuf_adds(b, ",\"evidence\":");
                strbuf_add(b, r->evidence.s, r->evidence.len);
        }
        strbuf_adds(b, ",\"output\":");
        strbuf_add(b, r->output.s, r->output.len);
        strbuf_addc(b, '}');

        m->step++;
        m->n_failed = 0;
}

/* The output of a step becomes the input of the next; it is valid JSON by construction or by the check of the answer. */
static void feed(struct planner *m, const char *output, size_t len)
{
        struct json_doc doc = {0};

        if (parse((struct slice){output, len}, &doc) < 0)
                die("execution: output of a step is not JSON");
        json_done(&m->outputs);
        m->outputs = doc;
        m->doc = &m->outputs;
        m->value = json_root(&m->outputs);
        m->input = (struct slice){m->outputs.text, m->outputs.len};
}

static void complete_execution(struct planner *m)
{
        struct strbuf *b = event(m, "EXECUTION_COMPLETED");

        strbuf_adds(b, "{\"result\":");
        strbuf_add(b, m->input.s, m->input.len);
        strbuf_addc(b, '}');
}

static void fail_execution(struct planner *m)
{
        const char *tag = m->c->tags[m->step], *reason = "no_operator";
        struct strbuf *b;

        if (m->n_failed > 0)
                reason = strcmp(m->failed[m->n_failed - 1].error, EXECUTION_BAD_OUTPUT) == 0 ? "bad_output" : "all_operators_failed";
        b = event(m, "EXECUTION_FAILED");
        strbuf_addf(b, "{\"error\":{\"reason\":\"%s\",\"step\":%d,\"tag\":", reason, m->step);
        strbuf_add_json(b, tag, strlen(tag));
        strbuf_adds(b, ",\"attempts\":[");
        for (size_t i = 0; i < m->n_failed; i++) {
                strbuf_adds(b, i ? ",{\"operator\":" : "{\"operator\":");
                strbuf_add_json(b, m->failed[i].who, strlen(m->failed[i].who));
                strbuf_adds(b, ",\"error\":");
                strbuf_add_json(b, m->failed[i].error, strlen(m->failed[i].error));
                strbuf_addc(b, '}');
        }
        strbuf_adds(b, "]}}");
}

static void count(struct planner *m, const struct execution_operator *op, const char *error, bool refused)
{
        struct execution_plan *p = m->p;

        p->counts = xrealloc(p->counts, (p->n_counts + 1) * sizeof(*p->counts));
        p->counts[p->n_counts++] = (struct execution_count){.op = op, .error = error, .refused = refused};
}

static void note_failed(struct planner *m, char *who, const char *error)
{
        if (m->n_failed < ARRAY_SIZE(m->failed))
                m->failed[m->n_failed++] = (struct execution_attempt){.who = who, .error = (char *)error};
}

static int next_attempt(const struct planner *m)
{
        return (m->step == m->c->step ? m->c->n_runs : 0) + 1;
}

const char execution_later[] = "not yet";

static void run_builtin(struct planner *m, const struct execution_operator *op)
{
        const struct execution_host *host = m->ops->host;
        const struct builtin *builtin = builtin_find(op->name);
        _cleanup_(strbuf_done) struct strbuf output = {0};
        const char *error;

        start(m);
        if (host)
                error = host->run(host->arg, op->name, m->doc, m->value, &output);
        else
                error = builtin ? builtin->run(m->doc, m->value, &output) : "not built in";
        m->p->later = error == execution_later;
        if (m->p->later)
                return;
        /* What is computed from its input alone can only fail because of it. */
        count(m, op, error, error && builtin && !host);
        if (error) {
                note_failed(m, op->name, error);
                return;
        }
        complete_step(m, &(struct execution_result){.who = op->name, .attempt = next_attempt(m), .output = {output.s, output.len}}, true);
        feed(m, output.s, output.len);
}

static void start_run(struct planner *m, const struct execution_operator *op)
{
        struct execution_plan *p = m->p;

        if (!execution_has_room(op)) {
                p->room_for = op;
                return;
        }
        start(m);
        p->call = op;
        p->step = m->step;
        p->attempt = next_attempt(m);
        p->input = xstrndup(m->input.s, m->input.len);
}

static void begin(struct planner *m)
{
        const struct execution_chain *c = m->c;

        m->started = c->started;
        m->step = c->step;
        m->input = c->input;
        if (c->last.n_tokens > 0) {
                m->doc = &c->last;
                m->value = json_get(m->doc, json_root(m->doc), "output");
        } else {
                m->doc = &c->job;
                m->value = json_get(m->doc, json_root(m->doc), "payload");
        }
        for (size_t i = 0; i < c->n_failed; i++)
                note_failed(m, c->failed[i].who, c->failed[i].error);
}

void execution_plan_make(
        const struct execution_chain *c, const struct execution_operators *ops, const struct execution_result *done, struct execution_plan *ret_plan)
{
        struct planner m = {.c = c, .ops = ops, .p = ret_plan};

        *ret_plan = (struct execution_plan){0};
        begin(&m);
        if (done && m.step < c->n_steps) {
                complete_step(&m, done, false);
                feed(&m, done->output.s, done->output.len);
        }
        while (m.step < c->n_steps && !ret_plan->call && !ret_plan->room_for && !ret_plan->later) {
                const struct execution_operator *op = execution_choose(ops, c->tags[m.step], m.failed, m.n_failed);
                if (!op || m.n_failed == ARRAY_SIZE(m.failed)) {
                        fail_execution(&m);
                        goto out;
                }
                if (op->url)
                        start_run(&m, op);
                else
                        run_builtin(&m, op);
        }
        if (m.step == c->n_steps)
                complete_execution(&m);
out:
        json_done(&m.outputs);
}

void execution_plan_done(struct execution_plan *p)
{
        for (size_t i = 0; i < p->n_events; i++)
                strbuf_done(&p->events[i].data);
        free(p->counts);
        free(p->input);
        *p = (struct execution_plan){0};
}
