/* The SQL of the catalogue: operators and flows. It is append-only, and each registration is one transaction: a crash leaves all of it or nothing. */
#include "board_catalogue_store.h"

#include "base/crashpoint.h"
#include "services/execution/execution_core.h"
#include "services/intake/job_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OPERATOR_COLUMNS                                                                                                                             \
        "row_to_json(x)::text, x.successes, x.failures, o.total_ms FROM operator o CROSS JOIN LATERAL (SELECT o.name, o.kind, o.description, o.url," \
        " o.status_url, o.tags, o.fallback_for, o.idempotent, o.timeout_ms, o.max_in_flight, o.lease_ms, o.encoding, o.successes, o.failures, "      \
        "o.refusals, o.refused_in_a_row, o.streak, " JOB_VIEW_TIME("o.avoid_until") " AS avoid_until, o.last_error) x "

int board_operators(struct db *db, PGresult **ret_result)
{
        static const char sql[] = "SELECT " OPERATOR_COLUMNS "ORDER BY o.name";

        return db_run(db, sql, NULL, ret_result);
}

void board_add_operator(struct strbuf *b, const PGresult *r, int row)
{
        struct execution_operator o = {.successes = db_int(r, row, 1), .failures = db_int(r, row, 2), .total_ms = db_int(r, row, 3)};
        int64_t runs = o.successes + o.failures;

        strbuf_adds(b, PQgetvalue(r, row, 0));
        b->len--; /* the closing brace */
        strbuf_addf(b, ",\"health\":\"%s\",\"score\":", execution_health_name(&o));
        json_add_double(b, execution_score(&o));
        if (runs > 0)
                strbuf_addf(b, ",\"average_ms\":%lld}", (long long)(o.total_ms / runs));
        else
                strbuf_adds(b, ",\"average_ms\":null}");
}

static void arg_list(struct db_args *args, const struct board_list *list)
{
        db_array_begin(args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < list->n; i++)
                db_array_text(args, list->v[i], strlen(list->v[i]));
}

int board_register_operator(struct db *db, const struct board_operator *o, bool *ret_new, struct strbuf *b)
{
        static const char insert[] =
                "INSERT INTO operator"
                " (name, kind, description, url, status_url, tags, fallback_for, idempotent, timeout_ms, max_in_flight, lease_ms, encoding)"
                " VALUES ($1, $10, $2, $3, $4, $5, $6, $7, $8, $9, $11, $12) ON CONFLICT DO NOTHING RETURNING name";
        static const char same[] = "SELECT " OPERATOR_COLUMNS "WHERE o.status_url IS NOT DISTINCT FROM $4 AND"
                                   " (o.name, o.kind, o.description, o.url, o.tags, o.fallback_for, o.idempotent, o.timeout_ms, o.max_in_flight,"
                                   " o.lease_ms, o.encoding) = ($1, $10, $2, $3, $5, $6, $7, $8, $9, $11, $12)";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *inserted = NULL, *r = NULL;
        int e;

        db_arg_text(&args, o->name);
        db_arg_text(&args, o->description);
        db_arg_text(&args, o->url);
        db_arg_text(&args, o->status_url);
        arg_list(&args, &o->tags);
        arg_list(&args, &o->fallback_for);
        db_arg_bool(&args, o->idempotent);
        db_arg_int(&args, o->timeout_ms);
        db_arg_int(&args, o->max_in_flight);
        db_arg_text(&args, o->kind);
        db_arg_int(&args, o->lease_ms);
        db_arg_text(&args, o->encoding);
        CRASH_POINT("board: before commit of an operator");
        e = db_run(db, insert, &args, &inserted);
        CRASH_POINT("board: after commit of an operator");
        if (e == 0)
                e = db_run(db, same, &args, &r);
        if (e < 0)
                return e;
        if (PQntuples(r) == 0)
                return -EEXIST;
        *ret_new = PQntuples(inserted) > 0;
        board_add_operator(b, r, 0);
        return 0;
}

#define FLOW_COLUMNS                                                                                                                                 \
        "row_to_json(x)::text FROM flow f CROSS JOIN LATERAL (SELECT f.id AS name, f.version, f.type, f.base, f.per_unit, f.currency,"               \
        " (SELECT json_agg(row_to_json(t)) FROM (SELECT s.tag FROM unnest(f.steps) WITH ORDINALITY s(tag, o) ORDER BY s.o) t) AS "                   \
        "steps, " JOB_VIEW_TIME("f.at") " AS created_at) x "

int board_flows(struct db *db, PGresult **ret_result)
{
        static const char sql[] = "SELECT DISTINCT ON (f.id) " FLOW_COLUMNS "ORDER BY f.id, f.version DESC";

        return db_run(db, sql, NULL, ret_result);
}

void board_add_flow(struct strbuf *b, const PGresult *r, int row)
{
        strbuf_adds(b, PQgetvalue(r, row, 0));
}

struct flow_work {
        const struct board_flow *f;
        struct strbuf *b;
        char *owner;
};

static int register_flow(struct db *db, void *arg)
{
        /* Two registrations at once must not both find the type free, nor the same next version. */
        static const char lock[] = "SELECT pg_advisory_xact_lock(hashtext('aethelos.flow'))";
        static const char owner[] = "SELECT CASE WHEN f.id <> $1 THEN f.id ELSE f.type END FROM flow f WHERE (f.type = $2) <> (f.id = $1) LIMIT 1";
        static const char insert[] = "INSERT INTO flow (id, version, type, base, per_unit, currency, steps)"
                                     " SELECT $1, coalesce(max(g.version), 0) + 1, $2, $3, $4, $5, $6 FROM flow g WHERE g.id = $1";
        static const char read[] = "SELECT " FLOW_COLUMNS "WHERE f.id = $1 ORDER BY f.version DESC LIMIT 1";
        struct flow_work *w = arg;
        _cleanup_(db_args_done) struct db_args name = {0}, both = {0}, all = {0};
        _cleanup_(PQclearp) PGresult *taken = NULL, *r = NULL;
        int e = db_run(db, lock, NULL, NULL);

        db_arg_text(&name, w->f->name);
        db_arg_text(&both, w->f->name);
        db_arg_text(&both, w->f->type);
        db_arg_text(&all, w->f->name);
        db_arg_text(&all, w->f->type);
        db_arg_text(&all, w->f->base);
        db_arg_text(&all, w->f->per_unit);
        db_arg_text(&all, w->f->currency);
        arg_list(&all, &w->f->steps);
        if (e == 0)
                e = db_run(db, owner, &both, &taken);
        if (e == 0 && PQntuples(taken) > 0) {
                freep(&w->owner);
                w->owner = xstrdup(PQgetvalue(taken, 0, 0));
                return -EEXIST;
        }
        if (e == 0)
                e = db_run(db, insert, &all, NULL);
        if (e == 0)
                e = db_run(db, read, &name, &r);
        if (e == 0) {
                strbuf_reset(w->b);
                board_add_flow(w->b, r, 0);
        }
        return e;
}

int board_register_flow(struct db *db, const struct board_flow *f, struct strbuf *b, char **ret_owner)
{
        struct flow_work w = {.f = f, .b = b};
        int e = db_transaction(db, register_flow, &w);

        if (e == -EEXIST)
                *ret_owner = w.owner;
        else
                free(w.owner);
        return e;
}
