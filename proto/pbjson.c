/* Walks a message along its descriptor, in both directions, so that no message has a JSON form of its own. Raw JSON in a bytes field is embedded as
 * it is: whoever writes it there has parsed it before. Only what our messages use is supported (singular and repeated fields of integers, bool,
 * enums, strings, bytes and messages; no floats, maps or oneofs), and anything else ends the process at the first use, in the first test. Pure: a
 * crash here leaves nothing. */
#include "proto/pbjson.h"

#include "base/util.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static size_t element_size(const ProtobufCFieldDescriptor *f)
{
        switch (f->type) {
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_SINT32:
        case PROTOBUF_C_TYPE_SFIXED32:
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_FIXED32:
        case PROTOBUF_C_TYPE_ENUM:
                return sizeof(int32_t);
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                return sizeof(int64_t);
        case PROTOBUF_C_TYPE_BOOL:
                return sizeof(protobuf_c_boolean);
        case PROTOBUF_C_TYPE_STRING:
        case PROTOBUF_C_TYPE_MESSAGE:
                return sizeof(void *);
        case PROTOBUF_C_TYPE_BYTES:
                return sizeof(ProtobufCBinaryData);
        case PROTOBUF_C_TYPE_FLOAT:
        case PROTOBUF_C_TYPE_DOUBLE:
                break;
        }
        die("a message has a field of a kind without a JSON form");
}

/* Enum names in lower case: our enums have no prefix. */
static void add_enum(struct strbuf *b, const ProtobufCEnumDescriptor *d, int value)
{
        const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(d, value);

        if (!v) {
                strbuf_addi(b, value);
                return;
        }
        strbuf_addc(b, '"');
        for (const char *c = v->name; *c; c++)
                strbuf_addc(b, (char)tolower((unsigned char)*c));
        strbuf_addc(b, '"');
}

static void add_value(struct strbuf *b, const ProtobufCFieldDescriptor *f, const void *at)
{
        const ProtobufCBinaryData *bytes = at;
        const char *s;

        switch (f->type) {
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_SINT32:
        case PROTOBUF_C_TYPE_SFIXED32:
                strbuf_addi(b, *(const int32_t *)at);
                return;
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_FIXED32:
                strbuf_addi(b, *(const uint32_t *)at);
                return;
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
                strbuf_addi(b, *(const int64_t *)at);
                return;
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                strbuf_addf(b, "%" PRIu64, *(const uint64_t *)at);
                return;
        case PROTOBUF_C_TYPE_BOOL:
                strbuf_adds(b, *(const protobuf_c_boolean *)at ? "true" : "false");
                return;
        case PROTOBUF_C_TYPE_ENUM:
                add_enum(b, f->descriptor, *(const int *)at);
                return;
        case PROTOBUF_C_TYPE_STRING:
                s = *(const char *const *)at;
                strbuf_add_json(b, s, strlen(s));
                return;
        case PROTOBUF_C_TYPE_BYTES:
                if (bytes->len > 0)
                        strbuf_add(b, bytes->data, bytes->len);
                else
                        strbuf_adds(b, "null");
                return;
        case PROTOBUF_C_TYPE_MESSAGE:
                pbjson_add(b, *(const ProtobufCMessage *const *)at);
                return;
        case PROTOBUF_C_TYPE_FLOAT:
        case PROTOBUF_C_TYPE_DOUBLE:
                break;
        }
        die("a message has a field of a kind without a JSON form");
}

static bool is_set(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
        const void *at = (const char *)m + f->offset;

        if (f->label == PROTOBUF_C_LABEL_REQUIRED)
                return true;
        if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_MESSAGE)
                return *(const void *const *)at != NULL;
        return *(const protobuf_c_boolean *)((const char *)m + f->quantifier_offset);
}

void pbjson_add(struct strbuf *b, const ProtobufCMessage *message)
{
        const ProtobufCMessageDescriptor *d = message->descriptor;
        char between = '{';

        if (d->n_fields == 0)
                strbuf_addc(b, between);
        for (unsigned i = 0; i < d->n_fields; i++) {
                const ProtobufCFieldDescriptor *f = &d->fields[i];
                const char *at = (const char *)message + f->offset;

                if (f->label != PROTOBUF_C_LABEL_REPEATED && !is_set(message, f))
                        continue;
                strbuf_addc(b, between);
                strbuf_addc(b, '"');
                strbuf_adds(b, f->name);
                strbuf_adds(b, "\":");
                between = ',';
                if (f->label != PROTOBUF_C_LABEL_REPEATED) {
                        add_value(b, f, at);
                        continue;
                }
                size_t n = *(const size_t *)((const char *)message + f->quantifier_offset);
                const char *elements = *(const char *const *)at;
                strbuf_addc(b, '[');
                for (size_t k = 0; k < n; k++) {
                        if (k > 0)
                                strbuf_addc(b, ',');
                        add_value(b, f, elements + k * element_size(f));
                }
                strbuf_addc(b, ']');
        }
        if (between == '{' && d->n_fields > 0)
                strbuf_addc(b, '{');
        strbuf_addc(b, '}');
}

