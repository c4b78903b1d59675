/* What the files of meta-repair share. */
#ifndef AETHELOS_META_REPAIR_H
#define AETHELOS_META_REPAIR_H

#include "service/service.h"

struct repair_config {
        int64_t ring_rate;
};

int repair_init(struct service *s);
void repair_fini(struct service *s);
int64_t repair_on_tick(struct service *s);

#endif
