/* The built-in operators of system tasks. They read and write the store, so the work of a task, its result and the move of its chain are one
 * transaction: a task is done once or not at all, and a crash leaves it where it stood. What the store refuses is the task's failure and not the
 * program's; it is undone to the savepoint before it. Nothing here opens a task (a task creates no further task). */
#include "base/crashpoint.h"
#include "services/execution/execution.h"
#include "services/execution/execution_tasks_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TUNING_HOURS 24

struct running {
        struct service *s;
        struct db *db;
        struct execution_item *item;
        const struct execution_operators *ours; /* the operators of tasks */
        bool later;                             /* the work cannot be done yet */
        int e;                                  /* the transaction cannot go on */
};

static int check_health(struct running *t, const char *entity, struct strbuf *b)
{
        (void)entity;
        return execution_tasks_health(t->db, t->item->broker, b);
}

static void audit_flow(const struct execution_operators *ops, const PGresult *r, int row, bool *ret_proven, struct strbuf *b)
{
        struct slice id = db_text(r, row, 0), type = db_text(r, row, 2), steps = db_text(r, row, 3);
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;

        *ret_proven = true;
        if (json_parse_own(steps.s, steps.len, &doc, &error) < 0)
                die("the steps of a flow are not JSON");
        strbuf_adds(b, "{\"flow\":");
        strbuf_add_json(b, id.s, id.len);
        strbuf_addf(b, ",\"version\":%lld,\"type\":", (long long)db_int(r, row, 1));
        strbuf_add_json(b, type.s, type.len);
        strbuf_adds(b, ",\"tags\":[");
        for (json_value v = json_first(&doc, json_root(&doc)); v; v = json_after(&doc, json_root(&doc), v)) {
                _cleanup_(freep) char *tag = json_string(&doc, v, NULL);

                if (b->s[b->len - 1] != '[')
                        strbuf_addc(b, ',');
                *ret_proven &= execution_audit_tag(ops, tag, b);
        }
        strbuf_addf(b, "],\"proven\":%s}", *ret_proven ? "true" : "false");
}

static int audit_flows(struct running *t, const char *entity, struct strbuf *b)
{
        const struct execution_state *state = t->s->state;
        _cleanup_(strbuf_done) struct strbuf list = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int unproven = 0, e = execution_tasks_flows(t->db, &r);

        (void)entity;
        for (int row = 0; e == 0 && row < PQntuples(r); row++) {
                bool task = strncmp(PQgetvalue(r, row, 2), "system:", strlen("system:")) == 0, proven;

                if (row > 0)
                        strbuf_addc(&list, ',');
                audit_flow(task ? t->ours : &state->operators, r, row, &proven, &list);
                unproven += !proven;
        }
        if (e == 0)
                strbuf_addf(b, "{\"flows\":%d,\"unproven\":%d,\"items\":[%s]}", PQntuples(r), unproven, list.len > 0 ? list.s : "");
        return e;
}

static int analyze_operator(struct running *t, const char *entity, struct strbuf *b)
{
        const struct execution_config *config = t->s->config;
        const struct execution_state *state = t->s->state;
        const struct execution_operator *op = execution_find(&state->operators, entity);
        int64_t since_ms = now_wall_ms() - (int64_t)TUNING_HOURS * 3600 * 1000;
        _cleanup_(strbuf_done) struct strbuf facts = {0};
        struct execution_stats stats;
        enum execution_tuning tuning;
        struct uuid since = {0};
        int e;

        for (int i = 0; i < 6; i++) /* the time stands in front of a UUIDv7 */
                since.b[i] = (uint8_t)(since_ms >> (40 - 8 * i));
        e = execution_tasks_runs(t->db, entity, &since, &stats, &facts);
        if (e < 0)
                return e;
        tuning = execution_tune(&stats, op && execution_others(&state->operators, op));
        strbuf_adds(b, "{\"operator\":");
        strbuf_add_json(b, entity, strlen(entity));
        strbuf_addf(b, ",\"window_h\":%d,%s,\"recommends\":\"%s\",\"set\":", TUNING_HOURS, facts.s, execution_tuning_name(tuning));
        if (tuning != EXECUTION_TUNE_AVOID) {
                strbuf_adds(b, "null}");
                return 0;
        }
        strbuf_addf(b, "{\"avoid_ms\":%lld}}", (long long)config->breaker.max_ms);
        return execution_tasks_avoid(t->db, entity, config->breaker.max_ms);
}

