/* Gathers the ground truth and asks every check. The truth of the fakes is copied before the store is read: what an operator has received by then
 * must have been committed before. */
#include "auditor.h"

#include "auditor_store.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROLE       "fault_auditor"
#define OVERLAP_MS 5000 /* a transaction is seen when it commits, and dated when it began */
#define WHOLE_MS   (int64_t)864000000
#define SHOWN_MAX  5

void auditor_open(
        struct auditor *a, struct stack *stack, const struct load *load, const struct hooks *hooks, const struct audit_operator operators[], size_t n)
{
        *a = (struct auditor){.load = load, .hooks = hooks, .operators = operators, .n_operators = n, .looked_ms = now_mono_ms()};
        free(pg_fixture_ask(stack->pg,
                "CREATE ROLE " ROLE " LOGIN; GRANT pg_read_all_data TO " ROLE "; ALTER ROLE " ROLE
                " SET default_transaction_read_only = on; ALTER ROLE " ROLE " SET search_path = aethelos; ALTER ROLE " ROLE " SET jit = off"));
        a->db = db_new(&(struct db_config){.url = pg_fixture_url(stack->pg), .user = ROLE, .application_name = "auditor"});
}

void auditor_done(struct auditor *a)
{
        a->db = db_free(a->db);
        strbuf_done(&a->found);
}

static void texts(struct db_args *args, const struct load *l, const char *(*of)(const struct load_job *))
{
        db_array_begin(args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < l->n; i++) {
                const char *s = of(&l->jobs[i]);
                db_array_text(args, s, strlen(s));
        }
}

static void numbers(struct db_args *args, const struct load *l, enum db_array_kind kind, int64_t (*of)(const struct load_job *))
{
        db_array_begin(args, kind);
        for (size_t i = 0; i < l->n; i++)
                db_array_int(args, of(&l->jobs[i]));
}

static const char *key_of(const struct load_job *j)
{
        return j->key;
}

static const char *type_of(const struct load_job *j)
{
        return load_kinds[j->kind].type;
}

static const char *payload_of(const struct load_job *j)
{
        return j->payload;
}

static const char *result_of(const struct load_job *j)
{
        return j->result;
}

static const char *ending_of(const struct load_job *j)
{
        static const char *const names[] = {[LOAD_DONE] = "done", [LOAD_FAILED] = "failed", [LOAD_WAITS] = "waits", [LOAD_EITHER] = "either"};

        return names[load_kinds[j->kind].end];
}

static int64_t amount_of(const struct load_job *j)
{
        return j->amount;
}

static int64_t pay_sent(const struct load_job *j)
{
        return j->pay_sent;
}

static int64_t mark_sent(const struct load_job *j)
{
        return j->mark_sent;
}

static int64_t marks(const struct load_job *j)
{
        return j->marks;
}

static void jobs_args(struct db_args *args, const struct load *l)
{
        texts(args, l, key_of);
        db_array_begin(args, DB_ARRAY_UUID);
        for (size_t i = 0; i < l->n; i++)
                db_array_uuid(args, l->jobs[i].receipted ? &l->jobs[i].id : NULL);
        texts(args, l, type_of);
        texts(args, l, payload_of);
        numbers(args, l, DB_ARRAY_BIGINT, amount_of);
        texts(args, l, ending_of);
        numbers(args, l, DB_ARRAY_INT, pay_sent);
        numbers(args, l, DB_ARRAY_INT, mark_sent);
        numbers(args, l, DB_ARRAY_INT, marks);
        texts(args, l, result_of);
}

struct run {
        const struct fake_run *run;
        const char *operator;
};