struct reader {
        const struct json_doc *doc;
        const char *error;
        struct strbuf *field; /* filled from the inside out */
};

/* Puts "/name" before what is there. */
static void pointer_prepend(struct strbuf *field, const char *name, size_t len)
{
        struct strbuf whole = {0};

        strbuf_addc(&whole, '/');
        for (size_t i = 0; i < len; i++) {
                if (name[i] == '~')
                        strbuf_adds(&whole, "~0");
                else if (name[i] == '/')
                        strbuf_adds(&whole, "~1");
                else
                        strbuf_addc(&whole, name[i]);
        }
        strbuf_add(&whole, field->s, field->len);
        strbuf_done(field);
        *field = whole;
}

static bool wrong(struct reader *r, const char *error)
{
        r->error = error;
        return false;
}

static ProtobufCMessage *read_message(struct reader *r, const ProtobufCMessageDescriptor *d, json_value object);

static bool read_integer(struct reader *r, json_value v, int64_t min, int64_t max, int64_t *ret_n)
{
        int64_t n;

        if (json_int64(r->doc, v, &n) < 0)
                return wrong(r, "must be an integer");
        if (n < min || n > max)
                return wrong(r, "out of range");
        *ret_n = n;
        return true;
}

static bool read_enum(struct reader *r, const ProtobufCEnumDescriptor *d, json_value v, int *ret_value)
{
        for (unsigned i = 0; i < d->n_values; i++) {
                _cleanup_(strbuf_done) struct strbuf name = {0};

                for (const char *c = d->values[i].name; *c; c++)
                        strbuf_addc(&name, (char)tolower((unsigned char)*c));
                if (json_string_is(r->doc, v, name.s)) {
                        *ret_value = d->values[i].value;
                        return true;
                }
        }
        return wrong(r, "not one of the known values");
}

static bool read_value(struct reader *r, const ProtobufCFieldDescriptor *f, json_value v, void *at)
{
        ProtobufCBinaryData *bytes = at;
        struct slice raw;
        int64_t n;

        switch (f->type) {
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_SINT32:
        case PROTOBUF_C_TYPE_SFIXED32:
                if (!read_integer(r, v, INT32_MIN, INT32_MAX, &n))
                        return false;
                *(int32_t *)at = (int32_t)n;
                return true;
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_FIXED32:
                if (!read_integer(r, v, 0, UINT32_MAX, &n))
                        return false;
                *(uint32_t *)at = (uint32_t)n;
                return true;
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
                return read_integer(r, v, INT64_MIN, INT64_MAX, at);
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                if (!read_integer(r, v, 0, INT64_MAX, &n))
                        return false;
                *(uint64_t *)at = (uint64_t)n;
                return true;
        case PROTOBUF_C_TYPE_BOOL:
                if (!json_is(v, JSON_TRUE) && !json_is(v, JSON_FALSE))
                        return wrong(r, "must be true or false");
                *(protobuf_c_boolean *)at = json_is(v, JSON_TRUE);
                return true;
        case PROTOBUF_C_TYPE_ENUM:
                return read_enum(r, f->descriptor, v, at);
        case PROTOBUF_C_TYPE_STRING:
                if (!json_is(v, JSON_STRING))
                        return wrong(r, "must be a string");
                *(char **)at = json_string(r->doc, v, NULL);
                return true;
        case PROTOBUF_C_TYPE_BYTES:
                raw = json_raw(r->doc, v);
                bytes->len = raw.len;
                bytes->data = (uint8_t *)xstrndup(raw.s, raw.len);
                return true;
        case PROTOBUF_C_TYPE_MESSAGE:
                *(ProtobufCMessage **)at = read_message(r, f->descriptor, v);
                return *(ProtobufCMessage **)at != NULL;
        case PROTOBUF_C_TYPE_FLOAT:
        case PROTOBUF_C_TYPE_DOUBLE:
                break;
        }
        die("a message has a field of a kind without a JSON form");
}

static bool read_repeated(struct reader *r, const ProtobufCFieldDescriptor *f, json_value array, ProtobufCMessage *m)
{
        size_t size = element_size(f), *n = (size_t *)((char *)m + f->quantifier_offset), i = 0;
        char *elements;

        if (!json_is(array, JSON_ARRAY))
                return wrong(r, "must be an array");
        if (array->n == 0)
                return true;
        elements = xcalloc(array->n, size);
        *(char **)((char *)m + f->offset) = elements;
        for (json_value v = json_first(r->doc, array); v; v = json_after(r->doc, array, v), i++) {
                *n = i + 1; /* the one that fails is zeros, which free takes too */
                if (!read_value(r, f, v, elements + i * size)) {
                        struct strbuf index = {0};

                        strbuf_addi(&index, (int64_t)i);
                        pointer_prepend(r->field, index.s, index.len);
                        strbuf_done(&index);
                        return false;
                }
        }
        return true;
}