static int prepare_payout(struct running *t, const char *entity, struct strbuf *b)
{
        (void)entity;
        return execution_tasks_settle(t->db, &t->item->c.id, b);
}

/* The output is the next step's input: what it is about must be in it. */
static int resolve_stuck(struct running *t, const char *entity, struct strbuf *b)
{
        strbuf_adds(b, "{\"entity\":");
        strbuf_add_json(b, entity, strlen(entity));
        strbuf_adds(b, ",\"command\":\"auto_repair\"}");
        return execution_tasks_command(t->db, &t->item->c.id);
}

static int await_command(struct running *t, const char *entity, struct strbuf *b)
{
        bool done = false;
        int e = execution_tasks_answer(t->db, &t->item->c.id, entity, &done, b);

        t->later = e == 0 && !done;
        return e;
}

static const struct task_operator {
        const char *name;
        int (*run)(struct running *t, const char *entity, struct strbuf *b);
} operators[] = {
        {"check_health", check_health},
        {"audit_flows", audit_flows},
        {"analyze_operator_fail_rate", analyze_operator},
        {"prepare_owner_payout", prepare_payout},
        {"resolve_stuck_payment", resolve_stuck},
        {"resolve_stuck_execution", resolve_stuck},
        {"await_command", await_command},
};

static const struct task_operator *operator_of(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(operators); i++)
                if (strcmp(operators[i].name, name) == 0)
                        return &operators[i];
        return NULL;
}

bool execution_task_operator(const char *name)
{
        return operator_of(name) != NULL;
}

/* The first line of what the database said. */
static const char *keep_error(struct running *t, int e)
{
        const char *said = e == -ENOENT ? "what the task is about is not there" : db_error(t->db);

        free(t->item->outcome_error);
        t->item->outcome_error = xstrndup(said, strcspn(said, "\n"));
        return t->item->outcome_error;
}

static const char *run(void *arg, const char *who, const struct json_doc *doc, json_value input, struct strbuf *ret_output)
{
        struct running *t = arg;
        const struct task_operator *op = operator_of(who);
        _cleanup_(freep) char *entity = json_string(doc, json_get(doc, input, "entity"), NULL);
        _cleanup_(strbuf_done) struct strbuf output = {0};
        const char *error = NULL;
        int e;

        if (!op || !entity)
                return "no task of its kind";
        e = db_run(t->db, "SAVEPOINT task", NULL, NULL);
        if (e == 0) {
                CRASH_POINT("execution: before the work of a task");
                e = op->run(t, entity, &output);
                CRASH_POINT("execution: after the work of a task");
                if (e == -EINVAL || e == -ENOENT) {
                        error = keep_error(t, e);
                        e = db_run(t->db, "ROLLBACK TO SAVEPOINT task", NULL, NULL);
                }
        }
        if (e < 0) {
                t->e = e;
                return "the store cannot be reached";
        }
        if (t->later)
                return execution_later;
        if (!error)
                strbuf_add(ret_output, output.s, output.len);
        return error;
}

int execution_task_plan(struct service *s, struct db *db, struct execution_item *item)
{
        const struct execution_state *state = s->state;
        struct running t = {.s = s, .db = db, .item = item};
        const struct execution_host host = {.run = run, .arg = &t};
        _cleanup_(freep) struct execution_operator *ours = xcalloc(state->operators.n + 1, sizeof(*ours));
        struct execution_operators ops = {.v = ours, .host = &host};

        /* Nobody stands in for them, and what made them fail may be over: failures are counted, and disable none of them. */
        for (size_t i = 0; i < state->operators.n; i++)
                if (execution_task_operator(state->operators.v[i].name)) {
                        ours[ops.n] = state->operators.v[i];
                        ours[ops.n].failures = 0;
                        ours[ops.n++].avoided = false;
                }
        t.ours = &ops;
        execution_plan_done(&item->p);
        execution_plan_make(&item->c, &ops, NULL, &item->p);
        item->planned = true;
        for (size_t i = 0; i < item->p.n_counts; i++)
                item->p.counts[i].op = execution_find(&state->operators, item->p.counts[i].op->name);
        return t.e;
}
