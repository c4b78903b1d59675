/* Text of the bus users of workers.
 *
 * Invariant: a worker hears calls only as one of its queue group, so that it cannot take copies of what others do; it answers each message once, and
 * says beats and results of its own operator only. Nothing here is stored. */
#include "nats_users.h"

#include "proto/subjects.h"

#include <errno.h>
#include <string.h>

#define END_OF_USERS "\n  ]\n"

bool nats_operator_ok(const char *name)
{
        size_t len = strlen(name);

        return len > 0 && len <= 64 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len;
}

void nats_worker_user(struct strbuf *b, const char *operator, const char * password)
{
        strbuf_addf(b, "\n    { user: \"" NATS_WORKER "%s\", password: \"%s\", permissions: {\n", operator, password);
        strbuf_addf(b, "        publish: { allow: [ \"" SUBJECT_BEAT "\", \"" SUBJECT_RESULT "\" ] }\n", operator, operator);
        strbuf_addf(b, "        subscribe: { allow: [ \"" SUBJECT_OPERATOR " %s\", \"" SUBJECT_STATUS "\", \"_INBOX_" NATS_WORKER "%s.>\" ] }\n",
                       operator, operator, operator, operator);
        strbuf_adds(b, "        allow_responses: { max: 1, expires: \"11m\" } } }\n");
}

int nats_users_add(struct strbuf *permissions, const char *operator, const char * password)
{
        _cleanup_(strbuf_done) struct strbuf rest = {0};
        char *end = NULL;

        for (char *at = permissions->s; at && (at = strstr(at, END_OF_USERS)); at++)
                end = at;
        if (!end)
                return -EINVAL;
        strbuf_adds(&rest, end + 1);
        permissions->len = (size_t)(end + 1 - permissions->s);
        nats_worker_user(permissions, operator, password);
        strbuf_adds(permissions, rest.s);
        return 0;
}
