/* A PostgreSQL cluster of a test's own, in a temporary directory, on a unix socket, with all migrations applied. It dies with the test. A fixture
 * that cannot do what it is asked prints the server's log and aborts the test. As root it runs under the user postgres, because the server refuses
 * root. */
#ifndef AETHELOS_TESTS_PG_FIXTURE_H
#define AETHELOS_TESTS_PG_FIXTURE_H

#include "store/db.h"

struct pg_fixture;

struct pg_fixture *pg_fixture_start(void);
struct pg_fixture *pg_fixture_free(struct pg_fixture *f); /* ends it and deletes the directory; returns NULL */
void pg_fixture_kill(struct pg_fixture *f);               /* immediate shutdown: as after a crash */
void pg_fixture_restart(struct pg_fixture *f);            /* kills it when it runs; returns when it answers */
const char *pg_fixture_url(const struct pg_fixture *f);   /* conninfo without a user */
/* A connection as aethelos_<service>, or as the owner of everything with NULL. Connected, or the test is aborted. */
struct db *pg_fixture_connect(struct pg_fixture *f, const char *service);
/* Runs SQL as the owner and yields the first column of the first row ("" when there is none), malloc'ed. Aborts when it fails. */
char *pg_fixture_ask(struct pg_fixture *f, const char *sql);

#endif
