/* System tasks: the list, and what a settlement gathered, for the bookkeeping and the transfer. Reading it marks nothing: a payout is done by the
 * evidence of its transfer. Opening a task is a command (board_meta.c). Nothing is kept between requests. */
#include "board.h"
#include "board_tasks_store.h"

#include <errno.h>
#include <string.h>

#define PAGE 50

void board_get_tasks(void *ctx, struct http_request *r)
{
        static const char *const states[] = {"SCHEDULED", "RUNNING", "COMPLETED", "FAILED"};
        struct service *s = ctx;
        const char *kind = http_query_arg(r, "kind"), *state = http_query_arg(r, "state"), *cursor = http_query_arg(r, "after");
        _cleanup_(strbuf_done) struct strbuf b = {0};
        struct uuid after;
        bool known = !state, kind_known = true;
        int64_t limit;
        int e;

        for (size_t i = 0; state && i < ARRAY_SIZE(states); i++)
                known |= strcmp(state, states[i]) == 0;
        if (!known || (cursor && !uuid_parse(cursor, strlen(cursor), &after)) || !board_limit_parse(http_query_arg(r, "limit"), PAGE, &limit)) {
                http_answer_problem(r, 422, "invalid-query",
                        "state is SCHEDULED, RUNNING, COMPLETED or FAILED, after the `next` of the page before, limit a number from 1 to 1000", NULL);
                return;
        }
        e = kind ? board_task_kind_known(s->db, kind, &kind_known) : 0;
        if (e == 0 && kind_known)
                e = board_tasks(s->db, kind, state, cursor ? &after : NULL, limit, &b);
        if (e < 0)
                board_fail(s, r, e);
        else if (!kind_known)
                http_answer_problem(r, 422, "invalid-query", "there is no such kind of task; docs/tasks.md lists them", NULL);
        else
                board_answer(r, 200, &b);
}

static struct amount amount_of(const PGresult *rows, int row)
{
        struct amount a = {.minor = db_int(rows, row, 2)};
        struct slice currency = db_text(rows, row, 3);

        if (currency.s && currency.len < sizeof(a.currency))
                memcpy(a.currency, currency.s, currency.len);
        return a;
}

/* Every value is of our own making: none has a comma, a quote or the beginning of a formula. */
static void add_csv(struct strbuf *b, const PGresult *rows)
{
        strbuf_adds(b, "payout_id,job_id,amount,currency,status,since\r\n");
        for (int row = 0; row < PQntuples(rows); row++) {
                _cleanup_(strbuf_done) struct strbuf human = {0};
                struct amount a = amount_of(rows, row);

                amount_add_human(&human, a); /* EUR 25.88 */
                strbuf_addf(b, "%s,%s,%s,%s,%s,%s\r\n", PQgetvalue(rows, row, 0), PQgetvalue(rows, row, 1), human.s + strlen(a.currency) + 1,
                        a.currency, PQgetvalue(rows, row, 4), PQgetvalue(rows, row, 5));
        }
}

static void add_json(struct strbuf *b, const PGresult *rows)
{
        strbuf_adds(b, "{\"items\":[");
        for (int row = 0; row < PQntuples(rows); row++) {
                strbuf_addf(b, "%s{\"payout_id\":\"%s\",\"job_id\":\"%s\",\"amount\":", row > 0 ? "," : "", PQgetvalue(rows, row, 0),
                        PQgetvalue(rows, row, 1));
                amount_add_json(b, amount_of(rows, row));
                strbuf_addf(b, ",\"status\":\"%s\",\"since\":\"%s\"}", PQgetvalue(rows, row, 4), PQgetvalue(rows, row, 5));
        }
        strbuf_adds(b, "],\"next\":null}");
}

void board_get_export(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        const char *format = http_query_arg(r, "format"), *text = http_path_arg(r, 0);
        _cleanup_(strbuf_done) struct strbuf b = {0}, document = {0};
        _cleanup_(PQclearp) PGresult *rows = NULL;
        bool csv = format && strcmp(format, "csv") == 0;
        struct uuid id;
        int e;

        if (format && !csv && strcmp(format, "json") != 0) {
                http_answer_problem(r, 422, "invalid-query", "format is json or csv", NULL);
                return;
        }
        e = uuid_parse(text, strlen(text), &id) ? board_task(s->db, &id, &document) : -ENOENT;
        if (e == 0)
                e = board_settlement(s->db, &id, &rows);
        if (e == -ENOENT) {
                http_answer_problem(r, 404, "unknown-task", "there is no such task", NULL);
        } else if (e < 0) {
                board_fail(s, r, e);
        } else if (csv) {
                add_csv(&b, rows);
                http_answer(r, 200, "text/csv; charset=utf-8", b.s, b.len);
        } else {
                add_json(&b, rows);
                board_answer(r, 200, &b);
        }
}
