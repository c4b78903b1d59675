/* What the files of board share. */
#ifndef AETHELOS_BOARD_H
#define AETHELOS_BOARD_H

#include "board_core.h"
#include "service/service.h"

struct board_config {
        int64_t hold_ms;
};

struct pending;        /* board_evidence.c */
struct board_commands; /* board_meta.c */
struct board_streams;  /* board_stream.c */

struct board_state {
        struct pending *v; /* requests with evidence */
        size_t n, cap;
        int64_t look_at_ms;
        struct board_commands *commands; /* requests with commands to meta-repair */
        struct board_streams *streams;   /* NULL until there was one */
        struct strbuf metrics;           /* as they were at metrics_ms */
        int64_t metrics_ms;
};

int board_init(struct service *s);
void board_fini(struct service *s);

/* What a negative errno of the store means for who asked: 503 when it cannot be reached; else 500, and it is logged. */
struct board_problem board_failure(struct service *s, int e);

/* Answers; board_fail is for a negative errno of the store. */
void board_fail(struct service *s, struct http_request *r, int e);
void board_refuse(struct http_request *r, const struct board_problem *p);
void board_answer(struct http_request *r, int status, const struct strbuf *b);

/* board_evidence.c: requests that wait for a commit and for a chain to move */
void board_confirm(void *ctx, struct http_request *r);
void board_confirm_many(void *ctx, struct http_request *r);
void board_confirm_refund(void *ctx, struct http_request *r);
void board_mark(void *ctx, struct http_request *r);
void board_on_round(struct service *s);

/* board_meta.c: issues, rules, and commands to meta-repair, which wait until they are done */
void board_get_issues(void *ctx, struct http_request *r);
void board_get_issue(void *ctx, struct http_request *r);
void board_repair_issue(void *ctx, struct http_request *r);
void board_close_issue(void *ctx, struct http_request *r);
void board_auto_repair(void *ctx, struct http_request *r);
void board_redrive(void *ctx, struct http_request *r);
void board_refund(void *ctx, struct http_request *r);
void board_close(void *ctx, struct http_request *r);
void board_get_command(void *ctx, struct http_request *r);
void board_get_rules(void *ctx, struct http_request *r);
void board_post_rule(void *ctx, struct http_request *r);
void board_get_haste(void *ctx, struct http_request *r);
void board_post_haste(void *ctx, struct http_request *r);
void board_post_task(void *ctx, struct http_request *r);
void board_run_task(void *ctx, struct http_request *r);
void board_get_task(void *ctx, struct http_request *r);
void board_commands_round(struct service *s);
struct board_commands *board_commands_free(struct board_commands *c);

/* board_handlers.c: documents */
void board_get_healthz(void *ctx, struct http_request *r);
void board_get_readyz(void *ctx, struct http_request *r);
void board_get_metrics(void *ctx, struct http_request *r);
void board_get_overview(void *ctx, struct http_request *r);
void board_get_revenue(void *ctx, struct http_request *r);
void board_get_payouts_summary(void *ctx, struct http_request *r);
void board_get_payouts(void *ctx, struct http_request *r);
void board_get_refunds(void *ctx, struct http_request *r);
void board_get_events(void *ctx, struct http_request *r);
void board_get_quarantine(void *ctx, struct http_request *r);
void board_get_job(void *ctx, struct http_request *r);
void board_get_dossier(void *ctx, struct http_request *r);

/* board_stream.c: events as they happen */
void board_stream_events(void *ctx, struct http_request *r);
void board_streams_round(struct service *s);
struct board_streams *board_streams_free(struct board_streams *streams);

/* board_webhooks.c: who is told of events over HTTP */
void board_get_webhooks(void *ctx, struct http_request *r);
void board_post_webhook(void *ctx, struct http_request *r);
void board_delete_webhook(void *ctx, struct http_request *r);
void board_enable_webhook(void *ctx, struct http_request *r);
void board_rotate_webhook(void *ctx, struct http_request *r);
void board_get_deliveries(void *ctx, struct http_request *r);
void board_redeliver_webhook(void *ctx, struct http_request *r);

/* board_runs.c: open runs at operators */
void board_get_runs(void *ctx, struct http_request *r);
void board_resolve_run(void *ctx, struct http_request *r);

/* board_tasks.c: system tasks */
void board_get_tasks(void *ctx, struct http_request *r);
void board_get_export(void *ctx, struct http_request *r);

/* board_catalogue.c: operators and flows */
void board_get_operators(void *ctx, struct http_request *r);
void board_post_operator(void *ctx, struct http_request *r);
void board_get_flows(void *ctx, struct http_request *r);
void board_post_flow(void *ctx, struct http_request *r);

#endif
