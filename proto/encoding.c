/* Pure: Content-Type and first byte. */
#include "proto/encoding.h"

#include <string.h>
#include <strings.h>

static const char json[] = "application/json", binary[] = "application/protobuf";

bool encoding_media_type(const char *content_type, const char *type)
{
        return content_type && strncasecmp(content_type, type, strlen(type)) == 0 && strchr("; \t", content_type[strlen(type)]);
}

bool encoding_is_protobuf(const char *content_type, const char *data, size_t len)
{
        if (encoding_media_type(content_type, json))
                return false;
        return encoding_media_type(content_type, binary) || len == 0 || data[0] != '{';
}

const char *encoding_content_type(bool protobuf)
{
        return protobuf ? binary : json;
}
