/* Repair as people see and ask it. A command is stored first, then meta-repair is rung, and the request is held until it is done: 200 with the exact
 * result, or 202 after hold_ms with the address where the result will be. Only what is stored is answered; a crash before the commit leaves nothing,
 * after it a command that is carried out whoever waits. Under an Idempotency-Key a repeat finds the command of the first time. */
#include "board.h"
#include "board_meta_core.h"
#include "board_meta_store.h"
#include "board_tasks_store.h"
#include "services/meta-repair/repair_antibodies.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS 5
#define PAGE    50

struct held {
        struct http_request *request; /* NULL: answered */
        enum board_command command;
        struct uuid id;
        char *args;
};

struct board_commands {
        struct held *v;
        size_t n;
        int64_t look_at_ms;
};

struct board_commands *board_commands_free(struct board_commands *c)
{
        for (size_t i = 0; c && i < c->n; i++)
                free(c->v[i].args);
        if (c)
                free(c->v);
        free(c);
        return NULL;
}

static struct board_commands *commands_of(struct service *s)
{
        struct board_state *state = s->state;

        if (!state->commands)
                state->commands = xcalloc(1, sizeof(*state->commands));
        return state->commands;
}

static void unknown(struct http_request *r, const char *slug, const char *detail)
{
        http_answer_problem(r, 404, slug, detail, NULL);
}

static bool path_id(const struct http_request *r, struct uuid *ret_id)
{
        const char *text = http_path_arg(r, 0);

        return uuid_parse(text, strlen(text), ret_id);
}

static void answer_later(struct held *h)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        char id[UUID_TEXT_SIZE], location[80];

        uuid_format(&h->id, id);
        snprintf(location, sizeof(location), "/meta/commands/%s", id);
        strbuf_addf(&b, "{\"id\":\"%s\",\"status\":\"stored\",\"result\":null}", id);
        http_set_header(h->request, "Location", location);
        board_answer(h->request, 202, &b);
        h->request = NULL;
}

static void answer_result(struct held *h, const char *result)
{
        _cleanup_(freep) char *detail = NULL;
        struct board_problem p = board_command_problem(h->command, h->args, result, &detail);

        if (p.status)
                http_answer_problem(h->request, p.status, p.slug, detail ? detail : p.detail, NULL);
        else
                http_answer_json(h->request, 200, result, strlen(result));
        h->request = NULL;
}

static void command(struct service *s, struct http_request *r, enum board_command command, const struct uuid *subject)
{
        const char *key = http_header(r, "Idempotency-Key");
        struct board_commands *c = commands_of(s);
        _cleanup_(strbuf_done) struct strbuf args = {0};
        _cleanup_(freep) char *by = NULL;
        struct slice body = http_body(r);
        struct board_problem p;
        struct held h = {.request = r, .command = command};
        int e;

        if (!board_read_command(command, body.s, body.len, subject, &args, &by, &p)) {
                board_refuse(r, &p);
                return;
        }
        h.id = key ? board_command_id(command, subject, key) : uuid_v7();
        e = board_command_store(s->db, &h.id, board_command_what(command), args.s, by);
        if (e == -EEXIST) {
                http_answer_problem(r, 409, "key-reused", "another command was given under this Idempotency-Key", NULL);
                return;
        }
        if (e < 0) {
                board_fail(s, r, e);
                return;
        }
        service_ring_one(s, "meta-repair", LANE_HIGH, &h.id, 1);
        if (http_prefers_async(r)) {
                answer_later(&h);
                return;
        }
        h.args = strbuf_take(&args);
        c->v = xrealloc(c->v, (c->n + 1) * sizeof(*c->v));
        c->v[c->n++] = h;
        service_wake_in(s, LOOK_MS);
}

/* Who has waited long enough, or whose command is done, is answered. */
void board_commands_round(struct service *s)
{
        const struct board_config *config = s->config;
        struct board_commands *c = commands_of(s);
        int64_t now_ms = now_mono_ms();
        size_t kept = 0;

        if (c->n == 0)
                return;
        if (now_ms >= c->look_at_ms) {
                _cleanup_(freep) struct uuid *ids = xcalloc(c->n, sizeof(*ids));
                _cleanup_(PQclearp) PGresult *rows = NULL;
                int e;

                for (size_t i = 0; i < c->n; i++)
                        ids[i] = c->v[i].id;
                e = board_commands_done(s->db, ids, c->n, &rows); /* away: none is done as far as is known */
                for (size_t i = 0; i < c->n; i++) {
                        struct held *h = &c->v[i];

                        for (int row = 0; e == 0 && h->request && row < PQntuples(rows); row++) {
                                struct uuid id = db_uuid(rows, row, 0);

                                if (uuid_equal(&id, &h->id))
                                        answer_result(h, PQgetvalue(rows, row, 1));
                        }
                        if (h->request && (now_ms - http_received_ms(h->request) >= config->hold_ms || http_gone(h->request)))
                                answer_later(h);
                }
                c->look_at_ms = now_ms + LOOK_MS;
        }
        for (size_t i = 0; i < c->n; i++) {
                if (c->v[i].request)
                        c->v[kept++] = c->v[i];
                else
                        free(c->v[i].args);
        }
        c->n = kept;
        if (kept > 0)
                service_wake_in(s, LOOK_MS);
}

