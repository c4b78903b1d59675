/* Bells: after a commit the next services hear which chains moved. One envelope carries up to 256 chains of one hearer and lane, because the number
 * of bus messages per chain decides the throughput. Nothing here is durable: a bell that is lost leaves a chain standing, and the ringer finds it. */
#include "base/crashpoint.h"
#include "base/util.h"
#include "proto/aethelos.pb-c.h"
#include "proto/subjects.h"
#include "skeleton.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENVELOPE_MAX 256

void outbox_add(struct outbox *o, const char *hearer, enum lane lane, const struct uuid *id, int version)
{
        struct outbox_bell *bell;

        if (!hearer[0])
                return;
        if (o->n == o->cap) {
                o->cap = o->cap ? 2 * o->cap : 256;
                o->bells = xrealloc(o->bells, o->cap * sizeof(*o->bells));
        }
        bell = &o->bells[o->n++];
        copy_text(bell->hearer, sizeof(bell->hearer), hearer);
        bell->lane = lane;
        bell->id = *id;
        bell->version = version;
}

static int compare(const void *a, const void *b)
{
        const struct outbox_bell *x = a, *y = b;
        int c = strcmp(x->hearer, y->hearer);

        if (c == 0)
                c = (int)x->lane - (int)y->lane;
        return c ? c : uuid_compare(&x->id, &y->id);
}

static void publish(const struct outbox_bell bells[], size_t n, struct bus *bus)
{
        Aethelos__Envelope envelope = AETHELOS__ENVELOPE__INIT;
        Aethelos__Envelope__Item items[ENVELOPE_MAX], *pointers[ENVELOPE_MAX];
        _cleanup_(strbuf_done) struct strbuf packed = {0};
        char subject[64];
        size_t len;

        for (size_t i = 0; i < n; i++) {
                aethelos__envelope__item__init(&items[i]);
                items[i].chain_id.data = (uint8_t *)bells[i].id.b;
                items[i].chain_id.len = sizeof(bells[i].id.b);
                items[i].version = (uint32_t)bells[i].version;
                pointers[i] = &items[i];
        }
        envelope.items = pointers;
        envelope.n_items = n;
        len = aethelos__envelope__get_packed_size(&envelope);
        aethelos__envelope__pack(&envelope, (uint8_t *)strbuf_grow(&packed, len));
        packed.len = len;

        snprintf(subject, sizeof(subject), SUBJECT_HOP, bells[0].hearer, lane_name(bells[0].lane));
        CRASH_POINT("before publish");
        (void)bus_publish(bus, subject, NULL, NULL, 0, packed.s, packed.len);
        CRASH_POINT("after publish");
}

void outbox_publish(struct outbox *o, struct bus *bus)
{
        size_t from = 0;

        if (o->n == 0)
                return;
        qsort(o->bells, o->n, sizeof(*o->bells), compare);
        for (size_t i = 1; i <= o->n; i++) {
                bool same = i < o->n && o->bells[i].lane == o->bells[from].lane && strcmp(o->bells[i].hearer, o->bells[from].hearer) == 0;
                if (same && i - from < ENVELOPE_MAX)
                        continue;
                publish(&o->bells[from], i - from, bus);
                from = i;
        }
        o->n = 0;
}

void outbox_done(struct outbox *o)
{
        free(o->bells);
        *o = (struct outbox){0};
}

int envelope_ids(const void *data, size_t len, struct uuid **ids, size_t *n, size_t *cap)
{
        Aethelos__Envelope *envelope = aethelos__envelope__unpack(NULL, len, data);
        int e = 0;

        if (!envelope)
                return -EBADMSG;
        for (size_t i = 0; i < envelope->n_items && e == 0; i++)
                if (envelope->items[i]->chain_id.len != sizeof(struct uuid))
                        e = -EBADMSG;
        for (size_t i = 0; i < envelope->n_items && e == 0; i++) {
                if (*n == *cap) {
                        *cap = *cap ? 2 * *cap : 512;
                        *ids = xrealloc(*ids, *cap * sizeof(**ids));
                }
                memcpy((*ids)[(*n)++].b, envelope->items[i]->chain_id.data, sizeof(struct uuid));
        }
        aethelos__envelope__free_unpacked(envelope, NULL);
        return e;
}
