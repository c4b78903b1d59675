/* The one JSON form of our messages, from the protobuf descriptors: proto field names, 64-bit integers as JSON numbers, enum names in lower case,
 * bytes fields as raw JSON text embedded as it is. Absent optional fields are left out. */
#ifndef AETHELOS_PROTO_PBJSON_H
#define AETHELOS_PROTO_PBJSON_H

#include "base/json.h"
#include "base/strbuf.h"

#include <protobuf-c/protobuf-c.h>

void pbjson_add(struct strbuf *b, const ProtobufCMessage *message);

/* Fills a message from a JSON object. Unknown members are refused. *ret_message is freed with protobuf_c_message_free_unpacked(m, NULL).
 * 0, or -EINVAL with ret_error (static text) and ret_field (JSON Pointer, malloc'ed into the buffer). */
int pbjson_parse(const ProtobufCMessageDescriptor *descriptor, const struct json_doc *doc, json_value object, ProtobufCMessage **ret_message,
        const char **ret_error, struct strbuf *ret_field);

#endif
