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

/* JSON text of ours as protobuf, behind what is in the buffer; text that is no such message ends the process. */
void pbjson_pack(struct strbuf *b, const ProtobufCMessageDescriptor *descriptor, const char *json, size_t len);
void pbjson_add_packed(struct strbuf *b, const ProtobufCMessage *message);

/* Protobuf from outside as its JSON form, behind what is in the buffer: every bytes field must be strict JSON, every string UTF-8. Other enumerators
 * than ours become numbers. NULL, or why it is no such message (static); then nothing was added. */
const char *pbjson_unpack(struct strbuf *b, const ProtobufCMessageDescriptor *descriptor, const void *data, size_t len);

#endif
