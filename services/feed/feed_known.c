/* A table of places: a chain has the one that random bits of its id name, and whoever came last stands there. Names of clients, of which there are
 * few, are kept until the end. */
#include "feed_known.h"

#include "base/util.h"

#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLACES 65536 /* with 16384, two of five chains of a saturated machine lost theirs to a later one */

struct place {
        struct uuid id;
        struct feed_chain chain; /* client NULL: empty */
};

struct feed_known {
        struct place places[PLACES];
        void *clients; /* tree of names */
};

struct feed_known *feed_known_new(void)
{
        return xcalloc(1, sizeof(struct feed_known));
}

void feed_known_forget(struct feed_known *k)
{
        memset(k->places, 0, sizeof(k->places));
}

struct feed_known *feed_known_free(struct feed_known *k)
{
        if (k)
                tdestroy(k->clients, free);
        free(k);
        return NULL;
}

static int compare_names(const void *a, const void *b)
{
        return strcmp(a, b);
}

static const char *kept(struct feed_known *k, const char *client)
{
        char *const *found = tfind(client, &k->clients, compare_names);

        if (!found)
                found = tsearch(xstrdup(client), &k->clients, compare_names);
        if (found)
                return *found;
        die("out of memory");
}

/* The last two bytes of a UUIDv7 are random, and name one of 65536. */
static size_t place_of(const struct uuid *id)
{
        return (size_t)(id->b[14] << 8 | id->b[15]);
}

bool feed_known_get(const struct feed_known *k, const struct uuid *id, struct feed_chain *ret_chain)
{
        const struct place *p = &k->places[place_of(id)];

        if (!p->chain.client || !uuid_equal(&p->id, id))
                return false;
        *ret_chain = p->chain;
        return true;
}

void feed_known_drop(struct feed_known *k, const struct uuid *id)
{
        struct place *p = &k->places[place_of(id)];

        if (uuid_equal(&p->id, id))
                *p = (struct place){0};
}

void feed_known_put(struct feed_known *k, const struct uuid *id, const struct feed_chain *chain)
{
        struct place *p = &k->places[place_of(id)];

        *p = (struct place){.id = *id, .chain = *chain};
        p->chain.client = kept(k, chain->client);
}

void feed_known_learn(struct feed_known *k, const struct uuid *id, const char *type, const char *data)
{
        struct feed_chain chain = {0};
        char name[64];
        struct uuid job;
        int end = 0;

        if (strcmp(type, "JOB_CREATED") == 0) {
                if (sscanf(data, "{\"client\":\"%63[A-Za-z0-9_-]\"%n", name, &end) == 1 && end > 0)
                        feed_known_put(k, id, &(struct feed_chain){.client = name});
        } else if (strcmp(type, "PRICED") == 0) {
                if (feed_known_get(k, id, &chain) &&
                        sscanf(data, "{\"amount\":{\"minor\":%" SCNd64 ",\"currency\":\"%3[A-Z]\"%n", &chain.minor, chain.currency, &end) == 2 &&
                        end > 0)
                        feed_known_put(k, id, &chain);
                else
                        feed_known_drop(k, id);
        } else if (strcmp(type, "PAYOUT_EARNED") == 0) {
                if (sscanf(data, "{\"job_id\":\"%36[0-9a-f-]\"%n", name, &end) == 1 && end > 0 && uuid_parse(name, strlen(name), &job) &&
                        feed_known_get(k, &job, &chain) && chain.currency[0])
                        feed_known_put(k, id, &chain);
        }
}
