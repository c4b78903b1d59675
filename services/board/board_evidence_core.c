/* What a person says: bodies with evidence and decisions, and what the store's verdict about them means. Pure. What passes here fits the constraints
 * of the tables. A reference is text for people and machines: any characters but control characters.
 *
 * One payment and one of many are read by the same code, from the object that holds it. */
#include "board_core.h"

#include "board_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool text_ok(const char *s)
{
        return s && utf8_line(s, strlen(s), BOARD_TEXT_MAX);
}

static bool read_amount(const struct json_doc *doc, json_value v, struct amount *ret_amount, struct board_problem *ret_problem)
{
        _cleanup_(freep) char *currency = json_string(doc, json_get(doc, v, "currency"), NULL);
        struct amount a = {0};

        if (!json_is(v, JSON_OBJECT))
                return board_read_bad(ret_problem, "an amount is {\"minor\", \"currency\"}", "/amount");
        if (json_int64(doc, json_get(doc, v, "minor"), &a.minor) < 0 || a.minor < 0)
                return board_read_bad(ret_problem, "minor units are an integer of 0 or more", "/amount/minor");
        if (!currency || currency_exponent(currency) < 0)
                return board_read_bad(ret_problem, "not a currency of ISO 4217", "/amount/currency");
        memcpy(a.currency, currency, 4);
        *ret_amount = a;
        return true;
}

#define WHO              "who says so: a string of 1 to 200 characters"
#define EVIDENCE_MEMBERS "evidence has the members reference, by, amount and, of a payout, payout_id"

/* A member that is not understood might be a misspelt amount: evidence is read as a whole or not at all. */
static bool only_members(
        const struct json_doc *doc, json_value object, const char *const names[], size_t n, const char *detail, struct board_problem *ret_problem)
{
        for (json_value name = json_first(doc, object); name; name = json_after(doc, object, json_after(doc, object, name))) {
                size_t i = 0;

                while (i < n && !json_string_is(doc, name, names[i]))
                        i++;
                if (i == n)
                        return board_read_refuse(ret_problem, 422, "unknown-member", detail, "");
        }
        return true;
}

/* by: who says so when the object does not say it; NULL: it must. */
static bool read_word(
        const struct json_doc *doc, json_value object, const char *by, char **ret_reference, char **ret_by, struct board_problem *ret_problem)
{
        *ret_reference = board_read_string(doc, object, "reference");
        if (!text_ok(*ret_reference))
                return board_read_bad(ret_problem, "the reference of what shows it: a string of 1 to 200 characters", "/reference");
        *ret_by = by && !board_read_member(doc, object, "by") ? xstrdup(by) : board_read_string(doc, object, "by");
        return text_ok(*ret_by) || board_read_bad(ret_problem, WHO, "/by");
}

static bool read_evidence(const struct json_doc *doc, json_value object, const char *by, struct board_evidence *e, struct board_problem *ret_problem)
{
        json_value amount = board_read_member(doc, object, "amount");

        e->has_amount = amount != NULL;
        if (!read_word(doc, object, by, &e->reference, &e->by, ret_problem))
                return false;
        return !amount || read_amount(doc, amount, &e->amount, ret_problem);
}

bool board_read_confirm(const char *body, size_t len, struct board_evidence *ret_evidence, struct board_problem *ret_problem)
{
        static const char *const names[] = {"reference", "by", "amount"};
        _cleanup_(json_done) struct json_doc doc = {0};
        struct board_evidence e = {0};

        if (!board_read_object(body, len, &doc, ret_problem) ||
                !only_members(&doc, json_root(&doc), names, ARRAY_SIZE(names), EVIDENCE_MEMBERS, ret_problem))
                return false;
        if (!read_evidence(&doc, json_root(&doc), NULL, &e, ret_problem))
                return board_evidence_done(&e), false;
        *ret_evidence = e;
        return true;
}

static bool read_payment(const struct json_doc *doc, json_value item, const char *by, struct board_payment *p, struct board_problem *ret_problem)
{
        static const char *const names[] = {"id", "reference", "by", "amount"};

        if (!json_is(item, JSON_OBJECT))
                return board_read_bad(ret_problem, "a payment is {\"id\", \"reference\", \"by\", \"amount\"}", "");
        if (!only_members(doc, item, names, ARRAY_SIZE(names), "a payment has the members id, reference, by, amount", ret_problem))
                return false;
        p->id_text = board_read_string(doc, item, "id");
        if (!p->id_text)
                return board_read_bad(ret_problem, "the id of the payment intent: a string", "/id");
        p->known = uuid_parse(p->id_text, strlen(p->id_text), &p->id);
        return read_evidence(doc, item, by, &p->evidence, ret_problem);
}

