/* overview, flows, operators, offers, payouts, refunds, quarantine: the figures and lists of the stack, and recording that a payout or a refund was
 * transferred.
 *
 * Invariant: a payout is marked, and a refund confirmed, only for the id and the reference that the user typed. A crash here leaves nothing behind
 * but the evidence that the stack has stored, and the same command again finds it. */
#include "client.h"
#include "client_args.h"

#include "cli.h"

#include "base/util.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The elements of a list of strings or of {"tag": ...}, as "a, b". */
static char *joined(const struct json_doc *doc, json_value list)
{
        struct strbuf b = {0};
        for (json_value v = list ? json_first(doc, list) : NULL; v; v = json_after(doc, list, v)) {
                _cleanup_(freep) char *word = answer_text(doc, v, json_is(v, JSON_OBJECT) ? "tag" : "");
                strbuf_addf(&b, "%s%s", b.len > 0 ? ", " : "", word);
        }
        return strbuf_take(&b);
}

/* Fetches a list. -1: go on with *ret_items; else the exit status. */
static int list_get(struct client *c, enum client_side side, const char *path, const char *name, struct answer *answer, json_value *ret_items)
{
        int r = client_get(c, side, path, answer);
        if (c->json && answer->body.len > 0) {
                print_json(answer);
                return r < 0;
        }
        if (r < 0)
                return 1;
        *ret_items = answer_list(answer, name);
        if (!*ret_items) {
                fprintf(stderr, "aethelos: %s answered without a list. Is the stack of the same version as this command? --json prints the answer.\n",
                        path);
                return 1;
        }
        return -1;
}

/* A column of a list: what a row of the answer says under it. */
struct column {
        const char *heading, *member;
        bool right;
        char *(*text)(const struct json_doc *doc, json_value row); /* NULL: the member as it is */
};

#define COLUMNS_MAX 10

/* A command without arguments that prints a list. */
struct list {
        const char *help, *path;
        enum client_side side;
        const char *none;                                           /* what is said instead of an empty table; NULL: it is never empty */
        struct column columns[COLUMNS_MAX + 1];                     /* the last one has no heading */
        void (*after)(const struct json_doc *doc, json_value rows); /* what is printed below; or NULL */
};

static void list_print(const struct list *l, const struct json_doc *doc, json_value rows)
{
        _cleanup_(table_done) struct table t = {0};

        if (rows->n == 0 && l->none) {
                printf("  %s\n", l->none);
                return;
        }
        for (const struct column *c = l->columns; c->heading; c++) {
                t.right |= (unsigned)c->right << t.columns++;
                table_cell(&t, xstrdup(c->heading));
        }
        for (json_value row = json_first(doc, rows); row; row = json_after(doc, rows, row))
                for (const struct column *c = l->columns; c->heading; c++)
                        table_cell(&t, c->text ? c->text(doc, row) : answer_text(doc, row, c->member));
        table_print(&t);
        if (l->after)
                l->after(doc, rows);
}

static int list_command(int argc, char **argv, const struct list *l)
{
        _cleanup_(client_done) struct client c = {0};
        _cleanup_(answer_done) struct answer answer = {0};
        json_value rows = NULL;
        bool json = false;
        struct args a = {.help = l->help, .options = (struct args_option[]){{"--json", .flag = &json}, {0}}};
        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        if (client_find(&c) < 0)
                return 1;
        c.json = json;
        r = list_get(&c, l->side, l->path, l->path + 1, &answer, &rows);
        if (r >= 0)
                return r;
        list_print(l, &answer.doc, rows);
        return 0;
}

static char *flow_base(const struct json_doc *doc, json_value flow)
{
        _cleanup_(freep) char *currency = answer_text(doc, flow, "currency");
        _cleanup_(freep) char *base = answer_text(doc, flow, "base");
        struct strbuf price = {0};
        strbuf_addf(&price, "%s %s", currency, base);
        return strbuf_take(&price);
}

static char *flow_steps(const struct json_doc *doc, json_value flow)
{
        return joined(doc, json_get(doc, flow, "steps"));
}

