/* issues, repair, redrive, refund, close, rules: what hangs, and what a person has done about it.
 *
 * Invariant: a command travels under a key of its own, so that a lost answer is asked for again and nothing is done twice; what is not done yet is
 * called stored. A crash here leaves nothing behind but a command that the stack has stored, and carries out. */
#include "client.h"
#include "client_args.h"
#include "client_job.h"

#include "cli.h"

#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A body under construction: {"name":"value",...}. */
static void add_raw(struct strbuf *b, const char *name, const char *json)
{
        if (json)
                strbuf_addf(b, "%s\"%s\":%s", b->s[b->len - 1] == '{' ? "" : ",", name, json);
}

/* Every member of an answer on a line of its own, and why chains were refused. */
static void print_result(const struct answer *a)
{
        const struct json_doc *doc = &a->doc;
        json_value refusals = json_get(doc, a->root, "refusals"), value;

        if (a->status == 202) {
                _cleanup_(freep) char *id = answer_text(doc, a->root, "id");

                printf("  The command %s is stored. It is carried out as soon as meta-repair runs.\n", id);
                return;
        }
        for (json_value name = json_is(a->root, JSON_OBJECT) ? json_first(doc, a->root) : NULL; name; name = json_after(doc, a->root, value)) {
                _cleanup_(freep) char *label = answer_text(doc, name, "");

                value = json_after(doc, a->root, name);
                if (!json_is(value, JSON_ARRAY))
                        print_field(label, answer_text(doc, value, ""));
        }
        for (json_value r = json_is(refusals, JSON_ARRAY) ? json_first(doc, refusals) : NULL; r; r = json_after(doc, refusals, r)) {
                _cleanup_(freep) char *id = answer_text(doc, r, "chain_id"), *why = answer_text(doc, r, "why");

                printf("  refused %s: %s\n", id, why);
        }
}

/* Ends the body, sends it, and shows what came of it. The exit status. */
static int send_command(bool json, const char *path, struct strbuf *body)
{
        _cleanup_(client_done) struct client c = {0};
        _cleanup_(answer_done) struct answer answer = {0};
        char key[UUID_TEXT_SIZE];
        int r;

        if (client_find(&c) < 0)
                return 1;
        c.json = json;
        job_key_new(key);
        strbuf_addc(body, '}');
        r = client_post(&c, CLIENT_ADMIN, path, key, body->s, body->len, &answer);
        if (json && answer.body.len > 0)
                print_json(&answer);
        else if (r == 0)
                print_result(&answer);
        return r < 0;
}

/* What goes into a query as it is: names of ours. */
static bool word_ok(const char *s)
{
        return !s || (*s && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == strlen(s));
}

/* Every page of a list as one table. With --json only the first: it is the answer of the API. */
static int print_pages(struct client *c, const char *path, const char *const columns[], size_t n_columns, const char *none, bool open_only)
{
        _cleanup_(table_done) struct table t = {.columns = n_columns};
        _cleanup_(freep) char *next = xstrdup("");
        bool on = true;

        for (size_t i = 0; i < n_columns; i++)
                table_cell(&t, xstrdup(columns[i]));
        do {
                _cleanup_(strbuf_done) struct strbuf page_path = {0};
                _cleanup_(answer_done) struct answer page = {0};
                json_value items;
                int r;

                strbuf_adds(&page_path, path);
                if (*next)
                        strbuf_addf(&page_path, "&after=%s", next);
                r = client_get(c, CLIENT_ADMIN, page_path.s, &page);
                if (c->json && page.body.len > 0)
                        print_json(&page);
                if (r < 0 || c->json)
                        return r < 0;
                items = answer_list(&page, "items");
                for (json_value v = items ? json_first(&page.doc, items) : NULL; v && on; v = json_after(&page.doc, items, v)) {
                        _cleanup_(freep) char *closed = answer_text(&page.doc, v, "closed_at");

                        on = !open_only || !*closed; /* the open ones come first */
                        for (size_t i = 0; on && i < n_columns; i++)
                                table_cell(&t, strcmp(columns[i], "price") == 0 ? answer_amount(&page.doc, v, "price")
                                                                                : answer_text(&page.doc, v, columns[i]));
                }
                free(next);
                next = answer_text(&page.doc, page.root, "next");
        } while (*next && on);
        if (t.n_cells == n_columns)
                printf("  %s\n", none);
        else
                table_print(&t);
        return 0;
}

