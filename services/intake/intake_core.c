/* The decisions of admission. Invariant: what is admitted here, pricing can price, because both use the same functions over the same pinned values.
 * A payload travels on as its sender wrote it, only minified. Pure: a crash here leaves nothing. */
#include "services/intake/intake_core.h"

#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GATHER_JOB_MS 5
#define GATHER_MS     15

void intake_catalogue_done(struct intake_catalogue *c)
{
        for (size_t i = 0; i < c->n_flows; i++) {
                struct intake_flow *f = &c->flows[i];
                char *const texts[] = {f->id, f->type, f->base, f->per_unit, f->currency, f->steps, f->first_tag};

                for (size_t k = 0; k < ARRAY_SIZE(texts); k++)
                        free(texts[k]);
        }
        for (size_t i = 0; i < c->n_offers; i++) {
                struct intake_offer *o = &c->offers[i];
                char *const texts[] = {o->id, o->product, o->title, o->type, o->context, o->multiplier};

                for (size_t k = 0; k < ARRAY_SIZE(texts); k++)
                        free(texts[k]);
        }
        free(c->flows);
        free(c->offers);
        *c = (struct intake_catalogue){0};
}

const struct intake_flow *intake_flow_of(const struct intake_catalogue *c, const char *type)
{
        for (size_t i = 0; i < c->n_flows; i++)
                if (strcmp(c->flows[i].type, type) == 0)
                        return &c->flows[i];
        return NULL;
}

const struct intake_offer *intake_offer_of(const struct intake_catalogue *c, const char *id)
{
        for (size_t i = 0; i < c->n_offers; i++)
                if (strcmp(c->offers[i].id, id) == 0)
                        return &c->offers[i];
        return NULL;
}

void intake_add_offers(struct strbuf *b, const struct intake_catalogue *c)
{
        bool first = true;

        strbuf_adds(b, "{\"items\":[");
        for (size_t i = 0; i < c->n_offers; i++) {
                const struct intake_offer *o = &c->offers[i];

                if (!o->active)
                        continue;
                strbuf_adds(b, first ? "{" : ",{");
                first = false;
                strbuf_add_member(b, "id", o->id);
                strbuf_adds(b, ",\"version\":");
                strbuf_addi(b, o->version);
                strbuf_add_member(b, "product", o->product);
                strbuf_add_member(b, "title", o->title);
                strbuf_add_member(b, "type", o->type);
                strbuf_adds(b, ",\"context\":");
                strbuf_adds(b, o->context);
                strbuf_add_member(b, "multiplier", o->multiplier);
                strbuf_addc(b, '}');
        }
        strbuf_adds(b, "],\"next\":null}");
}

void intake_submitted_done(struct intake_submitted *s)
{
        json_done(&s->doc);
        free(s->type);
        free(s->key);
        *s = (struct intake_submitted){0};
}

static bool refuse(struct refusal *ret_refusal, int status, const char *slug, const char *field, const char *detail)
{
        *ret_refusal = (struct refusal){.status = status, .slug = slug};
        copy_text(ret_refusal->field, sizeof(ret_refusal->field), field);
        copy_text(ret_refusal->detail, sizeof(ret_refusal->detail), detail);
        return false;
}

static bool parsed(int e, const struct json_error *error, struct refusal *ret_refusal)
{
        if (e == 0)
                return true;
        refuse(ret_refusal, 400, "invalid-json", "", "");
        snprintf(ret_refusal->detail, sizeof(ret_refusal->detail), "%s, at byte %zu", error->why, error->offset);
        return false;
}

/* A JSON Pointer of one token; a name that is too long for the answer is left out. */
static void pointer_of(const char *name, char ret_field[64])
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        strbuf_addc(&b, '/');
        for (const char *c = name; *c; c++) {
                if (*c == '~')
                        strbuf_adds(&b, "~0");
                else if (*c == '/')
                        strbuf_adds(&b, "~1");
                else
                        strbuf_addc(&b, *c);
        }
        snprintf(ret_field, 64, "%s", b.len < 64 ? b.s : "");
}

static bool known_members(const struct json_doc *doc, json_value root, bool key_allowed, struct refusal *ret_refusal)
{
        for (json_value name = json_first(doc, root); name;) {
                json_value value = json_after(doc, root, name);

                if (!json_string_is(doc, name, "type") && !json_string_is(doc, name, "payload") && !json_string_is(doc, name, "context") &&
                        !(key_allowed && json_string_is(doc, name, "key"))) {
                        _cleanup_(freep) char *text = json_string(doc, name, NULL);
                        char field[64];

                        pointer_of(text, field);
                        return refuse(ret_refusal, 422, "unknown-member", field, "a job has the members type, payload and context");
                }
                name = json_after(doc, root, value);
        }
        return true;
}

/* "Same job" is equal text of type, payload and context; no context is the empty one. */
static void hash(struct intake_submitted *s)
{
        _cleanup_(strbuf_done) struct strbuf type = {0};
        struct slice parts[3];

        strbuf_add_json(&type, s->type, strlen(s->type));
        parts[0] = (struct slice){type.s, type.len};
        parts[1] = json_raw(&s->doc, s->payload);
        parts[2] = s->context ? json_raw(&s->doc, s->context) : slice_of("{}");
        sha256_parts(parts, ARRAY_SIZE(parts), s->hash);
        s->hashed = true;
}

