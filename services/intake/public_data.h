/* What of an event's data is for whoever has the id of the job: what evidence there was, and not whose; no names of people, no references of theirs.
 * Only an event's own members are looked at, never what clients and operators wrote. One place for all who tell the public of events: intake over
 * HTTP and feed over the bus. Pure. */
#ifndef AETHELOS_INTAKE_PUBLIC_DATA_H
#define AETHELOS_INTAKE_PUBLIC_DATA_H

#include "base/strbuf.h"

/* Adds `data` as it is, or what may be shown of it. What has a private word and is no JSON object, and therefore for a person to look at, is {}. */
void public_data_add(struct strbuf *b, const char *type, struct slice data);

#endif
