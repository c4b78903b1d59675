/* The bell-ringer, the first of the two clocks: once a second the instance that holds the lease `ringer` reads what stands and rings the hearers of
 * what has stood too long (I2: a chain moves, or waits for a named party). Each service has a sweep of its own: oldest first, at most ring_rate a
 * second, going on at the next tick behind the last chain rung. While a service cannot be rung (the bus is away, it has no consumers there, or its
 * backlog moves) its clock stands still, so that nothing that came due meanwhile is forgotten. All of it is memory that may be lost, and it is
 * dropped when what was rung may be lost with the broker: a new holder of the lease, and the same one after each new connection to the bus, rings
 * everything older than 2 s once. It writes nothing but its lease. */
#include "base/crashpoint.h"
#include "base/util.h"
#include "proto/subjects.h"
#include "repair.h"
#include "repair_core.h"
#include "repair_store.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEASE       "ringer"
#define LOOK_MS     500  /* an answer of the broker about a backlog may take so long */
#define LOOK_NEW_MS 500  /* a look so new is good enough */
#define LOOK_OLD_MS 5000 /* a look further back says nothing about movement */
#define HEARERS_MAX 32
#define DUE_MAX     65536 /* gathered before it is cut to what can be rung */

/* A service that is rung. */
struct hearer {
        char name[16];
        int64_t swept_ms;      /* bells due up to here were rung (database clock); 0: none yet */
        int64_t sweep_ms;      /* the present sweep began here; 0: none is under way */
        int64_t rung_since_ms; /* the last chain rung in it */
        struct uuid rung_id;
        struct ring_backlog look;
        int64_t looked_ms; /* monotonic; 0: never */
        bool held;         /* what the last look said */
        bool absent;       /* and this: it has no consumers, and a bell would reach nobody */
        size_t taken;      /* in the present tick */
        bool more;         /* there is more than the rate allows */
};

struct ringer {
        int64_t epoch;      /* of the lease, while the sweeps below go on under it */
        unsigned bus_epoch; /* of the connection they rang over */
        struct hearer hearers[HEARERS_MAX];
        size_t n_hearers;
        int64_t now_ms;
        struct repair_standing *due;
        size_t n_due, cap_due;
};

struct ringer *ringer_new(void)
{
        return xcalloc(1, sizeof(struct ringer));
}

struct ringer *ringer_free(struct ringer *ringer)
{
        if (ringer)
                free(ringer->due);
        free(ringer);
        return NULL;
}

static struct ringer *ringer_of(struct service *s)
{
        return ((struct repair_state *)s->state)->ringer;
}

static struct hearer *hearer_of(struct ringer *state, const char *name)
{
        struct hearer *h;

        for (size_t i = 0; i < state->n_hearers; i++)
                if (strcmp(state->hearers[i].name, name) == 0)
                        return &state->hearers[i];
        if (state->n_hearers == HEARERS_MAX)
                die("the specification names more than 32 hearers");
        h = &state->hearers[state->n_hearers++];
        *h = (struct hearer){0};
        copy_text(h->name, sizeof(h->name), name);
        return h;
}

static int by_age(const void *a, const void *b)
{
        const struct repair_standing *x = a, *y = b;

        if (x->since_ms != y->since_ms)
                return x->since_ms < y->since_ms ? -1 : 1;
        return uuid_compare(&x->id, &y->id);
}

/* Keeps the oldest ring_rate of each service. */
static void cut(struct ringer *state, size_t rate)
{
        size_t kept = 0;

        for (size_t i = 0; i < state->n_hearers; i++)
                state->hearers[i].taken = 0;
        if (state->n_due > 1)
                qsort(state->due, state->n_due, sizeof(*state->due), by_age);
        for (size_t i = 0; i < state->n_due; i++) {
                struct hearer *h = hearer_of(state, state->due[i].hearer);

                if (h->taken == rate) {
                        h->more = true;
                        continue;
                }
                h->taken++;
                state->due[kept++] = state->due[i];
        }
        state->n_due = kept;
}

static void gather(void *arg, const struct repair_standing *standing)
{
        struct service *s = arg;
        const struct repair_config *config = s->config;
        struct ringer *state = ringer_of(s);
        struct hearer *h = hearer_of(state, standing->hearer);
        int64_t before = h->swept_ms ? h->swept_ms - standing->since_ms : 0;

        if (!ring_due(before, state->now_ms - standing->since_ms))
                return;
        if (h->sweep_ms) {
                int64_t order = standing->since_ms - h->rung_since_ms;

                if (order < 0 || (order == 0 && uuid_compare(&standing->id, &h->rung_id) <= 0))
                        return; /* rung in this sweep already */
        }
        if (state->n_due >= DUE_MAX)
                cut(state, (size_t)config->ring_rate);
        if (state->n_due == state->cap_due) {
                state->cap_due = state->cap_due ? 2 * state->cap_due : 1024;
                state->due = xrealloc(state->due, state->cap_due * sizeof(*state->due));
        }
        state->due[state->n_due++] = *standing;
}

static int read_standing(struct service *s)
{
        struct ringer *state = ringer_of(s);
        int e = repair_now(s->db, &state->now_ms);

        for (int evidence = 0; evidence < 2 && e == 0; evidence++) {
                struct uuid after = {0};
                bool more = true;

                while (e == 0 && more)
                        e = repair_page(s->db, evidence, state->now_ms - RING_FIRST_MS, &after, gather, s, &more);
        }
        return e;
}

