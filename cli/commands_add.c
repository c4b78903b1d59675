/* operators add, flows add: registering who performs steps, and which job type is done in which. The document in the file is the body of the call, so
 * what it may say stands in docs/openapi.yaml and proto/operators.md. A crash here leaves what the stack has stored; the same operator again is
 * answered as it stands. */
#include "client.h"
#include "client_args.h"
#include "client_job.h"

#include "cli.h"

#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>

static int add(int argc, char **argv, const char *help, const char *path, const char *names, const struct answer_member *shown)
{
        _cleanup_(client_done) struct client c = {0};
        _cleanup_(strbuf_done) struct strbuf body = {0};
        _cleanup_(answer_done) struct answer answer = {0};
        bool json = false;
        struct args a = {.help = help, .options = (struct args_option[]){{"--json", .flag = &json}, {0}}, .least = 1, .most = 1};
        int r = args_parse(&a, argc, argv);

        if (r != ARGS_GO_ON)
                return r;
        if (json_file_read(a.rest[0], names, &body) < 0 || client_find(&c) < 0)
                return 1;
        c.json = json;
        r = client_post(&c, CLIENT_ADMIN, path, NULL, body.s ? body.s : "", body.len, &answer);
        if (json && answer.body.len > 0)
                print_json(&answer);
        if (r < 0 || json)
                return r < 0;
        for (; shown->label; shown++)
                print_field(shown->label, answer_text(&answer.doc, answer.root, shown->path));
        if (answer.status == 200)
                printf("\nIt was registered before; nothing was changed.\n");
        return 0;
}

int cmd_operators_add(int argc, char **argv)
{
        static const struct answer_member shown[] = {
                {"operator", "name"}, {"kind", "kind"}, {"encoding", "encoding"}, {"url", "url"}, {"health", "health"}, {0}};

        return add(argc, argv,
                "usage: aethelos operators add FILE|- [--json]\n"
                "\n"
                "Registers the operator that the JSON file describes, such as {\"name\": \"upper\", \"kind\": \"http\", \"url\": "
                "\"http://127.0.0.1:8099/run\",\n"
                "\"tags\": [\"upper\"]}; all members are in proto/operators.md. The same again changes nothing, another of that name is refused.\n"
                "\n"
                "  --json  prints the answer of the API\n",
                "/operators", "{\"name\", \"kind\", \"url\", \"tags\"}", shown);
}

int cmd_flows_add(int argc, char **argv)
{
        static const struct answer_member shown[] = {{"flow", "name"}, {"version", "version"}, {"type", "type"}, {"base", "base"},
                {"per unit", "per_unit"}, {"currency", "currency"}, {0}};

        return add(argc, argv,
                "usage: aethelos flows add FILE|- [--json]\n"
                "\n"
                "Registers the flow that the JSON file describes, or a new version of it, for jobs that come from now on: {\"name\": "
                "\"upper_flow\",\n"
                "\"type\": \"upper\", \"base\": \"2.00\", \"per_unit\": \"0.01\", \"currency\": \"EUR\", \"steps\": [{\"tag\": \"upper\"}]}.\n"
                "\n"
                "  --json  prints the answer of the API\n",
                "/flows", "{\"name\", \"type\", \"base\", \"per_unit\", \"currency\", \"steps\"}", shown);
}
