/* aethelos-meta-repair: rings again for chains that stand although nobody outside keeps them (the first of the two clocks). It writes nothing. */
#include "repair.h"

#define FIELD(f) offsetof(struct repair_config, f)

static const struct setting settings[] = {
        {.name = "ring_rate",
                .kind = SETTING_INT,
                .fallback = "2000",
                .min = 1,
                .max = 1000000,
                .offset = FIELD(ring_rate),
                .help = "chains rung again per service and second at most"},
        {0},
};

static const struct service_subject subjects[] = {
        {"says", "aethelos.hop.pricing.*", "Envelope"},
        {"says", "aethelos.hop.payments.*", "Envelope"},
        {"says", "aethelos.hop.execution.*", "Envelope"},
        {"says", "aethelos.hop.ledger.*", "Envelope"},
        {"says", "aethelos.hop.payouts.*", "Envelope"},
        {0},
};

static const struct service_spec repair = {
        .name = "meta-repair",
        .settings = settings,
        .config_size = sizeof(struct repair_config),
        .subjects = subjects,
        .init = repair_init,
        .fini = repair_fini,
        .on_tick = repair_on_tick,
};

int main(int argc, char *argv[])
{
        return service_run(argc, argv, &repair);
}
