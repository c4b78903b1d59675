/* The stack under test with everything that stands around it: proxies, operators, load, auditor, and who is hurt at the moment. */
#ifndef AETHELOS_TESTS_FAULT_WORLD_H
#define AETHELOS_TESTS_FAULT_WORLD_H

#include "auditor.h"
#include "load.h"
#include "proxy.h"

enum world_proxy { WORLD_PG, WORLD_NATS, WORLD_KEEPER, WORLD_SPARE, WORLD_AGAIN, WORLD_MUTE, WORLD_PROVIDER, WORLD_HOOKS, WORLD_PROXY_COUNT };
#define WORLD_OPERATORS (WORLD_PROVIDER - WORLD_KEEPER) /* over HTTP; one more on the bus */

/* What heals by the clock. */
enum world_cure { CURE_SPAWN, CURE_THAW, CURE_NATS_START, CURE_NATS_THAW, CURE_PG_START, CURE_PROVIDER };

struct world {
        struct stack *stack;
        struct proxy *proxies[WORLD_PROXY_COUNT];
        struct fake_provider *provider;
        struct hooks *hooks;
        struct desk *desk;
        char pg_dir[96], pg_url[160], nats_url[64], provider_setting[96];
        struct audit_operator operators[WORLD_OPERATORS + 1];
        struct bus *bus;
        int wake_fd;
        struct load load;
        struct auditor auditor;
        struct fault_random random;
        int64_t freeze_max_ms;
        struct world_due {
                enum world_cure cure;
                int64_t at_ms;
                pid_t pid;
                char name[32];
        } due[128];
        size_t n_due;
        bool nats_hurt, pg_hurt; /* one fault at a time for each engine */
        struct strbuf broken;    /* what must not happen and is no matter of the store: a service that ended by itself */
        unsigned killed, frozen;
};

void world_start(struct world *w, uint64_t seed);
void world_end(struct world *w);           /* everything drains with exit status 0, or the process aborts */
void world_round(struct world *w, int ms); /* waits, hears, restarts who died, cures what is due */
void world_heal(struct world *w);          /* cures everything now */

void world_later(struct world *w, enum world_cure cure, int64_t ms, pid_t pid, const char *name);
bool world_is_hurt(const struct world *w, pid_t pid); /* frozen */

#endif
