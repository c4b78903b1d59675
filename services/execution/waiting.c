/* A ring of ids, and buckets over it so that an id that is rung again is found without walking the ring. Lives in memory only: a crash forgets who
 * waited, and the chains are rung again because they stand. */
#include "services/execution/waiting.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 8192
#define NONE    UINT16_MAX

_Static_assert(WAITING_MAX < NONE, "places are numbered in 16 bits");

struct waiting {
        struct uuid ids[WAITING_MAX];
        uint16_t next[WAITING_MAX]; /* in the same bucket, older */
        uint16_t buckets[BUCKETS];
        size_t first, n;
};

/* The end of an id is random. */
static uint16_t *bucket(struct waiting *w, const struct uuid *id)
{
        return &w->buckets[(id->b[14] << 8 | id->b[15]) % BUCKETS];
}

struct waiting *waiting_new(void)
{
        struct waiting *w = xmalloc(sizeof(*w));

        memset(w->buckets, 0xff, sizeof(w->buckets));
        w->first = w->n = 0;
        return w;
}

struct waiting *waiting_free(struct waiting *w)
{
        free(w);
        return NULL;
}

bool waiting_put(struct waiting *w, const struct uuid *id)
{
        uint16_t *head = bucket(w, id);
        size_t at = (w->first + w->n) % WAITING_MAX;

        if (w->n == WAITING_MAX)
                return false;
        for (uint16_t i = *head; i != NONE; i = w->next[i])
                if (uuid_equal(&w->ids[i], id))
                        return false;
        w->ids[at] = *id;
        w->next[at] = *head;
        *head = (uint16_t)at;
        w->n++;
        return true;
}

size_t waiting_take(struct waiting *w, struct uuid ret_ids[], size_t max)
{
        size_t taken = 0;

        while (taken < max && w->n > 0) {
                uint16_t *link = bucket(w, &w->ids[w->first]);

                while (*link != w->first)
                        link = &w->next[*link];
                *link = w->next[w->first];
                ret_ids[taken++] = w->ids[w->first];
                w->first = (w->first + 1) % WAITING_MAX;
                w->n--;
        }
        return taken;
}

size_t waiting_count(const struct waiting *w)
{
        return w ? w->n : 0;
}

/* --- lanes --- */

void waiting_lanes_done(struct waiting_lanes *w)
{
        for (size_t i = 0; i < WAITING_LANES; i++)
                w->v[i] = waiting_free(w->v[i]);
}

bool waiting_lanes_put(struct waiting_lanes *w, size_t lane, const struct uuid *id)
{
        if (!w->v[lane])
                w->v[lane] = waiting_new();
        return waiting_put(w->v[lane], id);
}

size_t waiting_lanes_take(struct waiting_lanes *w, struct uuid ret_ids[], size_t max)
{
        static const unsigned weights[WAITING_LANES] = {8, 3, 1};
        size_t n = 0;

        while (n < max && waiting_lanes_count(w) > 0) {
                size_t before = n;

                for (size_t i = 0; i < WAITING_LANES && n < max; i++) {
                        size_t left = max - n, some = w->v[i] ? waiting_take(w->v[i], ret_ids + n, w->credit[i] < left ? w->credit[i] : left) : 0;

                        w->credit[i] -= (unsigned)some;
                        n += some;
                }
                /* Whoever has some has had its share: a new round. */
                if (n == before)
                        memcpy(w->credit, weights, sizeof(weights));
        }
        return n;
}

size_t waiting_lanes_count(const struct waiting_lanes *w)
{
        size_t n = 0;

        for (size_t i = 0; i < WAITING_LANES; i++)
                n += waiting_count(w->v[i]);
        return n;
}
