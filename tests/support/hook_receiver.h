/* Who is told by webhooks: a thread with a server that checks every signature by itself, and answers in its mood. One a process. What fails fails the
 * test. */
#ifndef AETHELOS_TESTS_HOOK_RECEIVER_H
#define AETHELOS_TESTS_HOOK_RECEIVER_H

#include "base/strbuf.h"

#include <pthread.h>
#include <stdint.h>

enum mood { ANSWERS, CHATTERS, FAILS, HANGS, REDIRECTS, GONE };

struct receiver {
        int64_t port;
        pthread_mutex_t lock; /* for all below */
        char secret[100];
        struct strbuf ids, types; /* of what came: "id\n" each */
        size_t n, n_bad;
        char content_type[64], body[2000]; /* of the last one */
};
extern struct receiver receiver;

void receiver_start(void); /* at /hook of its port, the same as before when it died */
void receiver_die(void);
void receiver_feels(enum mood mood); /* and begins counting anew */
size_t received(void);
void await_received(size_t n, int64_t ms);

#endif
