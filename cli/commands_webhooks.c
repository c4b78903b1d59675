/* webhooks: who is told of events over HTTP, and what became of it. A crash here leaves at most a subscription whose secret was not seen: it is in
 * the list, and is removed. */
#include "client.h"
#include "client_args.h"

#include "cli.h"

#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char WEBHOOKS_HELP[] =
        "usage: aethelos webhooks [--json]\n"
        "       aethelos webhooks add URL [--types A,B] [--client NAME] [--format FORMAT] [--json]\n"
        "       aethelos webhooks deliveries ID [--json]\n"
        "       aethelos webhooks redeliver ID DELIVERY [--json]\n"
        "       aethelos webhooks enable ID [--json]\n"
        "       aethelos webhooks rotate ID [--keep SECONDS] [--json]\n"
        "       aethelos webhooks remove ID [--json]\n"
        "\n"
        "Events are POSTed to each URL, signed, until the receiver answers with 2xx (docs/listening.md). `add` prints the secret\n"
        "of the signatures, once; so does `rotate`, which makes another: the old one signs beside it for a day, or as --keep says.\n"
        "What fails for days is disabled; `enable` goes on where it was.\n"
        "\n"
        "  --types A,B      only these events\n"
        "  --client NAME    only events of jobs of this client\n"
        "  --format FORMAT  event (unless it is said), or cloudevents\n"
        "  --keep SECONDS   how long the old secret goes on signing; 0: it has become known to somebody\n"
        "  --json           prints the answer of the API\n";

struct row {
        const char *heading, *member;
};

static void print_rows(const struct answer *answer, const struct row rows[], size_t n, const char *none)
{
        _cleanup_(table_done) struct table t = {.columns = n};
        json_value items = answer_list(answer, "items");

        if (!items || items->n == 0) {
                printf("  %s\n", none);
                return;
        }
        for (size_t i = 0; i < n; i++)
                table_cell(&t, xstrdup(rows[i].heading));
        for (json_value v = items ? json_first(&answer->doc, items) : NULL; v; v = json_after(&answer->doc, items, v))
                for (size_t i = 0; i < n; i++)
                        table_cell(&t, answer_text(&answer->doc, v, rows[i].member));
        table_print(&t);
}

static void print_list(const struct answer *answer)
{
        static const struct row rows[] = {{"webhook", "id"}, {"url", "url"}, {"state", "state"}, {"pending", "pending"},
                {"failing since", "failing_since"}, {"last error", "last_error"}};

        print_rows(answer, rows, ARRAY_SIZE(rows), "no webhooks");
}

static void print_deliveries(const struct answer *answer)
{
        static const struct row rows[] = {{"delivery", "id"}, {"event", "type"}, {"chain", "chain_id"}, {"state", "state"}, {"attempts", "attempts"},
                {"status", "last_status"}, {"next", "next_at"}, {"last error", "last_error"}};

        print_rows(answer, rows, ARRAY_SIZE(rows), "no deliveries");
}

static void print_webhook(const struct answer *answer)
{
        static const char *const members[] = {"id", "url", "client", "format", "state", "pending", "old_secret_until", "secret"};

        for (size_t i = 0; i < ARRAY_SIZE(members); i++)
                print_field(members[i], answer_text(&answer->doc, answer->root, members[i]));
}

static void print_removed(const struct answer *answer)
{
        (void)answer;
        printf("  removed\n");
}

/* What is done; `path` has the ids put in, in their order. */
static const struct act {
        const char *name, *method, *path, *more;
        int n_args;
        void (*print)(const struct answer *answer);
} acts[] = {
        {"list", "GET", "/webhooks", "", 0, print_list},
        {"add", "POST", "/webhooks", "", 1, print_webhook},
        {"deliveries", "GET", "/webhooks/", "/deliveries", 1, print_deliveries},
        {"redeliver", "POST", "/webhooks/", "/deliveries/", 2, print_webhook},
        {"enable", "POST", "/webhooks/", "/enable", 1, print_webhook},
        {"rotate", "POST", "/webhooks/", "/rotate", 1, print_webhook},
        {"remove", "DELETE", "/webhooks/", "", 1, print_removed},
};

