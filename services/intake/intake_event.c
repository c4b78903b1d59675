/* Reads events. Invariant: the same event gives the same job and the same key in either mode, over HTTP and over the bus. Pure: a crash here leaves
 * nothing. */
#include "services/intake/intake_event.h"

#include "base/util.h"
#include "proto/encoding.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENT      "application/cloudevents"
#define EVENT_JSON "application/cloudevents+json"

enum { SPECVERSION, ID, SOURCE, TYPE, PRIORITY, LABEL, DATACONTENTTYPE, ATTRIBUTES };

static const struct {
        const char *name, *header;
        bool needed;
} attributes[ATTRIBUTES] = {
        [SPECVERSION] = {"specversion", "ce-specversion", true},
        [ID] = {"id", "ce-id", true},
        [SOURCE] = {"source", "ce-source", true},
        [TYPE] = {"type", "ce-type", true},
        [PRIORITY] = {"priority", "ce-priority", false},
        [LABEL] = {"label", "ce-label", false},
        [DATACONTENTTYPE] = {"datacontenttype", "Content-Type", false},
};

struct event {
        char *v[ATTRIBUTES]; /* NULL: not there */
};

static void event_done(struct event *e)
{
        for (size_t i = 0; i < ATTRIBUTES; i++)
                free(e->v[i]);
}

static bool refuse(struct refusal *ret_refusal, int status, const char *slug, const char *field, const char *detail)
{
        *ret_refusal = (struct refusal){.status = status, .slug = slug};
        copy_text(ret_refusal->field, sizeof(ret_refusal->field), field);
        copy_text(ret_refusal->detail, sizeof(ret_refusal->detail), detail);
        return false;
}

static bool refuse_attribute(struct refusal *ret_refusal, int attribute, const char *detail)
{
        char field[32];

        snprintf(field, sizeof(field), "/%s", attributes[attribute].name);
        return refuse(ret_refusal, 422, "invalid-event", field, detail);
}

bool intake_refuse_foreign(struct refusal *ret_refusal)
{
        return refuse(ret_refusal, 415, "unsupported-event-format", "", "events are read one by one, as " EVENT_JSON " or with ce- headers");
}

enum intake_form intake_form_of(const char *content_type, const char *specversion)
{
        if (encoding_media_type(content_type, EVENT_JSON))
                return INTAKE_STRUCTURED;
        if (content_type && strncasecmp(content_type, EVENT, strlen(EVENT)) == 0)
                return INTAKE_FOREIGN;
        return specversion ? INTAKE_BINARY : INTAKE_PLAIN;
}

bool intake_looks_like_event(const char *text, size_t len)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;

        /* Only who writes the word is parsed twice. */
        if (!memmem(text, len, "specversion", strlen("specversion")))
                return false;
        if (json_parse(text, len, &doc, &error) < 0) {
                doc = (struct json_doc){0};
                return false;
        }
        return json_get(&doc, json_root(&doc), "specversion") != NULL;
}

void intake_event_key(const char *source, const char *id, char ret_key[INTAKE_EVENT_KEY_SIZE])
{
        _cleanup_(strbuf_done) struct strbuf name = {0};
        uint8_t hash[SHA256_SIZE];

        strbuf_addf(&name, "%s\n%s", source, id);
        sha256_bytes(name.s, name.len, hash);
        strcpy(ret_key, INTAKE_EVENT_KEY);
        hex_format(hash, sizeof(hash), ret_key + strlen(INTAKE_EVENT_KEY));
}

void intake_event_field(struct refusal *refusal)
{
        static const struct {
                const char *job, *event;
        } places[] = {{"/payload", "/data"}, {"/context", ""}};
        char field[sizeof(refusal->field)];

        for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
                size_t len = strlen(places[i].job);

                if (strncmp(refusal->field, places[i].job, len) != 0 || (refusal->field[len] && refusal->field[len] != '/'))
                        continue;
                snprintf(field, sizeof(field), "%s%.*s", places[i].event, (int)(sizeof(field) - 8), refusal->field + len);
                memcpy(refusal->field, field, sizeof(field));
                return;
        }
}

/* What the specification allows in a string: no control characters, and UTF-8. */
static bool text_ok(const char *s)
{
        if (!utf8_valid(s, strlen(s)))
                return false;
        for (const unsigned char *c = (const unsigned char *)s; *c; c++)
                if (*c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f))
                        return false;
        return true;
}

/* "json" or "...+json" behind the slash. */
static bool says_json(const char *type)
{
        const char *sub = strchr(type, '/');
        size_t len;

        if (!sub)
                return false;
        sub++;
        len = strcspn(sub, "; \t");
        return (len == 4 && strncasecmp(sub, "json", 4) == 0) || (len > 5 && strncasecmp(sub + len - 5, "+json", 5) == 0);
}

static bool check(const struct event *e, struct refusal *ret_refusal)
{
        for (int i = 0; i < ATTRIBUTES; i++) {
                if (attributes[i].needed && !e->v[i])
                        return refuse_attribute(ret_refusal, i, "an event has this attribute");
                if (e->v[i] && !*e->v[i])
                        return refuse_attribute(ret_refusal, i, "an attribute is not empty");
                if (e->v[i] && !text_ok(e->v[i]))
                        return refuse_attribute(ret_refusal, i, "an attribute is text without control characters");
        }
        if (strcmp(e->v[SPECVERSION], "1.0") != 0)
                return refuse_attribute(ret_refusal, SPECVERSION, "events of version 1.0 are read here");
        return !e->v[DATACONTENTTYPE] || says_json(e->v[DATACONTENTTYPE]) ||
               refuse_attribute(ret_refusal, DATACONTENTTYPE, "the data of an event must be JSON");
}

