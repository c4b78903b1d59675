/* aethelos-fault: two phases. Safety: a load runs while faults are injected, and every second the auditor looks whether an invariant is broken.
 * Liveness: everything is healed, and within a minute every chain must be final or wait for a party that keeps it waiting.
 *
 * usage: aethelos-fault [--seed N] [--minutes M] [--quiet-faults]. A run that fails says how to repeat it. */
#include "faults.h"

#include "base/log.h"
#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LIVENESS_MS    60000
#define WARM_UP_MS     30000
#define LOOK_MS        1000
#define OPEN_MAX       400 /* jobs under way at most */
#define FAULT_FROM_MS  200 /* pause between two faults */
#define FAULT_TO_MS    1400
#define FREEZE_LONG_MS 30000

struct options {
        uint64_t seed;
        int64_t ms; /* of the safety phase */
        bool long_run, verbose, faults;
};

static _Noreturn void failed(struct world *w, const struct options *o, const char *what)
{
        _cleanup_(strbuf_done) struct strbuf text = {0};

        faults_report(w, &text);
        fprintf(stderr, "\n%s\n%s%s%s%s\n", what, w->auditor.found.s ? w->auditor.found.s : "", w->broken.s ? w->broken.s : "", w->load.wrong,
                text.s ? text.s : "");
        fprintf(stderr, "FAILED. To repeat it: ./aethelos fault --seed %llu --minutes %lld\n", (unsigned long long)o->seed,
                (long long)(o->ms + 59999) / 60000);
        fflush(stderr);
        exit(1);
}

static void judge(struct world *w, const struct options *o)
{
        if (w->auditor.found.len > 0)
                failed(w, o, "An invariant is broken:");
        if (w->broken.len > 0)
                failed(w, o, "A service ended by itself:");
        if (w->load.n_wrong > 0)
                failed(w, o, "A client was answered wrongly:");
}

/* How many stand; shows the first few. */
static void show_standing(struct world *w)
{
        _cleanup_(strbuf_done) struct strbuf standing = {0};
        int n = auditor_standing(&w->auditor, &standing);

        fprintf(stderr, "%d chains stand, %zu jobs of the load have not ended. The first:\n%s", n, w->load.n_open, standing.s ? standing.s : "");
}

/* Every kind once, and the operators have done something well before they are seen failing. */
static void warm_up(struct world *w, const struct options *o)
{
        int64_t until = now_mono_ms() + WARM_UP_MS;

        for (size_t kind = 0; kind < load_n_kinds; kind++) {
                load_submit(&w->load, kind);
                for (int i = 0; i < 20; i++)
                        world_round(w, 5);
        }
        while (w->load.n_open > 0 || !auditor_all_proven(&w->auditor)) {
                world_round(w, 10);
                if (now_mono_ms() > until) {
                        show_standing(w);
                        failed(w, o, w->load.n_open > 0 ? "Without any fault the jobs do not end:" : "An operator has done nothing well:");
                }
        }
        (void)auditor_look(&w->auditor, false);
        judge(w, o);
}

static void safety(struct world *w, const struct options *o)
{
        int64_t start = now_mono_ms(), fault_at = start, look_at = start, submit_at = start;

        for (int64_t now = start; now < start + o->ms; now = now_mono_ms()) {
                if (now >= submit_at && w->load.n_open < OPEN_MAX) {
                        load_submit(&w->load, load_n_kinds);
                        submit_at = now + fault_random_between(&w->random, 20, 130);
                }
                if (o->faults && now >= fault_at) {
                        faults_inject(w, o->verbose);
                        fault_at = now + fault_random_between(&w->random, FAULT_FROM_MS, FAULT_TO_MS);
                }
                if (now >= look_at) {
                        (void)auditor_look(&w->auditor, false);
                        judge(w, o);
                        look_at = now + LOOK_MS;
                }
                world_round(w, 5);
        }
}