int cmd_flows(int argc, char **argv)
{
        static const struct list flows = {.help = "usage: aethelos flows [--json]\n"
                                                  "       aethelos flows add FILE|- [--json]\n"
                                                  "\n"
                                                  "Lists the flows: which job type is done in which steps, and what it costs. `add` registers one.\n"
                                                  "\n"
                                                  "  --json  prints the answer of the API\n",
                .path = "/flows",
                .side = CLIENT_ADMIN,
                .columns = {{"flow", "name"}, {"version", "version", .right = true}, {"type", "type"}, {"base", .text = flow_base},
                        {"per unit", "per_unit"}, {"steps", .text = flow_steps}}};
        if (argc > 1 && strcmp(argv[1], "add") == 0)
                return cmd_flows_add(argc - 1, argv + 1);
        return list_command(argc, argv, &flows);
}

static char *operator_tags(const struct json_doc *doc, json_value operator)
{
        return joined(doc, json_get(doc, operator, "tags"));
}

#define REFUSES_ALL 5 /* without a success between: either the jobs are wrong, or the operator is */

/* Workers on the bus speak JSON unless it is said. */
static char *operator_kind(const struct json_doc *doc, json_value operator)
{
        char *kind = answer_text(doc, operator, "kind");
        _cleanup_(freep) char *encoding = answer_text(doc, operator, "encoding");

        if (strcmp(encoding, "protobuf") == 0) {
                struct strbuf both = {0};
                strbuf_addf(&both, "%s, protobuf", kind);
                free(kind);
                kind = strbuf_take(&both);
        }
        return kind;
}

static void operator_errors(const struct json_doc *doc, json_value operators)
{
        for (json_value o = json_first(doc, operators); o; o = json_after(doc, operators, o)) {
                _cleanup_(freep) char *error = answer_text(doc, o, "last_error");
                _cleanup_(freep) char *name = answer_text(doc, o, "name");
                int64_t refused = 0;
                if (*error)
                        printf("  last error of %s: %s\n", name, error);
                if (json_int64(doc, json_get(doc, o, "refused_in_a_row"), &refused) == 0 && refused >= REFUSES_ALL)
                        printf("  %s has refused %" PRId64 " jobs, and done none meanwhile\n", name, refused);
        }
}

int cmd_operators(int argc, char **argv)
{
        static const struct list operators = {
                .help = "usage: aethelos operators [--json]\n"
                        "       aethelos operators add FILE|- [--json]\n"
                        "       aethelos operators watch [OPERATOR] [--once] [--json]\n"
                        "       aethelos operators worker OPERATOR [--json]\n"
                        "\n"
                        "Lists the operators: who performs which steps, and how well. `add` registers one, `watch` shows who works on\n"
                        "what, `worker` makes the bus user of the workers of an operator.\n"
                        "\n"
                        "  --json  prints the answer of the API\n",
                .path = "/operators",
                .side = CLIENT_ADMIN,
                .columns = {{"operator", "name"}, {"kind", .text = operator_kind}, {"health", "health"}, {"done", "successes", .right = true},
                        {"failed", "failures", .right = true}, {"refused", "refusals", .right = true}, {"streak", "streak", .right = true},
                        {"avoid until", "avoid_until"}, {"average ms", "average_ms", .right = true}, {"tags", .text = operator_tags}},
                .after = operator_errors};
        if (argc > 1 && strcmp(argv[1], "add") == 0)
                return cmd_operators_add(argc - 1, argv + 1);
        if (argc > 1 && strcmp(argv[1], "watch") == 0)
                return cmd_watch(argc - 1, argv + 1);
        if (argc > 1 && strcmp(argv[1], "worker") == 0)
                return cmd_worker(argc - 1, argv + 1);
        return list_command(argc, argv, &operators);
}

