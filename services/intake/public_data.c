/* See the header. Most events are told as they are, after a look at their type or for four words; what has one of those is parsed and written anew,
 * whatever its type. A member that is not known is shown, but not where its object is evidence or a compensation: of those only what is named here.
 */
#include "services/intake/public_data.h"

#include "base/json.h"

#include <string.h>

/* They hold nothing private, and two of them may be large. */
static const char *const plain[] = {"JOB_CREATED", "FLOW_CHOSEN", "PRICED", "PAYMENT_REQUIRED", "PAYMENT_INITIATED", "EXECUTION_STARTED",
        "EXECUTION_COMPLETED", "REVENUE_BOOKED", "PAYOUT_EARNED", "PAYOUT_READY"};
static const char *const words[] = {"\"by\"", "\"reference\"", "\"evidence\"", "\"compensation\""};

static bool as_it_is(const char *type, struct slice data)
{
        for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
                if (strcmp(type, plain[i]) == 0)
                        return true;
        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                if (memmem(data.s, data.len, words[i], strlen(words[i])))
                        return false;
        return true;
}

static void add_value(struct strbuf *b, const struct json_doc *doc, json_value v)
{
        struct slice raw = json_raw(doc, v);

        strbuf_add(b, raw.s ? raw.s : "null", raw.s ? raw.len : 4);
}

static void add_name(struct strbuf *b, const struct json_doc *doc, json_value name)
{
        if (b->s[b->len - 1] != '{')
                strbuf_addc(b, ',');
        add_value(b, doc, name);
        strbuf_addc(b, ':');
}

static void add_kind(struct strbuf *b, const struct json_doc *doc, json_value evidence)
{
        strbuf_adds(b, "{\"kind\":");
        add_value(b, doc, json_get(doc, evidence, "kind"));
}

static void add_cause(struct strbuf *b, const struct json_doc *doc, json_value cause)
{
        strbuf_addc(b, '{');
        for (json_value name = json_first(doc, cause), value; name; name = json_after(doc, cause, value)) {
                value = json_after(doc, cause, name);
                if (json_string_is(doc, name, "by"))
                        continue;
                add_name(b, doc, name);
                add_value(b, doc, value);
        }
        strbuf_addc(b, '}');
}

static void add_shown(struct strbuf *b, const struct json_doc *doc)
{
        json_value root = json_root(doc);

        for (json_value name = json_first(doc, root), value; name; name = json_after(doc, root, value)) {
                value = json_after(doc, root, name);
                if (json_string_is(doc, name, "by") || json_string_is(doc, name, "reference"))
                        continue;
                add_name(b, doc, name);
                if (json_string_is(doc, name, "evidence")) {
                        add_kind(b, doc, value);
                        strbuf_addc(b, '}');
                } else if (json_string_is(doc, name, "compensation")) {
                        add_kind(b, doc, value);
                        strbuf_adds(b, ",\"amount\":");
                        add_value(b, doc, json_get(doc, value, "amount"));
                        strbuf_addc(b, '}');
                } else if (json_string_is(doc, name, "cause") && json_is(value, JSON_OBJECT)) {
                        add_cause(b, doc, value);
                } else {
                        add_value(b, doc, value);
                }
        }
}

void public_data_add(struct strbuf *b, const char *type, struct slice data)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;

        if (as_it_is(type, data)) {
                strbuf_add(b, data.s, data.len);
                return;
        }
        strbuf_addc(b, '{');
        if (json_parse_own(data.s, data.len, &doc, &error) == 0 && json_is(json_root(&doc), JSON_OBJECT))
                add_shown(b, &doc);
        strbuf_addc(b, '}');
}