/* refund and close: a job or an issue, and a reason. */
static int on_thing(int argc, char **argv, const char *help, const char *what, const char *under, const char *verb)
{
        _cleanup_(strbuf_done) struct strbuf path = {0}, body = {0};
        const char *reason = NULL, *by = NULL;
        bool json = false;
        struct args a = {.help = help,
                .options = (struct args_option[]){{"--reason", .value = &reason}, {"--by", .value = &by}, {"--json", .flag = &json}, {0}},
                .least = 1,
                .most = 1};
        int r = args_parse(&a, argc, argv);

        if (r != ARGS_GO_ON)
                return r;
        if (!reason || !*reason)
                return args_usage(&a, "say why: --reason TEXT", NULL);
        if (!client_id_ok(what, a.rest[0]))
                return 1;
        strbuf_addf(&path, "%s/%s/%s", under, a.rest[0], verb);
        strbuf_addc(&body, '{');
        strbuf_add_member(&body, "reason", reason);
        strbuf_add_member(&body, "by", client_by(by));
        return send_command(json, path.s, &body);
}

static int close_issue(int argc, char **argv)
{
        return on_thing(argc, argv,
                "usage: aethelos issues close ISSUE --reason TEXT [--by NAME] [--json]\n"
                "\n"
                "Ends an issue that only a person can end: EVIDENCE_MISMATCH. Every other one ends when what it is about is over.\n"
                "\n"
                "  --reason TEXT  what was found out\n"
                "  --by NAME      who asks; without it the login name\n"
                "  --json         prints the answer of the API\n",
                "issue", "/meta/issues", "close");
}

int cmd_issues(int argc, char **argv)
{
        static const char help[] = "usage: aethelos issues [--kind KIND] [--all] [--json]\n"
                                   "       aethelos issues close ISSUE --reason TEXT [--by NAME] [--json]\n"
                                   "\n"
                                   "Lists what stands too long or is broken: where, since when, for whom it waits, and what is done about it.\n"
                                   "\n"
                                   "  --kind KIND  only issues of this kind, such as STUCK_PAYMENT\n"
                                   "  --all        also those that are over\n"
                                   "  --json       prints the answer of the API: the first 1000, open ones first\n";
        static const char *const columns[] = {"id", "kind", "grade", "chain_id", "operator", "webhook_id", "step", "since", "state", "waits_for",
                "antibody", "attempts", "outcome", "next_at"};
        _cleanup_(client_done) struct client c = {0};
        _cleanup_(strbuf_done) struct strbuf path = {0};
        const char *kind = NULL;
        bool json = false, all = false;
        struct args a = {
                .help = help, .options = (struct args_option[]){{"--kind", .value = &kind}, {"--all", .flag = &all}, {"--json", .flag = &json}, {0}}};
        int r;

        if (argc > 1 && strcmp(argv[1], "close") == 0)
                return close_issue(argc - 1, argv + 1);
        r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        if (!word_ok(kind))
                return args_usage(&a, "there is no such kind of issue", kind);
        if (client_find(&c) < 0)
                return 1;
        c.json = json;
        strbuf_adds(&path, "/meta/issues?limit=1000");
        if (kind)
                strbuf_addf(&path, "&kind=%s", kind);
        return print_pages(&c, path.s, columns, ARRAY_SIZE(columns), all ? "no issues" : "no open issues", !all);
}