static bool read_field(struct reader *r, const ProtobufCFieldDescriptor *f, json_value v, ProtobufCMessage *m)
{
        if (f->label == PROTOBUF_C_LABEL_REPEATED)
                return read_repeated(r, f, v, m);
        if (!read_value(r, f, v, (char *)m + f->offset))
                return false;
        if (f->label == PROTOBUF_C_LABEL_OPTIONAL && f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE)
                *(protobuf_c_boolean *)((char *)m + f->quantifier_offset) = 1;
        return true;
}

static bool read_members(struct reader *r, json_value object, ProtobufCMessage *m)
{
        const ProtobufCMessageDescriptor *d = m->descriptor;

        for (json_value name = json_first(r->doc, object); name;) {
                json_value v = json_after(r->doc, object, name);
                _cleanup_(freep) char *text = json_string(r->doc, name, NULL);
                const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(d, text);

                if (!f)
                        r->error = "unknown member";
                if (!f || !read_field(r, f, v, m)) {
                        pointer_prepend(r->field, text, strlen(text));
                        return false;
                }
                name = json_after(r->doc, object, v);
        }
        for (unsigned i = 0; i < d->n_fields; i++)
                if (d->fields[i].label == PROTOBUF_C_LABEL_REQUIRED && !json_get(r->doc, object, d->fields[i].name)) {
                        pointer_prepend(r->field, d->fields[i].name, strlen(d->fields[i].name));
                        return wrong(r, "is missing");
                }
        return true;
}

static ProtobufCMessage *read_message(struct reader *r, const ProtobufCMessageDescriptor *d, json_value object)
{
        ProtobufCMessage *m;

        if (!json_is(object, JSON_OBJECT)) {
                r->error = "must be an object";
                return NULL;
        }
        m = xcalloc(1, d->sizeof_message);
        protobuf_c_message_init(d, m);
        if (!read_members(r, object, m)) {
                protobuf_c_message_free_unpacked(m, NULL);
                return NULL;
        }
        return m;
}

int pbjson_parse(const ProtobufCMessageDescriptor *descriptor, const struct json_doc *doc, json_value object, ProtobufCMessage **ret_message,
        const char **ret_error, struct strbuf *ret_field)
{
        struct reader r = {.doc = doc, .field = ret_field};
        ProtobufCMessage *m;

        strbuf_reset(ret_field);
        m = read_message(&r, descriptor, object);
        if (!m) {
                *ret_error = r.error;
                return -EINVAL;
        }
        *ret_message = m;
        return 0;
}

/* --- protobuf, there and back --- */

void pbjson_add_packed(struct strbuf *b, const ProtobufCMessage *message)
{
        size_t len = protobuf_c_message_get_packed_size(message);

        protobuf_c_message_pack(message, (uint8_t *)strbuf_grow(b, len));
        b->len += len;
        b->s[b->len] = '\0';
}

void pbjson_pack(struct strbuf *b, const ProtobufCMessageDescriptor *descriptor, const char *json, size_t len)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        _cleanup_(strbuf_done) struct strbuf field = {0};
        struct json_error error;
        ProtobufCMessage *m;
        const char *why;

        if (json_parse(json, len, &doc, &error) < 0 || pbjson_parse(descriptor, &doc, json_root(&doc), &m, &why, &field) < 0)
                die("a message of ours is not as aethelos.proto says");
        pbjson_add_packed(b, m);
        protobuf_c_message_free_unpacked(m, NULL);
}

static bool is_json(const ProtobufCBinaryData *bytes)
{
        struct json_doc doc;
        struct json_error error;

        if (bytes->len == 0 || json_parse((const char *)bytes->data, bytes->len, &doc, &error) < 0)
                return false;
        json_done(&doc);
        return true;
}

/* Only what messages from outside have: singular fields without messages in them. */
static const char *check(const ProtobufCMessage *m)
{
        for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
                const void *at = (const char *)m + f->offset;

                if (f->label == PROTOBUF_C_LABEL_REPEATED || f->type == PROTOBUF_C_TYPE_MESSAGE)
                        die("a message from outside has a field of a kind that is not checked");
                if (!is_set(m, f))
                        continue;
                if (f->type == PROTOBUF_C_TYPE_BYTES && !is_json(at))
                        return "a field that must be JSON text is not";
                if (f->type == PROTOBUF_C_TYPE_STRING && !utf8_valid(*(const char *const *)at, strlen(*(const char *const *)at)))
                        return "a text is not UTF-8";
        }
        return NULL;
}

const char *pbjson_unpack(struct strbuf *b, const ProtobufCMessageDescriptor *descriptor, const void *data, size_t len)
{
        ProtobufCMessage *m = protobuf_c_message_unpack(descriptor, NULL, len, len > 0 ? data : (const void *)"");
        const char *why;

        if (!m)
                return "not the protobuf message that it must be, or not whole";
        why = check(m);
        if (!why)
                pbjson_add(b, m);
        protobuf_c_message_free_unpacked(m, NULL);
        return why;
}
