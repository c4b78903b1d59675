/* events: what happened, once or as it happens.
 *
 * Invariant: following goes on behind the cursor of the last answer, so that no event is printed twice and none is left out. A crash here leaves
 * nothing behind. */
#include "client.h"
#include "client_args.h"
#include "client_events.h"

#include "cli.h"

#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FOLLOW_MS 500

static void add_escaped(struct strbuf *b, const char *s)
{
        for (; *s; s++) {
                if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~", *s))
                        strbuf_addc(b, *s);
                else
                        strbuf_addf(b, "%%%02X", (unsigned char)*s);
        }
}

int events_page(struct client *c, enum client_side side, const char *id, char **cursor, int64_t limit, struct answer *ret_answer)
{
        _cleanup_(strbuf_done) struct strbuf path = {0};
        bool of_job = side == CLIENT_PUBLIC;
        const char *sep = "?";
        if (of_job)
                strbuf_addf(&path, "/jobs/%s/events", id);
        else
                strbuf_adds(&path, "/events");
        if (!of_job && id) {
                strbuf_addf(&path, "?chain=%s", id);
                sep = "&";
        }
        if (*cursor) {
                strbuf_addf(&path, "%s%s=", sep, of_job ? "after" : "since");
                add_escaped(&path, *cursor);
                sep = "&";
        }
        if (limit > 0)
                strbuf_addf(&path, "%slimit=%lld", sep, (long long)limit);
        if (client_get(c, side, path.s, ret_answer) < 0)
                return -1;
        /* A job's events are paged from its start. Those of the admin side are paged backwards from the latest, which is where a follower goes on. */
        char *next = answer_text(&ret_answer->doc, ret_answer->root, of_job ? "next" : "latest");
        if (*next) {
                free(*cursor);
                *cursor = next;
        } else {
                free(next);
        }
        return 0;
}

static void print_one(const struct json_doc *doc, json_value event, bool json, bool with_chain)
{
        if (!json) {
                print_event(doc, event, with_chain);
                return;
        }
        struct slice raw = json_raw(doc, event);
        printf("%.*s\n", (int)raw.len, raw.s);
}

/* Oldest first, however they came. */
static size_t print_page(const struct answer *page, bool newest_first, bool json, bool with_chain)
{
        json_value items = answer_list(page, "events");
        size_t n = items ? items->n : 0, i = 0;
        json_value *events = xcalloc(n + 1, sizeof(json_value));
        for (json_value e = n > 0 ? json_first(&page->doc, items) : NULL; e && i < n; e = json_after(&page->doc, items, e))
                events[i++] = e;
        n = i;
        for (i = 0; i < n; i++)
                print_one(&page->doc, events[newest_first ? n - 1 - i : i], json, with_chain);
        free(events);
        fflush(stdout);
        return n;
}

static bool is_empty(const struct answer *page)
{
        json_value items = answer_list(page, "events");
        return !items || items->n == 0;
}

static const char EVENTS_HELP[] = "usage: aethelos events [ID] [--follow] [--limit N] [--json]\n"
                                  "\n"
                                  "Prints the latest events of the whole stack, or all events of one job, payout, system task or issue.\n"
                                  "\n"
                                  "  --follow   goes on printing as things happen, until interrupted\n"
                                  "  --limit N  at most N events in one answer\n"
                                  "  --json     prints the answer of the API; with --follow, one event a line\n";

int cmd_events(int argc, char **argv)
{
        _cleanup_(client_done) struct client c = {0};
        bool json = false, follow = false;
        const char *limit_text = NULL;
        struct args a = {.help = EVENTS_HELP,
                .options = (struct args_option[]){{"--follow", .flag = &follow}, {"--limit", .value = &limit_text}, {"--json", .flag = &json}, {0}},
                .most = 1};
        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        int64_t limit = 0;
        if (limit_text) {
                char *end;
                limit = strtoll(limit_text, &end, 10);
                if (*end || limit < 1 || limit > 1000)
                        return args_usage(&a, "--limit is a number from 1 to 1000", limit_text);
        }
        const char *id = a.n_rest > 0 ? a.rest[0] : NULL;
        if ((id && !client_id_ok("job, payout, task or issue", id)) || client_find(&c) < 0)
                return 1;
        c.json = json && !follow;
        enum client_side side = id && !client_may_admin(&c) ? CLIENT_PUBLIC : CLIENT_ADMIN;
        _cleanup_(freep) char *cursor = id && side == CLIENT_ADMIN ? xstrdup("0.0.0") : NULL; /* from the first one on */
        for (bool first = true;; first = false) {
                _cleanup_(answer_done) struct answer page = {0};
                size_t n = 0;
                r = events_page(&c, side, id, &cursor, limit, &page);
                if (r == 0 && first && id && side == CLIENT_ADMIN && is_empty(&page)) {
                        side = CLIENT_PUBLIC; /* which says whether there is such a job */
                        free(TAKE_PTR(cursor));
                        continue;
                }
                if (c.json && page.body.len > 0)
                        print_json(&page);
                else if (r == 0)
                        n = print_page(&page, first && !id, json, !id);
                if (r < 0)
                        return 1;
                if (n > 0 && (follow || (id && !limit)))
                        continue; /* there may be more at once */
                if (!follow) {
                        if (first && n == 0 && !json)
                                printf("  nothing has happened yet\n");
                        return 0;
                }
                nanosleep(&(struct timespec){.tv_nsec = FOLLOW_MS * 1000000L}, NULL);
        }
}
