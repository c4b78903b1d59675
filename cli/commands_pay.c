/* pay: one job's payment, or those of a file with a line for each.
 *
 * Invariant: a payment is confirmed only because the user named the job and the reference. A file is read to its end before anything is sent, so that
 * a line that is wrong stops all of it. A crash here, or an answer that is lost, leaves a part of them confirmed: the same file again is right. */
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

#define REFERENCE_MAX 200 /* characters */
#define REQUEST_MAX   500 /* payments in one request */

static const char PAY_HELP[] =
        "usage: aethelos pay JOB --reference TEXT [--by NAME] [--json]\n"
        "       aethelos pay --file FILE|- [--by NAME] [--json]\n"
        "\n"
        "Confirms that the payment of JOB has arrived. This is evidence that is kept: who says so, and the reference of the payment\n"
        "(a line of the bank statement, a receipt number). Repeating it with the same reference changes nothing.\n"
        "\n"
        "With --file it confirms many, one a line: JOB, a blank, and the reference, which is the rest of the line. Empty lines and lines that\n"
        "begin with # are skipped. A line that is wrong stops it before anything is sent. Each payment that is refused is shown with its line\n"
        "and the reason, and does not keep the others; the exit status is 0 when none was. A job that has no price yet has no payment intent\n"
        "either. Repeating the file is always right.\n"
        "\n"
        "  --reference TEXT  reference of the payment\n"
        "  --file FILE       the file with the payments, or - for standard input\n"
        "  --by NAME         who confirms; without it the login name\n"
        "  --json            prints the answer of the API; with --file those to all of it as one: {\"items\": [{\"id\", \"status\", \"problem\"}]}\n";

struct payments {
        struct payment {
                char *job, *reference;
                size_t line;
        } * v;
        size_t n, cap;
};

static void payments_done(struct payments *p)
{
        for (size_t i = 0; i < p->n; i++) {
                free(p->v[i].job);
                free(p->v[i].reference);
        }
        free(p->v);
}

/* One line, which is changed. NULL, or what is wrong with it. */
static const char *read_line(struct payments *p, char *line, size_t len, size_t number)
{
        static const char blanks[] = " \t";
        const char *reference;
        size_t job;
        struct uuid id;

        if (strlen(line) < len)
                return "there is a NUL in it";
        while (len > 0 && strchr(" \t\r\n", line[len - 1]))
                line[--len] = '\0';
        if (len == 0 || line[0] == '#')
                return NULL;
        line += strspn(line, blanks);
        job = strcspn(line, blanks);
        if (!uuid_parse(line, job, &id))
                return "it does not begin with the id of a job, which looks like 01890a5d-ac96-774b-bcce-b302099a8057";
        reference = line + job + strspn(line + job, blanks);
        if (!utf8_line(reference, strlen(reference), REFERENCE_MAX))
                return "behind the job there must be a reference of 1 to 200 characters, in UTF-8";
        if (p->n == p->cap) {
                p->cap = p->cap ? 2 * p->cap : 256;
                p->v = xrealloc(p->v, p->cap * sizeof(*p->v));
        }
        p->v[p->n++] = (struct payment){xstrndup(line, job), xstrdup(reference), number};
        return NULL;
}

/* 0, or -1 after saying why. */
static int read_payments(const char *file, struct payments *p)
{
        FILE *f = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
        const char *wrong = NULL;
        char *line = NULL;
        size_t size = 0, number = 0;
        ssize_t len;

        if (!f) {
                fprintf(stderr, "aethelos: %s cannot be opened: %s. Name a file with lines of JOB REFERENCE, or - for standard input.\n", file,
                        strerror(errno));
                return -1;
        }
        while (!wrong && (len = getline(&line, &size, f)) >= 0)
                wrong = read_line(p, line, (size_t)len, ++number);
        if (wrong)
                fprintf(stderr, "aethelos: line %zu of %s: %s. Nothing was sent.\n", number, file, wrong);
        else if (ferror(f))
                fprintf(stderr, "aethelos: %s cannot be read: %s. Nothing was sent.\n", file, strerror(errno));
        int r = wrong || ferror(f) ? -1 : 0;
        free(line);
        if (f != stdin)
                fclose(f);
        return r;
}

static int send_payments(struct client *c, const char *by, const struct payment v[], size_t n, struct answer *ret_answer)
{
        _cleanup_(strbuf_done) struct strbuf body = {0};

        strbuf_adds(&body, "{\"by\":");
        strbuf_add_json(&body, by, strlen(by));
        for (size_t i = 0; i < n; i++) {
                strbuf_addf(&body, "%s{\"id\":\"%s\",\"reference\":", i > 0 ? "," : ",\"items\":[", v[i].job);
                strbuf_add_json(&body, v[i].reference, strlen(v[i].reference));
                strbuf_addc(&body, '}');
        }
        strbuf_adds(&body, "]}");
        return client_post(c, CLIENT_ADMIN, "/payment-intents/confirm", NULL, body.s, body.len, ret_answer);
}

struct outcomes {
        size_t confirmed, stored, refused;
        size_t unknown;      /* of those refused: the store failed, and they may be stored */
        struct strbuf items; /* as JSON, with commas between */
};