/* Whenever the event is named, so that a refusal can be answered on the bus. */
static void set_key(const struct event *e, struct intake_submitted *s)
{
        char key[INTAKE_EVENT_KEY_SIZE];

        if (!e->v[ID] || !*e->v[ID] || !e->v[SOURCE] || !*e->v[SOURCE])
                return;
        intake_event_key(e->v[SOURCE], e->v[ID], key);
        s->key = xstrdup(key);
}

/* From the attributes and the data, as JSON text. */
static bool read_event(const struct event *e, struct slice data, struct intake_submitted *ret_s, struct refusal *ret_refusal)
{
        _cleanup_(strbuf_done) struct strbuf context = {0};
        bool ok = check(e, ret_refusal);

        if (ok) {
                strbuf_addc(&context, '{');
                strbuf_add_member(&context, "priority", e->v[PRIORITY]);
                strbuf_add_member(&context, "label", e->v[LABEL]);
                strbuf_addf(&context, "%s\"event\":{", context.len > 1 ? "," : "");
                strbuf_add_member(&context, "id", e->v[ID]);
                strbuf_add_member(&context, "source", e->v[SOURCE]);
                strbuf_adds(&context, "}}");
                ok = intake_read_parts(e->v[TYPE], data, (struct slice){context.s, context.len}, ret_s, ret_refusal);
        }
        set_key(e, ret_s);
        return ok;
}

bool intake_read_structured(const char *text, size_t len, struct intake_submitted *ret_s, struct refusal *ret_refusal)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        _cleanup_(event_done) struct event e = {0};
        struct json_error error;
        json_value data;
        int wrong = -1;

        *ret_s = (struct intake_submitted){0};
        if (json_parse(text, len, &doc, &error) < 0) {
                doc = (struct json_doc){0};
                refuse(ret_refusal, 400, "invalid-json", "", "");
                snprintf(ret_refusal->detail, sizeof(ret_refusal->detail), "%s, at byte %zu", error.why, error.offset);
                return false;
        }
        if (!json_is(json_root(&doc), JSON_OBJECT))
                return refuse(ret_refusal, 422, "invalid-event", "", "an event is an object");
        for (int i = 0; i < ATTRIBUTES; i++) {
                json_value v = json_get(&doc, json_root(&doc), attributes[i].name);

                if (!v || json_is(v, JSON_NULL))
                        continue;
                e.v[i] = json_string(&doc, v, NULL);
                if (!e.v[i] && wrong < 0)
                        wrong = i;
        }
        data = json_get(&doc, json_root(&doc), "data");
        if (data && wrong < 0)
                return read_event(&e, json_raw(&doc, data), ret_s, ret_refusal);
        set_key(&e, ret_s);
        if (wrong >= 0)
                return refuse_attribute(ret_refusal, wrong, "this attribute is a string");
        if (json_get(&doc, json_root(&doc), "data_base64"))
                return refuse(ret_refusal, 422, "invalid-event", "/data_base64", "the data of an event must be JSON");
        return refuse(ret_refusal, 422, "invalid-event", "/data", "an event without data is no job");
}

static int hex_digit(char c)
{
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The value of a header: quotes are taken off (older senders put them), then percent-encoding, once. An invalid escape stays as it is. NULL: it
 * encodes a NUL. */
static char *decode(const char *s)
{
        _cleanup_(strbuf_done) struct strbuf plain = {0}, text = {0};
        size_t len = strlen(s);
        bool quoted = len >= 2 && s[0] == '"' && s[len - 1] == '"';

        for (size_t i = quoted; i < len - quoted; i++) {
                if (quoted && s[i] == '\\' && i + 1 < len - quoted)
                        i++;
                strbuf_addc(&plain, s[i]);
        }
        for (size_t i = 0; i < plain.len; i++) {
                int high = plain.s[i] == '%' ? hex_digit(plain.s[i + 1]) : -1, low = high >= 0 ? hex_digit(plain.s[i + 2]) : -1;

                if (low < 0) {
                        strbuf_addc(&text, plain.s[i]);
                        continue;
                }
                if (high == 0 && low == 0)
                        return NULL;
                strbuf_addc(&text, (char)(16 * high + low));
                i += 2;
        }
        return strbuf_take(&text);
}

bool intake_read_binary(const char *(*header)(const void *arg, const char *name), const void *arg, struct slice data, struct intake_submitted *ret_s,
        struct refusal *ret_refusal)
{
        _cleanup_(event_done) struct event e = {0};

        *ret_s = (struct intake_submitted){0};
        for (int i = 0; i < ATTRIBUTES; i++) {
                const char *value = header(arg, attributes[i].header);

                if (!value)
                        continue;
                e.v[i] = i == DATACONTENTTYPE ? xstrdup(value) : decode(value);
                if (!e.v[i])
                        return refuse_attribute(ret_refusal, i, "an attribute is text without control characters");
        }
        return read_event(&e, data, ret_s, ret_refusal);
}
