/* aethelos-ledger: books the revenue of an executed job, completes its chain, and opens the payout that follows from it: one transaction (I5). The
 * accounts and the rule which event moves what between them stand in the tables account and step; advance() posts. */
#include "ledger.h"

static const struct service_subject subjects[] = {
        {"says", "aethelos.hop.payouts.*", "Envelope"},
        {0},
};

static const struct service_spec ledger = {
        .name = "ledger",
        .subjects = subjects,
        .hears_hops = true,
        .generic_plans = true,
        .on_bells = ledger_on_bells,
};

int main(int argc, char *argv[])
{
        return service_run(argc, argv, &ledger);
}
