/* The policies: an issue opens its system task in the transaction that handles it, and a person's command opens one by hand. At most one of a kind is
 * active about the same thing, however many issues want it (open_task). A task whose work failed takes its internal transfer back with its end. A
 * crash before the commit leaves none of it; after it, a task that was not rung the ringer rings. */
#include "base/util.h"
#include "repair.h"
#include "repair_step.h"
#include "repair_texts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int repair_tasks_reverse(struct repair_work *w, struct db *db)
{
        _cleanup_(freep) struct uuid *tasks = xcalloc(w->issues.n + 1, sizeof(*tasks));
        _cleanup_(freep) struct uuid *issues = xcalloc(w->issues.n + 1, sizeof(*issues));
        _cleanup_(freep) int *versions = xcalloc(w->issues.n + 1, sizeof(*versions));
        size_t n = 0;

        for (size_t k = 0; k < w->issues.n; k++) {
                const struct repair_issue *i = &w->issues.v[k];

                if (!w->fenced[k] || i->plan.move != REPAIR_REVERSE)
                        continue;
                tasks[n] = i->chain_id;
                versions[n] = i->subject.version;
                issues[n++] = i->id;
        }
        return repair_reversals_store(db, tasks, issues, versions, n);
}

/* A CLEANUP is about its issue. When much is stuck at once, the antibodies go on without more of them. */
#define CLEANUP     "CLEANUP"
#define CLEANUP_MAX 16

static bool is_cleanup(const struct repair_issue *i)
{
        return strcmp(i->plan.task, CLEANUP) == 0;
}

/* Whether an issue before this one wants the same task. */
static bool wanted_before(const struct repair_work *w, size_t k)
{
        const struct repair_issue *i = &w->issues.v[k];

        for (size_t j = 0; j < k && !is_cleanup(i); j++)
                if (w->fenced[j] && w->issues.v[j].plan.task == i->plan.task && strcmp(w->issues.v[j].operator, i->operator) == 0)
                        return true;
        return false;
}

int repair_tasks_open(struct repair_work *w, struct db *db)
{
        int64_t cleanups = -1; /* open; asked once a batch, when one more is wanted */
        int e = 0;

        w->n_tasks = 0;
        for (size_t k = 0; e == 0 && k < w->issues.n; k++) {
                const struct repair_issue *i = &w->issues.v[k];
                const char *entity = i->operator[0] ? i->operator: NULL;
                _cleanup_(strbuf_done) struct strbuf cause = {0};
                struct repair_task task;
                char id[UUID_TEXT_SIZE];

                if (!w->fenced[k] || !i->plan.task || wanted_before(w, k))
                        continue;
                uuid_format(&i->id, id);
                if (is_cleanup(i)) {
                        entity = id;
                        if (cleanups < 0)
                                e = repair_tasks_active(db, CLEANUP, &cleanups);
                        if (e < 0 || cleanups >= CLEANUP_MAX)
                                continue;
                }
                strbuf_addf(&cause, "{\"issue\":\"%s\",\"issue_id\":\"%s\"}", i->kind, id);
                e = repair_task_open(db, i->plan.task, entity, cause.s, LANE_LOW, &task);
                if (e < 0 || task.refusal[0])
                        continue; /* its kind or its operator is not there any more, or no such task goes with the kind of issue */
                cleanups += is_cleanup(i);
                w->tasks = xrealloc(w->tasks, (w->n_tasks + 1) * sizeof(*w->tasks));
                w->tasks[w->n_tasks++] = task;
        }
        return e;
}

void repair_task_ring(struct service *s, const struct repair_task *task, enum lane lane)
{
        service_ring_one(s, task->hearer, lane, &task->id, task->version);
}

/* {"kind", "entity"?, "now"?}, or {"task_id"}: the same again, or that one itself while it is active, at once. */
int repair_do_task(struct repair_step *st)
{
        _cleanup_(freep) char *named = repair_text_arg(st, "kind"), *about = repair_text_arg(st, "entity");
        _cleanup_(strbuf_done) struct strbuf cause = {0};
        char id[UUID_TEXT_SIZE], kind[32] = "", entity[80] = "";
        struct uuid like;
        bool again = repair_arg(st, "task_id") != 0;
        int e;

        if (again && !repair_uuid_arg(st, "task_id", &like))
                return repair_unusable(st, "task_id is no id");
        e = again ? repair_task_read(st->s->db, &like, kind, entity) : 0;
        if (e < 0 && e != -ENOENT)
                return e;
        if (e == -ENOENT || (!again && !named))
                return repair_unusable(st, again ? "there is no such task" : "kind is no text");
        uuid_format(&st->command.id, id);
        strbuf_addf(&cause, "{\"command_id\":\"%s\",\"by\":", id);
        strbuf_add_json(&cause, st->command.by, strlen(st->command.by));
        strbuf_addc(&cause, '}');
        st->task_lane = again || json_is(repair_arg(st, "now"), JSON_TRUE) ? LANE_HIGH : LANE_LOW;
        e = repair_task_open(st->s->db, again ? kind : named, again ? entity : about, cause.s, st->task_lane, &st->task);
        if (e < 0)
                return e;
        if (st->task.refusal[0])
                return repair_unusable(st, st->task.refusal);
        st->progress.task = st->task.id;
        st->progress.opened = st->task.opened;
        st->done = true;
        return 0;
}
