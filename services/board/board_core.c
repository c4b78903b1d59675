/* Pure decisions of the admin API. What passes here fits the constraints of the tables, so that a body cannot make a statement fail; the constraints
 * stay the last word. A reference is text for people and machines: any characters but control characters. */
#include "board_core.h"

#include "proto/subjects.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool refuse(struct board_problem *ret, int status, const char *slug, const char *detail, const char *field)
{
        *ret = (struct board_problem){.status = status, .slug = slug, .detail = detail};
        snprintf(ret->field, sizeof(ret->field), "%s", field ? field : "");
        return false;
}

static bool bad(struct board_problem *ret, const char *detail, const char *field)
{
        return refuse(ret, 422, "invalid-value", detail, field);
}

/* A body that is a JSON object. */
static bool read_object(const char *body, size_t len, struct json_doc *ret_doc, struct board_problem *ret_problem)
{
        struct json_error error;

        if (json_parse(body ? body : "", len, ret_doc, &error) < 0)
                return refuse(ret_problem, 400, "invalid-json", error.why, NULL);
        if (json_is(json_root(ret_doc), JSON_OBJECT))
                return true;
        json_done(ret_doc);
        return refuse(ret_problem, 422, "invalid-value", "the body must be an object", "");
}

static bool characters_ok(const char *s, const char *others)
{
        for (; *s; s++)
                if (!(*s >= 'a' && *s <= 'z') && !(*s >= '0' && *s <= '9') && !strchr(others, *s))
                        return false;
        return true;
}

/* A name of ours: lower case letters, digits and `others`. */
static bool name_ok(const char *s, size_t max, const char *others)
{
        size_t len = strlen(s);

        return len >= 1 && len <= max && characters_ok(s, others);
}

/* Text for people: 1 to max characters, no control characters. */
static bool text_ok(const char *s, size_t max)
{
        size_t len = strlen(s), n = utf8_length(s, len);

        for (size_t i = 0; i < len; i++)
                if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
                        return false;
        return n >= 1 && n <= max;
}

static json_value member(const struct json_doc *doc, const char *name)
{
        json_value v = json_get(doc, json_root(doc), name);

        return json_is(v, JSON_NULL) ? NULL : v;
}

static char *string_member(const struct json_doc *doc, const char *name)
{
        return json_string(doc, member(doc, name), NULL);
}

static bool read_amount(const struct json_doc *doc, json_value v, struct amount *ret_amount, struct board_problem *ret_problem)
{
        _cleanup_(freep) char *currency = json_string(doc, json_get(doc, v, "currency"), NULL);
        struct amount a = {0};

        if (!json_is(v, JSON_OBJECT))
                return bad(ret_problem, "an amount is {\"minor\", \"currency\"}", "/amount");
        if (json_int64(doc, json_get(doc, v, "minor"), &a.minor) < 0 || a.minor < 0)
                return bad(ret_problem, "minor units are an integer of 0 or more", "/amount/minor");
        if (!currency || currency_exponent(currency) < 0)
                return bad(ret_problem, "not a currency of ISO 4217", "/amount/currency");
        memcpy(a.currency, currency, 4);
        *ret_amount = a;
        return true;
}

#define EVIDENCE_MEMBERS "evidence has the members reference, by, amount and, of a payout, payout_id"

/* A member that is not understood might be a misspelt amount: evidence is read as a whole or not at all. */
static bool only_members(const struct json_doc *doc, const char *const names[], size_t n, const char *detail, struct board_problem *ret_problem)
{
        for (json_value name = json_first(doc, json_root(doc)); name; name = json_after(doc, json_root(doc), json_after(doc, json_root(doc), name))) {
                size_t i = 0;

                while (i < n && !json_string_is(doc, name, names[i]))
                        i++;
                if (i == n)
                        return refuse(ret_problem, 422, "unknown-member", detail, "");
        }
        return true;
}

static bool read_word(const struct json_doc *doc, char **ret_reference, char **ret_by, struct board_problem *ret_problem)
{
        *ret_reference = string_member(doc, "reference");
        if (!*ret_reference || !text_ok(*ret_reference, BOARD_TEXT_MAX))
                return bad(ret_problem, "the reference of what shows it: a string of 1 to 200 characters", "/reference");
        *ret_by = string_member(doc, "by");
        return (*ret_by && text_ok(*ret_by, BOARD_TEXT_MAX)) || bad(ret_problem, "who says so: a string of 1 to 200 characters", "/by");
}

static bool read_evidence(const struct json_doc *doc, struct board_evidence *e, struct board_problem *ret_problem)
{
        json_value amount = member(doc, "amount");

        e->has_amount = amount != NULL;
        if (!read_word(doc, &e->reference, &e->by, ret_problem))
                return false;
        return !amount || read_amount(doc, amount, &e->amount, ret_problem);
}

