/* The skeleton of every service: options and settings, logging, signals, connections, readiness, the loop, graceful drain, exit codes. A service's
 * main() is a declaration handed to service_run(); it never calls exit(), signal() or fork(), and its functions run on one thread.
 *
 * The loop, once a round: wait (wake eventfd, service_fd, timer) -> maintain connections -> take bells, submissions and requests -> on_bells /
 * on_message / route handlers -> on_round (commit what was gathered) -> publish the outbox and flush -> acknowledge. Rounds that moved something
 * begin at least 2 ms apart. Exit codes: 0 drained after SIGTERM or SIGINT; 2 bad settings or arguments; 1 anything else. Options every service
 * knows: --help, --version, --check-config (prints the settings), --subjects (prints what it hears and says), --routes (its HTTP routes),
 * --name=value for each setting. */
#ifndef AETHELOS_SERVICE_SERVICE_H
#define AETHELOS_SERVICE_SERVICE_H

#include "base/log.h"
#include "base/settings.h"
#include "bus/bus.h"
#include "http/httpd.h"
#include "store/chain.h"
#include "store/db.h"

struct service_state; /* the skeleton's own */

/* What a service's functions get. */
struct service {
        const struct service_spec *spec;
        void *config;         /* the service's own settings struct, const after start */
        void *state;          /* the service's own state, set by init */
        struct db *db;        /* may be disconnected: db_run says -ENOTCONN */
        struct bus *bus;      /* may be disconnected */
        struct httpd *httpd;  /* NULL unless spec->routes */
        const char *instance; /* unique per process: <host>-<pid> or the setting `instance` */
        struct service_state *skeleton;
};

struct service_subject {       /* for --subjects and the contract test: which subjects, which message, which direction */
        const char *direction; /* "hears" or "says" */
        const char *subject;
        const char *message; /* name in proto/ */
};

struct service_spec {
        const char *name;               /* "pricing"; database role aethelos_<name>, bus user <name>; '-' becomes '_' in the role */
        const struct setting *settings; /* the service's own table; NULL-terminated; may be NULL */
        size_t config_size;
        const struct service_subject *subjects; /* beyond the hop subjects it hears; .direction NULL ends */
        bool hears_hops;                        /* has a stream of its own, HOP_<NAME>, with three lanes */
        /* Its statements look a batch up by key, with plans that OFFSET 0 pins: planning each call for its parameters, as PostgreSQL would for arrays
         * of known length, costs more than a small batch itself. Not for statements whose best index depends on their parameters. */
        bool generic_plans;
        int64_t pace_us; /* rounds that moved something do not follow each other closer than this; 0: 2 ms */

        int (*init)(struct service *s); /* after settings, before connections are used: 0 or a negative errno (logged; exit 1) */
        void (*fini)(struct service *s);

        /* A batch of chains whose bell rang: distinct ids, at most `batch` (setting, default 256). Reads, decides, commits, and gives its transitions
         * to service_ring. 0: dealt with, acknowledge. -ENOTCONN or -EAGAIN: the batch comes again later. Any other error: the skeleton calls it
         * again with one id at a time; an id that fails alone goes to quarantine. */
        int (*on_bells)(struct service *s, const struct uuid ids[], size_t n);

        /* Another stream as source instead of hops (intake: submissions) */
        const struct bus_stream *stream;
        const struct bus_lane *lanes;
        /* One message of that stream or of a plain subscription (message->lane == -1). The service owns it: bus_ack after the commit. */
        void (*on_message)(struct service *s, struct bus_message *m);

        const struct http_route *routes;       /* handlers get struct service * as ctx */
        void (*on_round)(struct service *s);   /* end of each round: commit what was gathered, look at what waits; may be NULL */
        int64_t (*on_tick)(struct service *s); /* timer: returns ms until it wants to be called again; first call right after start; may be NULL */
        int (*fd)(struct service *s);          /* a further descriptor to wait for (curl's), -1 none; may be NULL; asked each round */
        size_t (*busy)(struct service *s);     /* work under way that a drain must wait for; may be NULL */
};

int service_run(int argc, char *argv[], const struct service_spec *spec);

/* Rings the next services for all won transitions, after the commit: gathered per hearer and lane, published as envelopes at the end of the round. */
void service_ring(struct service *s, const struct advance *a);
/* Rings one chain's hearer again (a redelivered message whose chain already stands further; the ringer; evidence). hearer "" does nothing. */
void service_ring_one(struct service *s, const char *hearer, enum lane lane, const struct uuid *id, int version);
bool service_stopping(void); /* the drain has begun: finish what is under way, begin nothing */
/* Asks for another round soon (ms from now), for work that waits for a clock. */
void service_wake_in(struct service *s, int64_t ms);
/* on_tick at the end of this round, whatever it asked for. */
void service_tick(struct service *s);
/* Takes nothing from `stream` for so long; requests and plain subscriptions go on. */
void service_rest(struct service *s, int64_t ms);
bool service_rests(const struct service *s);
/* How many messages of `stream` are a crowd: `batch`, or 256. */
size_t service_crowd(const struct service *s);
/* Puts something unusable aside, with a reason, in a transaction of its own; failure is logged. */
void service_quarantine(struct service *s, const char *subject, const struct uuid *chain, const char *reason, const void *bytes, size_t len);

/* Reads where the chains stand: one row per existing id, in no particular order. *ret_chains is malloc'ed. */
int chains_read(struct db *db, const struct uuid ids[], size_t n, struct chain **ret_chains, size_t *ret_n);

#endif
