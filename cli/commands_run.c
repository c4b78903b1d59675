/* run FILE: the whole way of one job, seen step by step. Starts the stack if it is not up, submits, confirms the payment because `run` is the
 * explicit order to do so, follows the chain to its end and shows what came of it.
 *
 * Invariant: exactly one submission under a fresh key, and one confirmation of exactly that job's intent. A crash here leaves a job that waits for
 * its payment or goes on by itself; `show` finds it. */
#include "client.h"
#include "client_args.h"
#include "client_events.h"
#include "client_job.h"

#include "cli.h"

#include "base/util.h"
#include "base/uuid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUN_POLL_MS        50
#define RUN_TIMEOUT_S      300
#define RUN_PAYOUT_WAIT_MS 5000 /* between the revenue and the payout that is ready */
#define RUN_REFERENCE      "aethelos run"

static const char RUN_HELP[] =
        "usage: aethelos run FILE|- [--timeout SECONDS] [--json]\n"
        "\n"
        "Runs the job in FILE (or on standard input) from beginning to end: starts the stack if it is not up, submits the job, confirms its\n"
        "payment (that is what `run` is for; reference \"" RUN_REFERENCE "\"), shows every step as it happens, and then the result, the\n"
        "price and how it came about, the ledger entries and the payout. Exit status 1 when the job fails, with the reason.\n"
        "\n"
        "  --timeout SECONDS  how long to follow the job; without it 300. The job goes on in any case.\n"
        "  --json             prints the finished job as `aethelos show --json` does; the steps go to standard error\n";

struct run {
        struct client client;
        FILE *progress;
        char *job;
        char *cursor;
        int64_t started_ms;   /* time of the first event */
        int64_t last_version; /* of the last event shown */
        bool confirmed;
        enum { RUN_GOES_ON, RUN_BOOKED, RUN_FAILED } state;
        char *reason; /* of a failure */
};

static void run_done(struct run *r)
{
        client_done(&r->client);
        free(r->job);
        free(r->cursor);
        free(r->reason);
}

static void print_step(struct run *r, int64_t ms, const char *type, const char *words)
{
        fprintf(r->progress, *words ? "  %4lld ms  %-20s  %s\n" : "  %4lld ms  %s\n", (long long)(ms - r->started_ms), type, words);
        fflush(r->progress);
}

static void show_step(struct run *r, const struct json_doc *doc, json_value event, const char *type)
{
        _cleanup_(freep) char *at = answer_text(doc, event, "time");
        _cleanup_(freep) char *words = event_words(doc, event);
        int64_t ms = time_ms(at);
        if (r->started_ms == 0)
                r->started_ms = ms;
        print_step(r, ms, type, words);
}

/* The payout is a chain of its own; its two first events are told by the times of the payout. */
static void show_payout(struct run *r, const struct json_doc *doc, json_value payout)
{
        _cleanup_(freep) char *amount = answer_amount(doc, payout, "amount");
        _cleanup_(freep) char *created = answer_text(doc, payout, "created_at");
        _cleanup_(freep) char *updated = answer_text(doc, payout, "updated_at");
        _cleanup_(freep) char *status = answer_text(doc, payout, "status");
        if (time_ms(created) >= 0)
                print_step(r, time_ms(created), "PAYOUT_EARNED", amount);
        if (strcmp(status, "ready") == 0 && time_ms(updated) >= 0)
                print_step(r, time_ms(updated), "PAYOUT_READY", "waits for the transfer");
}

static int confirm(struct run *r, const struct json_doc *doc, json_value event)
{
        _cleanup_(freep) char *intent = answer_text(doc, event, "data.payment_intent_id");
        _cleanup_(answer_done) struct answer answer = {0};
        r->confirmed = true;
        return job_confirm(&r->client, *intent ? intent : r->job, RUN_REFERENCE, client_by(NULL), &answer);
}

/* "all_operators_failed at step 0 (puz19_text): name: its error; ..." */
static char *failure_words(const struct json_doc *doc, json_value error)
{
        struct strbuf b = {0};
        _cleanup_(freep) char *reason = answer_text(doc, error, "reason");
        _cleanup_(freep) char *step = answer_text(doc, error, "step");
        _cleanup_(freep) char *tag = answer_text(doc, error, "tag");
        strbuf_adds(&b, *reason ? reason : "no reason was given");
        if (*step)
                strbuf_addf(&b, " at step %s (%s)", step, tag);
        json_value attempts = json_get(doc, error, "attempts");
        const char *before = ": ";
        for (json_value t = attempts ? json_first(doc, attempts) : NULL; t; t = json_after(doc, attempts, t)) {
                _cleanup_(freep) char *who = answer_text(doc, t, "operator");
                _cleanup_(freep) char *why = answer_text(doc, t, "error");
                strbuf_addf(&b, "%s%s: %s", before, who, why);
                before = "; ";
        }
        return strbuf_take(&b);
}

