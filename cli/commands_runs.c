/* runs: what is open at operators, and a person's word about a run whose operator cannot say what came of it.
 *
 * Invariant: a run is resolved only as the user typed it. A crash here leaves nothing behind but the decision that the stack has stored, and the same
 * command again finds it. */
#include "client.h"
#include "client_args.h"

#include "cli.h"

#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char RUNS_HELP[] =
        "usage: aethelos runs [--state calling|accepted|unknown] [--job JOB] [--json]\n"
        "       aethelos runs resolve RUN --outcome done|failed [--output FILE] --reference TEXT [--by NAME] [--json]\n"
        "\n"
        "Lists the runs that are open at operators. `resolve` records what came of the run RUN, when its operator cannot say it: it counts as\n"
        "the operator's answer, and is kept with your reference. Repeating it changes nothing; what was decided cannot be decided otherwise.\n"
        "\n"
        "  --state STATE      only runs in this state (another stack: AETHELOS_STATE=DIR)\n"
        "  --job JOB          only the run of this job\n"
        "  --outcome OUTCOME  done: its output is in FILE; failed: nothing was done, and nothing will be\n"
        "  --output FILE      the output, JSON\n"
        "  --reference TEXT   how you know\n"
        "  --by NAME          who says so; without it the login name\n"
        "  --json             prints the answer of the API\n";

static int file_read(const char *path, struct strbuf *ret_b)
{
        FILE *f = fopen(path, "re");
        char part[65536];
        size_t n;

        while (f && (n = fread(part, 1, sizeof(part), f)) > 0)
                strbuf_add(ret_b, part, n);
        if (!f || ferror(f)) {
                fprintf(stderr, "aethelos: %s cannot be read: %m\n", path);
                if (f)
                        fclose(f);
                return -1;
        }
        fclose(f);
        return 0;
}

static int resolve(struct client *c, const char *run, const char *outcome, const char *file, const char *reference, const char *by)
{
        _cleanup_(strbuf_done) struct strbuf body = {0}, output = {0}, path = {0};
        _cleanup_(answer_done) struct answer answer = {0};
        int r;

        if (file && file_read(file, &output) < 0)
                return 1;
        strbuf_adds(&body, "{\"outcome\":");
        strbuf_add_json(&body, outcome, strlen(outcome));
        if (file) {
                strbuf_adds(&body, ",\"output\":");
                strbuf_add(&body, output.s ? output.s : "", output.len);
        }
        strbuf_adds(&body, ",\"reference\":");
        strbuf_add_json(&body, reference, strlen(reference));
        strbuf_adds(&body, ",\"by\":");
        strbuf_add_json(&body, by, strlen(by));
        strbuf_addc(&body, '}');
        strbuf_addf(&path, "/runs/%s/resolve", run);
        r = client_post(c, CLIENT_ADMIN, path.s, NULL, body.s, body.len, &answer);
        if (c->json && answer.body.len > 0)
                print_json(&answer);
        if (r < 0 || c->json)
                return r < 0;
        print_field("run", xstrdup(run));
        print_field("outcome", answer_text(&answer.doc, answer.root, "outcome"));
        print_field("reference", answer_text(&answer.doc, answer.root, "reference"));
        return 0;
}

static int list(struct client *c, const char *state, const char *job)
{
        _cleanup_(strbuf_done) struct strbuf path = {0};
        _cleanup_(answer_done) struct answer answer = {0};
        const struct json_doc *doc = &answer.doc;
        json_value items;
        int r;

        strbuf_adds(&path, "/runs?limit=1000");
        if (state)
                strbuf_addf(&path, "&state=%s", state);
        if (job)
                strbuf_addf(&path, "&job_id=%s", job);
        r = client_get(c, CLIENT_ADMIN, path.s, &answer);
        if (c->json && answer.body.len > 0)
                print_json(&answer);
        if (r < 0 || c->json)
                return r < 0;
        items = answer_list(&answer, "runs");
        if (!items || items->n == 0) {
                printf("  no open runs\n");
                return 0;
        }
        _cleanup_(table_done) struct table t = {.columns = 8, .right = 3 << 4};
        table_cells(&t, "run", "job", "operator", "state", "age s", "asked", "next look", "error", (char *)NULL);
        for (json_value v = json_first(doc, items); v; v = json_after(doc, items, v)) {
                static const char *const columns[] = {"id", "job_id", "operator", "state", "age_s", "probes", "next_at", "error"};
                for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
                        table_cell(&t, answer_text(doc, v, columns[i]));
        }
        table_print(&t);
        return 0;
}

int cmd_runs(int argc, char **argv)
{
        _cleanup_(client_done) struct client c = {0};
        const char *state = NULL, *job = NULL, *outcome = NULL, *output = NULL, *reference = NULL, *by = NULL;
        bool json = false;
        struct args a = {.help = RUNS_HELP,
                .options = (struct args_option[]){{"--state", .value = &state}, {"--job", .value = &job}, {"--outcome", .value = &outcome},
                        {"--output", .value = &output}, {"--reference", .value = &reference}, {"--by", .value = &by}, {"--json", .flag = &json}, {0}},
                .most = 2};
        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        bool decide = a.n_rest > 0;
        if (decide && strcmp(a.rest[0], "resolve") != 0)
                return args_usage(&a, "the only thing to do with runs is resolve", a.rest[0]);
        if (decide && (a.n_rest != 2 || !outcome || !reference || !*reference))
                return args_usage(&a, "name the run, what came of it, and how you know: runs resolve RUN --outcome OUTCOME --reference TEXT", NULL);
        if (decide && (strcmp(outcome, "done") == 0) != (output != NULL))
                return args_usage(&a, "a run that is done has an output (--output FILE), one that failed has none", NULL);
        if (!decide && (outcome || output || reference || by))
                return args_usage(&a, "--outcome, --output, --reference and --by belong to runs resolve RUN", NULL);
        if (decide && (state || job))
                return args_usage(&a, "--state and --job belong to the list of runs", NULL);
        if (state && strspn(state, "abcdefghijklmnopqrstuvwxyz") != strlen(state))
                return args_usage(&a, "there is no such state", state);
        if ((decide && !client_id_ok("run", a.rest[1])) || (job && !client_id_ok("job", job)) || client_find(&c) < 0)
                return 1;
        c.json = json;
        return decide ? resolve(&c, a.rest[1], outcome, output, reference, client_by(by)) : list(&c, state, job);
}
