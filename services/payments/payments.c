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
        {.name = "payment_driver", .kind = SETTING_STRING, .fallback = "manual", .offset = FIELD(driver), .help = "of new intents: manual or http"},
        {.name = "payment_http_url",
                .kind = SETTING_STRING,
                .offset = FIELD(http_url),
                .help = "where the provider of driver http is: proto/payments.md"},
        {.name = "payment_http_token_file",
                .kind = SETTING_SECRET_FILE,
                .offset = FIELD(http_token),
                .help = "file with the bearer token for that provider"},
        {.name = "payment_http_timeout_ms",
                .kind = SETTING_INT,
                .fallback = "10000",
                .min = 100,
                .max = 120000,
                .offset = FIELD(http_timeout_ms),
                .help = "time-out of a call of the provider, ms"},
        {0},
};

static const struct service_subject subjects[] = {
        {"says", "aethelos.hop.payments.*", "Envelope"},
        {"says", "aethelos.hop.execution.*", "Envelope"},
        {"says", "aethelos.hop.meta-repair.*", "Envelope"},
        {"says", "aethelos.hop.intake.*", "Envelope"},
        {0},
};

static const struct service_spec payments = {
        .name = "payments",
        .settings = settings,
        .config_size = sizeof(struct payments_config),
        .subjects = subjects,
        .hears_hops = true,
        .generic_plans = true,
        .init = payments_init,
        .fini = payments_fini,
        .on_bells = payments_on_bells,
        .on_tick = payments_on_tick,
        .on_round = payments_on_round,
        .fd = payments_fd,
        .busy = payments_busy,
};

int main(int argc, char *argv[])
{
        return service_run(argc, argv, &payments);
}
