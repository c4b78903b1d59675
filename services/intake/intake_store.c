/* All SQL of intake. What is of type system:* is internal work, which is not for clients. The key space is the primary key of submission: who inserts
 * first has the key, a concurrent second waits for the first's commit and then reads what stands there (I9). Keys are inserted in order, so that two
 * instances cannot deadlock. */
#include "services/intake/intake_store.h"

#include "base/util.h"
#include "services/intake/job_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int intake_ping(struct db *db)
{
        return db_run(db, "SELECT 1", NULL, NULL);
}

static char *copy(const PGresult *r, int row, int column)
{
        return xstrdup(PQgetvalue(r, row, column));
}

static int read_flows(struct db *db, struct intake_catalogue *c)
{
        static const char sql[] = "SELECT DISTINCT ON (type) id, version, type, base, per_unit, currency, array_to_json(steps), steps[1]"
                                  " FROM flow WHERE type NOT LIKE 'system:%' ORDER BY type, at DESC, version DESC";
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, sql, NULL, &r);

        if (e < 0)
                return e;
        c->flows = xcalloc((size_t)PQntuples(r) + 1, sizeof(*c->flows));
        for (int row = 0; row < PQntuples(r); row++)
                c->flows[c->n_flows++] = (struct intake_flow){.id = copy(r, row, 0),
                        .version = (int)db_int(r, row, 1),
                        .type = copy(r, row, 2),
                        .base = copy(r, row, 3),
                        .per_unit = copy(r, row, 4),
                        .currency = copy(r, row, 5),
                        .steps = copy(r, row, 6),
                        .first_tag = copy(r, row, 7)};
        return 0;
}

static int read_offers(struct db *db, struct intake_catalogue *c)
{
        static const char sql[] = "SELECT DISTINCT ON (id) id, version, product, title, type, context, multiplier, active FROM offer"
                                  " WHERE type NOT LIKE 'system:%' ORDER BY id, version DESC";
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, sql, NULL, &r);

        if (e < 0)
                return e;
        c->offers = xcalloc((size_t)PQntuples(r) + 1, sizeof(*c->offers));
        for (int row = 0; row < PQntuples(r); row++)
                c->offers[c->n_offers++] = (struct intake_offer){.id = copy(r, row, 0),
                        .version = (int)db_int(r, row, 1),
                        .product = copy(r, row, 2),
                        .title = copy(r, row, 3),
                        .type = copy(r, row, 4),
                        .context = copy(r, row, 5),
                        .multiplier = copy(r, row, 6),
                        .active = db_bool(r, row, 7)};
        return 0;
}

int intake_read_catalogue(struct db *db, struct intake_catalogue *ret_catalogue)
{
        struct intake_catalogue c = {0};
        int e = read_flows(db, &c);

        if (e == 0)
                e = read_offers(db, &c);
        if (e < 0) {
                intake_catalogue_done(&c);
                return e;
        }
        *ret_catalogue = c;
        return 0;
}

int intake_claim(struct db *db, struct intake_item *const items[], size_t n)
{
        static const char sql[] = "INSERT INTO submission (client, key, hash, job_id)"
                                  " SELECT u.client, u.key, u.hash, u.id FROM unnest($1, $2, $3, $4) WITH ORDINALITY u(client, key, hash, id, ord)"
                                  " ORDER BY u.client, u.key, u.ord ON CONFLICT DO NOTHING RETURNING job_id";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        _cleanup_(freep) struct uuid *won = NULL;
        int n_won, e;

        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                if (!items[i]->refused)
                        db_array_text(&args, items[i]->client, strlen(items[i]->client));
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                if (!items[i]->refused)
                        db_array_text(&args, items[i]->key, strlen(items[i]->key));
        db_array_begin(&args, DB_ARRAY_BYTEA);
        for (size_t i = 0; i < n; i++)
                if (!items[i]->refused)
                        db_array_text(&args, (const char *)items[i]->hash, sizeof(items[i]->hash));
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                if (!items[i]->refused)
                        db_array_uuid(&args, &items[i]->fresh_id);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        n_won = PQntuples(r);
        won = xcalloc((size_t)n_won + 1, sizeof(*won));
        for (int row = 0; row < n_won; row++)
                won[row] = db_uuid(r, row, 0);
        qsort(won, (size_t)n_won, sizeof(*won), uuid_compare);
        for (size_t i = 0; i < n; i++)
                if (!items[i]->refused && bsearch(&items[i]->fresh_id, won, (size_t)n_won, sizeof(*won), uuid_compare)) {
                        items[i]->outcome = INTAKE_NEW;
                        items[i]->id = items[i]->fresh_id;
                }
        return 0;
}

