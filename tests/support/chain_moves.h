/* Chains moved by hand, as each of the services, in a store of the test's own: what tests of advance() and of the rights and plans around it share.
 * What fails fails the test. */
#ifndef AETHELOS_TESTS_CHAIN_MOVES_H
#define AETHELOS_TESTS_CHAIN_MOVES_H

#include "store/chain.h"
#include "tests/support/pg_fixture.h"

extern struct pg_fixture *pg;
extern const char *const services[7];       /* who may call advance() */
extern struct db *as[ARRAY_SIZE(services)]; /* a connection of each */
struct db *db_of(const char *service);

/* For cmocka's group: the store and the connections. */
int set_up(void **state);
int tear_down(void **state);

void expect(const char *sql, const char *answer); /* asked as the owner */
void expect_sound(void);                          /* audit() finds nothing */

/* One transition as one service; version 0 opens a job. */
struct transition move(const char *service, struct uuid id, int version, const char *const events[]);

#define MOVE(service, id, version, ...) move(service, id, version, (const char *const[]){__VA_ARGS__, NULL})

/* What ledger says of an executed job: its booking, and the payout that follows from it or, which is refused, without. The verdict of the booking. */
enum advance_verdict book(struct uuid job, struct uuid payout, bool with_payout);

/* amount is SQL, NULL is that of the chain. */
void expect_evidence(struct uuid id, const char *event, const char *kind, const char *reference, const char *amount, const char *verdict);
void give_evidence(struct uuid id, const char *event); /* a person's */

/* A new chain, led to where the name says. */
struct uuid new_job(void);
struct uuid waiting_for(const char *driver, const char *term); /* for its payment; term: SQL interval */
struct uuid waiting_for_payment(void);
struct uuid paid(void);
struct uuid executed(void);
struct uuid failed(void);
struct uuid refunding(void);
struct uuid refunded(void);
struct uuid expired(void);
struct uuid new_task(void); /* about an operator of its own */
struct uuid paid_task(void);
struct uuid done_task(void);
struct uuid failed_task(void);
struct uuid reversed_task(void);

#endif