static int take_event(struct run *r, const struct json_doc *doc, json_value event)
{
        int64_t version = 0;
        if (json_int64(doc, json_get(doc, event, "version"), &version) < 0 || version <= r->last_version)
                return 0;
        r->last_version = version;
        _cleanup_(freep) char *type = answer_text(doc, event, "type");
        show_step(r, doc, event, type);
        if (strcmp(type, "PAYMENT_INITIATED") == 0 && !r->confirmed)
                return confirm(r, doc, event);
        if (strcmp(type, "REVENUE_BOOKED") == 0)
                r->state = RUN_BOOKED;
        if (strcmp(type, "EXECUTION_FAILED") == 0 || strcmp(type, "PAYMENT_EXPIRED") == 0 || strcmp(type, "FINAL_FAIL") == 0) {
                free(r->reason);
                r->reason = failure_words(doc, json_get(doc, json_get(doc, event, "data"), "error"));
                r->state = RUN_FAILED;
        }
        return 0;
}

static int follow(struct run *r, int64_t timeout_ms)
{
        int64_t until = now_mono_ms() + timeout_ms;
        while (r->state == RUN_GOES_ON) {
                _cleanup_(answer_done) struct answer page = {0};
                if (events_page(&r->client, CLIENT_PUBLIC, r->job, &r->cursor, 0, &page) < 0)
                        return -1;
                json_value items = answer_list(&page, "events");
                for (json_value e = items ? json_first(&page.doc, items) : NULL; e; e = json_after(&page.doc, items, e))
                        if (take_event(r, &page.doc, e) < 0)
                                return -1;
                if (r->state != RUN_GOES_ON)
                        break;
                if (now_mono_ms() > until) {
                        fprintf(stderr,
                                "aethelos: the job did not finish in %lld s. It goes on; follow it with `./aethelos events %s --follow`, "
                                "and see where it stands with `./aethelos show %s`.\n",
                                (long long)(timeout_ms / 1000), r->job, r->job);
                        return -1;
                }
                nanosleep(&(struct timespec){.tv_nsec = RUN_POLL_MS * 1000000L}, NULL);
        }
        return 0;
}

/* The job with its payout: the payout's chain is opened with the revenue and is made ready by another service right after. */
static int finished_job(struct run *r, struct answer *ret_job)
{
        int64_t until = now_mono_ms() + RUN_PAYOUT_WAIT_MS;
        for (;;) {
                if (job_get(&r->client, r->job, ret_job) < 0)
                        return -1;
                _cleanup_(freep) char *payout = answer_text(&ret_job->doc, ret_job->root, "payout.status");
                if (r->state != RUN_BOOKED || (*payout && strcmp(payout, "earned") != 0) || now_mono_ms() > until) {
                        if (*payout)
                                show_payout(r, &ret_job->doc, answer_at(&ret_job->doc, ret_job->root, "payout"));
                        return 0;
                }
                answer_done(ret_job);
                nanosleep(&(struct timespec){.tv_nsec = RUN_POLL_MS * 1000000L}, NULL);
        }
}

int cmd_run(int argc, char **argv)
{
        _cleanup_(run_done) struct run run = {0};
        const char *timeout_text = NULL;
        bool json = false;
        struct args a = {.help = RUN_HELP,
                .options = (struct args_option[]){{"--timeout", .value = &timeout_text}, {"--json", .flag = &json}, {0}},
                .least = 1,
                .most = 1};
        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        int64_t timeout_s = RUN_TIMEOUT_S;
        if (timeout_text) {
                char *end;
                timeout_s = strtoll(timeout_text, &end, 10);
                if (*end || timeout_s < 1 || timeout_s > 86400)
                        return args_usage(&a, "--timeout is a number of seconds from 1 to 86400", timeout_text);
        }
        /* The file is read before the stack is started: a wrong name should not cost a start. */
        _cleanup_(strbuf_done) struct strbuf body = {0};
        if (job_file_read(a.rest[0], &body) < 0)
                return 1;
        run.progress = json ? stderr : stdout;
        if ((!client_elsewhere() && cli_ensure_up(run.progress) < 0) || client_find(&run.client) < 0)
                return 1;
        if (!client_has_admin(&run.client)) {
                fprintf(stderr, "aethelos: `run` confirms the payment, so it needs the admin side too: set AETHELOS_ADMIN_URL and "
                                "AETHELOS_ADMIN_TOKEN_FILE.\n");
                return 1;
        }
        char key[UUID_TEXT_SIZE];
        job_key_new(key);
        fprintf(run.progress, "  key          %s\n", key);
        fflush(run.progress);
        _cleanup_(answer_done) struct answer submitted = {0};
        if (client_post(&run.client, CLIENT_PUBLIC, "/jobs", key, body.s ? body.s : "", body.len, &submitted) < 0)
                return 1;
        run.job = job_submitted_id(&submitted);
        fprintf(run.progress, "  job          %s\n\n", run.job);
        if (follow(&run, timeout_s * 1000) < 0)
                return 1;
        _cleanup_(answer_done) struct answer job = {0};
        if (finished_job(&run, &job) < 0)
                return 1;
        if (json) {
                print_json(&job);
        } else {
                printf("\n");
                print_job(&job);
        }
        fflush(stdout);
        if (run.state == RUN_FAILED) {
                fprintf(stderr, "aethelos: the job failed: %s.\n", run.reason);
                return 1;
        }
        return 0;
}
