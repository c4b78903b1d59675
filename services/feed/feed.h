/* What the files of feed share. */
#ifndef AETHELOS_FEED_H
#define AETHELOS_FEED_H

#include "service/service.h"

int64_t feed_on_tick(struct service *s);

#endif
