/* aethelos-pricing: what an admitted job costs, with its derivation, and the receipt of jobs that came over the bus. */
#include "pricing_handlers.h"

static const struct service_subject subjects[] = {
        {"says", "aethelos.hop.payments.*", "Envelope"},
        {"says", "aethelos.receipt.*.*", "Receipt"},
        {0},
};

static const struct service_spec pricing = {
        .name = "pricing",
        .subjects = subjects,
        .hears_hops = true,
        .generic_plans = true,
        .on_bells = pricing_on_bells,
};

int main(int argc, char *argv[])
{
        return service_run(argc, argv, &pricing);
}