bool board_read_confirm(const char *body, size_t len, struct board_evidence *ret_evidence, struct board_problem *ret_problem)
{
        static const char *const names[] = {"reference", "by", "amount"};
        _cleanup_(json_done) struct json_doc doc = {0};
        struct board_evidence e = {0};

        if (!read_object(body, len, &doc, ret_problem) || !only_members(&doc, names, ARRAY_SIZE(names), EVIDENCE_MEMBERS, ret_problem))
                return false;
        if (!read_evidence(&doc, &e, ret_problem))
                return board_evidence_done(&e), false;
        *ret_evidence = e;
        return true;
}

bool board_read_mark(const char *body, size_t len, struct board_evidence *ret_evidence, struct board_problem *ret_problem)
{
        static const char *const names[] = {"payout_id", "reference", "by", "amount"};
        _cleanup_(json_done) struct json_doc doc = {0};
        _cleanup_(freep) char *id = NULL;
        struct board_evidence e = {0};

        if (!read_object(body, len, &doc, ret_problem) || !only_members(&doc, names, ARRAY_SIZE(names), EVIDENCE_MEMBERS, ret_problem))
                return false;
        id = string_member(&doc, "payout_id");
        if (!id)
                return bad(ret_problem, "the id of the payout", "/payout_id");
        if (!uuid_parse(id, strlen(id), &e.payout_id))
                return refuse(ret_problem, 404, "unknown-payout", "there is no such payout", "/payout_id");
        if (!read_evidence(&doc, &e, ret_problem))
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

        if (!read_object(body, len, &doc, ret_problem) ||
                !only_members(&doc, names, ARRAY_SIZE(names), "a decision has the members outcome, output, reference, by", ret_problem))
                return false;
        outcome = member(&doc, "outcome");
        output = json_get(&doc, json_root(&doc), "output");
        d.done = json_string_is(&doc, outcome, "done");
        if (!d.done && !json_string_is(&doc, outcome, "failed"))
                return bad(ret_problem, "done or failed", "/outcome");
        if (d.done != (output != NULL))
                return bad(ret_problem, "a run that is done has an output, one that failed has none", "/output");
        if (!read_word(&doc, &d.reference, &d.by, ret_problem))
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

static void list_done(struct board_list *l)
{
        for (size_t i = 0; i < l->n; i++)
                free(l->v[i]);
        l->n = 0;
}

static bool list_has(const struct board_list *l, const char *s)
{
        for (size_t i = 0; i < l->n; i++)
                if (strcmp(l->v[i], s) == 0)
                        return true;
        return false;
}

/* An array of names; of objects with a name under `inner` when that is given. */
static bool read_list(const struct json_doc *doc, const char *name, const char *inner, size_t least, bool distinct, struct board_list *ret_list,
        struct board_problem *ret_problem)
{
        json_value array = member(doc, name);
        char field[48];

        snprintf(field, sizeof(field), "/%s", name);
        if (!array && least == 0)
                return true;
        if (!array || !json_is(array, JSON_ARRAY) || array->n < least || array->n > BOARD_LIST_MAX)
                return bad(ret_problem, least ? "an array with 1 to 32 elements" : "an array with at most 32 elements", field);
        for (json_value v = json_first(doc, array); v; v = json_after(doc, array, v)) {
                char *s = json_string(doc, inner ? json_get(doc, v, inner) : v, NULL);

                snprintf(field, sizeof(field), inner ? "/%s/%zu/%s" : "/%s/%zu", name, ret_list->n, inner);
                if (!s || !name_ok(s, 64, "_:.-") || (distinct && list_has(ret_list, s))) {
                        free(s);
                        return bad(ret_problem, "a name of 1 to 64 characters a-z 0-9 _ : . -, each once", field);
                }
                ret_list->v[ret_list->n++] = s;
        }
        return true;
}

static bool read_int(const struct json_doc *doc, const char *name, int64_t least, int64_t most, int64_t fallback, int64_t *ret_n,
        struct board_problem *ret_problem, const char *detail)
{
        json_value v = member(doc, name);
        char field[48];

        *ret_n = fallback;
        if (!v)
                return true;
        snprintf(field, sizeof(field), "/%s", name);
        if (json_int64(doc, v, ret_n) < 0 || *ret_n < least || *ret_n > most)
                return bad(ret_problem, detail, field);
        return true;
}

static bool read_flag(const struct json_doc *doc, const char *name, bool *ret_flag, struct board_problem *ret_problem)
{
        json_value v = member(doc, name);
        char field[48];

        *ret_flag = json_is(v, JSON_TRUE);
        snprintf(field, sizeof(field), "/%s", name);
        return !v || *ret_flag || json_is(v, JSON_FALSE) || bad(ret_problem, "true or false", field);
}

static bool read_urls(const struct json_doc *doc, struct board_operator *o, struct board_problem *ret_problem)
{
        json_value status_url = member(doc, "status_url");

        o->url = string_member(doc, "url");
        if (!o->url || strlen(o->url) > 2000)
                return bad(ret_problem, "where runs are POSTed: an http or https URL", "/url");
        o->status_url = json_string(doc, status_url, NULL);
        return !status_url || (o->status_url && strlen(o->status_url) <= 2000) ||
               bad(ret_problem, "where the outcome of a run can be asked: an http or https URL", "/status_url");
}

/* Workers are found by the operator's name. */
static bool read_subjects(const struct json_doc *doc, struct board_operator *o, struct board_problem *ret_problem)
{
        struct strbuf subject = {0}, status = {0};
        bool asks;

        if (member(doc, "url") || member(doc, "status_url"))
                return bad(ret_problem, "an operator on the bus has no URL: its workers listen on the subject of its name",
                        member(doc, "url") ? "/url" : "/status_url");
        if (!read_flag(doc, "answers_status", &asks, ret_problem))
                return false;
        strbuf_addf(&subject, SUBJECT_OPERATOR, o->name);
        o->url = strbuf_take(&subject);
        if (asks) {
                strbuf_addf(&status, SUBJECT_STATUS, o->name);
                o->status_url = strbuf_take(&status);
        }
        return true;
}

static bool read_encoding(const struct json_doc *doc, struct board_operator *o, struct board_problem *ret_problem)
{
        json_value encoding = member(doc, "encoding");

        o->encoding = json_string_is(doc, encoding, "protobuf") ? "protobuf" : "json";
        if (encoding && !json_string_is(doc, encoding, o->encoding))
                return bad(ret_problem, "json or protobuf", "/encoding");
        return strcmp(o->encoding, "json") == 0 || strcmp(o->kind, "bus") == 0 || bad(ret_problem, "over HTTP operators speak JSON", "/encoding");
}

static bool fill_operator(const struct json_doc *doc, struct board_operator *o, struct board_problem *ret_problem)
{
        json_value description = member(doc, "description"), kind = member(doc, "kind");

        o->name = string_member(doc, "name");
        if (!o->name || !name_ok(o->name, 64, "_"))
                return bad(ret_problem, "a name of 1 to 64 characters a-z 0-9 _", "/name");
        o->kind = json_string_is(doc, kind, "bus") ? "bus" : "http";
        if (!json_string_is(doc, kind, o->kind))
                return bad(ret_problem, "the kinds of operators that can be registered are http and bus", "/kind");
        if (!(strcmp(o->kind, "bus") == 0 ? read_subjects : read_urls)(doc, o, ret_problem) || !read_encoding(doc, o, ret_problem))
                return false;
        o->description = description ? json_string(doc, description, NULL) : xstrdup("");
        if (!o->description || utf8_length(o->description, strlen(o->description)) > 1000)
                return bad(ret_problem, "a string of at most 1000 characters", "/description");
        return read_flag(doc, "idempotent", &o->idempotent, ret_problem) && read_list(doc, "tags", NULL, 1, true, &o->tags, ret_problem) &&
               read_list(doc, "fallback_for", NULL, 0, true, &o->fallback_for, ret_problem) &&
               read_int(doc, "timeout_ms", 100, 600000, 30000, &o->timeout_ms, ret_problem, "ms from 100 to 600000") &&
               read_int(doc, "max_in_flight", 1, 10000, 100, &o->max_in_flight, ret_problem, "calls from 1 to 10000") &&
               read_int(doc, "lease_ms", 1000, 3600000, 10000, &o->lease_ms, ret_problem, "ms from 1000 to 3600000");
}

bool board_read_operator(const char *body, size_t len, struct board_operator *ret_operator, struct board_problem *ret_problem)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct board_operator o = {0};

        if (!read_object(body, len, &doc, ret_problem))
                return false;
        if (!fill_operator(&doc, &o, ret_problem))
                return board_operator_done(&o), false;
        *ret_operator = o;
        return true;
}

