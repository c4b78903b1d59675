/* A table of places: a chain has the one that random bits of its id name, and whoever came last stands there. */
#include "feed_known.h"

#include "base/util.h"

#include <stdlib.h>
#include <string.h>

#define PLACES 16384 /* a few seconds of a fast machine */

struct place {
        struct uuid id;
        char *client; /* NULL: empty */
        char currency[4];
        int64_t minor;
        bool system;
};

struct feed_known {
        struct place places[PLACES];
};

struct feed_known *feed_known_new(void)
{
        return xcalloc(1, sizeof(struct feed_known));
}

void feed_known_forget(struct feed_known *k)
{
        for (size_t i = 0; i < PLACES; i++) {
                free(k->places[i].client);
                k->places[i] = (struct place){0};
        }
}

struct feed_known *feed_known_free(struct feed_known *k)
{
        if (k)
                feed_known_forget(k);
        free(k);
        return NULL;
}

/* The last two bytes of a UUIDv7 are random. */
static size_t place_of(const struct uuid *id)
{
        return (size_t)(id->b[14] << 8 | id->b[15]) % PLACES;
}

bool feed_known_get(const struct feed_known *k, const struct uuid *id, struct feed_chain *ret_chain)
{
        const struct place *p = &k->places[place_of(id)];

        if (!p->client || !uuid_equal(&p->id, id))
                return false;
        *ret_chain = (struct feed_chain){.client = p->client, .currency = p->currency, .minor = p->minor, .system = p->system};
        return true;
}

void feed_known_drop(struct feed_known *k, const struct uuid *id)
{
        struct place *p = &k->places[place_of(id)];

        if (p->client && uuid_equal(&p->id, id)) {
                free(p->client);
                *p = (struct place){0};
        }
}

void feed_known_put(struct feed_known *k, const struct uuid *id, const struct feed_chain *chain)
{
        struct place *p = &k->places[place_of(id)];

        if (strlen(chain->currency) != 3)
                return;
        if (!p->client || strcmp(p->client, chain->client) != 0) {
                free(p->client);
                p->client = xstrdup(chain->client);
        }
        p->id = *id;
        memcpy(p->currency, chain->currency, sizeof(p->currency));
        p->minor = chain->minor;
        p->system = chain->system;
}