static bool read_payments(const struct json_doc *doc, struct board_payments *p, struct board_problem *ret_problem)
{
        static const char *const names[] = {"by", "items"};
        json_value root = json_root(doc), items = board_read_member(doc, root, "items");
        _cleanup_(freep) char *by = board_read_string(doc, root, "by");

        if (!only_members(doc, root, names, ARRAY_SIZE(names), "payments are {\"by\", \"items\"}", ret_problem))
                return false;
        if (board_read_member(doc, root, "by") && !text_ok(by))
                return board_read_bad(ret_problem, WHO, "/by");
        if (!json_is(items, JSON_ARRAY) || items->n < 1 || items->n > BOARD_PAYMENTS_MAX)
                return board_read_bad(ret_problem, "an array with 1 to 1000 elements", "/items");
        p->v = xcalloc(items->n, sizeof(*p->v));
        for (json_value v = json_first(doc, items); v; v = json_after(doc, items, v)) {
                if (!read_payment(doc, v, by, &p->v[p->n++], ret_problem)) {
                        board_problem_of_item(ret_problem, p->n - 1);
                        return false;
                }
        }
        return true;
}

bool board_read_payments(const char *body, size_t len, struct board_payments *ret_payments, struct board_problem *ret_problem)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct board_payments p = {0};

        if (!board_read_object(body, len, &doc, ret_problem))
                return false;
        if (!read_payments(&doc, &p, ret_problem))
                return board_payments_done(&p), false;
        *ret_payments = p;
        return true;
}

void board_payments_done(struct board_payments *p)
{
        for (size_t i = 0; i < p->n; i++) {
                free(p->v[i].id_text);
                board_evidence_done(&p->v[i].evidence);
        }
        free(p->v);
        *p = (struct board_payments){0};
}

void board_problem_of_item(struct board_problem *p, size_t i)
{
        char field[sizeof(p->field)];

        snprintf(field, sizeof(field), "/items/%zu%.36s", i, p->field);
        memcpy(p->field, field, sizeof(field));
}

bool board_read_mark(const char *body, size_t len, struct board_evidence *ret_evidence, struct board_problem *ret_problem)
{
        static const char *const names[] = {"payout_id", "reference", "by", "amount"};
        _cleanup_(json_done) struct json_doc doc = {0};
        _cleanup_(freep) char *id = NULL;
        struct board_evidence e = {0};

        if (!board_read_object(body, len, &doc, ret_problem) ||
                !only_members(&doc, json_root(&doc), names, ARRAY_SIZE(names), EVIDENCE_MEMBERS, ret_problem))
                return false;
        id = board_read_string(&doc, json_root(&doc), "payout_id");
        if (!id)
                return board_read_bad(ret_problem, "the id of the payout", "/payout_id");
        if (!uuid_parse(id, strlen(id), &e.payout_id))
                return board_read_refuse(ret_problem, 404, "unknown-payout", "there is no such payout", "/payout_id");
        if (!read_evidence(&doc, json_root(&doc), NULL, &e, ret_problem))
                return board_evidence_done(&e), false;
        *ret_evidence = e;
        return true;
}

bool board_read_decision(const char *body, size_t len, struct board_decision *ret_decision, struct board_problem *ret_problem)
{
        static const char *const names[] = {"outcome", "output", "reference", "by"};
        _cleanup_(json_done) struct json_doc doc = {0};
        struct board_decision d = {0};
        json_value outcome, output;

        if (!board_read_object(body, len, &doc, ret_problem) || !only_members(&doc, json_root(&doc), names, ARRAY_SIZE(names),
                                                                        "a decision has the members outcome, output, reference, by", ret_problem))
                return false;
        outcome = board_read_member(&doc, json_root(&doc), "outcome");
        output = json_get(&doc, json_root(&doc), "output");
        d.done = json_string_is(&doc, outcome, "done");
        if (!d.done && !json_string_is(&doc, outcome, "failed"))
                return board_read_bad(ret_problem, "done or failed", "/outcome");
        if (d.done != (output != NULL))
                return board_read_bad(ret_problem, "a run that is done has an output, one that failed has none", "/output");
        if (!read_word(&doc, json_root(&doc), NULL, &d.reference, &d.by, ret_problem))
                return board_decision_done(&d), false;
        if (output)
                d.output = xstrndup(json_raw(&doc, output).s, json_raw(&doc, output).len);
        *ret_decision = d;
        return true;
}

