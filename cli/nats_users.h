/* The bus users of workers: one for each operator, who may serve its subjects and nothing else. */
#ifndef AETHELOS_CLI_NATS_USERS_H
#define AETHELOS_CLI_NATS_USERS_H

#include "base/strbuf.h"

#include <stdbool.h>

#define NATS_WORKER "worker-" /* + operator: the user's name; its inboxes begin with _INBOX_ and that */

bool nats_operator_ok(const char *name);                                              /* whether it can be the name of an operator */
void nats_worker_user(struct strbuf *b, const char *operator, const char * password); /* its entry in the list of users */
int nats_users_add(
        struct strbuf *permissions, const char *operator, const char * password); /* into the text of nats-permissions.conf; 0 or -EINVAL */

#endif