int cmd_repair(int argc, char **argv)
{
        static const char help[] = "usage: aethelos repair [ISSUE | --kind KIND] [--dry-run] [--by NAME] [--json]\n"
                                   "\n"
                                   "Has meta-repair look for issues and handle the open ones now: all, those of a kind, or one.\n"
                                   "repaired: the action is committed; waiting: a party outside must answer, or a person; refused: not allowed now.\n"
                                   "\n"
                                   "  --kind KIND  only issues of this kind, such as STUCK_PAYMENT\n"
                                   "  --dry-run    changes nothing, counts what would be done\n"
                                   "  --by NAME    who asks; without it the login name\n"
                                   "  --json       prints the answer of the API\n";
        _cleanup_(strbuf_done) struct strbuf path = {0}, body = {0};
        const char *kind = NULL, *by = NULL;
        bool json = false, dry = false;
        struct args a = {.help = help,
                .options = (struct args_option[]){{"--kind", .value = &kind}, {"--dry-run", .flag = &dry}, {"--by", .value = &by},
                        {"--json", .flag = &json}, {0}},
                .most = 1};
        int r = args_parse(&a, argc, argv);

        if (r != ARGS_GO_ON)
                return r;
        if (!word_ok(kind))
                return args_usage(&a, "there is no such kind of issue", kind);
        if (kind && a.n_rest > 0)
                return args_usage(&a, "name one issue or a kind, not both", NULL);
        if (a.n_rest > 0 && !client_id_ok("issue", a.rest[0]))
                return 1;
        if (a.n_rest > 0)
                strbuf_addf(&path, "/meta/issues/%s/repair", a.rest[0]);
        else
                strbuf_adds(&path, "/meta/auto_repair");
        strbuf_addc(&body, '{');
        add_raw(&body, "dry_run", dry ? "true" : "false");
        strbuf_add_member(&body, "kind", kind);
        strbuf_add_member(&body, "by", client_by(by));
        return send_command(json, path.s, &body);
}

int cmd_redrive(int argc, char **argv)
{
        static const char help[] =
                "usage: aethelos redrive JOB [--reference TEXT] [--dry-run] [--by NAME] [--json]\n"
                "       aethelos redrive [--reason R] [--type T] [--client C] [--step S] [--since T] [--until T] [--dry-run] ...\n"
                "\n"
                "Has failed jobs run again, from the step that failed: one job, or all that fit at least one filter. What was paid is\n"
                "not charged again; what was refunded is refused.\n"
                "\n"
                "  --reason R        only those that failed for this reason, such as all_operators_failed\n"
                "  --type T          only jobs of this type\n"
                "  --client C        only jobs of this client\n"
                "  --step S          only those that stand at this step\n"
                "  --since, --until  only those that came to stand there in this time: 2026-01-31T08:00:00Z\n"
                "  --dry-run         changes nothing, counts what would be done\n"
                "  --reference TEXT  why\n"
                "  --by NAME         who asks; without it the login name\n"
                "  --json            prints the answer of the API\n";
        static const char *const names[] = {"reason", "type", "client", "step", "since", "until"};
        _cleanup_(strbuf_done) struct strbuf body = {0};
        const char *values[ARRAY_SIZE(names)] = {0}, *reference = NULL, *by = NULL;
        bool json = false, dry = false, filtered = false;
        struct args a = {.help = help,
                .options = (struct args_option[]){{"--reason", .value = &values[0]}, {"--type", .value = &values[1]},
                        {"--client", .value = &values[2]}, {"--step", .value = &values[3]}, {"--since", .value = &values[4]},
                        {"--until", .value = &values[5]}, {"--reference", .value = &reference}, {"--dry-run", .flag = &dry}, {"--by", .value = &by},
                        {"--json", .flag = &json}, {0}},
                .most = 1};
        int r = args_parse(&a, argc, argv);

        if (r != ARGS_GO_ON)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                filtered |= values[i] != NULL;
        if (filtered == (a.n_rest > 0))
                return args_usage(&a, "name one job, or a filter such as --reason", NULL);
        if (a.n_rest > 0 && !client_id_ok("job", a.rest[0]))
                return 1;
        strbuf_addc(&body, '{');
        if (a.n_rest > 0) {
                strbuf_add_member(&body, "chain_id", a.rest[0]);
        } else {
                strbuf_adds(&body, "\"filter\":{");
                for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                        strbuf_add_member(&body, names[i], values[i]);
                strbuf_addc(&body, '}');
        }
        add_raw(&body, "dry_run", dry ? "true" : "false");
        strbuf_add_member(&body, "reference", reference);
        strbuf_add_member(&body, "by", client_by(by));
        return send_command(json, "/meta/redrive", &body);
}

