/* The fold of a chain into what is shown of it. Nothing is stored for it: what a document says always equals the events. A crash here leaves nothing
 * behind, because it only reads. */
#include "services/intake/job_view.h"

#include "base/util.h"
#include "services/intake/public_data.h"

#include <errno.h>
#include <string.h>

/* Columns of JOB_VIEW_JOB_COLUMNS. */
enum { ID, STEP, VERSION, STATUS, LANE, AMOUNT, CURRENCY, CREATED, UPDATED, TYPE, RESULT, ERROR, DRIVER, EXPIRES, REFUNDED };
_Static_assert(REFUNDED + 1 == JOB_VIEW_JOB_N, "columns of a job");

static void add_slice(struct strbuf *b, const char *name, struct slice s)
{
        strbuf_addf(b, "\"%s\":", name);
        if (s.s)
                strbuf_add_json(b, s.s, s.len);
        else
                strbuf_adds(b, "null");
}

static void add_raw(struct strbuf *b, const char *name, struct slice json)
{
        strbuf_addf(b, ",\"%s\":", name);
        strbuf_add(b, json.s ? json.s : "null", json.s ? json.len : 4);
}

static void add_amount(struct strbuf *b, const char *name, const PGresult *r, int row, int column)
{
        struct amount a = {.minor = db_int(r, row, column)};
        struct slice currency = db_text(r, row, column + 1);

        strbuf_addf(b, ",\"%s\":", name);
        if (!currency.s || currency.len >= sizeof(a.currency)) {
                strbuf_adds(b, "null");
                return;
        }
        memcpy(a.currency, currency.s, currency.len);
        amount_add_json(b, a);
}

bool job_view_has_intent(const PGresult *r, int row, int column)
{
        return !db_null(r, row, column + DRIVER);
}

void job_view_add_job(struct strbuf *b, const PGresult *r, int row, int column)
{
        strbuf_addc(b, '{');
        add_slice(b, "id", db_text(r, row, column + ID));
        strbuf_addc(b, ',');
        add_slice(b, "type", db_text(r, row, column + TYPE));
        strbuf_addc(b, ',');
        add_slice(b, "status", db_text(r, row, column + STATUS));
        strbuf_addc(b, ',');
        add_slice(b, "step", db_text(r, row, column + STEP));
        add_amount(b, "price", r, row, column + AMOUNT);
        strbuf_addc(b, ',');
        /* One job, one charge: the intent has the job's id. */
        add_slice(b, "payment_intent_id", job_view_has_intent(r, row, column) ? db_text(r, row, column + ID) : (struct slice){0});
        add_raw(b, "result", db_text(r, row, column + RESULT));
        add_raw(b, "error", db_text(r, row, column + ERROR));
        strbuf_addc(b, ',');
        add_slice(b, "created_at", db_text(r, row, column + CREATED));
        strbuf_addc(b, ',');
        add_slice(b, "updated_at", db_text(r, row, column + UPDATED));
        strbuf_addc(b, '}');
}

/* A reopened job has its intent already while it is priced again. What is not listed is paid. */
static const char *intent_status(struct slice step, bool refunded)
{
        static const struct {
                const char *step, *status;
        } known[] = {{"CHAIN_REOPENED", "pending"}, {"FLOW_CHOSEN", "pending"}, {"PRICED", "pending"}, {"PAYMENT_REQUIRED", "pending"},
                {"PAYMENT_INITIATED", "pending"}, {"PAYMENT_EXPIRED", "expired"}, {"REFUND_CONFIRMED", "refunded"}};

        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                if (slice_equal(step, known[i].step))
                        return known[i].status;
        return !slice_equal(step, "FINAL_FAIL") ? "confirmed" : refunded ? "refunded" : "closed";
}

void job_view_add_intent(struct strbuf *b, const PGresult *r, int row, int column)
{
        const char *status = intent_status(db_text(r, row, column + STEP), db_bool(r, row, column + REFUNDED));

        strbuf_addc(b, '{');
        add_slice(b, "id", db_text(r, row, column + ID));
        strbuf_addc(b, ',');
        add_slice(b, "job_id", db_text(r, row, column + ID));
        add_amount(b, "amount", r, row, column + AMOUNT);
        strbuf_addc(b, ',');
        add_slice(b, "status", slice_of(status));
        strbuf_addc(b, ',');
        add_slice(b, "driver", db_text(r, row, column + DRIVER));
        strbuf_addc(b, ',');
        add_slice(b, "expires_at", db_text(r, row, column + EXPIRES));
        strbuf_addc(b, '}');
}

bool job_view_form_parse(const char *format, enum job_view_form *ret_form)
{
        bool cloudevents = format && strcmp(format, "cloudevents") == 0;

        *ret_form = cloudevents ? JOB_VIEW_CLOUDEVENT : JOB_VIEW_EVENT;
        return !format || cloudevents || strcmp(format, "event") == 0;
}

