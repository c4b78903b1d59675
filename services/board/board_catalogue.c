/* Operators and flows: registering is append-only, and repeating a registration is harmless. A crash before the commit leaves nothing, after it the
 * repeat finds the row. */
#include "board.h"
#include "board_catalogue_store.h"
#include "http/httpc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void list(struct service *s, struct http_request *r, int (*read)(struct db *db, PGresult **ret_result),
        void (*add)(struct strbuf *b, const PGresult *rows, int row))
{
        _cleanup_(PQclearp) PGresult *rows = NULL;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        int e = read(s->db, &rows);

        if (e < 0) {
                board_fail(s, r, e);
                return;
        }
        strbuf_adds(&b, "{\"items\":[");
        for (int row = 0; row < PQntuples(rows); row++) {
                if (row > 0)
                        strbuf_addc(&b, ',');
                add(&b, rows, row);
        }
        strbuf_adds(&b, "],\"next\":null}");
        board_answer(r, 200, &b);
}

void board_get_operators(void *ctx, struct http_request *r)
{
        list(ctx, r, board_operators, board_add_operator);
}

void board_get_flows(void *ctx, struct http_request *r)
{
        list(ctx, r, board_flows, board_add_flow);
}

void board_post_operator(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        struct slice body = http_body(r);
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct board_operator o;
        struct board_problem p;
        bool is_new = false;
        int e;

        if (!board_read_operator(body.s, body.len, &o, &p)) {
                board_refuse(r, &p);
                return;
        }
        bool http = strcmp(o.kind, "http") == 0;
        if (http && http_url_check(o.url) < 0) {
                http_answer_problem(r, 422, "invalid-url", "an http or https URL with a host and without a user name", "/url");
        } else if (http && o.status_url && http_url_check(o.status_url) < 0) {
                http_answer_problem(r, 422, "invalid-url", "an http or https URL with a host and without a user name", "/status_url");
        } else {
                e = board_register_operator(s->db, &o, &is_new, &b);
                if (e == -EEXIST)
                        http_answer_problem(r, 409, "operator-exists", "another operator of this name is registered", "/name");
                else if (e < 0)
                        board_fail(s, r, e);
                else
                        board_answer(r, is_new ? 201 : 200, &b);
                if (e == 0 && is_new)
                        log_info("operator registered", LOG_S("name", o.name));
        }
        board_operator_done(&o);
}

void board_post_flow(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        struct slice body = http_body(r);
        _cleanup_(strbuf_done) struct strbuf b = {0}, detail = {0};
        _cleanup_(freep) char *owner = NULL;
        struct board_flow f;
        struct board_problem p;
        int e;

        if (!board_read_flow(body.s, body.len, &f, &p)) {
                board_refuse(r, &p);
                return;
        }
        e = board_register_flow(s->db, &f, &b, &owner);
        if (e == -EEXIST) {
                strbuf_addf(&detail, "this flow and this job type do not belong together: one of them has %s", owner);
                http_answer_problem(r, 409, "type-taken", detail.s, "/type");
        } else if (e < 0) {
                board_fail(s, r, e);
        } else {
                board_answer(r, 201, &b);
                log_info("flow registered", LOG_S("name", f.name));
        }
        board_flow_done(&f);
}