int cmd_refund(int argc, char **argv)
{
        return on_thing(argc, argv,
                "usage: aethelos refund JOB --reason TEXT [--by NAME] [--json]\n"
                "\n"
                "Gives the payment of a failed job back, instead of running it again. Refused while an operator may be at it.\n"
                "\n"
                "  --reason TEXT  why\n"
                "  --by NAME      who asks; without it the login name\n"
                "  --json         prints the answer of the API\n",
                "job", "/jobs", "refund");
}

int cmd_close(int argc, char **argv)
{
        return on_thing(argc, argv,
                "usage: aethelos close JOB --reason TEXT [--by NAME] [--json]\n"
                "\n"
                "Ends an unpaid job. One that is paid is refunded instead.\n"
                "\n"
                "  --reason TEXT  why\n"
                "  --by NAME      who asks; without it the login name\n"
                "  --json         prints the answer of the API\n",
                "job", "/jobs", "close");
}

int cmd_rules(int argc, char **argv)
{
        static const char help[] =
                "usage: aethelos rules [--json]\n"
                "       aethelos rules set KIND STEP [--late S] [--deadline S] [--attempts N] [--backoff-first S] [--backoff-max S]\n"
                "                          [--antibody NAME] --why TEXT [--by NAME] [--json]\n"
                "       aethelos rules haste [--json]\n"
                "       aethelos rules haste set LABEL [--late S] [--deadline S] [--backoff-first S] [--backoff-max S] --why TEXT ...\n"
                "       aethelos rules haste remove LABEL --why TEXT [--by NAME] [--json]\n"
                "\n"
                "Lists how long a chain may stand at each step and what is done when it stands longer, or makes a new version of a\n"
                "rule: what is not named stays as it is. Older versions are kept.\n"
                "haste: the labels (context.label, of jobs of high priority) for which no time of a rule is longer than said here. A\n"
                "label that is removed gives no new job its times; those that have it keep them.\n"
                "\n"
                "  --late S           seconds until it is watched\n"
                "  --deadline S       seconds until it is repaired\n"
                "  --attempts N       how often the antibody may act\n"
                "  --backoff-first S  seconds of the first pause; --backoff-max S: of the longest\n"
                "  --antibody NAME    what repairs it\n"
                "  --why TEXT         why it is changed\n"
                "  --by NAME          who changes it; without it the login name\n"
                "  --json             prints the answer of the API\n";
        static const char *const columns[] = {
                "kind", "step", "version", "issue", "antibody", "late_s", "deadline_s", "attempts", "backoff_first_s", "backoff_max_s", "changed_by"};
        static const char *const haste_columns[] = {
                "label", "version", "late_s", "deadline_s", "backoff_first_s", "backoff_max_s", "removed", "changed_by", "why"};
        static const char *const numbers[] = {"late_s", "deadline_s", "attempts", "backoff_first_s", "backoff_max_s"};
        _cleanup_(client_done) struct client c = {0};
        _cleanup_(strbuf_done) struct strbuf body = {0};
        const char *values[ARRAY_SIZE(numbers)] = {0}, *antibody = NULL, *why = NULL, *by = NULL;
        bool json = false;
        struct args a = {.help = help,
                .options = (struct args_option[]){{"--late", .value = &values[0]}, {"--deadline", .value = &values[1]},
                        {"--attempts", .value = &values[2]}, {"--backoff-first", .value = &values[3]}, {"--backoff-max", .value = &values[4]},
                        {"--antibody", .value = &antibody}, {"--why", .value = &why}, {"--by", .value = &by}, {"--json", .flag = &json}, {0}},
                .most = 3};
        int r = args_parse(&a, argc, argv);
        bool haste, remove;

        if (r != ARGS_GO_ON)
                return r;
        haste = a.n_rest > 0 && strcmp(a.rest[0], "haste") == 0;
        remove = haste && a.n_rest == 3 && strcmp(a.rest[1], "remove") == 0;
        if (a.n_rest == haste) {
                if (client_find(&c) < 0)
                        return 1;
                c.json = json;
                return haste ? print_pages(&c, "/meta/haste?", haste_columns, ARRAY_SIZE(haste_columns), "no hasty labels", false)
                             : print_pages(&c, "/meta/rules?", columns, ARRAY_SIZE(columns), "no rules", false);
        }
        if (a.n_rest != 3 || (!remove && strcmp(a.rest[haste], "set") != 0))
                return args_usage(&a, "name what is changed: rules set KIND STEP, rules haste set LABEL, rules haste remove LABEL", NULL);
        if (!why || !*why)
                return args_usage(&a, "say why it is changed: --why TEXT", NULL);
        if (haste && (values[2] || antibody))
                return args_usage(&a, "a hasty label has times, and neither attempts nor an antibody of its own", NULL);
        strbuf_addc(&body, '{');
        if (haste) {
                strbuf_add_member(&body, "label", a.rest[2]);
                if (remove)
                        add_raw(&body, "remove", "true");
        } else {
                strbuf_add_member(&body, "kind", a.rest[1]);
                strbuf_add_member(&body, "step", a.rest[2]);
        }
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                if (values[i] && (!*values[i] || strlen(values[i]) > 9 || strspn(values[i], "0123456789") != strlen(values[i]) ||
                                         (values[i][0] == '0' && values[i][1])))
                        return args_usage(&a, "this is no whole number", values[i]);
                add_raw(&body, numbers[i], values[i]);
        }
        strbuf_add_member(&body, "antibody", antibody);
        strbuf_add_member(&body, "why", why);
        strbuf_add_member(&body, "by", client_by(by));
        return send_command(json, haste ? "/meta/haste" : "/meta/rules", &body);
}