static void runs_args(struct db_args *args, const struct run runs[], size_t n)
{
        db_array_begin(args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++) {
                struct uuid id = {0};
                (void)uuid_parse(runs[i].run->id, strlen(runs[i].run->id), &id);
                db_array_uuid(args, &id);
        }
        db_array_begin(args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++) {
                struct uuid id = {0};
                (void)uuid_parse(runs[i].run->job, strlen(runs[i].run->job), &id);
                db_array_uuid(args, &id);
        }
        db_array_begin(args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(args, runs[i].run->step);
        db_array_begin(args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(args, runs[i].run->done);
        db_array_begin(args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(args, runs[i].run->again);
        db_array_begin(args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                db_array_text(args, runs[i].operator, strlen(runs[i].operator));
}

/* Everything that every operator knows; *ret_args. */
static void gather_runs(const struct auditor *a, struct db_args *ret_args)
{
        struct fake_run *copies[16];
        struct run *runs = NULL;
        size_t n = 0;

        for (size_t o = 0; o < a->n_operators; o++) {
                size_t more;

                copies[o] = a->operators[o].fake ? fake_operator_runs(a->operators[o].fake, &more) : desk_runs(a->load->desk, &more);
                runs = xrealloc(runs, (n + more + 1) * sizeof(*runs));
                for (size_t i = 0; i < more; i++)
                        runs[n++] = (struct run){&copies[o][i], a->operators[o].name};
        }
        runs_args(ret_args, runs, n);
        for (size_t o = 0; o < a->n_operators; o++)
                free(copies[o]);
        free(runs);
}

/* What the receiver of webhooks has taken. */
static void told_args(const struct auditor *a, struct db_args *ret_args)
{
        size_t n;
        const struct hooks_told *told = hooks_told(a->hooks, &n);

        db_array_begin(ret_args, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++) {
                struct uuid id = {0};
                (void)uuid_parse(told[i].chain, strlen(told[i].chain), &id);
                db_array_uuid(ret_args, &id);
        }
        db_array_begin(ret_args, DB_ARRAY_INT);
        for (size_t i = 0; i < n; i++)
                db_array_int(ret_args, told[i].version);
        db_array_begin(ret_args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < n; i++)
                db_array_text(ret_args, told[i].type, strlen(told[i].type));
        db_array_begin(ret_args, DB_ARRAY_TEXT);
        for (const char *const *type = (const char *const[]){HOOKS_TYPES, NULL}; *type; type++)
                db_array_text(ret_args, *type, strlen(*type));
}

static void report(struct auditor *a, const struct audit_check *check, const PGresult *r)
{
        for (int row = 0; row < PQntuples(r); row++) {
                strbuf_addf(&a->found, "%s %s %s\n", check->invariant, PQgetvalue(r, row, 0), PQgetvalue(r, row, 1));
                if (row < SHOWN_MAX && !PQgetisnull(r, row, 0))
                        (void)auditor_store_history(a->db, PQgetvalue(r, row, 0), &a->found);
        }
}

bool auditor_all_proven(struct auditor *a)
{
        int64_t unproven = 1;

        return db_ready(a->db) == 0 && auditor_store_unproven(a->db, &unproven) == 0 && unproven == 0;
}

bool auditor_look(struct auditor *a, bool whole)
{
        _cleanup_(db_args_done) struct db_args time = {0}, jobs = {0}, runs = {0}, told = {0};
        const struct db_args *inputs[] = {[AUDIT_TIME] = &time, [AUDIT_JOBS] = &jobs, [AUDIT_RUNS] = &runs, [AUDIT_TOLD] = &told};
        int64_t now = now_mono_ms();

        if (db_ready(a->db) < 0)
                return false;
        db_arg_int(&time, whole ? WHOLE_MS : now - a->looked_ms + OVERLAP_MS);
        jobs_args(&jobs, a->load);
        gather_runs(a, &runs);
        told_args(a, &told);
        for (size_t i = 0; i < audit_n_checks; i++) {
                _cleanup_(PQclearp) PGresult *r = NULL;
                int e;

                if (audit_checks[i].whole && !whole)
                        continue;
                e = db_run(a->db, audit_checks[i].sql, inputs[audit_checks[i].input], &r);
                if (e == -EINVAL)
                        die(db_error(a->db));
                if (e < 0)
                        return false;
                report(a, &audit_checks[i], r);
        }
        a->looked_ms = now;
        a->looks++;
        return true;
}

bool auditor_compare(struct auditor *a)
{
        int64_t paid = 0, refunded = 0;

        for (size_t o = 0; o < a->n_operators; o++)
                if (a->operators[o].fake && fake_operator_truth(a->operators[o].fake).wrong > 0)
                        strbuf_addf(&a->found, "operator %s was called against the contract\n", a->operators[o].name);
        if (desk_wrong(a->load->desk) > 0)
                strbuf_addf(&a->found, "I5 %zu workers were believed whose run was given to another\n", desk_wrong(a->load->desk));
        if (hooks_wrong(a->hooks) > 0)
                strbuf_addf(&a->found, "%zu webhooks without a signature that holds\n", hooks_wrong(a->hooks));
        if (!a->load->provider)
                return true;

        struct fake_provider_truth t = fake_provider_truth(a->load->provider);
        if (auditor_store_counts(a->db, &paid, &refunded) < 0)
                return false;
        if (t.wrong > 0)
                strbuf_adds(&a->found, "the provider was called against the contract\n");
        if ((int64_t)t.paid != paid)
                strbuf_addf(&a->found, "I7 the provider was paid %zu times, and %lld payments are confirmed\n", t.paid, (long long)paid);
        if ((int64_t)t.refunded != refunded || t.refunds != t.refunded)
                strbuf_addf(&a->found, "I8 the provider was asked for %zu refunds and made %zu, and %lld are confirmed\n", t.refunds, t.refunded,
                        (long long)refunded);
        return true;
}

int auditor_standing(struct auditor *a, struct strbuf *text)
{
        _cleanup_(db_args_done) struct db_args jobs = {0}, told = {0};
        _cleanup_(PQclearp) PGresult *r = NULL, *untold = NULL;

        jobs_args(&jobs, a->load);
        told_args(a, &told);
        if (db_ready(a->db) < 0 || db_run(a->db, audit_standing.sql, &jobs, &r) < 0 || db_run(a->db, audit_untold.sql, &told, &untold) < 0)
                return -1;
        strbuf_reset(text);
        if (PQntuples(untold) > 0)
                strbuf_addf(text, "%d events have not been told, %s of %s first\n", PQntuples(untold), PQgetvalue(untold, 0, 1),
                        PQgetvalue(untold, 0, 0));
        for (int row = 0; row < PQntuples(r) && row < SHOWN_MAX; row++) {
                strbuf_addf(text, "%s %s\n", PQgetvalue(r, row, 0), PQgetvalue(r, row, 1));
                (void)auditor_store_history(a->db, PQgetvalue(r, row, 0), text);
        }
        return PQntuples(r) + PQntuples(untold);
}
