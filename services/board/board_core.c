/* Operators, flows and queries: pure decisions of the admin API. What passes here fits the constraints of the tables, so that a body cannot make a
 * statement fail; the constraints stay the last word. */
#include "board_core.h"

#include "board_read.h"

#include "proto/subjects.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        json_value array = board_read_member(doc, json_root(doc), name);
        char field[48];

        snprintf(field, sizeof(field), "/%s", name);
        if (!array && least == 0)
                return true;
        if (!array || !json_is(array, JSON_ARRAY) || array->n < least || array->n > BOARD_LIST_MAX)
                return board_read_bad(ret_problem, least ? "an array with 1 to 32 elements" : "an array with at most 32 elements", field);
        for (json_value v = json_first(doc, array); v; v = json_after(doc, array, v)) {
                char *s = json_string(doc, inner ? json_get(doc, v, inner) : v, NULL);

                snprintf(field, sizeof(field), inner ? "/%s/%zu/%s" : "/%s/%zu", name, ret_list->n, inner);
                if (!s || !name_ok(s, 64, "_:.-") || (distinct && list_has(ret_list, s))) {
                        free(s);
                        return board_read_bad(ret_problem, "a name of 1 to 64 characters a-z 0-9 _ : . -, each once", field);
                }
                ret_list->v[ret_list->n++] = s;
        }
        return true;
}

static bool read_int(const struct json_doc *doc, const char *name, int64_t least, int64_t most, int64_t fallback, int64_t *ret_n,
        struct board_problem *ret_problem, const char *detail)
{
        json_value v = board_read_member(doc, json_root(doc), name);
        char field[48];

        *ret_n = fallback;
        if (!v)
                return true;
        snprintf(field, sizeof(field), "/%s", name);
        if (json_int64(doc, v, ret_n) < 0 || *ret_n < least || *ret_n > most)
                return board_read_bad(ret_problem, detail, field);
        return true;
}

static bool read_flag(const struct json_doc *doc, const char *name, bool *ret_flag, struct board_problem *ret_problem)
{
        json_value v = board_read_member(doc, json_root(doc), name);
        char field[48];

        *ret_flag = json_is(v, JSON_TRUE);
        snprintf(field, sizeof(field), "/%s", name);
        return !v || *ret_flag || json_is(v, JSON_FALSE) || board_read_bad(ret_problem, "true or false", field);
}

static bool read_urls(const struct json_doc *doc, struct board_operator *o, struct board_problem *ret_problem)
{
        json_value status_url = board_read_member(doc, json_root(doc), "status_url");

        o->url = board_read_string(doc, json_root(doc), "url");
        if (!o->url || strlen(o->url) > 2000)
                return board_read_bad(ret_problem, "where runs are POSTed: an http or https URL", "/url");
        o->status_url = json_string(doc, status_url, NULL);
        return !status_url || (o->status_url && strlen(o->status_url) <= 2000) ||
               board_read_bad(ret_problem, "where the outcome of a run can be asked: an http or https URL", "/status_url");
}

/* Workers are found by the operator's name. */
static bool read_subjects(const struct json_doc *doc, struct board_operator *o, struct board_problem *ret_problem)
{
        struct strbuf subject = {0}, status = {0};
        bool asks;

        if (board_read_member(doc, json_root(doc), "url") || board_read_member(doc, json_root(doc), "status_url"))
                return board_read_bad(ret_problem, "an operator on the bus has no URL: its workers listen on the subject of its name",
                        board_read_member(doc, json_root(doc), "url") ? "/url" : "/status_url");
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
        json_value encoding = board_read_member(doc, json_root(doc), "encoding");

        o->encoding = json_string_is(doc, encoding, "protobuf") ? "protobuf" : "json";
        if (encoding && !json_string_is(doc, encoding, o->encoding))
                return board_read_bad(ret_problem, "json or protobuf", "/encoding");
        return strcmp(o->encoding, "json") == 0 || strcmp(o->kind, "bus") == 0 ||
               board_read_bad(ret_problem, "over HTTP operators speak JSON", "/encoding");
}

static bool fill_operator(const struct json_doc *doc, struct board_operator *o, struct board_problem *ret_problem)
{
        json_value description = board_read_member(doc, json_root(doc), "description"), kind = board_read_member(doc, json_root(doc), "kind");

        o->name = board_read_string(doc, json_root(doc), "name");
        if (!o->name || !name_ok(o->name, 64, "_"))
                return board_read_bad(ret_problem, "a name of 1 to 64 characters a-z 0-9 _", "/name");
        o->kind = json_string_is(doc, kind, "bus") ? "bus" : "http";
        if (!json_string_is(doc, kind, o->kind))
                return board_read_bad(ret_problem, "the kinds of operators that can be registered are http and bus", "/kind");
        if (!(strcmp(o->kind, "bus") == 0 ? read_subjects : read_urls)(doc, o, ret_problem) || !read_encoding(doc, o, ret_problem))
                return false;
        o->description = description ? json_string(doc, description, NULL) : xstrdup("");
        if (!o->description || utf8_length(o->description, strlen(o->description)) > 1000)
                return board_read_bad(ret_problem, "a string of at most 1000 characters", "/description");
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

        if (!board_read_object(body, len, &doc, ret_problem))
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
        json_value v = board_read_member(doc, json_root(doc), name);
        struct slice raw = json_raw(doc, v);
        char *s = json_is(v, JSON_NUMBER) ? xstrndup(raw.s, raw.len) : json_string(doc, v, NULL);

        if (s && price_ok(s))
                return s;
        free(s);
        return NULL;
}

static bool fill_flow(const struct json_doc *doc, struct board_flow *f, struct board_problem *ret_problem)
{
        _cleanup_(freep) char *currency = board_read_string(doc, json_root(doc), "currency");

        f->type = board_read_string(doc, json_root(doc), "type");
        if (!f->type || !name_ok(f->type, 100, "_:.-"))
                return board_read_bad(ret_problem, "a job type of 1 to 100 characters a-z 0-9 _ : . -", "/type");
        f->name = board_read_string(doc, json_root(doc), "name");
        if (!f->name || !name_ok(f->name, 100, "_:.-"))
                return board_read_bad(ret_problem, "a name of 1 to 100 characters a-z 0-9 _ : . -", "/name");
        f->base = price_member(doc, "base");
        if (!f->base)
                return board_read_bad(ret_problem, "a decimal of 0 or more, at most 15 digits before and 6 behind the point: \"20.00\"", "/base");
        f->per_unit = price_member(doc, "per_unit");
        if (!f->per_unit)
                return board_read_bad(ret_problem, "a decimal of 0 or more, at most 15 digits before and 6 behind the point: \"0.05\"", "/per_unit");
        if (!currency || currency_exponent(currency) < 0)
                return board_read_refuse(ret_problem, 422, "unknown-currency", "not a currency of ISO 4217", "/currency");
        memcpy(f->currency, currency, sizeof(f->currency));
        return read_list(doc, "steps", "tag", 1, false, &f->steps, ret_problem);
}

bool board_read_flow(const char *body, size_t len, struct board_flow *ret_flow, struct board_problem *ret_problem)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct board_flow f = {0};

        if (!board_read_object(body, len, &doc, ret_problem))
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
