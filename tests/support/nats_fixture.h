/* A nats-server with JetStream of a test's own: on a free port of 127.0.0.1, with its storage in a temporary directory. It dies with the test,
 * however the test ends. A fixture that cannot do what it is asked prints the server's log and ends the test with abort(): there is nothing to go on
 * with.
 *
 *      struct nats_fixture *nats = nats_fixture_start(NULL);
 *      ... nats_fixture_url(nats) ...
 *      nats_fixture_kill(nats);
 *      nats_fixture_wipe(nats);
 *      nats_fixture_restart(nats);
 *      nats_fixture_free(nats);
 */
#ifndef AETHELOS_TESTS_NATS_FIXTURE_H
#define AETHELOS_TESTS_NATS_FIXTURE_H

#include <sys/types.h>

struct nats_fixture;

/* `config` is more text for the server's configuration (users, permissions, limits) or NULL. The first makes the fixture without starting the
 * server, which nats_fixture_restart then does; the second starts it and returns when it answers with JetStream on. */
struct nats_fixture *nats_fixture_new(const char *config);
struct nats_fixture *nats_fixture_start(const char *config);
struct nats_fixture *nats_fixture_free(struct nats_fixture *f); /* ends the server, deletes the directory; NULL allowed; returns NULL */

void nats_fixture_stop(struct nats_fixture *f);    /* SIGTERM, after 5 s SIGKILL; waits for the end */
void nats_fixture_kill(struct nats_fixture *f);    /* SIGKILL; waits for the end */
void nats_fixture_restart(struct nats_fixture *f); /* starts it on the same port with what storage there is; kills it before if it runs */
void nats_fixture_wipe(struct nats_fixture *f);    /* deletes the storage; also under a running server, as a vandal would */
void nats_fixture_remove(struct nats_fixture *f, const char *name); /* one file or folder of its directory: "storage/jetstream/$G/streams/X/msgs" */
void nats_fixture_pause(struct nats_fixture *f);                    /* SIGSTOP: connected but silent */
void nats_fixture_resume(struct nats_fixture *f);                   /* SIGCONT */

const char *nats_fixture_url(const struct nats_fixture *f); /* nats://127.0.0.1:port */
int nats_fixture_port(const struct nats_fixture *f);
pid_t nats_fixture_pid(const struct nats_fixture *f);                     /* -1 while it does not run */
void nats_fixture_print_log(const struct nats_fixture *f);                /* the server's log, to stderr */
int nats_fixture_free_port(void);                                         /* of loopback, or -1 */
void nats_fixture_set_config(struct nats_fixture *f, const char *config); /* for the next restart */

#endif