int cmd_offers(int argc, char **argv)
{
        static const struct list offers = {
                .help = "usage: aethelos offers [--json]\n"
                        "\n"
                        "Lists the offers: what can be bought at a fixed address (POST /buy/offer/ID, or `aethelos submit FILE --offer ID`).\n"
                        "\n"
                        "  --json  prints the answer of the API\n",
                .path = "/offers",
                .side = CLIENT_PUBLIC,
                .columns = {{"offer", "id"}, {"product", "product"}, {"type", "type"}, {"multiplier", "multiplier"}, {"title", "title"}}};
        return list_command(argc, argv, &offers);
}

static const char PAYOUTS_HELP[] =
        "usage: aethelos payouts [--status earned|ready|done] [--job JOB] [--json]\n"
        "       aethelos payouts mark ID --reference TEXT [--by NAME] [--json]\n"
        "\n"
        "Lists what the owner is owed and what was paid out. `mark` records that the payout ID was really transferred: evidence that is\n"
        "kept, with the reference of the transfer. Repeating it with the same reference changes nothing.\n"
        "\n"
        "  --status STATUS   only payouts in this status\n"
        "  --job JOB         only the payout of this job\n"
        "  --reference TEXT  reference of the transfer\n"
        "  --by NAME         who says so; without it the login name\n"
        "  --json            prints the answer of the API\n";

static int payouts_mark(struct client *c, const char *id, const char *reference, const char *by)
{
        _cleanup_(strbuf_done) struct strbuf body = {0};
        strbuf_adds(&body, "{\"payout_id\":");
        strbuf_add_json(&body, id, strlen(id));
        strbuf_adds(&body, ",\"reference\":");
        strbuf_add_json(&body, reference, strlen(reference));
        strbuf_adds(&body, ",\"by\":");
        strbuf_add_json(&body, by, strlen(by));
        strbuf_addc(&body, '}');
        _cleanup_(answer_done) struct answer answer = {0};
        int r = client_post(c, CLIENT_ADMIN, "/payouts/mark", NULL, body.s, body.len, &answer);
        if (c->json && answer.body.len > 0)
                print_json(&answer);
        if (r < 0 || c->json)
                return r < 0;
        print_field("payout", xstrdup(id));
        print_field("amount", answer_amount(&answer.doc, answer.root, "amount"));
        print_field("status", answer_text(&answer.doc, answer.root, "status"));
        print_field("reference", xstrdup(reference));
        if (answer.status == 202)
                printf("\nThe evidence is stored; the payout moves on as soon as its service hears of it.\n");
        return 0;
}

/* One line for each sum of the summary: {"earned": [amount...], ...} or {"earned": amount, ...}; plain numbers as they are. */
static void print_summary(const struct json_doc *doc, json_value summary, int width)
{
        for (json_value name = json_is(summary, JSON_OBJECT) ? json_first(doc, summary) : NULL; name;) {
                json_value value = json_after(doc, summary, name);
                _cleanup_(freep) char *label = answer_text(doc, name, "");
                for (char *p = label; *p; p++)
                        if (*p == '_')
                                *p = ' ';
                if (json_is(value, JSON_ARRAY)) {
                        for (json_value v = json_first(doc, value); v; v = json_after(doc, value, v)) {
                                _cleanup_(freep) char *count = answer_text(doc, v, "count");
                                _cleanup_(freep) char *amount = answer_amount(doc, v, "");
                                printf("  %-*s %s", width, label, amount);
                                printf(*count ? " in %s\n" : "\n", count);
                        }
                } else {
                        _cleanup_(freep) char *text = json_is(value, JSON_OBJECT) ? answer_amount(doc, value, "") : answer_text(doc, value, "");
                        if (*text)
                                printf("  %-*s %s\n", width, label, text);
                }
                name = json_after(doc, summary, value);
        }
}

static void payouts_path(struct strbuf *path, const char *status, const char *job, const char *after)
{
        strbuf_adds(path, "/payouts?limit=1000");
        if (status)
                strbuf_addf(path, "&status=%s", status);
        if (job)
                strbuf_addf(path, "&job_id=%s", job);
        if (after)
                strbuf_addf(path, "&after=%s", after);
}

