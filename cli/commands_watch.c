/* operators watch: which runs are where, since when, and how far they are.
 *
 * It only looks: a crash here leaves nothing behind. */
#include "client.h"
#include "client_args.h"

#include "cli.h"

#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WATCH_S 1
#define CLEAR   "\033[H\033[J"

static const char WATCH_HELP[] =
        "usage: aethelos operators watch [OPERATOR] [--once] [--json]\n"
        "\n"
        "Shows the runs that are open at operators, or at OPERATOR: who has them, since when, and for workers on the bus the\n"
        "last beat and the progress. On a terminal it goes on until interrupted.\n"
        "\n"
        "  --once  prints them once\n"
        "  --json  prints the answer of the API, once\n";

/* "40 % reading" */
static char *progress(const struct json_doc *doc, json_value run)
{
        _cleanup_(freep) char *percent = answer_text(doc, run, "percent"), *text = answer_text(doc, run, "progress");
        struct strbuf b = {0};

        if (*percent)
                strbuf_addf(&b, "%s %%%s", percent, *text ? " " : "");
        strbuf_adds(&b, text);
        return strbuf_take(&b);
}

static void print_runs(const struct json_doc *doc, json_value items)
{
        static const char *const columns[] = {"operator", "worker", "id", "job_id", "state", "age_s", "beat_age_s"};
        _cleanup_(table_done) struct table t = {.columns = ARRAY_SIZE(columns) + 1, .right = 3 << 5};

        table_cells(&t, "operator", "worker", "run", "job", "state", "age s", "beat s", "progress", (char *)NULL);
        for (json_value run = json_first(doc, items); run; run = json_after(doc, items, run)) {
                for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
                        table_cell(&t, answer_text(doc, run, columns[i]));
                table_cell(&t, progress(doc, run));
        }
        table_print(&t);
}

static int show(struct client *c, const char *path, bool clear)
{
        _cleanup_(answer_done) struct answer answer = {0};
        int r = client_get(c, CLIENT_ADMIN, path, &answer);
        json_value items = answer_list(&answer, "runs");

        if (c->json && answer.body.len > 0)
                print_json(&answer);
        if (r < 0 || c->json)
                return r < 0;
        if (clear)
                fputs(CLEAR, stdout);
        if (items && items->n > 0)
                print_runs(&answer.doc, items);
        else
                printf("  no open runs\n");
        fflush(stdout);
        return 0;
}

int cmd_watch(int argc, char **argv)
{
        _cleanup_(client_done) struct client c = {0};
        _cleanup_(strbuf_done) struct strbuf path = {0};
        bool json = false, once = false;
        struct args a = {.help = WATCH_HELP, .options = (struct args_option[]){{"--once", .flag = &once}, {"--json", .flag = &json}, {0}}, .most = 1};
        int r = args_parse(&a, argc, argv);

        if (r != ARGS_GO_ON)
                return r;
        strbuf_adds(&path, "/runs?limit=1000");
        if (a.n_rest > 0) {
                if (strspn(a.rest[0], "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(a.rest[0]))
                        return args_usage(&a, "an operator's name has only a-z 0-9 _", a.rest[0]);
                strbuf_addf(&path, "&operator=%s", a.rest[0]);
        }
        if (client_find(&c) < 0)
                return 1;
        if (a.n_rest > 0 && (r = client_operator(&c, a.rest[0], NULL)) <= 0) {
                if (r == 0)
                        fprintf(stderr, "aethelos: there is no operator %s. `./aethelos operators` lists them.\n", a.rest[0]);
                return 1;
        }
        c.json = json;
        once |= json || !isatty(STDOUT_FILENO);
        do
                r = show(&c, path.s, !once);
        while (r == 0 && !once && nanosleep(&(struct timespec){.tv_sec = WATCH_S}, NULL) == 0);
        return r;
}