static void liveness(struct world *w, const struct options *o)
{
        _cleanup_(strbuf_done) struct strbuf standing = {0};
        int64_t start, look_at = 0;

        world_heal(w);
        start = now_mono_ms();
        for (int n = -1; n != 0 || w->load.n_open > 0;) {
                world_round(w, 10);
                if (now_mono_ms() < look_at)
                        continue;
                look_at = now_mono_ms() + LOOK_MS;
                (void)auditor_look(&w->auditor, false);
                judge(w, o);
                n = auditor_standing(&w->auditor, &standing);
                if (o->verbose && n > 0)
                        fprintf(stderr, "%lld ms after the last fault %d stand:\n%s", (long long)(now_mono_ms() - start), n,
                                standing.s ? standing.s : "");
                if (now_mono_ms() - start > LIVENESS_MS) {
                        show_standing(w);
                        failed(w, o, "Chains stand a minute after the last fault:");
                }
        }
        printf("everything final or waiting %lld ms after the last fault\n", (long long)(now_mono_ms() - start));
}

static void report(struct world *w, const struct options *o)
{
        _cleanup_(strbuf_done) struct strbuf text = {0};
        size_t receipted = 0, paid = 0, marked = 0, told;

        for (size_t i = 0; i < w->load.n; i++) {
                receipted += w->load.jobs[i].receipted;
                paid += w->load.jobs[i].paid;
                marked += w->load.jobs[i].marked;
        }
        (void)hooks_told(w->hooks, &told);
        faults_report(w, &text);
        printf("%s", text.s ? text.s : "");
        printf("%u faults, %zu jobs (%zu receipted, %zu paid, %zu payouts marked), %u audits\n", faults_injected(), w->load.n, receipted, paid,
                marked, w->auditor.looks);
        printf("%zu workers came back when their run was another's, and were told so; %zu events were told by webhooks\n", desk_refused(w->desk),
                told);
        printf("sound: seed %llu, %lld s\n", (unsigned long long)o->seed, (long long)o->ms / 1000);
}

static int usage(FILE *out)
{
        fprintf(out,
                "usage: aethelos fault [--seed N] [--minutes M] [--verbose]\n\n"
                "Runs jobs on a stack of its own while it kills, freezes, cuts and spoils what it can, and audits every second. Then heals\n"
                "everything and waits until every chain is final or waits for somebody. M is 1 unless given; without a seed one is chosen and said.\n"
                "--verbose names each fault; --no-faults is the load alone.\n");
        return out == stdout ? 0 : 2;
}

static int parse(int argc, char *argv[], struct options *ret_options)
{
        *ret_options = (struct options){.seed = (uint64_t)time(NULL) % 1000000, .ms = 30000, .faults = true};
        for (int i = 1; i < argc; i++) {
                const char *value = i + 1 < argc ? argv[i + 1] : NULL;
                char *end = NULL;

                if (strcmp(argv[i], "--help") == 0)
                        return usage(stdout) + 1;
                if (strcmp(argv[i], "--verbose") == 0) {
                        ret_options->verbose = true;
                } else if (strcmp(argv[i], "--no-faults") == 0) {
                        ret_options->faults = false;
                } else if (strcmp(argv[i], "--seed") == 0 && value) {
                        ret_options->seed = strtoull(value, &end, 10);
                        i++;
                } else if (strcmp(argv[i], "--minutes") == 0 && value && strtol(value, &end, 10) >= 1) {
                        long minutes = strtol(value, &end, 10);

                        ret_options->ms = minutes == 1 ? 30000 : minutes * 60000;
                        ret_options->long_run = minutes > 1;
                        i++;
                } else {
                        return -usage(stderr);
                }
                if (end && *end)
                        return -usage(stderr);
        }
        return 0;
}

int main(int argc, char *argv[])
{
        static struct world w;
        struct options o;
        int e = parse(argc, argv, &o);

        if (e != 0)
                return e < 0 ? 2 : 0;
        setvbuf(stdout, NULL, _IOLBF, 0);
        printf("seed %llu\n", (unsigned long long)o.seed);
        log_setup("fault", "1", LOG_ERROR);
        world_start(&w, o.seed);
        if (o.long_run)
                w.freeze_max_ms = FREEZE_LONG_MS;
        warm_up(&w, &o);
        safety(&w, &o);
        liveness(&w, &o);
        if (!auditor_look(&w.auditor, true) || !auditor_compare(&w.auditor))
                failed(&w, &o, "The last audit could not be made:");
        judge(&w, &o);
        stack_assert_sound(w.stack);
        report(&w, &o);
        world_end(&w);
        return 0;
}
