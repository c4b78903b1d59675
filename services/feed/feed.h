/* What the files of feed share. */
#ifndef AETHELOS_FEED_H
#define AETHELOS_FEED_H

#include "feed_known.h"
#include "feed_store.h"
#include "service/service.h"

struct feed_state {
        struct feed_position at; /* the checkpoint, as far as is known: who moved it meanwhile is found when it is set */
        bool knows;
        struct feed_known *known;
        int64_t told_ms; /* when something was told last */
};
int feed_init(struct service *s);
void feed_fini(struct service *s);
void feed_on_message(struct service *s, struct bus_message *m);
int64_t feed_on_tick(struct service *s);

#endif