void board_operator_done(struct board_operator *o)
{
        free(o->name);
        free(o->description);
        free(o->url);
        free(o->status_url);
        list_done(&o->tags);
        list_done(&o->fallback_for);
        *o = (struct board_operator){0};
}

/* As the table wants it: at most 15 digits before and 6 behind the point, no sign. */
static bool price_ok(const char *s)
{
        size_t whole = strspn(s, "0123456789"), part;

        if (whole < 1 || whole > 15)
                return false;
        if (s[whole] == '\0')
                return true;
        part = strspn(s + whole + 1, "0123456789");
        return s[whole] == '.' && part >= 1 && part <= 6 && s[whole + 1 + part] == '\0';
}

/* A decimal as a string, or as a number: its text is kept, so nothing is rounded. */
static char *price_member(const struct json_doc *doc, const char *name)
{
        json_value v = member(doc, name);
        struct slice raw = json_raw(doc, v);
        char *s = json_is(v, JSON_NUMBER) ? xstrndup(raw.s, raw.len) : json_string(doc, v, NULL);

        if (s && price_ok(s))
                return s;
        free(s);
        return NULL;
}

static bool fill_flow(const struct json_doc *doc, struct board_flow *f, struct board_problem *ret_problem)
{
        _cleanup_(freep) char *currency = string_member(doc, "currency");

        f->type = string_member(doc, "type");
        if (!f->type || !name_ok(f->type, 100, "_:.-"))
                return bad(ret_problem, "a job type of 1 to 100 characters a-z 0-9 _ : . -", "/type");
        f->name = string_member(doc, "name");
        if (!f->name || !name_ok(f->name, 100, "_:.-"))
                return bad(ret_problem, "a name of 1 to 100 characters a-z 0-9 _ : . -", "/name");
        f->base = price_member(doc, "base");
        if (!f->base)
                return bad(ret_problem, "a decimal of 0 or more, at most 15 digits before and 6 behind the point: \"20.00\"", "/base");
        f->per_unit = price_member(doc, "per_unit");
        if (!f->per_unit)
                return bad(ret_problem, "a decimal of 0 or more, at most 15 digits before and 6 behind the point: \"0.05\"", "/per_unit");
        if (!currency || currency_exponent(currency) < 0)
                return refuse(ret_problem, 422, "unknown-currency", "not a currency of ISO 4217", "/currency");
        memcpy(f->currency, currency, sizeof(f->currency));
        return read_list(doc, "steps", "tag", 1, false, &f->steps, ret_problem);
}

