/* The progress of a command is stored in repair_command.result until it is done, and then replaced by the answer: found = what was done + waiting +
 * refused, always. */
#include "repair_progress.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

void repair_progress_done(struct repair_progress *p)
{
        strbuf_done(&p->refusals);
        free(p->error);
        *p = (struct repair_progress){0};
}

static int64_t number(const struct json_doc *doc, const char *name)
{
        int64_t n = 0;

        (void)json_int64(doc, json_get(doc, json_root(doc), name), &n);
        return n;
}

void repair_progress_read(const char *text, struct repair_progress *ret_progress)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct repair_progress p = {0};
        struct json_error error;
        struct slice list;

        *ret_progress = p;
        if (!text || json_parse_own(text, strlen(text), &doc, &error) < 0)
                return;
        p.phase = number(&doc, "phase");
        p.found = number(&doc, "found");
        p.done = number(&doc, "done");
        p.waiting = number(&doc, "waiting");
        p.refused = number(&doc, "refused");
        p.n_refusals = number(&doc, "n_refusals");
        _cleanup_(freep) char *after = json_string(&doc, json_get(&doc, json_root(&doc), "after"), NULL);
        if (after)
                (void)uuid_parse(after, strlen(after), &p.after);
        list = json_raw(&doc, json_get(&doc, json_root(&doc), "refusals"));
        if (list.len > 2)
                strbuf_add(&p.refusals, list.s + 1, list.len - 2);
        *ret_progress = p;
}

static void refusals(struct strbuf *b, const struct repair_progress *p)
{
        strbuf_adds(b, ",\"refusals\":[");
        if (p->refusals.len > 0)
                strbuf_add(b, p->refusals.s, p->refusals.len);
        strbuf_addc(b, ']');
}

void repair_progress_write(struct strbuf *b, const struct repair_progress *p)
{
        char after[UUID_TEXT_SIZE];

        uuid_format(&p->after, after);
        strbuf_addf(b, "{\"phase\":%lld,\"after\":\"%s\",\"found\":%lld,\"done\":%lld,\"waiting\":%lld,\"refused\":%lld,\"n_refusals\":%lld",
                (long long)p->phase, after, (long long)p->found, (long long)p->done, (long long)p->waiting, (long long)p->refused,
                (long long)p->n_refusals);
        refusals(b, p);
        strbuf_addc(b, '}');
}

void repair_progress_refuse(struct repair_progress *p, const struct uuid *chain, const char *why)
{
        char id[UUID_TEXT_SIZE];

        p->refused++;
        if (p->n_refusals >= REPAIR_REFUSALS_MAX)
                return;
        uuid_format(chain, id);
        strbuf_addf(&p->refusals, "%s{\"chain_id\":\"%s\",\"why\":\"%s\"}", p->n_refusals++ ? "," : "", id, why);
}

void repair_progress_result(struct strbuf *b, const char *what, const struct repair_progress *p)
{
        static const struct {
                const char *what, *done;
        } names[] = {{"auto_repair", "repaired"}, {"redrive", "redriven"}, {"reopen", "redriven"}, {"refund", "refunded"}, {"close", "closed"}};
        const char *done = "done";

        if (p->error) {
                strbuf_adds(b, "{\"error\":");
                strbuf_add_json(b, p->error, strlen(p->error));
                strbuf_addc(b, '}');
                return;
        }
        if (strcmp(what, "rule") == 0 || strcmp(what, "haste") == 0) {
                strbuf_addf(b, "{\"version\":%lld}", (long long)p->version);
                return;
        }
        if (strcmp(what, "task") == 0) {
                char task[UUID_TEXT_SIZE];

                uuid_format(&p->task, task);
                strbuf_addf(b, "{\"task_id\":\"%s\",\"opened\":%s}", task, p->opened ? "true" : "false");
                return;
        }
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (strcmp(names[i].what, what) == 0)
                        done = names[i].done;
        strbuf_addf(b, "{\"found\":%lld,\"%s\":%lld", (long long)p->found, done, (long long)p->done);
        if (strcmp(what, "auto_repair") == 0)
                strbuf_addf(b, ",\"waiting\":%lld", (long long)p->waiting);
        strbuf_addf(b, ",\"refused\":%lld", (long long)p->refused);
        if (strcmp(what, "auto_repair") != 0)
                refusals(b, p);
        strbuf_addc(b, '}');
}