/* Counts, and shows what was refused. 0, or -1: it is not an answer to these. */
static int take_outcomes(const struct answer *a, const struct payment v[], size_t n, bool quiet, struct outcomes *o)
{
        json_value items = answer_list(a, "items");
        size_t i = 0;

        if (!items || items->n != n) {
                fprintf(stderr, "aethelos: this is not the answer to %zu payments. Is it an Aethelos stack of this version?\n", n);
                return -1;
        }
        for (json_value item = json_first(&a->doc, items); item; item = json_after(&a->doc, items, item), i++) {
                json_value status = json_get(&a->doc, item, "status");
                struct slice raw = json_raw(&a->doc, item);

                if (o->items.len > 0)
                        strbuf_addc(&o->items, ',');
                strbuf_add(&o->items, raw.s, raw.len);
                if (json_string_is(&a->doc, status, "confirmed")) {
                        o->confirmed++;
                } else if (json_string_is(&a->doc, status, "stored")) {
                        o->stored++;
                } else {
                        _cleanup_(freep) char *title = answer_text(&a->doc, item, "problem.title");
                        _cleanup_(freep) char *detail = answer_text(&a->doc, item, "problem.detail");
                        _cleanup_(freep) char *code = answer_text(&a->doc, item, "problem.status");

                        o->refused++;
                        o->unknown += *code == '5';
                        if (!quiet)
                                printf("line %zu: %s: %s%s%s\n", v[i].line, v[i].job, title, *detail ? ": " : "", detail);
                }
        }
        return 0;
}

static int pay_file(struct client *c, const char *file, const char *by, bool json)
{
        _cleanup_(payments_done) struct payments p = {0};
        struct outcomes o = {0};
        size_t sent = 0;
        int r = 0;

        if (read_payments(file, &p) < 0 || client_find(c) < 0)
                return 1;
        c->json = json;
        while (r == 0 && sent < p.n) {
                _cleanup_(answer_done) struct answer answer = {0};
                size_t n = p.n - sent < REQUEST_MAX ? p.n - sent : REQUEST_MAX;

                r = send_payments(c, by, p.v + sent, n, &answer);
                if (r == 0)
                        r = take_outcomes(&answer, p.v + sent, n, json, &o);
                if (r == 0)
                        sent += n;
        }
        if (json)
                printf("{\"items\":[%s]}\n", o.items.s ? o.items.s : "");
        else
                printf("%zu confirmed, %zu stored, %zu refused\n", o.confirmed, o.stored, o.refused);
        if (!json && o.stored > 0)
                printf("\nThe evidence of those that are stored is kept; their jobs move on as soon as their service hears of it.\n");
        if (r < 0)
                fprintf(stderr,
                        "aethelos: from line %zu on nothing is known to be confirmed. Repeat the command: the same reference is booked once.\n",
                        p.v[sent].line);
        else if (o.unknown > 0)
                fprintf(stderr,
                        "aethelos: of %zu of them it is not known whether they are stored. Repeat the command: the same reference is booked once.\n",
                        o.unknown);
        strbuf_done(&o.items);
        return r < 0 || o.refused > 0;
}

int cmd_pay(int argc, char **argv)
{
        const char *reference = NULL, *by = NULL, *file = NULL;
        _cleanup_(client_done) struct client c = {0};
        bool json = false;
        struct args a = {.help = PAY_HELP,
                .options = (struct args_option[]){{"--reference", .value = &reference}, {"--file", .value = &file}, {"--by", .value = &by},
                        {"--json", .flag = &json}, {0}},
                .most = 1};
        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        if (file && (a.n_rest > 0 || reference))
                return args_usage(&a, "the jobs and their references are in the file", a.n_rest > 0 ? a.rest[0] : reference);
        if (file)
                return pay_file(&c, file, client_by(by), json);
        if (a.n_rest == 0)
                return args_usage(&a, "this is missing", "JOB");
        if (!reference || !*reference)
                return args_usage(&a, "say which payment it was with --reference TEXT", NULL);
        if (!client_id_ok("job", a.rest[0]) || client_find(&c) < 0)
                return 1;
        _cleanup_(answer_done) struct answer job = {0};
        if (job_get(&c, a.rest[0], &job) < 0)
                return 1;
        _cleanup_(freep) char *intent = answer_text(&job.doc, job.root, "payment_intent_id");
        if (!*intent) {
                fprintf(stderr, "aethelos: this job has no payment intent yet, because it is not priced. Try again in a moment: ./aethelos show %s\n",
                        a.rest[0]);
                return 1;
        }
        c.json = json;
        _cleanup_(answer_done) struct answer answer = {0};
        r = job_confirm(&c, intent, reference, client_by(by), &answer);
        if (json) {
                if (answer.body.len > 0)
                        print_json(&answer);
                return r < 0;
        }
        if (r < 0)
                return 1;
        print_field("intent", xstrdup(intent));
        json_value confirmed = json_get(&answer.doc, answer.root, "payment_intent");
        if (!confirmed)
                confirmed = answer.root;
        print_field("amount", answer_amount(&answer.doc, confirmed, "amount"));
        print_field("status", answer_text(&answer.doc, confirmed, "status"));
        print_field("reference", xstrdup(reference));
        if (answer.status == 202)
                printf("\nThe evidence is stored; the job moves on as soon as its service hears of it.\n");
        printf("\nFollow it: ./aethelos events %s --follow\n", a.rest[0]);
        return 0;
}
