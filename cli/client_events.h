/* Reading events page by page. */
#ifndef AETHELOS_CLI_CLIENT_EVENTS_H
#define AETHELOS_CLI_CLIENT_EVENTS_H

#include "client.h"

/* Public: the events of a job, from its start or behind *cursor. Admin: of any chain, or of the whole stack (id NULL), behind *cursor; without one
 * the latest, newest first. Replaces *cursor when the answer names the next one. limit 0: what the stack finds right. 0 or -1. */
int events_page(struct client *c, enum client_side side, const char *id, char **cursor, int64_t limit, struct answer *ret_answer);

#endif
