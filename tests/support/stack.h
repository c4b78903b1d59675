/* A whole stack of a test's own: PostgreSQL, nats-server and the services as real processes, on free ports of loopback. Everything ends with the
 * test. */
#ifndef AETHELOS_TESTS_STACK_H
#define AETHELOS_TESTS_STACK_H

#include "base/util.h"
#include "tests/support/nats_fixture.h"
#include "tests/support/pg_fixture.h"

#include <stdbool.h>

struct stack {
        struct pg_fixture *pg;
        struct nats_fixture *nats;
        char dir[64]; /* for ports, tokens and logs */
        struct stack_process {
                char name[32];
                pid_t pid;
        } processes[64];
        size_t n;
        const char *settings[16];            /* NAME=value for every service started from now on */
        const char *database_url, *nats_url; /* where services find them; a test may put something in between */
};

#define STACK_TOKEN "test-token"

struct stack *stack_start(void);           /* one instance of every service, ready */
struct stack *stack_start_bare(void);      /* PostgreSQL and nats-server only */
struct stack *stack_free(struct stack *s); /* stops the services with SIGTERM, asserts that they drain with exit status 0; returns NULL */
void stack_spawn(
        struct stack *s, const char *service, const char *const settings[]); /* one more instance; settings: NAME=value, NULL-terminated, or NULL */
void stack_stop(struct stack *s, const char *service, int signal);           /* every instance of it; waits for the end */
/* Waits until an instance of it has ended by itself; its wait status, or -1 when it did not within ms. */
int stack_wait_end(struct stack *s, const char *service, int ms);
int stack_crash_rounds(void);           /* how often each crash point is killed: AETHELOS_CRASH_ROUNDS, or once */
void stack_wait_ready(struct stack *s); /* until intake's /readyz and board's /readyz are 200 */

long stack_port(const struct stack *s, bool admin); /* of intake or the board; 0 before it listens. It changes when they are started again */
/* One request; admin: to the board, with the token. *ret_status; the body, malloc'ed. headers: NULL-terminated lines or NULL. -1 = no answer. */
char *stack_http(struct stack *s, bool admin, const char *method, const char *path, const char *const headers[], const char *body, long *ret_status);
/* The same for a body of any bytes; ret_headers (may be NULL): the header lines of the answer, malloc'ed. */
char *stack_send(struct stack *s, bool admin, const char *method, const char *path, const char *const headers[], struct slice body, long *ret_status,
        char **ret_headers);
/* Text of a top-level or nested member by a path like "job.id"; malloc'ed; strings unescaped, everything else raw; NULL when absent. */
char *json_at(const char *json, const char *path);

/* Asks the store until the answer of `sql` is `answer`; aborts after ms, showing what it was. */
void stack_await(struct stack *s, const char *sql, const char *answer, int ms);
void stack_assert_sound(struct stack *s); /* audit() finds nothing */

#endif
