/* aethelos-board: the admin API. Loopback and a bearer token; what it commits is evidence and catalogue rows on behalf of a person, never an event.
 */
#include "board.h"

#define FIELD(f) offsetof(struct board_config, f)

static const struct setting settings[] = {
        {.name = "hold_ms",
                .kind = SETTING_INT,
                .fallback = "2000",
                .min = 0,
                .max = 60000,
                .offset = FIELD(hold_ms),
                .help = "ms that a request with stored evidence waits for its chain to move"},
        {0},
};

static const struct http_route routes[] = {
        {"GET", "/healthz", 0, board_get_healthz},
        {"GET", "/readyz", 0, board_get_readyz},
        {"GET", "/metrics", 0, board_get_metrics},
        {"POST", "/payment-intents/confirm", HTTP_TOKEN, board_confirm_many},
        {"POST", "/payment-intents/{id}/confirm", HTTP_TOKEN, board_confirm},
        {"POST", "/payouts/mark", HTTP_TOKEN, board_mark},
        {"POST", "/refunds/{id}/confirm", HTTP_TOKEN, board_confirm_refund},
        {"GET", "/refunds", HTTP_TOKEN, board_get_refunds},
        {"GET", "/status/overview", HTTP_TOKEN, board_get_overview},
        {"GET", "/events", HTTP_TOKEN, board_get_events},
        {"GET", "/events/stream", HTTP_TOKEN, board_stream_events},
        {"GET", "/webhooks", HTTP_TOKEN, board_get_webhooks},
        {"POST", "/webhooks", HTTP_TOKEN, board_post_webhook},
        {"DELETE", "/webhooks/{id}", HTTP_TOKEN, board_delete_webhook},
        {"POST", "/webhooks/{id}/enable", HTTP_TOKEN, board_enable_webhook},
        {"POST", "/webhooks/{id}/rotate", HTTP_TOKEN, board_rotate_webhook},
        {"GET", "/webhooks/{id}/deliveries", HTTP_TOKEN, board_get_deliveries},
        {"POST", "/webhooks/{id}/deliveries/{delivery}/redeliver", HTTP_TOKEN, board_redeliver_webhook},
        {"GET", "/revenue/summary", HTTP_TOKEN, board_get_revenue},
        {"GET", "/payouts", HTTP_TOKEN, board_get_payouts},
        {"GET", "/payouts/summary", HTTP_TOKEN, board_get_payouts_summary},
        {"GET", "/jobs/{id}", HTTP_TOKEN, board_get_job},
        {"GET", "/jobs/{id}/dossier", HTTP_TOKEN, board_get_dossier},
        {"GET", "/runs", HTTP_TOKEN, board_get_runs},
        {"POST", "/runs/{run_id}/resolve", HTTP_TOKEN, board_resolve_run},
        {"GET", "/meta/issues", HTTP_TOKEN, board_get_issues},
        {"GET", "/meta/issues/{id}", HTTP_TOKEN, board_get_issue},
        {"POST", "/meta/issues/{id}/repair", HTTP_TOKEN, board_repair_issue},
        {"POST", "/meta/issues/{id}/close", HTTP_TOKEN, board_close_issue},
        {"POST", "/meta/auto_repair", HTTP_TOKEN, board_auto_repair},
        {"POST", "/meta/redrive", HTTP_TOKEN, board_redrive},
        {"POST", "/jobs/{id}/refund", HTTP_TOKEN, board_refund},
        {"POST", "/jobs/{id}/close", HTTP_TOKEN, board_close},
        {"GET", "/meta/commands/{id}", HTTP_TOKEN, board_get_command},
        {"GET", "/meta/rules", HTTP_TOKEN, board_get_rules},
        {"POST", "/meta/rules", HTTP_TOKEN, board_post_rule},
        {"GET", "/meta/haste", HTTP_TOKEN, board_get_haste},
        {"POST", "/meta/haste", HTTP_TOKEN, board_post_haste},
        {"GET", "/system/tasks", HTTP_TOKEN, board_get_tasks},
        {"POST", "/system/tasks", HTTP_TOKEN, board_post_task},
        {"GET", "/system/tasks/{id}", HTTP_TOKEN, board_get_task},
        {"POST", "/system/tasks/{id}/run", HTTP_TOKEN, board_run_task},
        {"GET", "/system/tasks/{id}/export", HTTP_TOKEN, board_get_export},
        {"GET", "/operators", HTTP_TOKEN, board_get_operators},
        {"POST", "/operators", HTTP_TOKEN, board_post_operator},
        {"GET", "/flows", HTTP_TOKEN, board_get_flows},
        {"POST", "/flows", HTTP_TOKEN, board_post_flow},
        {"GET", "/quarantine", HTTP_TOKEN, board_get_quarantine},
        {0},
};

static const struct service_subject subjects[] = {
        {"says", "aethelos.hop.payments.*", "Envelope"},
        {"says", "aethelos.hop.payouts.*", "Envelope"},
        {"says", "aethelos.hop.meta-repair.*", "Envelope"},
        {0},
};

static void on_round(struct service *s)
{
        board_on_round(s);
        board_commands_round(s);
        board_streams_round(s);
}

static const struct service_spec board = {
        .name = "board",
        .settings = settings,
        .config_size = sizeof(struct board_config),
        .subjects = subjects,
        .init = board_init,
        .fini = board_fini,
        .routes = routes,
        .on_round = on_round,
};

int main(int argc, char *argv[])
{
        return service_run(argc, argv, &board);
}
