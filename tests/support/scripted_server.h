/* A server on raw sockets, for tests of an HTTP client: a thread that answers each request with what its path names, well or badly, and counts. The
 * paths are a table in scripted_server.c; any other gets no answer. One a process; what fails ends it. */
#ifndef AETHELOS_TESTS_SCRIPTED_SERVER_H
#define AETHELOS_TESTS_SCRIPTED_SERVER_H

#include <stdatomic.h>

struct scripted_server {
        int port;         /* of 127.0.0.1 */
        char last[16384]; /* the last request, whole */
        atomic_int n_connections, n_closed, n_requests;
        atomic_int n_fragile; /* requests whose connection dies with the second one */
};
extern struct scripted_server server; /* the one that was started last */

void server_start(void);
void server_end(void); /* waits for the end of its thread */

#endif