void board_auto_repair(void *ctx, struct http_request *r)
{
        command(ctx, r, BOARD_DO_AUTO_REPAIR, NULL);
}

void board_redrive(void *ctx, struct http_request *r)
{
        command(ctx, r, BOARD_DO_REDRIVE, NULL);
}

void board_post_task(void *ctx, struct http_request *r)
{
        command(ctx, r, BOARD_DO_TASK, NULL);
}

void board_post_rule(void *ctx, struct http_request *r)
{
        command(ctx, r, BOARD_DO_RULE, NULL);
}

void board_post_haste(void *ctx, struct http_request *r)
{
        command(ctx, r, BOARD_DO_HASTE, NULL);
}

static void command_on_job(struct service *s, struct http_request *r, enum board_command what)
{
        struct uuid id;

        if (path_id(r, &id))
                command(s, r, what, &id);
        else
                unknown(r, "unknown-job", "there is no such job");
}

void board_refund(void *ctx, struct http_request *r)
{
        command_on_job(ctx, r, BOARD_DO_REFUND);
}

void board_close(void *ctx, struct http_request *r)
{
        command_on_job(ctx, r, BOARD_DO_CLOSE);
}

/* --- documents --- */

static void document(struct service *s, struct http_request *r, int (*read)(struct db *db, const struct uuid *id, struct strbuf *b), const char *slug,
        const char *detail)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid id;
        int e = path_id(r, &id) ? read(s->db, &id, &b) : -ENOENT;

        if (e == -ENOENT)
                unknown(r, slug, detail);
        else if (e < 0)
                board_fail(s, r, e);
        else
                board_answer(r, 200, &b);
}

/* A command about what the path names, which must be there. */
static void command_on(struct service *s, struct http_request *r, enum board_command what,
        int (*read)(struct db *db, const struct uuid *id, struct strbuf *b), const char *slug, const char *detail)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid id;
        int e = path_id(r, &id) ? read(s->db, &id, &b) : -ENOENT;

        if (e == -ENOENT)
                unknown(r, slug, detail);
        else if (e < 0)
                board_fail(s, r, e);
        else
                command(s, r, what, &id);
}

void board_repair_issue(void *ctx, struct http_request *r)
{
        command_on(ctx, r, BOARD_DO_REPAIR_ISSUE, board_issue, "unknown-issue", "there is no such issue");
}

void board_close_issue(void *ctx, struct http_request *r)
{
        command_on(ctx, r, BOARD_DO_CLOSE_ISSUE, board_issue, "unknown-issue", "there is no such issue");
}

void board_run_task(void *ctx, struct http_request *r)
{
        command_on(ctx, r, BOARD_DO_RUN_TASK, board_task, "unknown-task", "there is no such task");
}

void board_get_command(void *ctx, struct http_request *r)
{
        document(ctx, r, board_command_document, "unknown-command", "there is no such command");
}

void board_get_issue(void *ctx, struct http_request *r)
{
        document(ctx, r, board_issue, "unknown-issue", "there is no such issue");
}

void board_get_task(void *ctx, struct http_request *r)
{
        document(ctx, r, board_task, "unknown-task", "there is no such task");
}

static void whole_list(struct service *s, struct http_request *r, int (*read)(struct db *db, struct strbuf *b))
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        int e = read(s->db, &b);

        if (e < 0)
                board_fail(s, r, e);
        else
                board_answer(r, 200, &b);
}

void board_get_rules(void *ctx, struct http_request *r)
{
        whole_list(ctx, r, board_rules);
}

void board_get_haste(void *ctx, struct http_request *r)
{
        whole_list(ctx, r, board_haste);
}

static bool issue_filter_fits(const struct board_issue_filter *f)
{
        bool state = !f->state;

        for (int i = REPAIR_OPEN; f->state && i <= REPAIR_FAILED; i++)
                state |= strcmp(f->state, repair_state_name((enum repair_issue_state)i)) == 0;
        return state && (!f->kind || repair_kind_known(f->kind)) && (!f->grade || strcmp(f->grade, "late") == 0 || strcmp(f->grade, "repair") == 0);
}

void board_get_issues(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        const char *chain = http_query_arg(r, "chain_id"), *after = http_query_arg(r, "after");
        struct board_issue_filter f = {.kind = http_query_arg(r, "kind"), .state = http_query_arg(r, "state"), .grade = http_query_arg(r, "grade")};
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid chain_id, after_id;
        int e;

        if (!issue_filter_fits(&f) || (chain && !uuid_parse(chain, strlen(chain), &chain_id)) ||
                (after && !board_issue_cursor_parse(after, &f.after_closed, &after_id)) ||
                !board_limit_parse(http_query_arg(r, "limit"), PAGE, &f.limit)) {
                http_answer_problem(r, 422, "invalid-query",
                        "kind, state and grade are those of docs/repair.md, chain_id is the id of a chain, after the `next` of the page before, "
                        "limit a number from 1 to 1000",
                        NULL);
                return;
        }
        f.chain = chain ? &chain_id : NULL;
        f.after = after ? &after_id : NULL;
        e = board_issues(s->db, &f, &b);
        if (e < 0)
                board_fail(s, r, e);
        else
                board_answer(r, 200, &b);
}
