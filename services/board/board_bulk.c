/* The answer to a request that confirms many payments. Each has its own outcome, in the order of the request. Nothing is called stored that was not
 * committed: what is not known to be stored is refused with what the store said (it may be, when the answer to its commit was lost), and when nothing
 * is known to be stored at all that is the answer to the whole request. Nothing here survives a crash or has to: repeating the request with the same
 * references is right. */
#include "board_bulk.h"

#include <stdlib.h>

struct board_bulk {
        struct http_request *request;
        bool committed, waiting;      /* of at least one: it is stored; it is stored and has not moved */
        struct board_problem failure; /* of the store; status 0: none */
        size_t open, n;
        struct outcome {
                char *id;
                const char *status;
                struct board_problem problem; /* of one that is refused */
        } v[];
};

struct board_bulk *board_bulk_new(struct http_request *r, struct board_payments *payments)
{
        struct board_bulk *b = xcalloc(1, sizeof(*b) + payments->n * sizeof(b->v[0]));

        b->request = r;
        b->n = payments->n;
        b->open = b->n + 1;
        for (size_t i = 0; i < b->n; i++)
                b->v[i].id = TAKE_PTR(payments->v[i].id_text);
        return b;
}

static void add_outcome(struct strbuf *text, const struct outcome *o)
{
        strbuf_adds(text, text->len > 0 ? "," : "{\"items\":[");
        strbuf_adds(text, "{");
        strbuf_add_member(text, "id", o->id);
        strbuf_add_member(text, "status", o->status);
        if (o->problem.status) {
                strbuf_adds(text, ",\"problem\":");
                http_problem_json(text, o->problem.status, o->problem.slug, o->problem.detail, o->problem.field[0] ? o->problem.field : NULL);
        }
        strbuf_addc(text, '}');
}

static void answer(struct board_bulk *b)
{
        _cleanup_(strbuf_done) struct strbuf text = {0};

        if (b->failure.status && !b->committed) {
                board_refuse(b->request, &b->failure);
                return;
        }
        for (size_t i = 0; i < b->n; i++)
                add_outcome(&text, &b->v[i]);
        strbuf_adds(&text, "]}");
        board_answer(b->request, b->waiting ? 202 : 200, &text);
}

void board_bulk_drop(struct board_bulk *b)
{
        if (--b->open > 0)
                return;
        for (size_t i = 0; i < b->n; i++)
                free(b->v[i].id);
        free(b);
}

void board_bulk_close(struct board_bulk *b)
{
        if (b->open == 1)
                answer(b);
        board_bulk_drop(b);
}

void board_bulk_stored(struct board_bulk *b, size_t i, bool moved)
{
        b->v[i].status = moved ? "confirmed" : "stored";
        b->committed = true;
        b->waiting |= !moved;
        board_bulk_close(b);
}

void board_bulk_refuse(struct board_bulk *b, size_t i, const struct board_problem *p)
{
        b->v[i].status = "refused";
        b->v[i].problem = *p;
        if (p->field[0])
                board_problem_of_item(&b->v[i].problem, i);
        if (p->status >= 500)
                b->failure = *p;
        board_bulk_close(b);
}