void board_decision_done(struct board_decision *d)
{
        free(d->output);
        free(d->reference);
        free(d->by);
        *d = (struct board_decision){0};
}

void board_evidence_done(struct board_evidence *e)
{
        free(e->reference);
        free(e->by);
        *e = (struct board_evidence){0};
}

bool board_verdict_parse(const char *s, enum board_verdict *ret_verdict)
{
        static const char *const names[] = {[BOARD_STORED] = "stored",
                [BOARD_REPEATED] = "repeated",
                [BOARD_CONFLICT] = "conflict",
                [BOARD_AMOUNT] = "amount",
                [BOARD_EXPIRED] = "expired",
                [BOARD_NOT_WAITING] = "not_waiting",
                [BOARD_UNKNOWN] = "unknown"};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                if (strcmp(s, names[i]) != 0)
                        continue;
                *ret_verdict = (enum board_verdict)i;
                return true;
        }
        return false;
}

struct board_problem board_verdict_problem(enum board_kind kind, enum board_verdict verdict)
{
        static const struct {
                const char *conflict, *not_waiting, *why_not, *unknown, *why_unknown, *field;
        } of[] = {
                [BOARD_PAYMENT] = {"already-confirmed", "not-waiting-for-payment", "the job does not wait for this payment", "unknown-payment-intent",
                        "there is no such payment intent", NULL},
                [BOARD_PAYOUT] = {"already-marked", "payout-not-ready", "the payout is not ready to be transferred", "unknown-payout",
                        "there is no such payout", "/payout_id"},
                [BOARD_REFUND] = {"already-confirmed", "not-waiting-for-refund", "the job does not wait for a refund", "unknown-job",
                        "there is no such job", NULL},
        };
        struct board_problem p = {0};

        switch (verdict) {
        case BOARD_STORED:
        case BOARD_REPEATED:
                break;
        case BOARD_CONFLICT:
                board_read_refuse(&p, 409, of[kind].conflict, "other evidence is stored: another reference or amount", "/reference");
                break;
        case BOARD_AMOUNT:
                board_read_refuse(&p, 409, "wrong-amount", "the amount is not the one that is due", "/amount");
                break;
        case BOARD_EXPIRED:
                board_read_refuse(&p, 409, "payment-expired", "the payment intent ran out before it was paid", NULL);
                break;
        case BOARD_NOT_WAITING:
                board_read_refuse(&p, 409, of[kind].not_waiting, of[kind].why_not, NULL);
                break;
        case BOARD_UNKNOWN:
                board_read_refuse(&p, 404, of[kind].unknown, of[kind].why_unknown, of[kind].field);
                break;
        }
        return p;
}

static bool one_of(const char *s, const char *const names[], size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(s, names[i]) == 0)
                        return true;
        return false;
}

enum board_stand board_stand(enum board_kind kind, const char *chain_kind, const char *step)
{
        static const char *const before_intent[] = {"JOB_CREATED", "FLOW_CHOSEN", "PRICED", "PAYMENT_REQUIRED"};

        if (kind == BOARD_PAYOUT) {
                if (strcmp(chain_kind, "payout") != 0)
                        return BOARD_ABSENT;
                return strcmp(step, "PAYOUT_DONE") == 0 ? BOARD_MOVED : BOARD_WAITS;
        }
        if (kind == BOARD_REFUND) {
                if (strcmp(chain_kind, "job") != 0)
                        return BOARD_ABSENT;
                /* Before and elsewhere the database says that nothing waits; FINAL_FAIL may be of a job that was never paid. */
                return strcmp(step, "REFUND_CONFIRMED") == 0 || strcmp(step, "FINAL_FAIL") == 0 ? BOARD_MOVED : BOARD_WAITS;
        }
        if (strcmp(chain_kind, "job") != 0 || one_of(step, before_intent, ARRAY_SIZE(before_intent)))
                return BOARD_ABSENT;
        if (strcmp(step, "PAYMENT_EXPIRED") == 0)
                return BOARD_OVER;
        return strcmp(step, "PAYMENT_INITIATED") == 0 ? BOARD_WAITS : BOARD_MOVED;
}