static bool read_root(struct intake_submitted *s, bool key_allowed, struct refusal *ret_refusal)
{
        json_value root = json_root(&s->doc), key;

        if (!json_is(root, JSON_OBJECT))
                return refuse(ret_refusal, 422, "invalid-job", "", "a job is an object with the members type, payload and context");
        key = key_allowed ? json_get(&s->doc, root, "key") : NULL;
        if (key)
                s->key = json_string(&s->doc, key, NULL);
        if (!known_members(&s->doc, root, key_allowed, ret_refusal))
                return false;
        s->type = json_string(&s->doc, json_get(&s->doc, root, "type"), NULL);
        s->payload = json_get(&s->doc, root, "payload");
        s->context = json_get(&s->doc, root, "context");
        if (!s->type)
                return refuse(ret_refusal, 422, "invalid-type", "/type", "type must be a string");
        if (!s->payload)
                return refuse(ret_refusal, 422, "invalid-payload", "/payload", "payload is missing");
        if (s->context && !json_is(s->context, JSON_OBJECT))
                return refuse(ret_refusal, 422, "invalid-context", "/context", "context must be an object");
        hash(s);
        return true;
}

bool intake_read_job(const char *text, size_t len, bool key_allowed, struct intake_submitted *ret_s, struct refusal *ret_refusal)
{
        struct json_error error;

        *ret_s = (struct intake_submitted){0};
        return parsed(json_parse(text, len, &ret_s->doc, &error), &error, ret_refusal) && read_root(ret_s, key_allowed, ret_refusal);
}

bool intake_read_parts(const char *type, struct slice payload, struct slice context, struct intake_submitted *ret_s, struct refusal *ret_refusal)
{
        _cleanup_(strbuf_done) struct strbuf whole = {0};
        const struct slice parts[] = {payload, context};
        struct json_error error;

        *ret_s = (struct intake_submitted){0};
        /* Each part by itself first, or a crafted one could close the object around it. */
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
                _cleanup_(json_done) struct json_doc doc = {0};

                if (parts[i].s && !parsed(json_parse(parts[i].s, parts[i].len, &doc, &error), &error, ret_refusal))
                        return false;
        }
        strbuf_adds(&whole, "{\"type\":");
        strbuf_add_json(&whole, type, strlen(type));
        strbuf_adds(&whole, ",\"payload\":");
        strbuf_add(&whole, payload.s, payload.len);
        if (context.s) {
                strbuf_adds(&whole, ",\"context\":");
                strbuf_add(&whole, context.s, context.len);
        }
        strbuf_addc(&whole, '}');
        return parsed(json_parse_own(whole.s, whole.len, &ret_s->doc, &error), &error, ret_refusal) && read_root(ret_s, false, ret_refusal);
}

const struct intake_flow *intake_flow_for(const struct intake_catalogue *c, const struct intake_submitted *s)
{
        if (pricing_is_code19(&s->doc, s->context))
                return intake_flow_of(c, PRICING_CODE19_TYPE);
        return strcmp(s->type, PRICING_CODE19_TYPE) == 0 ? NULL : intake_flow_of(c, s->type);
}

static void add_created(struct strbuf *b, const struct intake_submitted *s, const struct intake_flow *flow, const struct intake_origin *origin)
{
        struct slice payload = json_raw(&s->doc, s->payload), context = s->context ? json_raw(&s->doc, s->context) : slice_of("{}");

        strbuf_addc(b, '{');
        strbuf_add_member(b, "client", origin->client);
        strbuf_add_member(b, "key", origin->key);
        strbuf_add_member(b, "source", origin->bus ? "bus" : "http");
        strbuf_add_member(b, "encoding", origin->protobuf ? "protobuf" : "json");
        strbuf_add_member(b, "type", s->type);
        strbuf_adds(b, ",\"payload\":");
        strbuf_add(b, payload.s, payload.len);
        strbuf_adds(b, ",\"context\":");
        strbuf_add(b, context.s, context.len);
        strbuf_adds(b, ",\"flow\":{");
        strbuf_add_member(b, "id", flow->id);
        strbuf_adds(b, ",\"version\":");
        strbuf_addi(b, flow->version);
        strbuf_add_member(b, "base", flow->base);
        strbuf_add_member(b, "per_unit", flow->per_unit);
        strbuf_add_member(b, "currency", flow->currency);
        strbuf_adds(b, ",\"steps\":");
        strbuf_adds(b, flow->steps);
        strbuf_addc(b, '}');
        if (origin->offer) {
                strbuf_adds(b, ",\"offer\":{");
                strbuf_add_member(b, "id", origin->offer->id);
                strbuf_adds(b, ",\"version\":");
                strbuf_addi(b, origin->offer->version);
                strbuf_add_member(b, "multiplier", origin->offer->multiplier);
                strbuf_addc(b, '}');
        }
        strbuf_addc(b, '}');
}

bool intake_admit(const struct intake_submitted *s, const struct intake_flow *flow, const struct intake_origin *origin, struct strbuf *created,
        enum pricing_priority *ret_priority, struct refusal *ret_refusal)
{
        struct pricing_rule rule;
        struct price price;

        if (!flow)
                return refuse(ret_refusal, 422, "unknown-type", "/type", "there is no flow for this type");
        if (origin->offer && !origin->offer->active)
                return refuse(ret_refusal, 404, "unknown-offer", "", "this offer is no longer sold");
        if (!pricing_admit(&s->doc, s->payload, s->context, flow->first_tag, ret_priority, ret_refusal))
                return false;
        rule = (struct pricing_rule){.base = flow->base,
                .per_unit = flow->per_unit,
                .multiplier = origin->offer ? origin->offer->multiplier : NULL,
                .currency = flow->currency};
        if (!pricing_price(&rule, &s->doc, s->payload, *ret_priority, &price, ret_refusal))
                return false;
        add_created(created, s, flow, origin);
        return true;
}

int64_t intake_gather_ms(size_t n_jobs)
{
        return n_jobs < GATHER_MS / GATHER_JOB_MS ? (int64_t)n_jobs * GATHER_JOB_MS : GATHER_MS;
}