/* Named by its source and id: numbers of events are distinct within a generation, and each generation is a source. */
static void add_cloudevent(struct strbuf *b, const PGresult *r, int row, int column, struct slice data)
{
        strbuf_addf(b, "{\"specversion\":\"1.0\",\"id\":\"%lld\",\"source\":\"urn:uuid:%s\",\"type\":\"aethelos.%s\",",
                (long long)db_int(r, row, column), PQgetvalue(r, row, column + 6), PQgetvalue(r, row, column + 1));
        add_slice(b, "subject", db_text(r, row, column + 2));
        strbuf_addc(b, ',');
        add_slice(b, "time", db_text(r, row, column + 4));
        strbuf_addf(b, ",\"datacontenttype\":\"application/json\",\"chainversion\":%lld", (long long)db_int(r, row, column + 3));
        add_raw(b, "data", data);
        strbuf_addc(b, '}');
}

static void add_event(struct strbuf *b, const PGresult *r, int row, int column, enum job_view_form form, struct slice data)
{
        if (form == JOB_VIEW_CLOUDEVENT) {
                add_cloudevent(b, r, row, column, data);
                return;
        }
        strbuf_addf(b, "{\"id\":%lld,", (long long)db_int(r, row, column));
        add_slice(b, "type", db_text(r, row, column + 1));
        strbuf_addc(b, ',');
        add_slice(b, "chain_id", db_text(r, row, column + 2));
        strbuf_addf(b, ",\"version\":%lld,", (long long)db_int(r, row, column + 3));
        add_slice(b, "time", db_text(r, row, column + 4));
        add_raw(b, "data", data); /* the source is named in the other form alone */
        strbuf_addc(b, '}');
}

void job_view_add_event(struct strbuf *b, const PGresult *r, int row, int column, enum job_view_form form)
{
        add_event(b, r, row, column, form, db_text(r, row, column + 5));
}

void job_view_add_public_event(struct strbuf *b, const PGresult *r, int row, int column, enum job_view_form form)
{
        _cleanup_(strbuf_done) struct strbuf shown = {0};
        struct slice data = db_text(r, row, column + 5);

        if (data.s)
                public_data_add(&shown, PQgetvalue(r, row, column + 1), data);
        add_event(b, r, row, column, form, (struct slice){shown.s, shown.len});
}

void job_view_add_payout(struct strbuf *b, const PGresult *r, int row, int column)
{
        struct slice step = db_text(r, row, column + 2);
        const char *status = slice_equal(step, "PAYOUT_DONE") ? "done" : slice_equal(step, "PAYOUT_READY") ? "ready" : "earned";

        strbuf_addc(b, '{');
        add_slice(b, "id", db_text(r, row, column));
        strbuf_addc(b, ',');
        add_slice(b, "job_id", db_text(r, row, column + 1));
        add_amount(b, "amount", r, row, column + 3);
        strbuf_addc(b, ',');
        add_slice(b, "status", slice_of(status));
        strbuf_addc(b, ',');
        add_slice(b, "created_at", db_text(r, row, column + 5));
        strbuf_addc(b, ',');
        add_slice(b, "updated_at", db_text(r, row, column + 6));
        strbuf_addc(b, '}');
}

int job_view_jobs(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_result)
{
        static const char sql[] = "SELECT " JOB_VIEW_JOB_COLUMNS " FROM " JOB_VIEW_JOB_TABLES " WHERE c.id = ANY ($1) AND c.kind = 'job'";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuids(&args, ids, n);
        return db_run(db, sql, &args, ret_result);
}

int job_view_event_rows(struct db *db, const struct uuid *chain, const char *kind, int64_t after, int64_t limit, PGresult **ret_rows)
{
        static const char sql[] =
                "SELECT " JOB_VIEW_EVENT_COLUMNS " FROM chain c LEFT JOIN LATERAL (SELECT t.*, sum(octet_length(t.data)) OVER (ORDER BY "
                "t.version) - octet_length(t.data) AS before FROM (SELECT * FROM event x WHERE x.chain_id = c.id AND x.version > $3"
                " ORDER BY x.version LIMIT $4) t) e ON e.before < " JOB_VIEW_PAGE_BYTES " WHERE c.id = $1 AND c.kind = $2 ORDER BY e.version";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_uuid(&args, chain);
        db_arg_text(&args, kind);
        db_arg_int(&args, after);
        db_arg_int(&args, limit);
        return db_run(db, sql, &args, ret_rows);
}

int job_view_events(
        struct db *db, const struct uuid *chain, const char *kind, int64_t after, int64_t limit, enum job_view_form form, struct strbuf *b)
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        int n, e = job_view_event_rows(db, chain, kind, after, limit, &r);

        if (e < 0)
                return e;
        n = PQntuples(r);
        if (n == 0)
                return -ENOENT;
        if (db_null(r, 0, 0))
                n = 0; /* the chain is there, and nothing behind the cursor */
        strbuf_adds(b, "{\"items\":[");
        for (int row = 0; row < n; row++) {
                if (row > 0)
                        strbuf_addc(b, ',');
                job_view_add_public_event(b, r, row, 0, form);
        }
        if (n > 0)
                strbuf_addf(b, "],\"next\":\"%lld\"}", (long long)db_int(r, n - 1, 3));
        else
                strbuf_adds(b, "],\"next\":null}");
        return 0;
}
