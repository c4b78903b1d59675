/* aethelos-payments: holds what a client owes, and says when it is paid or has run out. Money is never taken as paid without evidence (I7). */
#include "payments.h"

#define FIELD(f) offsetof(struct payments_config, f)

static const struct setting settings[] = {
        {.name = "intent_expiry_ms",
                .kind = SETTING_INT,
                .fallback = "604800000",
                .min = 100,
                .max = 31536000000,
                .offset = FIELD(intent_expiry_ms),
                .help = "ms after which an unpaid intent expires"},
        {0},
};

static const struct service_subject subjects[] = {
        {"says", "aethelos.hop.payments.*", "Envelope"},
        {"says", "aethelos.hop.execution.*", "Envelope"},
        {"says", "aethelos.hop.meta-repair.*", "Envelope"},
        {0},
};

static const struct service_spec payments = {
        .name = "payments",
        .settings = settings,
        .config_size = sizeof(struct payments_config),
        .subjects = subjects,
        .hears_hops = true,
        .init = payments_init,
        .fini = payments_fini,
        .on_bells = payments_on_bells,
        .on_tick = payments_on_tick,
};

int main(int argc, char *argv[])
{
        return service_run(argc, argv, &payments);
}
