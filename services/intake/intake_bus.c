/* Submissions and receipt queries from the bus. Invariant: a submission is acknowledged after its commit or its refusal, and what cannot even be
 * answered, because it names no client or key, is put aside and holds up nothing. A crash before the ack brings the message again, under the same
 * key. */
#include "base/crashpoint.h"
#include "base/util.h"
#include "http/http_route.h"
#include "proto/aethelos.pb-c.h"
#include "proto/encoding.h"
#include "proto/subjects.h"
#include "services/intake/intake.h"
#include "services/intake/intake_event.h"
#include "services/intake/intake_store.h"
#include "services/pricing/receipt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SUBMISSION_MAX (1 << 20) /* bytes, as over HTTP */

/* Header names have cases on the bus; senders of events write this one in either. */
static const char *content_type(const struct bus_message *m)
{
        const char *type = bus_message_header(m, "Content-Type");

        return type ? type : bus_message_header(m, "content-type");
}

static void set_aside(struct service *s, struct bus_message *m, const char *why)
{
        service_quarantine(s, m->subject, NULL, why, m->data, m->len);
        CRASH_POINT("intake: before ack");
        bus_ack(s->bus, m);
        CRASH_POINT("intake: after ack");
}

static bool refuse(struct refusal *ret_refusal, int status, const char *slug, const char *detail)
{
        *ret_refusal = (struct refusal){.status = status, .slug = slug};
        copy_text(ret_refusal->detail, sizeof(ret_refusal->detail), detail);
        return false;
}

static bool text_valid(const char *s)
{
        return utf8_valid(s, strlen(s));
}

static bool read_protobuf(const struct bus_message *m, struct intake_submitted *ret_submitted, struct refusal *ret_refusal)
{
        Aethelos__Submission *p = aethelos__submission__unpack(NULL, m->len, (const uint8_t *)m->data);
        struct slice payload, context = {0};
        char *key;
        bool ok;

        if (!p)
                return refuse(ret_refusal, 400, "invalid-protobuf", "the message is no Submission");
        payload = (struct slice){p->payload.data ? (const char *)p->payload.data : "", p->payload.len};
        if (p->has_context)
                context = (struct slice){p->context.data ? (const char *)p->context.data : "", p->context.len};
        key = p->key && text_valid(p->key) ? xstrdup(p->key) : NULL;
        ok = text_valid(p->type) ? intake_read_parts(p->type, payload, context, ret_submitted, ret_refusal)
                                 : refuse(ret_refusal, 400, "invalid-protobuf", "type is not UTF-8");
        ret_submitted->key = key;
        aethelos__submission__free_unpacked(p, NULL);
        return ok;
}

static const char *event_header(const void *arg, const char *name)
{
        return strcmp(name, "Content-Type") == 0 ? content_type(arg) : bus_message_header(arg, name);
}

/* The first binding of events to NATS knows no headers: then the member specversion says what it is. */
static enum intake_form form_of(const struct bus_message *m)
{
        const char *type = content_type(m);
        enum intake_form form = intake_form_of(type, bus_message_header(m, "ce-specversion"));

        return form == INTAKE_PLAIN && !type && m->len <= SUBMISSION_MAX && intake_looks_like_event(m->data, m->len) ? INTAKE_STRUCTURED : form;
}

static bool read_submission(
        const struct intake_item *item, enum intake_form form, struct intake_submitted *ret_submitted, struct refusal *ret_refusal)
{
        const struct bus_message *m = item->message;

        if (m->len > SUBMISSION_MAX)
                return refuse(ret_refusal, 413, "body-too-large", "a submission is at most 1 MiB");
        switch (form) {
        case INTAKE_PLAIN:
                break;
        case INTAKE_STRUCTURED:
                return intake_read_structured(m->data, m->len, ret_submitted, ret_refusal);
        case INTAKE_BINARY:
                return intake_read_binary(event_header, m, (struct slice){m->data, m->len}, ret_submitted, ret_refusal);
        case INTAKE_FOREIGN:
                return intake_refuse_foreign(ret_refusal);
        }
        if (item->protobuf)
                return read_protobuf(m, ret_submitted, ret_refusal);
        return intake_read_job(m->data, m->len, true, ret_submitted, ret_refusal);
}

static void hear_submission(struct service *s, struct bus_message *m)
{
        const char *client = m->subject + strlen(SUBJECT_SUBMIT), *key = bus_message_header(m, "Idempotency-Key");
        _cleanup_(intake_submitted_done) struct intake_submitted submitted = {0};
        struct intake_item *item;
        enum intake_form form;
        bool ok;

        /* A client is a subject token and stands in the database and in subjects: the same alphabet as keys. */
        if (!http_idempotency_key_valid(client)) {
                set_aside(s, m, "no client that can be answered");
                return;
        }
        item = xcalloc(1, sizeof(*item));
        item->message = m;
        form = form_of(m);
        item->event = form != INTAKE_PLAIN;
        item->protobuf = !item->event && encoding_is_protobuf(content_type(m), m->data, m->len);
        ok = read_submission(item, form, &submitted, &item->refusal);
        if (!key)
                key = submitted.key;
        if (!key || !http_idempotency_key_valid(key)) {
                free(item);
                set_aside(s, m, "no Idempotency-Key of [A-Za-z0-9_-]{1,128}");
                return;
        }
        item->client = xstrdup(client);
        item->key = xstrdup(key);
        if (ok)
                intake_submit(s, item, &submitted, NULL);
        else
                intake_refuse(s, item, &item->refusal);
}

/* Answers from the store: the receipt; a job that is not priced yet is accepted, and its price follows; 404 for an unknown key. */
static void hear_query(struct service *s, struct bus_message *m)
{
        const char *client = m->subject + strlen(SUBJECT_QUERY);
        _cleanup_(freep) char *key = xstrndup(m->data, m->len);
        const char *type = bus_message_header(m, "Content-Type");
        struct receipt receipt = {.status = 404, .slug = "unknown-key", .detail = "nothing was admitted under this key"};
        char id_text[UUID_TEXT_SIZE];
        struct uuid id;
        int e = http_idempotency_key_valid(client) && http_idempotency_key_valid(key) ? intake_find_key(s->db, client, key, &id, &receipt.price)
                                                                                      : -ENOENT;

        if (e == 0) {
                uuid_format(&id, id_text);
                receipt = (struct receipt){.job_id = id_text, .price = receipt.price};
        } else if (e != -ENOENT) {
                receipt = (struct receipt){.status = 503, .slug = "database-away", .detail = "the store cannot be reached; ask again"};
        }
        if (m->reply && m->reply[0])
                receipt_reply(s->bus, m->reply, &receipt, encoding_media_type(type, encoding_content_type(true)));
        bus_drop(s->bus, m);
}

/* Payments has made intents: some of them may be what requests are held for, or a crowd rests for. */
static void hear_bell(struct service *s, struct bus_message *m)
{
        struct intake_state *state = s->state;

        state->poll_ms = state->look_ms = 0;
        bus_drop(s->bus, m);
}

void intake_on_message(struct service *s, struct bus_message *m)
{
        if (m->lane >= 0)
                hear_submission(s, m);
        else if (strncmp(m->subject, SUBJECT_QUERY, strlen(SUBJECT_QUERY)) == 0)
                hear_query(s, m);
        else
                hear_bell(s, m);
}