/* Every page, as one table. With --json only the first: it is the answer of the API. */
static int payouts_list(struct client *c, const char *status, const char *job)
{
        _cleanup_(table_done) struct table t = {.columns = 5, .right = 1 << 2};
        _cleanup_(freep) char *next = NULL;
        size_t n = 0;
        table_cells(&t, "payout", "status", "amount", "job", "reference", (char *)NULL);
        do {
                _cleanup_(strbuf_done) struct strbuf path = {0};
                _cleanup_(answer_done) struct answer page = {0};
                json_value items = NULL;
                payouts_path(&path, status, job, next);
                int r = list_get(c, CLIENT_ADMIN, path.s, "payouts", &page, &items);
                if (r >= 0)
                        return r;
                for (json_value p = json_first(&page.doc, items); p; p = json_after(&page.doc, items, p), n++) {
                        table_cell(&t, answer_text(&page.doc, p, "id"));
                        table_cell(&t, answer_text(&page.doc, p, "status"));
                        table_cell(&t, answer_amount(&page.doc, p, "amount"));
                        table_cell(&t, answer_text(&page.doc, p, "job_id"));
                        table_cell(&t, answer_text(&page.doc, p, "reference"));
                }
                free(next);
                next = answer_text(&page.doc, page.root, "next");
        } while (*next);
        if (n == 0)
                printf("  no payouts%s%s\n", status ? " are " : " yet", status ? status : "");
        else
                table_print(&t);
        if (status || job)
                return 0;
        _cleanup_(answer_done) struct answer summary = {0};
        if (client_get(c, CLIENT_ADMIN, "/payouts/summary", &summary) < 0)
                return 1;
        printf("\n");
        print_summary(&summary.doc, summary.root, 12);
        return 0;
}

int cmd_payouts(int argc, char **argv)
{
        _cleanup_(client_done) struct client c = {0};
        const char *reference = NULL, *by = NULL, *status = NULL, *job = NULL;
        bool json = false;
        struct args a = {.help = PAYOUTS_HELP,
                .options = (struct args_option[]){{"--reference", .value = &reference}, {"--by", .value = &by}, {"--status", .value = &status},
                        {"--job", .value = &job}, {"--json", .flag = &json}, {0}},
                .most = 2};
        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        bool mark = a.n_rest > 0;
        if (mark && strcmp(a.rest[0], "mark") != 0)
                return args_usage(&a, "the only thing to do with payouts is mark", a.rest[0]);
        if (mark && (a.n_rest != 2 || !reference || !*reference))
                return args_usage(&a, "name the payout and the reference of its transfer: payouts mark ID --reference TEXT", NULL);
        if (!mark && (reference || by))
                return args_usage(&a, "--reference and --by belong to payouts mark ID", NULL);
        if (status && strspn(status, "abcdefghijklmnopqrstuvwxyz_") != strlen(status))
                return args_usage(&a, "there is no such status", status);
        if ((mark && !client_id_ok("payout", a.rest[1])) || (job && !client_id_ok("job", job)) || client_find(&c) < 0)
                return 1;
        c.json = json;
        return mark ? payouts_mark(&c, a.rest[1], reference, client_by(by)) : payouts_list(&c, status, job);
}

int cmd_overview(int argc, char **argv)
{
        _cleanup_(client_done) struct client c = {0};
        _cleanup_(answer_done) struct answer answer = {0};
        bool json = false;
        struct args a = {
                .help = "usage: aethelos overview [--json]\n"
                        "\n"
                        "Shows the figures of the stack, exact at this moment: jobs, revenue, payouts, what stands, waits, or lies in quarantine.\n"
                        "\n"
                        "  --json  prints the answer of the API, which has the steps and the repairs, too\n",
                .options = (struct args_option[]){{"--json", .flag = &json}, {0}}};
        int r = args_parse(&a, argc, argv);

        if (r != ARGS_GO_ON)
                return r;
        if (client_find(&c) < 0)
                return 1;
        c.json = json;
        r = client_get(&c, CLIENT_ADMIN, "/status/overview", &answer);
        if (json && answer.body.len > 0)
                print_json(&answer);
        if (r < 0 || json)
                return r < 0;
        print_summary(&answer.doc, answer.root, 22);
        return 0;
}

