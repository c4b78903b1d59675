/* aethelos-webhooks: tells other systems of events over HTTP, signed, until they have answered that they have them. It stands beside the chains:
 * nothing waits for it. */
#include "webhooks.h"

#include "base/hash.h"

#include <stdlib.h>

#define FIELD(f) offsetof(struct webhooks_config, f)

static const struct setting settings[] = {
        {"webhook_private_addresses", SETTING_BOOL, "false", 0, 0, FIELD(private_addresses), false,
                "whether webhooks may go to loopback and private addresses"},
        {"webhook_timeout_ms", SETTING_INT, "10000", 100, 60000, FIELD(timeout_ms), false, "time in which a receiver must have answered, ms"},
        {"webhook_first_retry_ms", SETTING_INT, "5000", 10, 3600000, FIELD(first_retry_ms), false,
                "pause after the first attempt that failed, ms; doubles up to an hour"},
        {"webhook_disable_after_s", SETTING_INT, "259200", 1, 31536000, FIELD(disable_after_s), false,
                "a subscription of which every delivery failed for so long is disabled, s"},
        {"webhook_keep_s", SETTING_INT, "604800", 1, 31536000, FIELD(keep_s), false, "how long deliveries that are done are kept, s"},
        {0},
};

static int init(struct service *s)
{
        struct webhooks_state *state = xcalloc(1, sizeof(*state));
        int e = httpc_open(&state->http);

        s->state = state;
        return e < 0 ? e : random_bytes(state->jitter, sizeof(state->jitter));
}

static void fini(struct service *s)
{
        struct webhooks_state *state = s->state;

        if (!state)
                return;
        state->http = httpc_free(state->http); /* ends what is open */
        for (struct webhooks_attempt *a = state->ended, *next; a; a = next) {
                next = a->next;
                free(a);
        }
        free(state);
        s->state = NULL;
}

static int fd(struct service *s)
{
        return httpc_fd(((struct webhooks_state *)s->state)->http);
}

static size_t busy(struct service *s)
{
        const struct webhooks_state *state = s->state;

        return httpc_in_flight(state->http) + (state->ended != NULL);
}

static const struct service_spec webhooks = {
        .name = "webhooks",
        .settings = settings,
        .config_size = sizeof(struct webhooks_config),
        .init = init,
        .fini = fini,
        .on_round = webhooks_on_round,
        .fd = fd,
        .busy = busy,
};

int main(int argc, char *argv[])
{
        return service_run(argc, argv, &webhooks);
}
