/* The rules of admission and the arithmetic of prices. Exact decimals throughout, rounded once, so that the same job has the same price for ever and
 * intake's check and pricing's result cannot differ. Pure: a crash here leaves nothing. */
#include "pricing_core.h"

#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const priority_names[] = {[PRICING_HIGH] = "high", [PRICING_NORMAL] = "normal", [PRICING_LOW] = "low"};
static const char *const priority_factors[] = {[PRICING_HIGH] = "1.2", [PRICING_NORMAL] = "1", [PRICING_LOW] = "0.9"};

#define SMALL_SIZE 200  /* characters; below it a job is cheaper */
#define LARGE_SIZE 2000 /* above it dearer */

static const char *size_factor(int64_t size)
{
        return size < SMALL_SIZE ? "0.95" : size > LARGE_SIZE ? "1.1" : "1";
}

/* What the built-in operators read from a payload. Steps performed by others have no check here: their operators answer for themselves. */
static const struct input_rule {
        const char *tag, *member;
        enum json_kind kind;
        bool numbers; /* an array of numbers */
        const char *what;
} input_rules[] = {
        {"puz19_text", "text", JSON_STRING, false, "payload.text must be a string"},
        {"code19", "text", JSON_STRING, false, "payload.text must be a string"},
        {"puz19_numeric", "numbers", JSON_ARRAY, true, "payload.numbers must be an array of numbers"},
};

static bool refuse(struct refusal *ret_refusal, const char *slug, const char *field, const char *detail)
{
        *ret_refusal = (struct refusal){.status = 422, .slug = slug};
        copy_text(ret_refusal->field, sizeof(ret_refusal->field), field);
        copy_text(ret_refusal->detail, sizeof(ret_refusal->detail), detail);
        return false;
}

static bool check_numbers(const struct json_doc *doc, json_value array, const struct input_rule *rule, struct refusal *ret_refusal)
{
        size_t i = 0;

        for (json_value v = json_first(doc, array); v; v = json_after(doc, array, v), i++) {
                char field[sizeof(ret_refusal->field)];
                double number;
                int e = json_double(doc, v, &number);

                if (e == 0)
                        continue;
                snprintf(field, sizeof(field), "/payload/%s/%zu", rule->member, i);
                return refuse(ret_refusal, "invalid-payload", field, e == -ERANGE ? "the number is too large" : rule->what);
        }
        return true;
}

static bool check_input(const struct json_doc *doc, json_value payload, const struct input_rule *rule, struct refusal *ret_refusal)
{
        char field[sizeof(ret_refusal->field)];
        json_value member = json_get(doc, payload, rule->member);

        if (!json_is(payload, JSON_OBJECT))
                return refuse(ret_refusal, "invalid-payload", "/payload", "payload must be an object");
        snprintf(field, sizeof(field), "/payload/%s", rule->member);
        if (!json_is(member, rule->kind))
                return refuse(ret_refusal, "invalid-payload", field, rule->what);
        return !rule->numbers || check_numbers(doc, member, rule, ret_refusal);
}

bool pricing_is_code19(const struct json_doc *doc, json_value context)
{
        json_value label = json_get(doc, context, "label");

        return label && json_string_is(doc, label, PRICING_CODE19_LABEL);
}

bool pricing_admit(const struct json_doc *doc, json_value payload, json_value context, const char *first_tag, enum pricing_priority *ret_priority,
        struct refusal *ret_refusal)
{
        enum pricing_priority priority = PRICING_NORMAL;
        json_value named;

