/* One bus, turned by its test as a service's loop does. What fails fails the test. */
#ifndef AETHELOS_TESTS_BUS_PARTY_H
#define AETHELOS_TESTS_BUS_PARTY_H

#include "bus/bus.h"
#include "tests/support/nats_fixture.h"

#define PATIENCE_MS 15000
#define ACK_WAIT_MS 600

extern const struct bus_stream party_hop, party_hop_memory; /* hop.test.<lane>; the first says again after ACK_WAIT_MS */
extern const struct bus_lane party_lanes[];                 /* high, normal, low by 8:3:1 */

struct party {
        struct bus *bus;
};

struct party party_open(const struct nats_fixture *nats, struct bus_config config);          /* with a url of its own: nats is not looked at */
struct party party_source(const struct nats_fixture *nats, const struct bus_stream *stream); /* with a source that is ready */
void party_close(struct party *p);
void party_turn(struct party *p, int64_t max_ms); /* one round: looks after the bus and sleeps until it wakes, at most so long */

#define TURN_UNTIL(p, condition)                                                                                                                     \
        do {                                                                                                                                         \
                int64_t until_ = now_mono_ms() + PATIENCE_MS;                                                                                        \
                while (!(condition)) {                                                                                                               \
                        if (now_mono_ms() > until_)                                                                                                  \
                                fail_msg("waited %d ms for: %s", PATIENCE_MS, #condition);                                                           \
                        party_turn((p), 10);                                                                                                         \
                }                                                                                                                                    \
        } while (0)

/* Messages of the source; NULL: none within ms. */
struct bus_message *party_next_within(struct party *p, int64_t ms);
struct bus_message *party_next(struct party *p);
struct bus_message *party_next_plain(struct party *p); /* of subscriptions */
void party_expect_silence(struct party *p, int64_t ms);
void party_expect_message(struct party *p, const char *text, unsigned delivered); /* and acknowledges it */

void party_say(struct party *p, const char *subject, const char *text);
void party_fill(struct party *p, const char *subject, int n);           /* n messages */
void party_api(struct party *p, const char *subject, const char *body); /* a request to JetStream that is granted */

#endif
