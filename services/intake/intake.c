/* aethelos-intake: takes jobs in over HTTP and the bus, once per client and key, and shows what became of them. */
#include "services/intake/intake.h"

#include "base/util.h"
#include "proto/subjects.h"

#include <stdlib.h>

#define FIELD(f) offsetof(struct intake_config, f)

static const struct setting settings[] = {
        {.name = "hold_ms",
                .kind = SETTING_INT,
                .fallback = "2000",
                .min = 0,
                .max = 60000,
                .offset = FIELD(hold_ms),
                .help = "ms that a submission waits for its payment intent before it is answered with 202"},
        {0},
};

static const struct service_subject subjects[] = {
        {"hears", "aethelos.job.submit.*", "Submission"},
        {"hears", "aethelos.query.receipt.*", "key"},
        {"hears", "aethelos.hop.intake.*", "Envelope"},
        {"says", "aethelos.receipt.*.*", "Receipt"},
        {"says", "aethelos.hop.pricing.*", "Envelope"},
        {0},
};

/* On file, so that what a publisher sent while intake was away is still there; a receipt, and only a receipt, says that it was admitted. */
static const struct bus_stream stream = {
        .name = STREAM_SUBMIT,
        .subjects = {SUBJECT_SUBMIT "*"},
        .max_bytes = 512 << 20,
        .max_age_ms = INT64_C(7) * 24 * 3600 * 1000,
        .window = 512,
        .strangers = true,
};
static const struct bus_lane lanes[] = {{.durable = "intake", .filter = SUBJECT_SUBMIT "*", .weight = 1}, {0}};

static void on_round(struct service *s)
{
        intake_on_round(s);
        intake_streams_round(s);
}

static int init(struct service *s)
{
        int e;

        s->state = xcalloc(1, sizeof(struct intake_state));
        e = bus_subscribe(s->bus, SUBJECT_INTENTS, NULL); /* each instance holds requests of its own */
        return e < 0 ? e : bus_subscribe(s->bus, SUBJECT_QUERY "*", "intake");
}

static void fini(struct service *s)
{
        struct intake_state *state = s->state;

        if (!state)
                return;
        intake_catalogue_done(&state->catalogue);
        state->streams = intake_streams_free(state->streams);
        free(state->items);
        free(state->held); /* their requests are answered by the server when it ends */
        free(state);
}

static const struct service_spec intake = {
        .name = "intake",
        .settings = settings,
        .config_size = sizeof(struct intake_config),
        .subjects = subjects,
        .init = init,
        .fini = fini,
        .stream = &stream,
        .lanes = lanes,
        .on_message = intake_on_message,
        .routes = intake_routes,
        .on_round = on_round,
};

int main(int argc, char *argv[])
{
        return service_run(argc, argv, &intake);
}