        if (!payload)
                return refuse(ret_refusal, "invalid-payload", "/payload", "payload is missing");
        if (context && !json_is(context, JSON_OBJECT))
                return refuse(ret_refusal, "invalid-context", "/context", "context must be an object");
        named = json_get(doc, context, "priority");
        if (named) {
                int p = 0;

                while (p < PRICING_PRIORITY_COUNT && !json_string_is(doc, named, priority_names[p]))
                        p++;
                if (p == PRICING_PRIORITY_COUNT)
                        return refuse(
                                ret_refusal, "unknown-priority", "/context/priority", "context.priority is one of \"high\", \"normal\", \"low\"");
                priority = (enum pricing_priority)p;
        }
        for (size_t i = 0; i < ARRAY_SIZE(input_rules); i++)
                if (strcmp(input_rules[i].tag, first_tag) == 0 && !check_input(doc, payload, &input_rules[i], ret_refusal))
                        return false;
        *ret_priority = pricing_is_code19(doc, context) ? PRICING_HIGH : priority;
        return true;
}

static bool read_complexity(const struct json_doc *doc, json_value payload, int64_t *ret_extra, struct refusal *ret_refusal)
{
        json_value extra = json_get(doc, payload, "complexity");
        int e;

        *ret_extra = 0;
        if (!extra)
                return true;
        e = json_int64(doc, extra, ret_extra);
        if (e == -ERANGE)
                return refuse(ret_refusal, "invalid-complexity", "/payload/complexity", "payload.complexity does not fit 64 bits");
        if (e < 0 || *ret_extra < 0)
                return refuse(ret_refusal, "invalid-complexity", "/payload/complexity", "payload.complexity must be an integer literal >= 0");
        return true;
}

/* Parses a text that the database has checked. */
static struct decimal rule_decimal(const char *text)
{
        struct decimal d;

        if (decimal_parse(text, strlen(text), &d) < 0)
                die("a price rule is no decimal number");
        return d;
}

bool pricing_price(const struct pricing_rule *rule, const struct json_doc *doc, json_value payload, enum pricing_priority priority,
        struct price *ret_price, struct refusal *ret_refusal)
{
        struct price p = {.rule = *rule, .priority = priority_factors[priority]};
        struct slice text = json_raw(doc, payload);
        int exponent = currency_exponent(rule->currency);
        struct decimal d = {0};
        int64_t extra;
        int e;

        if (exponent < 0)
                return refuse(ret_refusal, "unknown-currency", "/type", "the flow of this type has an unknown currency");
        if (!p.rule.multiplier)
                p.rule.multiplier = "1";
        p.size = (int64_t)utf8_length(text.s, text.len);
        p.size_factor = size_factor(p.size);
        if (!read_complexity(doc, payload, &extra, ret_refusal))
                return false;
        if (__builtin_add_overflow(p.size, extra, &p.complexity))
                return refuse(ret_refusal, "invalid-complexity", "/payload/complexity", "the complexity does not fit 64 bits");

        e = decimal_mul(rule_decimal(rule->per_unit), decimal_of_int(p.complexity), &d);
        if (e == 0)
                e = decimal_add(rule_decimal(rule->base), d, &d);
        if (e == 0)
                e = decimal_mul(d, rule_decimal(p.priority), &d);
        if (e == 0)
                e = decimal_mul(d, rule_decimal(p.size_factor), &d);
        if (e == 0)
                e = decimal_mul(d, rule_decimal(p.rule.multiplier), &d);
        p.exact = d;
        if (e == 0)
                e = decimal_round_minor(d, exponent, &p.amount.minor);
        if (e < 0)
                return refuse(ret_refusal, "amount-too-large", "/payload/complexity", "the price does not fit 64 bits");
        copy_text(p.amount.currency, sizeof(p.amount.currency), rule->currency);
        *ret_price = p;
        return true;
}

void pricing_add_derivation(struct strbuf *b, const struct price *p)
{
        strbuf_addc(b, '{');
        strbuf_add_member(b, "base", p->rule.base);
        strbuf_add_member(b, "per_unit", p->rule.per_unit);
        strbuf_adds(b, ",\"size\":");
        strbuf_addi(b, p->size);
        strbuf_adds(b, ",\"complexity\":");
        strbuf_addi(b, p->complexity);
        strbuf_add_member(b, "priority", p->priority);
        strbuf_add_member(b, "size_factor", p->size_factor);
        strbuf_add_member(b, "offer", p->rule.multiplier);
        strbuf_adds(b, ",\"exact\":\"");
        decimal_add_text(b, p->exact);
        strbuf_adds(b, "\",\"rounding\":\"half_away_from_zero\"}");
}

