/* Each fault is one row and one function. Numbers come from the world's seed alone, so that a seed gives the same order of faults; how they meet the
 * stack is up to its processes. */
#include "faults.h"

#include "base/util.h"
#include "poison.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define DOWN_MS  1500 /* an engine stays away at most this long */
#define STALL_MS 2500

static int64_t number(struct world *w, int64_t from, int64_t to)
{
        return fault_random_between(&w->random, from, to);
}

static struct stack_process *anybody(struct world *w)
{
        return w->stack->n > 0 ? &w->stack->processes[number(w, 0, (int64_t)w->stack->n - 1)] : NULL;
}

static void kill_service(struct world *w)
{
        struct stack_process *p = anybody(w);

        if (p)
                kill(p->pid, SIGKILL);
}

static void kill_all_of_one(struct world *w)
{
        struct stack_process *p = anybody(w);

        for (size_t i = 0; p && i < w->stack->n; i++)
                if (strcmp(w->stack->processes[i].name, p->name) == 0)
                        kill(w->stack->processes[i].pid, SIGKILL);
}

static void kill_everybody(struct world *w)
{
        for (size_t i = 0; i < w->stack->n; i++)
                kill(w->stack->processes[i].pid, SIGKILL);
}

static void freeze_service(struct world *w)
{
        struct stack_process *p = anybody(w);

        if (!p || world_is_hurt(w, p->pid))
                return;
        kill(p->pid, SIGSTOP);
        world_later(w, CURE_THAW, number(w, 200, w->freeze_max_ms), p->pid, NULL);
}

static bool nats_free(struct world *w)
{
        bool before = w->nats_hurt;

        w->nats_hurt = true;
        return !before;
}

static void kill_nats(struct world *w)
{
        if (!nats_free(w))
                return;
        nats_fixture_kill(w->stack->nats);
        world_later(w, CURE_NATS_START, number(w, 0, DOWN_MS), 0, NULL);
}

static void freeze_nats(struct world *w)
{
        if (!nats_free(w))
                return;
        nats_fixture_pause(w->stack->nats);
        world_later(w, CURE_NATS_THAW, number(w, 200, w->freeze_max_ms), 0, NULL);
}

static void wipe_nats(struct world *w)
{
        if (!nats_free(w))
                return;
        nats_fixture_kill(w->stack->nats);
        nats_fixture_wipe(w->stack->nats);
        world_later(w, CURE_NATS_START, number(w, 0, DOWN_MS), 0, NULL);
}

/* Under the running server, which is then killed: what it had in memory about its storage dies with it. */
static void wipe_running_nats(struct world *w)
{
        if (!nats_free(w))
                return;
        nats_fixture_wipe(w->stack->nats);
        world_later(w, CURE_NATS_START, number(w, 0, DOWN_MS), 0, NULL);
}

static void restart_pg(struct world *w)
{
        if (w->pg_hurt)
                return;
        w->pg_hurt = true;
        pg_fixture_kill(w->stack->pg);
        world_later(w, CURE_PG_START, number(w, 0, DOWN_MS), 0, NULL);
}

static struct proxy *any_proxy(struct world *w)
{
        int64_t which = number(w, 0, 2);

        return w->proxies[which < 2 ? which : number(w, WORLD_KEEPER, WORLD_PROXY_COUNT - 1)];
}

static void cut(struct world *w)
{
        proxy_order(any_proxy(w), PROXY_CUT, 0);
}

static void reset(struct world *w)
{
        proxy_order(any_proxy(w), PROXY_RESET, 0);
}

static void truncate_streams(struct world *w)
{
        proxy_order(any_proxy(w), PROXY_TRUNCATE, 0);
}

static void stall(struct world *w)
{
        proxy_order(any_proxy(w), PROXY_STALL, number(w, 100, STALL_MS));
}

static void refuse(struct world *w)
{
        proxy_order(any_proxy(w), PROXY_REFUSE, number(w, 100, DOWN_MS));
        proxy_order(any_proxy(w), PROXY_RESET, 0);
}

static void mischief(struct world *w)
{
        proxy_order(w->proxies[WORLD_NATS], PROXY_MISCHIEF, number(w, 500, 3000));
}

/* It does what it is asked, and its answer is lost or wrong; or it does nothing. What it has done it can be asked about. */
static void hurt_provider(struct world *w)
{
        static const char *const modes[] = {"lost", "error", "never", "down", "refuse intents"};

        fake_provider_mode(w->provider, modes[number(w, 0, ARRAY_SIZE(modes) - 1)]);
        world_later(w, CURE_PROVIDER, number(w, 500, 3000), 0, NULL);
}

static void feed_poison(struct world *w)
{
        poison(w);
}

static struct fault {
        const char *name;
        unsigned weight;
        void (*act)(struct world *w);
        unsigned times;
} faults[] = {
        {"a service killed", 20, kill_service, 0},
        {"a service frozen", 16, freeze_service, 0},
        {"all instances of a service killed", 5, kill_all_of_one, 0},
        {"every service killed", 1, kill_everybody, 0},
        {"nats-server killed", 3, kill_nats, 0},
        {"nats-server frozen", 3, freeze_nats, 0},
        {"broker storage deleted", 3, wipe_nats, 0},
        {"broker storage deleted under the running server", 1, wipe_running_nats, 0},
        {"PostgreSQL restarted in immediate mode", 4, restart_pg, 0},
        {"connections cut", 6, cut, 0},
        {"connections reset", 6, reset, 0},
        {"connections cut in the middle", 8, truncate_streams, 0},
        {"connections stalled", 6, stall, 0},
        {"connections refused", 3, refuse, 0},
        {"bus messages dropped, doubled, delayed, spoiled", 10, mischief, 0},
        {"poison fed", 10, feed_poison, 0},
        {"the payment provider misbehaves", 8, hurt_provider, 0},
};

void faults_inject(struct world *w, bool verbose)
{
        int64_t all = 0, dice;

        for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
                all += faults[i].weight;
        dice = number(w, 0, all - 1);
        for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
                dice -= faults[i].weight;
                if (dice >= 0)
                        continue;
                if (verbose)
                        fprintf(stderr, "fault: %s\n", faults[i].name);
                faults[i].times++;
                faults[i].act(w);
                return;
        }
}

void faults_report(const struct world *w, struct strbuf *text)
{
        struct proxy_counts bus = proxy_counts(w->proxies[WORLD_NATS]);

        for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
                strbuf_addf(text, "%6u %s\n", faults[i].times, faults[i].name);
        strbuf_addf(text, "bus messages: %llu passed, %llu dropped, %llu doubled, %llu delayed, %llu spoiled\n", (unsigned long long)bus.passed,
                (unsigned long long)bus.dropped, (unsigned long long)bus.repeated, (unsigned long long)bus.held, (unsigned long long)bus.garbled);
}

unsigned faults_injected(void)
{
        unsigned n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
                n += faults[i].times;
        return n;
}
