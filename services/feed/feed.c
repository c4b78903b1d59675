/* aethelos-feed: follows the tail of the event store, tells every event live on the bus, and keeps the figures of the overview. It stands beside the
 * chains: nothing waits for it, and what it tells live can be caught up over HTTP. */
#include "feed.h"

static const struct service_subject subjects[] = {
        {"says", "aethelos.event.*.*.*", "Event"},
        {"hears", "aethelos.hop.intake.*", "Envelope"},
        {0},
};

static const struct service_spec feed = {
        .name = "feed",
        .subjects = subjects,
        .generic_plans = true,
        .init = feed_init,
        .fini = feed_fini,
        .on_message = feed_on_message,
        .on_tick = feed_on_tick,
};

int main(int argc, char *argv[])
{
        return service_run(argc, argv, &feed);
}