struct wish {
        const char *types, *client, *format, *keep; /* NULL: not said */
};

static void add_body(struct strbuf *b, const char *url, const struct wish *wish)
{
        strbuf_addc(b, '{');
        strbuf_add_member(b, "url", url);
        if (wish->types) {
                strbuf_adds(b, ",\"types\":[");
                for (const char *s = wish->types; s; s = s[strcspn(s, ",")] ? s + strcspn(s, ",") + 1 : NULL) {
                        if (s != wish->types)
                                strbuf_addc(b, ',');
                        strbuf_add_json(b, s, strcspn(s, ","));
                }
                strbuf_addc(b, ']');
        }
        strbuf_add_member(b, "client", wish->client);
        strbuf_add_member(b, "format", wish->format);
        strbuf_addc(b, '}');
}

static int act(struct client *c, const struct act *what, const char *const ids[], const struct wish *wish)
{
        _cleanup_(strbuf_done) struct strbuf path = {0}, body = {0};
        _cleanup_(answer_done) struct answer answer = {0};
        bool add = strcmp(what->name, "add") == 0, secret = add || strcmp(what->name, "rotate") == 0;
        int r;

        strbuf_adds(&path, what->path);
        if (add)
                add_body(&body, ids[0], wish);
        else if (what->n_args > 0)
                strbuf_addf(&path, "%s%s%s%s", ids[0], what->more, what->n_args > 1 ? ids[1] : "", what->n_args > 1 ? "/redeliver" : "");
        if (wish->keep)
                strbuf_addf(&body, "{\"keep_s\":%s}", wish->keep);
        r = client_do(c, CLIENT_ADMIN, what->method, path.s, body.s, body.len, &answer);
        if (c->json && answer.body.len > 0)
                print_json(&answer);
        else if (r == 0)
                what->print(&answer);
        if (r == 0 && secret && !c->json)
                printf("\nThe receiver needs the secret to check signatures. It is not shown again.\n");
        return r < 0;
}

int cmd_webhooks(int argc, char **argv)
{
        _cleanup_(client_done) struct client c = {0};
        struct wish wish = {0};
        bool json = false;
        struct args a = {.help = WEBHOOKS_HELP,
                .options = (struct args_option[]){{"--types", .value = &wish.types}, {"--client", .value = &wish.client},
                        {"--format", .value = &wish.format}, {"--keep", .value = &wish.keep}, {"--json", .flag = &json}, {0}},
                .most = 3};
        int r = args_parse(&a, argc, argv);
        const struct act *what = acts;

        if (r != ARGS_GO_ON)
                return r;
        if (a.n_rest > 0)
                while (what < acts + ARRAY_SIZE(acts) && strcmp(what->name, a.rest[0]) != 0)
                        what++;
        if (what == acts + ARRAY_SIZE(acts))
                return args_usage(&a, "with webhooks one can add, deliveries, redeliver, enable, rotate, remove", a.rest[0]);
        if (a.n_rest > 0 && (int)a.n_rest != what->n_args + 1)
                return args_usage(&a, "the number of arguments is wrong", NULL);
        if ((wish.types || wish.client || wish.format) && strcmp(what->name, "add") != 0)
                return args_usage(&a, "--types, --client and --format belong to webhooks add URL", NULL);
        if (wish.keep && (strcmp(what->name, "rotate") != 0 || !*wish.keep || strspn(wish.keep, "0123456789") != strlen(wish.keep)))
                return args_usage(&a, "--keep takes seconds, and belongs to webhooks rotate ID", NULL);
        if (what->n_args > 0 && strcmp(what->name, "add") != 0 && !client_id_ok("webhook", a.rest[1]))
                return 1;
        if (what->n_args > 1 && (!*a.rest[2] || strspn(a.rest[2], "0123456789") != strlen(a.rest[2])))
                return args_usage(&a, "a delivery is a number, see webhooks deliveries ID", a.rest[2]);
        if (client_find(&c) < 0)
                return 1;
        c.json = json;
        return act(&c, what, a.rest + 1, &wish);
}
