/* Filters of the event stream. A filter is read once and holds nothing of the request, which is gone while the stream lives. */
#include "board_stream_core.h"

#include <string.h>

static bool add_type(struct board_filter *f, const char *s, size_t len)
{
        if (len == 0 || len >= sizeof(f->types[0]) || f->n_types == BOARD_TYPES_MAX || strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") < len)
                return false;
        memcpy(f->types[f->n_types++], s, len);
        return true;
}

bool board_filter_parse(const char *types, const char *client, const char *chain, struct board_filter *ret_filter)
{
        struct board_filter f = {0};

        for (const char *s = types; s;) {
                size_t len = strcspn(s, ",");

                if (!add_type(&f, s, len))
                        return false;
                s = s[len] ? s + len + 1 : NULL;
        }
        if (client && (!*client || strlen(client) > BOARD_CLIENT_MAX))
                return false;
        if (client)
                strcpy(f.client, client);
        f.has_chain = chain != NULL;
        if (chain && !uuid_parse(chain, strlen(chain), &f.chain))
                return false;
        *ret_filter = f;
        return true;
}

bool board_filter_wants(const struct board_filter *f, const char *type, const char *client, const char *chain)
{
        size_t i = 0;
        struct uuid id;

        while (i < f->n_types && strcmp(f->types[i], type) != 0)
                i++;
        if (f->n_types > 0 && i == f->n_types)
                return false;
        if (f->client[0] && strcmp(f->client, client) != 0)
                return false;
        return !f->has_chain || (uuid_parse(chain, strlen(chain), &id) && uuid_equal(&id, &f->chain));
}
