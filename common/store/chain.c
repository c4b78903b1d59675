/* The C side of advance(): gathers transitions and their events, makes the one call, and reads the verdicts back. Holds no rule of its own: which
 * moves are allowed stands in the tables step and edge, and the database decides. */
#include "store/chain.h"

#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const lane_names[LANE_COUNT] = {[LANE_HIGH] = "high", [LANE_NORMAL] = "normal", [LANE_LOW] = "low"};

const char *lane_name(enum lane lane)
{
        return lane_names[lane];
}

bool lane_parse(const char *s, size_t len, enum lane *ret_lane)
{
        for (int i = 0; i < LANE_COUNT; i++)
                if (slice_equal((struct slice){s, len}, lane_names[i])) {
                        *ret_lane = (enum lane)i;
                        return true;
                }
        return false;
}

void advance_reset(struct advance *a)
{
        strbuf_reset(&a->data);
        a->n = a->n_events = 0;
}

void advance_done(struct advance *a)
{
        strbuf_done(&a->data);
        free(a->t);
        free(a->e);
        *a = (struct advance){0};
}

static struct transition *add(struct advance *a)
{
        if (a->n == a->cap) {
                a->cap = a->cap ? 2 * a->cap : 64;
                a->t = xrealloc(a->t, a->cap * sizeof(*a->t));
        }
        a->t[a->n] = (struct transition){0};
        return &a->t[a->n++];
}

size_t advance_move(struct advance *a, const struct uuid *id, int expected)
{
        struct transition *t = add(a);

        t->id = *id;
        t->expected = expected;
        return a->n - 1;
}

size_t advance_open(struct advance *a, const struct uuid *id, const char *kind, const char *client, enum lane lane)
{
        struct transition *t = add(a);

        t->id = *id;
        t->kind = kind;
        t->client = client;
        t->lane = lane;
        return a->n - 1;
}

size_t advance_open_child(struct advance *a, const struct uuid *id, const char *kind, const struct uuid *parent)
{
        struct transition *t = add(a);

        t->id = *id;
        t->kind = kind;
        t->parent = *parent;
        t->has_parent = true;
        return a->n - 1;
}

void advance_event(struct advance *a, size_t t, const char *type, const char *data, size_t len)
{
        if (a->n_events == a->cap_events) {
                a->cap_events = a->cap_events ? 2 * a->cap_events : 128;
                a->e = xrealloc(a->e, a->cap_events * sizeof(*a->e));
        }
        a->e[a->n_events++] = (struct advance_event){.t = t, .type = type, .at = a->data.len, .len = len};
        strbuf_add(&a->data, data, len);
}

static int by_transition(const void *x, const void *y)
{
        const struct advance_event *a = x, *b = y;

        if (a->t != b->t)
                return a->t < b->t ? -1 : 1;
        return a->at < b->at ? -1 : a->at > b->at; /* in the order in which they were added */
}

/* For each transition the names of its events with commas between them; and in the same order the data. */
static void add_events(struct db_args *args, struct advance *a)
{
        _cleanup_(strbuf_done) struct strbuf names = {0};
        size_t at = 0;

        for (size_t i = 1; i < a->n_events; i++)
                if (a->e[i].t < a->e[i - 1].t) {
                        qsort(a->e, a->n_events, sizeof(*a->e), by_transition);
                        break;
                }
        db_array_begin(args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < a->n; i++) {
                strbuf_reset(&names);
                for (; at < a->n_events && a->e[at].t == i; at++) {
                        if (names.len > 0)
                                strbuf_addc(&names, ',');
                        strbuf_adds(&names, a->e[at].type);
                }
                db_array_text(args, names.s ? names.s : "", names.len);
        }
        db_array_begin(args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < a->n_events; i++)
                db_array_text(args, a->data.s ? a->data.s + a->e[i].at : "", a->e[i].len);
}

int advance_run(struct advance *a, struct db *db)
{
        static const char sql[] = "SELECT ord, verdict, version, step, hearer, lane FROM advance($1, $2, $3, $4, $5, $6, $7, $8)";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        size_t n_opening = 0; /* where nothing is opened, nothing need be said of whose it is */
        int e;

        if (a->n == 0)
                return 0;
        for (size_t i = 0; i < a->n && n_opening == 0; i++)
                if (a->t[i].expected == 0)
                        n_opening = a->n;

        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < a->n; i++)
                db_array_uuid(&args, &a->t[i].id);
        db_array_begin(&args, DB_ARRAY_INT);
        for (size_t i = 0; i < a->n; i++)
                db_array_int(&args, a->t[i].expected);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n_opening; i++)
                db_array_text(&args, a->t[i].kind, a->t[i].kind ? strlen(a->t[i].kind) : 0);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n_opening; i++)
                db_array_text(&args, a->t[i].client, a->t[i].client ? strlen(a->t[i].client) : 0);
        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n_opening; i++)
                db_array_text(&args, lane_name(a->t[i].lane), strlen(lane_name(a->t[i].lane)));
        db_array_begin(&args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n_opening; i++)
                db_array_uuid(&args, a->t[i].has_parent ? &a->t[i].parent : NULL);
        add_events(&args, a);
        args.binary_results = true;

        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        if ((size_t)PQntuples(r) != a->n)
                die("advance() did not answer every transition");
        for (int row = 0; row < PQntuples(r); row++) {
                struct transition *t = &a->t[db_int(r, row, 0) - 1];
                struct slice verdict = db_text(r, row, 1);

                t->verdict = slice_equal(verdict, "won") ? ADVANCE_WON : slice_equal(verdict, "lost") ? ADVANCE_LOST : ADVANCE_REFUSED;
                t->version = (int)db_int(r, row, 2);
                copy_text(t->step, sizeof(t->step), PQgetvalue(r, row, 3));
                copy_text(t->hearer, sizeof(t->hearer), PQgetvalue(r, row, 4));
                if (!db_null(r, row, 5)) {
                        struct slice lane = db_text(r, row, 5);
                        if (!lane_parse(lane.s, lane.len, &t->lane))
                                die("a chain stands on an unknown lane");
                }
        }
        return 0;
}