/* What the three lanes of a service have before them. A service that has never started has no consumers and no backlog; after the loss of the
 * broker's storage neither has one that has not come back to declare them. */
static int look(struct service *s, const char *name, struct ring_backlog *ret_backlog, bool *ret_absent)
{
        struct ring_backlog all = {0};
        bool absent = false;
        char stream[32] = STREAM_HOP;
        size_t n = strlen(stream);

        for (const char *c = name; *c && n + 1 < sizeof(stream); c++)
                stream[n++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        stream[n] = '\0';
        for (int lane = 0; lane < LANE_COUNT; lane++) {
                struct bus_backlog b = {0};
                int e = bus_backlog(s->bus, stream, lane_name((enum lane)lane), LOOK_MS, &b);

                if (e < 0 && e != -ENOENT)
                        return e;
                absent = absent || e == -ENOENT;
                all.waiting += b.pending + b.ack_pending;
                all.acked += b.acked;
        }
        *ret_backlog = all;
        *ret_absent = absent;
        return 0;
}

/* Whether its bell is held back; looks at the broker unless that was done just now. */
static bool held(struct service *s, struct hearer *h)
{
        struct ring_backlog now;
        int64_t at = now_mono_ms();
        bool fresh = h->looked_ms && at - h->looked_ms <= LOOK_OLD_MS, absent;
        int e;

        if (h->looked_ms && at - h->looked_ms < LOOK_NEW_MS)
                return h->held;
        e = look(s, h->name, &now, &absent);
        h->held = true;
        if (e < 0) {
                log_warning("cannot see a backlog, nothing is rung", LOG_S("hearer", h->name), LOG_S("error", strerror(-e)));
                return true;
        }
        h->held = ring_withheld(fresh ? &h->look : NULL, &now);
        h->look = now;
        h->looked_ms = at;
        if (absent && !h->absent)
                log_info("not rung until it has consumers", LOG_S("hearer", h->name));
        h->absent = absent;
        if (h->held)
                log_info("not rung, its backlog moves", LOG_S("hearer", h->name), LOG_I("waiting", (int64_t)now.waiting),
                        LOG_I("due", (int64_t)h->taken));
        return h->held;
}

void ringer_look(struct service *s)
{
        struct ringer *state = ringer_of(s);

        for (size_t i = 0; bus_connected(s->bus) && i < state->n_hearers; i++)
                (void)held(s, &state->hearers[i]);
}

bool ringer_holds(struct service *s, const char *hearer)
{
        return !bus_connected(s->bus) || hearer_of(ringer_of(s), hearer)->held;
}

static void ring(struct service *s, struct hearer *h)
{
        struct ringer *state = ringer_of(s);
        int64_t oldest_ms = 0;

        for (size_t i = 0; i < state->n_due; i++) {
                const struct repair_standing *d = &state->due[i];

                if (strcmp(d->hearer, h->name) != 0)
                        continue;
                if (oldest_ms == 0)
                        oldest_ms = state->now_ms - d->since_ms;
                service_ring_one(s, d->hearer, d->lane, &d->id, d->version);
                h->rung_since_ms = d->since_ms;
                h->rung_id = d->id;
        }
        log_info("rang again", LOG_S("hearer", h->name), LOG_I("chains", (int64_t)h->taken), LOG_I("oldest_ms", oldest_ms), LOG_I("more", h->more));
        if (h->sweep_ms == 0)
                h->sweep_ms = state->now_ms;
}

static void forget(struct ringer *state)
{
        state->n_hearers = 0;
}

/* Asked again before ringing: reading may have taken longer than the lease. A broker that was away may have come back without its storage, and
 * then the next regular bell of an old chain is a minute away. */
static bool leads(struct service *s)
{
        const struct repair_config *config = s->config;
        struct ringer *state = ringer_of(s);
        unsigned bus = bus_epoch(s->bus);
        int64_t epoch = 0;

        if (repair_lease(s->db, LEASE, s->instance, 3 * config->tick_ms, &epoch) < 0 || epoch == 0)
                return false;
        if (epoch != state->epoch || bus != state->bus_epoch)
                forget(state); /* somebody else rang meanwhile, or what was rung may be lost */
        state->epoch = epoch;
        state->bus_epoch = bus;
        return true;
}

void ringer_tick(struct service *s)
{
        const struct repair_config *config = s->config;
        struct ringer *state = ringer_of(s);
        unsigned bus;
        int64_t epoch;
        int e;

        if (!bus_connected(s->bus) || !leads(s))
                return;
        epoch = state->epoch;
        bus = state->bus_epoch;
        state->n_due = 0;
        for (size_t i = 0; i < state->n_hearers; i++)
                state->hearers[i].more = false;
        e = read_standing(s);
        if (e < 0) {
                if (e != -ENOTCONN) /* that the database is away is said by the skeleton */
                        log_error("cannot read what stands", LOG_S("error", db_error(s->db)));
                return;
        }
        cut(state, (size_t)config->ring_rate);
        if (!leads(s) || state->epoch != epoch || state->bus_epoch != bus)
                return;
        for (size_t i = 0; i < state->n_hearers; i++) {
                struct hearer *h = &state->hearers[i];

                if (h->taken > 0) {
                        if (held(s, h) || h->absent)
                                continue;
                        ring(s, h);
                }
                if (h->more)
                        continue; /* the sweep goes on at the next tick */
                h->swept_ms = h->sweep_ms ? h->sweep_ms : state->now_ms;
                h->sweep_ms = 0;
        }
        CRASH_POINT("meta-repair: before ringing");
}
