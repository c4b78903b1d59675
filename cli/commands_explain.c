/* explain: the dossier of a job or task for people: why it ended, or for whom it waits and what happens next; what was tried, what is owed, what a
 * person may do. It only reads. */
#include "client.h"
#include "client_args.h"

#include "cli.h"

#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
        "usage: aethelos explain ID [--json]\n"
        "\n"
        "Explains a job or a system task; ID is its own, or that of its payout or of an issue about it. For whom or what it waits and what happens\n"
        "next, or why it ended and what was compensated; what was tried, where the money stands, and what a person may still do.\n"
        "\n"
        "  --json  prints the dossier as the API gives it\n";

/* One line for each element of a list: its named members, where they are there. */
static void print_list(const struct json_doc *doc, json_value root, const char *name, const char *const members[])
{
        json_value list = answer_at(doc, root, name);

        if (!list || !json_is(list, JSON_ARRAY) || list->n == 0)
                return;
        printf("\n%s\n", name);
        for (json_value v = json_first(doc, list); v; v = json_after(doc, list, v)) {
                printf(" ");
                for (size_t i = 0; members[i]; i++) {
                        _cleanup_(freep) char *text =
                                strcmp(members[i], "amount") == 0 ? answer_amount(doc, v, "amount") : answer_text(doc, v, members[i]);

                        if (*text)
                                printf(" %s", text);
                }
                printf("\n");
        }
}

static void print_waits(const struct json_doc *doc, json_value root)
{
        if (!json_is(answer_at(doc, root, "waits"), JSON_OBJECT))
                return;
        printf("\nwaits\n");
        print_field("for", answer_text(doc, root, "waits.for"));
        print_field("at", answer_text(doc, root, "waits.step"));
        print_field("since", answer_text(doc, root, "waits.since"));
        print_field("next", answer_text(doc, root, "waits.next.what"));
        print_field("then", answer_text(doc, root, "waits.next.at"));
        print_field("deadline", answer_text(doc, root, "waits.deadline_at"));
}

static void print_end(const struct json_doc *doc, json_value root)
{
        if (!json_is(answer_at(doc, root, "end"), JSON_OBJECT))
                return;
        printf("\nended\n");
        print_field("reason", answer_text(doc, root, "end.error.reason"));
        print_field("rule", answer_text(doc, root, "end.rule"));
        print_field("compensated", answer_text(doc, root, "end.compensation.kind"));
        print_field("amount", answer_amount(doc, root, "end.compensation.amount"));
}

/* What a person may do, as the command that does it. Ids are in the dossier: the job's, that of the chain that waits, that of the open run, a task's.
 */
static void print_acts(const struct json_doc *doc, json_value root)
{
        static const struct {
                const char *what, *command, *of, *rest;
        } acts[] = {
                {"confirm_payment", "pay", "job.id", " --reference TEXT"},
                {"close", "close", "job.id", " --reason TEXT"},
                {"redrive", "redrive", "job.id", ""},
                {"refund", "refund", "job.id", " --reason TEXT"},
                {"confirm_refund", "refunds confirm", "job.id", " --reference TEXT"},
                {"mark_payout", "payouts mark", "waits.chain_id", " --reference TEXT"},
        };
        json_value list = answer_at(doc, root, "may"), runs = answer_at(doc, root, "runs"), timeline = answer_at(doc, root, "timeline");

        if (!list || !json_is(list, JSON_ARRAY) || list->n == 0)
                return;
        printf("\nmay\n");
        for (json_value v = json_first(doc, list); v; v = json_after(doc, list, v)) {
                _cleanup_(freep) char *what = answer_text(doc, v, "what"), *route = answer_text(doc, v, "route"), *id = NULL, *entity = NULL;
                size_t i = 0;

                while (i < ARRAY_SIZE(acts) && strcmp(acts[i].what, what) != 0)
                        i++;
                if (i < ARRAY_SIZE(acts)) {
                        id = answer_text(doc, root, acts[i].of);
                        printf("  ./aethelos %s %s%s\n", acts[i].command, id, acts[i].rest);
                } else if (strcmp(what, "resolve_run") == 0) {
                        for (json_value run = runs ? json_first(doc, runs) : NULL; run; run = json_after(doc, runs, run)) {
                                free(id);
                                id = answer_text(doc, run, "id");
                        }
                        printf("  ./aethelos runs resolve %s --outcome done --output FILE --reference TEXT   (or --outcome failed)\n",
                                id ? id : "RUN");
                } else if (strcmp(what, "run_task") == 0 && timeline && json_first(doc, timeline)) {
                        id = answer_text(doc, json_first(doc, timeline), "data.payload.task");
                        entity = answer_text(doc, json_first(doc, timeline), "data.payload.entity");
                        printf("  ./aethelos tasks run %s %s\n", id, entity);
                } else {
                        printf("  %s %s\n", what, route);
                }
        }
}

static void print_dossier(const struct json_doc *doc, json_value root)
{
        static const char *const runs[] = {"since", "id", "operator", "state", "error", "next_at", NULL};
        static const char *const calls[] = {"since", "what", "state", "error", "next_at", NULL};
        static const char *const issues[] = {"since", "kind", "step", "state", "waits_for", "antibody", "outcome", "next_at", NULL};
        static const char *const entries[] = {"event", "debit", "credit", "amount", NULL};
        static const char *const events[] = {"time", "type", NULL};

        _cleanup_(freep) char *type = answer_text(doc, root, "job.type");

        printf(strncmp(type, "system:", 7) == 0 ? "task\n" : "job\n");
        print_field("id", answer_text(doc, root, "job.id"));
        print_field("type", xstrdup(type));
        print_field("status", answer_text(doc, root, "job.status"));
        print_field("step", answer_text(doc, root, "job.step"));
        print_field("price", answer_amount(doc, root, "job.price"));
        print_field("error", answer_text(doc, root, "job.error.reason"));
        print_field("held", answer_amount(doc, root, "held"));
        print_members(doc, answer_at(doc, root, "job.result"), "result");
        print_waits(doc, root);
        print_end(doc, root);
        print_list(doc, root, "timeline", events);
        print_list(doc, root, "runs", runs);
        print_list(doc, root, "provider_calls", calls);
        print_list(doc, root, "issues", issues);
        print_list(doc, root, "journal", entries);
        print_acts(doc, root);
}

int cmd_explain(int argc, char **argv)
{
        _cleanup_(client_done) struct client c = {0};
        _cleanup_(answer_done) struct answer answer = {0};
        _cleanup_(strbuf_done) struct strbuf path = {0};
        bool json = false;
        struct args a = {.help = HELP, .options = (struct args_option[]){{"--json", .flag = &json}, {0}}, .least = 1, .most = 1};
        int r = args_parse(&a, argc, argv);

        if (r != ARGS_GO_ON)
                return r;
        if (!client_id_ok("job, payout or task", a.rest[0]) || client_find(&c) < 0)
                return 1;
        c.json = json;
        strbuf_addf(&path, "/jobs/%s/dossier", a.rest[0]);
        r = client_get(&c, client_may_admin(&c) ? CLIENT_ADMIN : CLIENT_PUBLIC, path.s, &answer);
        if (json && answer.body.len > 0)
                print_json(&answer);
        if (r < 0 || json)
                return r < 0;
        print_dossier(&answer.doc, answer.root);
        return 0;
}