void pricing_result_done(struct pricing_result *r)
{
        strbuf_done(&r->flow_chosen);
        strbuf_done(&r->priced);
        free(r->client);
        free(r->key);
        *r = (struct pricing_result){0};
}

static void add_flow_chosen(struct strbuf *b, const struct json_doc *doc, json_value flow)
{
        struct slice id = json_raw(doc, json_get(doc, flow, "id")), version = json_raw(doc, json_get(doc, flow, "version"));

        strbuf_adds(b, "{\"flow\":");
        strbuf_add(b, id.s, id.len);
        strbuf_adds(b, ",\"version\":");
        strbuf_add(b, version.s, version.len);
        strbuf_addc(b, '}');
}

static void add_priced(struct strbuf *b, const struct price *p)
{
        strbuf_adds(b, "{\"amount\":");
        amount_add_json(b, p->amount);
        strbuf_adds(b, ",\"derivation\":");
        pricing_add_derivation(b, p);
        strbuf_addc(b, '}');
}

int pricing_decide(const char *job_created, size_t len, struct pricing_result *ret_result, const char **ret_why)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;
        struct refusal refusal;
        struct pricing_rule rule;
        struct price price;
        enum pricing_priority priority;
        json_value root, flow, payload;
        int e = json_parse_own(job_created, len, &doc, &error);

        if (e < 0) {
                *ret_why = error.why;
                return -EBADMSG;
        }
        root = json_root(&doc);
        flow = json_get(&doc, root, "flow");
        payload = json_get(&doc, root, "payload");
        _cleanup_(freep) char *base = json_string(&doc, json_get(&doc, flow, "base"), NULL);
        _cleanup_(freep) char *per_unit = json_string(&doc, json_get(&doc, flow, "per_unit"), NULL);
        _cleanup_(freep) char *currency = json_string(&doc, json_get(&doc, flow, "currency"), NULL);
        _cleanup_(freep) char *multiplier = json_string(&doc, json_get(&doc, json_get(&doc, root, "offer"), "multiplier"), NULL);
        _cleanup_(freep) char *client = json_string(&doc, json_get(&doc, root, "client"), NULL);
        _cleanup_(freep) char *key = json_string(&doc, json_get(&doc, root, "key"), NULL);
        struct decimal d;

        *ret_why = "JOB_CREATED holds no flow, payload or key";
        if (!base || !per_unit || !currency || !client || !key || decimal_parse(base, strlen(base), &d) < 0 ||
                decimal_parse(per_unit, strlen(per_unit), &d) < 0 || (multiplier && decimal_parse(multiplier, strlen(multiplier), &d) < 0) ||
                !json_get(&doc, flow, "id") || !json_get(&doc, flow, "version"))
                return -EBADMSG;
        /* An unknown tag: the input was checked at admission. */
        *ret_why = "JOB_CREATED cannot be priced";
        if (!pricing_admit(&doc, payload, json_get(&doc, root, "context"), "", &priority, &refusal))
                return -EBADMSG;
        rule = (struct pricing_rule){.base = base, .per_unit = per_unit, .multiplier = multiplier, .currency = currency};
        if (!pricing_price(&rule, &doc, payload, priority, &price, &refusal))
                return -EBADMSG;

        *ret_result = (struct pricing_result){.amount = price.amount,
                .wants_receipt = json_string_is(&doc, json_get(&doc, root, "source"), "bus"),
                .protobuf = json_string_is(&doc, json_get(&doc, root, "encoding"), "protobuf"),
                .client = TAKE_PTR(client),
                .key = TAKE_PTR(key)};
        add_flow_chosen(&ret_result->flow_chosen, &doc, flow);
        add_priced(&ret_result->priced, &price);
        return 0;
}
