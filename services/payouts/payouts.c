/* aethelos-payouts: what the owner is owed is made ready at once, and done when a person says with a reference that it was transferred. */
#include "payouts.h"

static const struct service_subject subjects[] = {
        {"says", "aethelos.hop.payouts.*", "Envelope"},
        {0},
};

static const struct service_spec payouts = {
        .name = "payouts",
        .subjects = subjects,
        .hears_hops = true,
        .generic_plans = true,
        .pace_us = 20000, /* nobody waits for READY, and a batch costs more than a payout in it */
        .on_bells = payouts_on_bells,
};

int main(int argc, char *argv[])
{
        return service_run(argc, argv, &payouts);
}