bool board_read_flow(const char *body, size_t len, struct board_flow *ret_flow, struct board_problem *ret_problem)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct board_flow f = {0};

        if (!read_object(body, len, &doc, ret_problem))
                return false;
        if (!fill_flow(&doc, &f, ret_problem))
                return board_flow_done(&f), false;
        *ret_flow = f;
        return true;
}

void board_flow_done(struct board_flow *f)
{
        free(f->type);
        free(f->name);
        free(f->base);
        free(f->per_unit);
        list_done(&f->steps);
        *f = (struct board_flow){0};
}

bool board_verdict_parse(const char *s, enum board_verdict *ret_verdict)
{
        static const char *const names[] = {[BOARD_STORED] = "stored",
                [BOARD_REPEATED] = "repeated",
                [BOARD_CONFLICT] = "conflict",
                [BOARD_AMOUNT] = "amount",
                [BOARD_EXPIRED] = "expired",
                [BOARD_NOT_WAITING] = "not_waiting",
                [BOARD_UNKNOWN] = "unknown",
                [BOARD_AGAIN] = "again"};

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
        case BOARD_AGAIN:
                break;
        case BOARD_CONFLICT:
                refuse(&p, 409, of[kind].conflict, "other evidence is stored: another reference or amount", "/reference");
                break;
        case BOARD_AMOUNT:
                refuse(&p, 409, "wrong-amount", "the amount is not the one that is due", "/amount");
                break;
        case BOARD_EXPIRED:
                refuse(&p, 409, "payment-expired", "the payment intent ran out before it was paid", NULL);
                break;
        case BOARD_NOT_WAITING:
                refuse(&p, 409, of[kind].not_waiting, of[kind].why_not, NULL);
                break;
        case BOARD_UNKNOWN:
                refuse(&p, 404, of[kind].unknown, of[kind].why_unknown, of[kind].field);
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

bool board_cursor_parse(const char *s, struct board_cursor *ret_cursor)
{
        int64_t parts[3];

        for (int i = 0; i < 3; i++) {
                size_t digits = strspn(s, "0123456789");

                if (digits < 1 || digits > 18 || s[digits] != (i < 2 ? '.' : '\0'))
                        return false;
                parts[i] = strtoll(s, NULL, 10);
                s += digits + (i < 2);
        }
        if (parts[0] > INT16_MAX)
                return false;
        *ret_cursor = (struct board_cursor){parts[0], parts[1], parts[2]};
        return true;
}

bool board_limit_parse(const char *s, int64_t fallback, int64_t *ret_limit)
{
        size_t digits;

        *ret_limit = fallback;
        if (!s)
                return true;
        digits = strspn(s, "0123456789");
        if (digits < 1 || digits > 4 || s[digits])
                return false;
        *ret_limit = strtoll(s, NULL, 10);
        return *ret_limit >= 1 && *ret_limit <= 1000;
}