int intake_find(struct db *db, struct intake_item *const items[], size_t n)
{
        static const char sql[] =
                "SELECT u.i, s.hash = u.hash, s.job_id, c.amount, c.currency FROM unnest($1, $2, $3, $4) u(client, key, hash, i)"
                " JOIN LATERAL (SELECT x.hash, x.job_id FROM submission x WHERE x.client = u.client AND x.key = u.key OFFSET 0) s ON true"
                " LEFT JOIN LATERAL (SELECT x.amount, x.currency FROM chain x WHERE x.id = s.job_id OFFSET 0) c ON true";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        size_t others = 0;
        int e;

        for (size_t i = 0; i < n; i++)
                others += items[i]->outcome != INTAKE_NEW;
        if (others == 0)
                return 0;
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                if (items[i]->outcome != INTAKE_NEW)
                        db_array_text(&args, items[i]->client, strlen(items[i]->client));
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                if (items[i]->outcome != INTAKE_NEW)
                        db_array_text(&args, items[i]->key, strlen(items[i]->key));
        db_array_begin(&args, DB_ARRAY_BYTEA);
        for (size_t i = 0; i < n; i++)
                if (items[i]->outcome != INTAKE_NEW)
                        db_array_text(&args, (const char *)items[i]->hash, sizeof(items[i]->hash));
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                if (items[i]->outcome != INTAKE_NEW)
                        db_array_int(&args, (int64_t)i);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        for (int row = 0; row < PQntuples(r); row++) {
                struct intake_item *item = items[db_int(r, row, 0)];
                struct slice currency = db_text(r, row, 4);

                if (!db_bool(r, row, 1)) {
                        /* What is wrong with the job itself is said first. */
                        if (!item->refused)
                                item->outcome = INTAKE_CONFLICT;
                        continue;
                }
                item->outcome = INTAKE_REPLAY;
                item->id = db_uuid(r, row, 2);
                item->price = (struct amount){.minor = db_int(r, row, 3)};
                if (currency.s && currency.len < sizeof(item->price.currency))
                        memcpy(item->price.currency, currency.s, currency.len);
        }
        return 0;
}

int intake_find_key(struct db *db, const char *client, const char *key, struct uuid *ret_id, struct amount *ret_price)
{
        static const char sql[] =
                "SELECT s.job_id, c.amount, c.currency FROM submission s JOIN chain c ON c.id = s.job_id WHERE s.client = $1 AND s.key = $2";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        struct slice currency;
        int e;

        db_arg_text(&args, client);
        db_arg_text(&args, key);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        if (PQntuples(r) == 0)
                return -ENOENT;
        *ret_id = db_uuid(r, 0, 0);
        *ret_price = (struct amount){.minor = db_int(r, 0, 1)};
        currency = db_text(r, 0, 2);
        if (currency.s && currency.len < sizeof(ret_price->currency))
                memcpy(ret_price->currency, currency.s, currency.len);
        return 0;
}

int intake_stands(struct db *db, const struct uuid jobs[], size_t n, struct intake_stand ret_stands[])
{
        static const char sql[] = "SELECT u.i - 1, c.version, c.status <> 'open' FROM unnest($1) WITH ORDINALITY u(id, i) JOIN LATERAL"
                                  " (SELECT x.version, x.status FROM chain x WHERE x.id = u.id AND x.kind = 'job' OFFSET 0) c ON true";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &jobs[i]);
        e = db_run(db, sql, &args, &r);
        for (int row = 0; e == 0 && row < PQntuples(r); row++)
                ret_stands[db_int(r, row, 0)] = (struct intake_stand){.version = db_int(r, row, 1), .over = db_bool(r, row, 2)};
        return e;
}

int intake_on_its_way(struct db *db, const struct uuid *job, bool *ret_on_its_way)
{
        static const char sql[] =
                "SELECT EXISTS (SELECT 1 FROM chain c WHERE c.id = $1 AND c.status = 'open' AND c.step IN ('JOB_CREATED', 'FLOW_CHOSEN', 'PRICED'))";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, job);
        e = db_run(db, sql, &args, &r);
        if (e == 0)
                *ret_on_its_way = db_bool(r, 0, 0);
        return e;
}

int intake_read_held(struct db *db, const struct intake_held held[], size_t n, int64_t now_ms, PGresult **ret_result)
{
        static const char sql[] =
                "SELECT " JOB_VIEW_JOB_COLUMNS ", u.i FROM unnest($1, $2, $3) u(id, due, i)"
                " JOIN LATERAL (SELECT x.* FROM chain x WHERE x.id = u.id AND x.kind = 'job' AND (u.due = 1 OR"
                " x.step NOT IN ('JOB_CREATED', 'FLOW_CHOSEN', 'PRICED', 'PAYMENT_REQUIRED')) OFFSET 0) c ON true " JOB_VIEW_JOB_INTENT;
        _cleanup_(db_args_done) struct db_args args = {0};

        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(&args, &held[i].id);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, held[i].due_ms <= now_ms);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(&args, (int64_t)i);
        return db_run(db, sql, &args, ret_result);
}
