/* One message, two encodings, from the same struct, so that they cannot differ. A receipt is only written after the commit it speaks of; when a crash
 * loses it, the publisher repeats its submission and has it again. */
#include "receipt.h"

#include "base/crashpoint.h"
#include "base/util.h"
#include "http/httpd.h"
#include "proto/aethelos.pb-c.h"
#include "proto/encoding.h"
#include "proto/pbjson.h"
#include "proto/subjects.h"

#include <stdio.h>

static void encode(struct strbuf *b, const ProtobufCMessage *m, bool protobuf)
{
        (protobuf ? pbjson_add_packed : pbjson_add)(b, m);
}

/* The problem's type and title come from the one place that words problems for HTTP. */
static void encode_rejected(struct strbuf *b, const struct receipt *r, bool protobuf)
{
        _cleanup_(strbuf_done) struct strbuf json = {0}, field = {0};
        _cleanup_(json_done) struct json_doc doc = {0};
        Aethelos__Receipt m = AETHELOS__RECEIPT__INIT;
        ProtobufCMessage *problem;
        struct json_error error;
        const char *why;

        http_problem_json(&json, r->status, r->slug, r->detail, r->field);
        if (json_parse(json.s, json.len, &doc, &error) < 0 ||
                pbjson_parse(&aethelos__problem__descriptor, &doc, json_root(&doc), &problem, &why, &field) < 0)
                die("a problem document is not a problem message");
        m.status = AETHELOS__RECEIPT_STATUS__REJECTED;
        m.problem = (Aethelos__Problem *)problem;
        encode(b, &m.base, protobuf);
        protobuf_c_message_free_unpacked(problem, NULL);
}

void receipt_encode(struct strbuf *b, const struct receipt *r, bool protobuf)
{
        Aethelos__Receipt m = AETHELOS__RECEIPT__INIT;
        Aethelos__Amount price = AETHELOS__AMOUNT__INIT;

        if (r->status) {
                encode_rejected(b, r, protobuf);
                return;
        }
        price.minor = r->price.minor;
        price.currency = (char *)r->price.currency;
        m.status = AETHELOS__RECEIPT_STATUS__ACCEPTED;
        m.job_id = (char *)r->job_id;
        if (r->price.currency[0])
                m.price = &price;
        encode(b, &m.base, protobuf);
}

void receipt_reply(struct bus *bus, const char *reply, const struct receipt *r, bool protobuf)
{
        const struct bus_header header = {"Content-Type", encoding_content_type(protobuf)};
        _cleanup_(strbuf_done) struct strbuf b = {0};

        receipt_encode(&b, r, protobuf);
        CRASH_POINT("before receipt");
        (void)bus_publish(bus, reply, NULL, &header, 1, b.s, b.len);
        CRASH_POINT("after receipt");
}

void receipt_publish(struct bus *bus, const char *client, const char *key, const struct receipt *r, bool protobuf)
{
        char subject[512];

        snprintf(subject, sizeof(subject), SUBJECT_RECEIPT, client, key);
        receipt_reply(bus, subject, r, protobuf);
}
