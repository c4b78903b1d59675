/* aethelos-meta-repair: both clocks. It rings again for chains that stand although nobody outside keeps them, and it finds and repairs what is late,
 * broken or contradictory, so that every chain moves, waits for a named party, or ends with its reason (I2). */
#include "repair.h"

#include <stdio.h>
#include <string.h>

#define FIELD(f) offsetof(struct repair_config, f)

static const struct setting settings[] = {
        {.name = "ring_rate",
                .kind = SETTING_INT,
                .fallback = "2000",
                .min = 1,
                .max = 1000000,
                .offset = FIELD(ring_rate),
                .help = "chains rung again per service and second at most"},
        {.name = "lease_ms",
                .kind = SETTING_INT,
                .fallback = "10000",
                .min = 100,
                .max = 600000,
                .offset = FIELD(lease_ms),
                .help = "ms for which an instance has an issue to itself"},
        {.name = "tick_ms",
                .kind = SETTING_INT,
                .fallback = "1000",
                .min = 50,
                .max = 60000,
                .offset = FIELD(tick_ms),
                .help = "ms after which what stands is looked for again; the instance that does it has three of them to come back"},
        {0},
};

static const struct service_subject subjects[] = {
        {"says", "aethelos.hop.pricing.*", "Envelope"},
        {"says", "aethelos.hop.payments.*", "Envelope"},
        {"says", "aethelos.hop.execution.*", "Envelope"},
        {"says", "aethelos.hop.ledger.*", "Envelope"},
        {"says", "aethelos.hop.payouts.*", "Envelope"},
        {"says", "aethelos.hop.meta-repair.*", "Envelope"},
        {0},
};

static const struct service_spec repair = {
        .name = "meta-repair",
        .settings = settings,
        .config_size = sizeof(struct repair_config),
        .subjects = subjects,
        .hears_hops = true,
        .init = repair_init,
        .fini = repair_fini,
        .on_bells = repair_on_bells,
        .on_round = repair_on_round,
        .on_tick = repair_on_tick,
};

int main(int argc, char *argv[])
{
        if (argc == 2 && strcmp(argv[1], "--antibodies") == 0) { /* the tables of docs/repair.md */
                _cleanup_(strbuf_done) struct strbuf tables = {0};

                repair_print(&tables);
                fputs(tables.s, stdout);
                return 0;
        }
        return service_run(argc, argv, &repair);
}