int cmd_tasks(int argc, char **argv)
{
        static const char help[] = "usage: aethelos tasks [--kind KIND] [--json]\n"
                                   "       aethelos tasks run KIND [ENTITY] [--by NAME] [--json]\n"
                                   "\n"
                                   "Lists the system tasks, the latest first, or has one done now: HEALTH_CHECK, FLOW_AUDIT, PAYOUT_SETTLEMENT,\n"
                                   "OPERATOR_TUNING with the name of an operator, CLEANUP with the id of an issue about a stuck payment or\n"
                                   "execution. One of a kind is active about the same thing: a second request answers with it.\n"
                                   "`aethelos explain TASK` shows what came of it.\n"
                                   "\n"
                                   "  --kind KIND  only tasks of this kind\n"
                                   "  --by NAME    who asks; without it the login name\n"
                                   "  --json       prints the answer of the API: of the list the latest 1000\n";
        static const char *const columns[] = {"id", "kind", "entity", "state", "step", "price", "created_at", "updated_at"};
        _cleanup_(client_done) struct client c = {0};
        _cleanup_(strbuf_done) struct strbuf path = {0}, body = {0};
        const char *kind = NULL, *by = NULL;
        bool json = false;
        struct args a = {.help = help,
                .options = (struct args_option[]){{"--kind", .value = &kind}, {"--by", .value = &by}, {"--json", .flag = &json}, {0}},
                .most = 3};
        int r = args_parse(&a, argc, argv);

        if (r != ARGS_GO_ON)
                return r;
        if (a.n_rest > 0 && (strcmp(a.rest[0], "run") != 0 || a.n_rest < 2 || kind))
                return args_usage(&a, "the only thing to do with tasks is: run KIND [ENTITY]", NULL);
        if (a.n_rest > 0) {
                strbuf_addc(&body, '{');
                strbuf_add_member(&body, "kind", a.rest[1]);
                strbuf_add_member(&body, "entity", a.n_rest > 2 ? a.rest[2] : NULL);
                add_raw(&body, "now", "true");
                strbuf_add_member(&body, "by", client_by(by));
                return send_command(json, "/system/tasks", &body);
        }
        if (!word_ok(kind))
                return args_usage(&a, "there is no such kind of task", kind);
        if (client_find(&c) < 0)
                return 1;
        c.json = json;
        strbuf_adds(&path, "/system/tasks?limit=1000");
        if (kind)
                strbuf_addf(&path, "&kind=%s", kind);
        return print_pages(&c, path.s, columns, ARRAY_SIZE(columns), "no tasks", false);
}
