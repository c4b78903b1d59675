/* Reading events page by page. */
#ifndef AETHELOS_CLI_CLIENT_EVENTS_H
#define AETHELOS_CLI_CLIENT_EVENTS_H

#include "client.h"

/* The events of a job, or of the whole stack (job NULL), behind *cursor (NULL: from the start of a job; of the stack the latest, newest first).
 * Replaces *cursor when the answer names the next one. limit 0: what the stack finds right. 0 or -1. */
int events_page(struct client *c, const char *job, char **cursor, int64_t limit, struct answer *ret_answer);

#endif