int cmd_quarantine(int argc, char **argv)
{
        static const struct list quarantine = {
                .help = "usage: aethelos quarantine [--json]\n"
                        "\n"
                        "Lists what could not be used and was put aside for a person, the latest first: messages without a usable key,\n"
                        "what a service cannot carry out. The bytes are in the answer of the API.\n"
                        "\n"
                        "  --json  prints the answer of the API\n",
                .path = "/quarantine",
                .side = CLIENT_ADMIN,
                .none = "nothing was put aside",
                .columns = {{"id", "id", .right = true}, {"time", "time"}, {"service", "service"}, {"subject", "subject"}, {"chain", "chain_id"},
                        {"bytes", "length", .right = true}, {"reason", "reason"}}};
        return list_command(argc, argv, &quarantine);
}

static char *refund_amount(const struct json_doc *doc, json_value refund)
{
        return answer_amount(doc, refund, "amount");
}

static const char REFUNDS_HELP[] =
        "usage: aethelos refunds [--json]\n"
        "       aethelos refunds confirm JOB --reference TEXT [--by NAME] [--json]\n"
        "\n"
        "Lists the jobs whose payment must go back. `confirm` records that it really went back: evidence that is kept, with the reference of\n"
        "the transfer. Repeating it with the same reference changes nothing.\n"
        "\n"
        "  --reference TEXT  reference of the transfer\n"
        "  --by NAME         who says so; without it the login name\n"
        "  --json            prints the answer of the API\n";

static int refunds_confirm(struct client *c, const char *job, const char *reference, const char *by)
{
        _cleanup_(strbuf_done) struct strbuf path = {0}, body = {0};
        _cleanup_(answer_done) struct answer answer = {0};
        int r;

        strbuf_addf(&path, "/refunds/%s/confirm", job);
        strbuf_adds(&body, "{\"reference\":");
        strbuf_add_json(&body, reference, strlen(reference));
        strbuf_adds(&body, ",\"by\":");
        strbuf_add_json(&body, by, strlen(by));
        strbuf_addc(&body, '}');
        r = client_post(c, CLIENT_ADMIN, path.s, NULL, body.s, body.len, &answer);
        if (c->json && answer.body.len > 0)
                print_json(&answer);
        if (r < 0 || c->json)
                return r < 0;
        print_field("job", xstrdup(job));
        print_field("reference", xstrdup(reference));
        printf(answer.status == 202 ? "\nThe evidence is stored; the job moves on as soon as its service hears of it.\n"
                                    : "\nThe refund is on the books.\n");
        return 0;
}

int cmd_refunds(int argc, char **argv)
{
        static const struct list refunds = {.help = REFUNDS_HELP,
                .path = "/refunds",
                .none = "nothing must go back",
                .side = CLIENT_ADMIN,
                .columns = {{"job", "job_id"}, {"amount", "amount", .right = true, .text = refund_amount}, {"driver", "driver"}, {"since", "since"}}};
        _cleanup_(client_done) struct client c = {0};
        const char *reference = NULL, *by = NULL;
        bool json = false;
        struct args a = {.help = REFUNDS_HELP,
                .options = (struct args_option[]){{"--reference", .value = &reference}, {"--by", .value = &by}, {"--json", .flag = &json}, {0}},
                .most = 2};
        int r = args_parse(&a, argc, argv);

        if (r != ARGS_GO_ON)
                return r;
        if (a.n_rest == 0 && !reference && !by)
                return list_command(argc, argv, &refunds);
        if (a.n_rest != 2 || strcmp(a.rest[0], "confirm") != 0 || !reference || !*reference)
                return args_usage(&a, "name the job and the reference of the transfer: refunds confirm JOB --reference TEXT", NULL);
        if (!client_id_ok("job", a.rest[1]) || client_find(&c) < 0)
                return 1;
        c.json = json;
        return refunds_confirm(&c, a.rest[1], reference, client_by(by));
}
