/* submit, show: one call each on a job.
 *
 * Invariant: a submission travels under an idempotency key that the user has seen before it was sent, so that a lost answer can always be asked for
 * again. A crash here leaves a job that the same key finds. */
#include "client.h"
#include "client_args.h"
#include "client_job.h"

#include "cli.h"

#include "base/util.h"
#include "base/uuid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBMISSION_MAX (16 * 1024 * 1024) /* the stack says 413 above its own limit; this only keeps a wrong file name from filling the memory */

int json_file_read(const char *file, const char *names, struct strbuf *ret_body)
{
        FILE *f = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
        if (!f) {
                fprintf(stderr, "aethelos: %s cannot be opened: %s. Name a JSON file with %s, or - for standard input.\n", file, strerror(errno),
                        names);
                return -1;
        }
        char chunk[65536];
        size_t n;
        while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0 && ret_body->len <= SUBMISSION_MAX)
                strbuf_add(ret_body, chunk, n);
        int r = 0;
        if (ferror(f)) {
                fprintf(stderr, "aethelos: %s cannot be read: %s.\n", file, strerror(errno));
                r = -1;
        } else if (ret_body->len > SUBMISSION_MAX) {
                fprintf(stderr, "aethelos: %s is too large: at most 1 MiB is taken.\n", file);
                r = -1;
        }
        if (f != stdin)
                fclose(f);
        return r;
}

void job_key_new(char ret_key[UUID_TEXT_SIZE])
{
        struct uuid id = uuid_v7();
        uuid_format(&id, ret_key);
}

int job_file_read(const char *file, struct strbuf *ret_body)
{
        return json_file_read(file, "{\"type\", \"payload\", \"context\"}", ret_body);
}

static bool key_ok(const char *key)
{
        size_t len = strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
        return len >= 1 && len <= 128 && key[len] == '\0';
}

/* The job of an answer to a submission: {"job", "payment_intent"}, or the job itself. */
static json_value submitted_job(const struct answer *a)
{
        json_value job = json_get(&a->doc, a->root, "job");
        return job ? job : a->root;
}

char *job_submitted_id(const struct answer *a)
{
        return answer_text(&a->doc, submitted_job(a), "id");
}

static const char SUBMIT_HELP[] =
        "usage: aethelos submit FILE|- [--key KEY] [--offer ID] [--json]\n"
        "\n"
        "Submits the job in FILE (or on standard input): {\"type\", \"payload\", \"context\"}. It is priced and then waits for its payment;\n"
        "nothing is confirmed (see `aethelos pay`).\n"
        "\n"
        "  --key KEY   the idempotency key, [A-Za-z0-9_-], at most 128; without it a random one is made and printed.\n"
        "              The same key with the same job answers with the same job for ever.\n"
        "  --offer ID  buys this offer: FILE is the payload alone (see `aethelos offers`)\n"
        "  --json      prints the answer of the API; the key goes to standard error\n";

int cmd_submit(int argc, char **argv)
{
        const char *key = NULL, *offer = NULL;
        _cleanup_(client_done) struct client c = {0};
        bool json = false;
        struct args a = {.help = SUBMIT_HELP,
                .options = (struct args_option[]){{"--key", .value = &key}, {"--offer", .value = &offer}, {"--json", .flag = &json}, {0}},
                .least = 1,
                .most = 1};
        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        if (key && !key_ok(key))
                return args_usage(&a, "a key is 1 to 128 of A-Z a-z 0-9 _ -", key);
        if (offer && (!*offer || strspn(offer, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(offer)))
                return args_usage(&a, "an offer's id is made of a-z 0-9 _", offer);
        char fresh[UUID_TEXT_SIZE];
        if (!key) {
                job_key_new(fresh);
                key = fresh;
        }
        _cleanup_(strbuf_done) struct strbuf body = {0};
        if (job_file_read(a.rest[0], &body) < 0 || client_find(&c) < 0)
                return 1;
        c.json = json;
        fprintf(json ? stderr : stdout, json ? "Idempotency-Key: %s\n" : "  key          %s\n", key);
        fflush(stdout);
        _cleanup_(strbuf_done) struct strbuf path = {0};
        strbuf_adds(&path, offer ? "/buy/offer/" : "/jobs");
        strbuf_adds(&path, offer ? offer : "");
        _cleanup_(answer_done) struct answer answer = {0};
        r = client_post(&c, CLIENT_PUBLIC, path.s, key, body.s ? body.s : "", body.len, &answer);
        if (json) {
                if (answer.body.len > 0)
                        print_json(&answer);
                return r < 0;
        }
        if (r < 0)
                return 1;
        json_value job = submitted_job(&answer);
        _cleanup_(freep) char *id = answer_text(&answer.doc, job, "id");
        _cleanup_(freep) char *step = answer_text(&answer.doc, job, "step");
        print_field("job", answer_text(&answer.doc, job, "id"));
        print_field("type", answer_text(&answer.doc, job, "type"));
        print_field("status", answer_text(&answer.doc, job, "status"));
        print_field("step", xstrdup(step));
        print_field("price", answer_amount(&answer.doc, job, "price"));
        print_field("error", answer_text(&answer.doc, job, "error"));
        if (answer.status == 200)
                printf("\nThis key was used before for the same job; this is where it stands now.\n");
        else if (answer.status == 202)
                printf("\nTaken in, not priced yet: ./aethelos show %s\n", id);
        if (strcmp(step, "PAYMENT_INITIATED") == 0)
                printf("\nIt waits for the payment. When the money is there: ./aethelos pay %s --reference TEXT\n", id);
        return 0;
}

int job_confirm(struct client *c, const char *intent, const char *reference, const char *by, struct answer *ret_answer)
{
        _cleanup_(strbuf_done) struct strbuf path = {0};
        _cleanup_(strbuf_done) struct strbuf body = {0};
        strbuf_addf(&path, "/payment-intents/%s/confirm", intent);
        strbuf_adds(&body, "{\"reference\":");
        strbuf_add_json(&body, reference, strlen(reference));
        strbuf_adds(&body, ",\"by\":");
        strbuf_add_json(&body, by, strlen(by));
        strbuf_addc(&body, '}');
        return client_post(c, CLIENT_ADMIN, path.s, NULL, body.s, body.len, ret_answer);
}

int job_get(struct client *c, const char *id, struct answer *ret_answer)
{
        _cleanup_(strbuf_done) struct strbuf path = {0};
        strbuf_addf(&path, "/jobs/%s", id);
        return client_get(c, client_may_admin(c) ? CLIENT_ADMIN : CLIENT_PUBLIC, path.s, ret_answer);
}

static const char SHOW_HELP[] =
        "usage: aethelos show JOB [--json]\n"
        "\n"
        "Shows a job: where it stands, its price and how that came about, its result or error, its ledger entries and its payout.\n"
        "\n"
        "  --json  prints the answer of the API\n";

int cmd_show(int argc, char **argv)
{
        _cleanup_(client_done) struct client c = {0};
        bool json = false;
        struct args a = {.help = SHOW_HELP, .options = (struct args_option[]){{"--json", .flag = &json}, {0}}, .least = 1, .most = 1};
        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        if (!client_id_ok("job", a.rest[0]) || client_find(&c) < 0)
                return 1;
        c.json = json;
        _cleanup_(answer_done) struct answer job = {0};
        r = job_get(&c, a.rest[0], &job);
        if (json && job.body.len > 0)
                print_json(&job);
        else if (r == 0)
                print_job(&job);
        return r < 0;
}
