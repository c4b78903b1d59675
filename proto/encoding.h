/* In which of the two encodings a message of the bus is: JSON or protobuf. Publishers and workers choose; they are answered in their own. */
#ifndef AETHELOS_PROTO_ENCODING_H
#define AETHELOS_PROTO_ENCODING_H

#include <stdbool.h>
#include <stddef.h>

bool encoding_media_type(
        const char *content_type, const char *type); /* whether a Content-Type names it, whatever its parameters; NULL: it does not */
/* By Content-Type; without one of the two a '{' says JSON, because no protobuf message of ours begins with it. */
bool encoding_is_protobuf(const char *content_type, const char *data, size_t len);
const char *encoding_content_type(bool protobuf);

#endif
