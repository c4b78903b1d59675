/* The event store: what advance() lets through and what it refuses, for every place a chain can stand, every event and every service; and that nobody
 * writes around it. */
#include "base/util.h"
#include "service/service.h"
#include "store/chain.h"
#include "tests/support/pg_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct pg_fixture *pg;
static const char *const services[] = {"intake", "pricing", "payments", "execution", "ledger", "payouts", "meta_repair"};
static struct db *as[ARRAY_SIZE(services)];

static struct db *db_of(const char *service)
{
        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                if (strcmp(services[i], service) == 0)
                        return as[i];
        fail_msg("no such service: %s", service);
        return NULL;
}

static int set_up(void **state)
{
        (void)state;
        pg = pg_fixture_start();
        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                as[i] = pg_fixture_connect(pg, services[i]);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                as[i] = db_free(as[i]);
        pg = pg_fixture_free(pg);
        return 0;
}

static void expect(const char *sql, const char *answer)
{
        _cleanup_(freep) char *got = pg_fixture_ask(pg, sql);

        assert_string_equal(got, answer);
}

static void expect_sound(void)
{
        expect("SELECT coalesce(string_agg(invariant || ' ' || fault, ', '), '') FROM audit()", "");
}

/* One transition as one service. */
static struct transition move(const char *service, struct uuid id, int version, const char *const events[])
{
        _cleanup_(advance_done) struct advance a = {0};
        size_t t = version == 0 ? advance_open(&a, &id, "job", "default", LANE_NORMAL) : advance_move(&a, &id, version);

        for (; *events; events++) {
                const char *data = strcmp(*events, "PRICED") == 0 ? "{\"amount\":{\"minor\":2588,\"currency\":\"EUR\"}}" : "{}";
                advance_event(&a, t, *events, data, strlen(data));
        }
        assert_int_equal(advance_run(&a, db_of(service)), 0);
        return a.t[0];
}

#define MOVE(service, id, version, ...) move(service, id, version, (const char *const[]){__VA_ARGS__, NULL})

static void expect_evidence(struct uuid id, const char *event, const char *kind, const char *reference, const char *amount, const char *verdict)
{
        char text[UUID_TEXT_SIZE], sql[512];

        uuid_format(&id, text);
        snprintf(sql, sizeof(sql),
                "SELECT verdict FROM submit_evidence(ARRAY['%s'::uuid], ARRAY['%s'], ARRAY['%s'], ARRAY['anna'], ARRAY['%s'], ARRAY[%s::bigint])",
                text, event, kind, reference, amount);
        expect(sql, verdict);
}

static void give_evidence(struct uuid id, const char *event)
{
        expect_evidence(id, event, "person", "bank 1", "NULL", "stored");
}

static struct uuid new_job(void)
{
        struct uuid id = uuid_v7();
        char text[UUID_TEXT_SIZE], sql[256];

        uuid_format(&id, text);
        snprintf(sql, sizeof(sql), "INSERT INTO submission (client, key, hash, job_id) VALUES ('default', '%s', sha256('x'), '%s')", text, text);
        free(pg_fixture_ask(pg, sql));
        assert_int_equal(MOVE("intake", id, 0, "JOB_CREATED").verdict, ADVANCE_WON);
        return id;
}

static struct uuid waiting_for(const char *driver, const char *term)
{
        struct uuid id = new_job();
        char text[UUID_TEXT_SIZE], sql[256];

        assert_int_equal(MOVE("pricing", id, 1, "FLOW_CHOSEN", "PRICED").verdict, ADVANCE_WON);
        uuid_format(&id, text);
        snprintf(sql, sizeof(sql), "INSERT INTO payment_intent (id, driver, expires_at) VALUES ('%s', '%s', now() + interval '%s')", text, driver,
                term);
        free(pg_fixture_ask(pg, sql));
        assert_int_equal(MOVE("payments", id, 3, "PAYMENT_REQUIRED", "PAYMENT_INITIATED").verdict, ADVANCE_WON);
        return id;
}

static struct uuid waiting_for_payment(void)
{
        return waiting_for("manual", "1 hour");
}

static struct uuid paid(void)
{
        struct uuid id = waiting_for_payment();

        give_evidence(id, "PAYMENT_CONFIRMED");
        assert_int_equal(MOVE("payments", id, 5, "PAYMENT_CONFIRMED").verdict, ADVANCE_WON);
        return id;
}

static struct uuid executed(void)
{
        struct uuid id = paid();

        assert_int_equal(MOVE("execution", id, 6, "EXECUTION_STARTED", "STEP_COMPLETED", "EXECUTION_COMPLETED").verdict, ADVANCE_WON);
        return id;
}

static struct uuid failed(void)
{
        struct uuid id = paid();

        assert_int_equal(MOVE("execution", id, 6, "EXECUTION_STARTED", "EXECUTION_FAILED").verdict, ADVANCE_WON);
        return id;
}

static struct uuid refunding(void)
{
        struct uuid id = failed();

        assert_int_equal(MOVE("meta_repair", id, 8, "REFUND_REQUIRED").verdict, ADVANCE_WON);
        assert_int_equal(MOVE("payments", id, 9, "REFUND_INITIATED").verdict, ADVANCE_WON);
        return id;
}

static struct uuid refunded(void)
{
        struct uuid id = refunding();

        expect_evidence(id, "REFUND_CONFIRMED", "person", "back 1", "NULL", "stored");
        assert_int_equal(MOVE("payments", id, 10, "REFUND_CONFIRMED").verdict, ADVANCE_WON);
        assert_int_equal(MOVE("meta_repair", id, 11, "FINAL_FAIL").verdict, ADVANCE_WON);
        return id;
}

static struct uuid expired(void)
{
        struct uuid id = waiting_for("manual", "-1 s");

        assert_int_equal(MOVE("payments", id, 5, "PAYMENT_EXPIRED").verdict, ADVANCE_WON);
        return id;
}

/* Each about an operator of its own, because one of a kind is active about the same. */
static struct uuid new_task(void)
{
        struct uuid id = uuid_v7();
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        char name[40], sql[160];
        static int n;

        snprintf(name, sizeof(name), "op%d", n++);
        snprintf(sql, sizeof(sql), "INSERT INTO operator (name, kind, tags) VALUES ('%s', 'builtin', '{x}')", name);
        free(pg_fixture_ask(pg, sql));
        db_arg_uuid(&args, &id);
        db_arg_text(&args, name);
        assert_int_equal(db_run(db_of("meta_repair"), "SELECT opened, id FROM open_task($1, 'OPERATOR_TUNING', $2, '{}', 'low')", &args, &r), 0);
        assert_true(db_bool(r, 0, 0));
        return id;
}

static struct uuid paid_task(void)
{
        struct uuid id = new_task();

        assert_int_equal(MOVE("pricing", id, 1, "FLOW_CHOSEN", "PRICED").verdict, ADVANCE_WON);
        assert_int_equal(MOVE("payments", id, 3, "PAYMENT_CONFIRMED").verdict, ADVANCE_REFUSED);
        expect_evidence(id, "PAYMENT_CONFIRMED", "person", "bank 1", "NULL", "not_waiting");
        expect_evidence(id, "PAYMENT_CONFIRMED", "internal", "transfer", "NULL", "stored");
        assert_int_equal(MOVE("payments", id, 3, "PAYMENT_CONFIRMED").verdict, ADVANCE_WON);
        return id;
}

static struct uuid done_task(void)
{
        struct uuid id = paid_task();

        assert_int_equal(MOVE("execution", id, 4, "EXECUTION_STARTED", "STEP_COMPLETED", "EXECUTION_COMPLETED").verdict, ADVANCE_WON);
        return id;
}

static struct uuid failed_task(void)
{
        struct uuid id = paid_task();

        assert_int_equal(MOVE("execution", id, 4, "EXECUTION_STARTED", "EXECUTION_FAILED").verdict, ADVANCE_WON);
        return id;
}

static struct uuid reversed_task(void)
{
        struct uuid id = failed_task();

        assert_int_equal(MOVE("meta_repair", id, 6, "PAYMENT_REVERSED", "FINAL_FAIL").verdict, ADVANCE_REFUSED);
        expect_evidence(id, "PAYMENT_REVERSED", "internal", "issue", "NULL", "stored");
        assert_int_equal(MOVE("meta_repair", id, 6, "PAYMENT_REVERSED", "FINAL_FAIL").verdict, ADVANCE_WON);
        return id;
}

static int book(struct uuid job, struct uuid payout, bool with_payout)
{
        _cleanup_(advance_done) struct advance a = {0};

        advance_event(&a, advance_move(&a, &job, 9), "REVENUE_BOOKED", "{}", 2);
        if (with_payout) {
                const char *data = "{\"amount\":{\"minor\":2588,\"currency\":\"EUR\"}}";
                advance_event(&a, advance_open_child(&a, &payout, "payout", &job), "PAYOUT_EARNED", data, strlen(data));
        }
        assert_int_equal(advance_run(&a, db_of("ledger")), 0);
        for (size_t i = 1; i < a.n; i++)
                assert_int_equal(a.t[i].verdict == ADVANCE_WON, a.t[0].verdict == ADVANCE_WON);
        return (int)a.t[0].verdict;
}

static void whole_chain(void **state)
{
        struct uuid job = executed(), payout = uuid_v7();
        struct transition t;

        (void)state;
        assert_int_equal(book(job, payout, true), ADVANCE_WON);
        t = MOVE("payouts", payout, 1, "PAYOUT_READY");
        assert_int_equal(t.verdict, ADVANCE_WON);
        assert_int_equal(MOVE("payouts", payout, 2, "PAYOUT_DONE").verdict, ADVANCE_REFUSED);
        give_evidence(payout, "PAYOUT_DONE");
        assert_int_equal(MOVE("payouts", payout, 2, "PAYOUT_DONE").verdict, ADVANCE_WON);
        expect_sound();
        expect("SELECT string_agg(debit || '>' || credit || ' ' || amount, ', ' ORDER BY debit) FROM journal",
                "cash>customer_prepayment 2588, customer_prepayment>revenue 2588, owner_earnings>owner_payable 2588, owner_payable>cash 2588");
}

static void revenue_and_payout_win_together(void **state)
{
        struct uuid job = executed(), payout = uuid_v7(), second = uuid_v7();

        (void)state;
        assert_int_equal(book(job, payout, false), ADVANCE_REFUSED);
        assert_int_equal(book(job, payout, true), ADVANCE_WON);
        assert_int_equal(book(job, second, true), ADVANCE_LOST);
        expect_sound();
}

static void repeats_lose(void **state)
{
        struct uuid id = new_job();
        _cleanup_(advance_done) struct advance a = {0};

        (void)state;
        for (int i = 0; i < 2; i++) { /* the same chain twice in a batch */
                const char *data = "{\"amount\":{\"minor\":1,\"currency\":\"EUR\"}}";
                size_t t = advance_move(&a, &id, 1);
                advance_event(&a, t, "FLOW_CHOSEN", "{}", 2);
                advance_event(&a, t, "PRICED", data, strlen(data));
        }
        assert_int_equal(advance_run(&a, db_of("pricing")), 0);
        assert_int_equal(a.t[0].verdict, ADVANCE_WON);
        assert_string_equal(a.t[0].hearer, "payments");
        assert_int_equal(a.t[0].version, 3);
        assert_int_equal(a.t[1].verdict, ADVANCE_LOST);
        assert_int_equal(MOVE("pricing", id, 1, "FLOW_CHOSEN", "PRICED").verdict, ADVANCE_LOST);
        assert_int_equal(MOVE("intake", id, 0, "JOB_CREATED").verdict, ADVANCE_LOST);
        expect_sound();
}

static void money_needs_evidence(void **state)
{
        struct uuid id = waiting_for_payment();

        (void)state;
        assert_int_equal(MOVE("payments", id, 5, "PAYMENT_CONFIRMED").verdict, ADVANCE_REFUSED);
        assert_int_equal(MOVE("payments", id, 5, "PAYMENT_EXPIRED").verdict, ADVANCE_REFUSED); /* its time is not over */
        assert_int_equal(MOVE("execution", id, 5, "EXECUTION_STARTED").verdict, ADVANCE_REFUSED);
        give_evidence(id, "PAYMENT_CONFIRMED");
        assert_int_equal(MOVE("payments", id, 5, "PAYMENT_CONFIRMED").verdict, ADVANCE_WON);
        expect_sound();
}

/* What was paid and could not be done goes back, once, with evidence, before the chain may end; and then it stays ended. */
static void a_refund_closes_the_books(void **state)
{
        struct uuid id = refunding(), other;
        char text[UUID_TEXT_SIZE], sql[256];

        (void)state;
        assert_int_equal(MOVE("payments", id, 10, "REFUND_CONFIRMED").verdict, ADVANCE_REFUSED);
        assert_int_equal(MOVE("meta_repair", id, 10, "FINAL_FAIL").verdict, ADVANCE_REFUSED);
        assert_int_equal(MOVE("meta_repair", id, 10, "EXECUTION_REQUIRED").verdict, ADVANCE_REFUSED); /* that is for a person to say */
        expect_evidence(id, "REFUND_CONFIRMED", "provider", "back 1", "1", "amount");
        expect_evidence(id, "REFUND_CONFIRMED", "provider", "back 1", "2588", "stored");
        expect_evidence(id, "EXECUTION_REQUIRED", "person", "again", "NULL", "conflict");
        assert_int_equal(MOVE("payments", id, 10, "REFUND_CONFIRMED").verdict, ADVANCE_WON);
        expect("SELECT count(*) FROM evidence_mismatch", "1");
        assert_int_equal(MOVE("meta_repair", id, 11, "FINAL_FAIL").verdict, ADVANCE_WON);
        expect_evidence(id, "CHAIN_REOPENED", "person", "again", "NULL", "stored");
        assert_int_equal(MOVE("meta_repair", id, 12, "CHAIN_REOPENED").verdict, ADVANCE_REFUSED); /* one job, one charge */
        uuid_format(&id, text);
        snprintf(sql, sizeof(sql),
                "SELECT sum(CASE 'cash' WHEN debit THEN amount WHEN credit THEN -amount ELSE 0 END) FROM journal WHERE chain_id = '%s'", text);
        expect(sql, "0");

        other = refunding(); /* a person has it run again instead */
        expect_evidence(other, "EXECUTION_REQUIRED", "person", "again", "NULL", "stored");
        expect_evidence(other, "REFUND_CONFIRMED", "person", "back 2", "NULL", "conflict");
        assert_int_equal(MOVE("payments", other, 10, "REFUND_CONFIRMED").verdict, ADVANCE_REFUSED);
        assert_int_equal(MOVE("meta_repair", other, 10, "EXECUTION_REQUIRED").verdict, ADVANCE_WON);
        assert_int_equal(MOVE("execution", other, 11, "EXECUTION_STARTED", "STEP_COMPLETED", "EXECUTION_COMPLETED").verdict, ADVANCE_WON);
        expect_sound();
}

/* While an operator may be at it nothing is refunded; while a refund may be under way nothing is run. */
static void refund_and_run_exclude_each_other(void **state)
{
        struct uuid id = paid(), other = refunding();
        char text[UUID_TEXT_SIZE], sql[512];

        (void)state;
        assert_int_equal(MOVE("execution", id, 6, "EXECUTION_STARTED").verdict, ADVANCE_WON);
        uuid_format(&id, text);
        snprintf(sql, sizeof(sql),
                "INSERT INTO operator_run (id, chain_id, step, attempt, tag, operator, state, owner, lease_until, next_at)"
                " VALUES (gen_random_uuid(), '%s', 0, 1, 't', 'o', 'unknown', 'x', now(), now())",
                text);
        free(pg_fixture_ask(pg, sql));
        assert_int_equal(MOVE("meta_repair", id, 7, "REFUND_REQUIRED").verdict, ADVANCE_REFUSED);
        free(pg_fixture_ask(pg, "UPDATE operator_run SET state = 'failed'"));
        assert_int_equal(MOVE("meta_repair", id, 7, "REFUND_REQUIRED").verdict, ADVANCE_WON);

        expect_evidence(other, "EXECUTION_REQUIRED", "person", "again", "NULL", "stored");
        uuid_format(&other, text);
        snprintf(sql, sizeof(sql),
                "INSERT INTO provider_call (id, chain_id, version, what, state, owner, lease_until, next_at)"
                " VALUES (gen_random_uuid(), '%s', 10, 'refund', 'unknown', 'x', now(), now())",
                text);
        free(pg_fixture_ask(pg, sql));
        assert_int_equal(MOVE("meta_repair", other, 10, "EXECUTION_REQUIRED").verdict, ADVANCE_REFUSED);
        free(pg_fixture_ask(pg, "UPDATE provider_call SET state = 'failed'"));
        assert_int_equal(MOVE("meta_repair", other, 10, "EXECUTION_REQUIRED").verdict, ADVANCE_WON);
        expect_sound();
}

static void only_the_unpaid_is_reopened(void **state)
{
        struct uuid id = expired(), early = new_job(), held = waiting_for("http", "-1 s");

        (void)state;
        assert_int_equal(MOVE("meta_repair", id, 6, "CHAIN_REOPENED").verdict, ADVANCE_REFUSED); /* without a person's word */
        expect_evidence(id, "CHAIN_REOPENED", "person", "again", "NULL", "stored");
        assert_int_equal(MOVE("meta_repair", id, 6, "CHAIN_REOPENED").verdict, ADVANCE_WON);
        assert_int_equal(MOVE("pricing", id, 7, "FLOW_CHOSEN", "PRICED").verdict, ADVANCE_WON);
        assert_int_equal(MOVE("payments", id, 9, "PAYMENT_REQUIRED", "PAYMENT_INITIATED").verdict, ADVANCE_WON);
        expect_evidence(id, "PAYMENT_CONFIRMED", "person", "late", "NULL", "expired"); /* payments gives it a new term */

        assert_int_equal(MOVE("meta_repair", early, 1, "FINAL_FAIL").verdict, ADVANCE_WON); /* never priced: nothing is owed */
        expect_evidence(early, "CHAIN_REOPENED", "person", "again", "NULL", "stored");
        assert_int_equal(MOVE("meta_repair", early, 2, "CHAIN_REOPENED").verdict, ADVANCE_WON);
        assert_int_equal(MOVE("pricing", early, 3, "FLOW_CHOSEN", "PRICED").verdict, ADVANCE_WON);

        /* A provider may still have taken the money: our clock does not end it, and nor does a person. */
        assert_int_equal(MOVE("payments", held, 5, "PAYMENT_EXPIRED").verdict, ADVANCE_REFUSED);
        expect_evidence(held, "FINAL_FAIL", "person", "close", "NULL", "stored");
        assert_int_equal(MOVE("meta_repair", held, 5, "FINAL_FAIL").verdict, ADVANCE_REFUSED);
        held = waiting_for("http", "-1 s");
        expect_evidence(held, "PAYMENT_EXPIRED", "provider", "gone", "NULL", "stored");
        assert_int_equal(MOVE("payments", held, 5, "PAYMENT_EXPIRED").verdict, ADVANCE_WON);
        held = waiting_for("http", "-1 s");
        expect_evidence(held, "PAYMENT_CONFIRMED", "provider", "p 1", "2588", "stored"); /* it came in time and was heard late */
        assert_int_equal(MOVE("payments", held, 5, "PAYMENT_CONFIRMED").verdict, ADVANCE_WON);
        expect_sound();
}

/* What was counted before reopenings were taken off is counted anew by the migration, up to the checkpoint of feed. */
static void figures_of_before(void **state)
{
        _cleanup_(freep) char *migration = NULL;
        struct uuid id = expired(), failed = new_job();

        (void)state;
        expect_evidence(id, "CHAIN_REOPENED", "person", "again", "NULL", "stored");
        assert_int_equal(MOVE("meta_repair", id, 6, "CHAIN_REOPENED").verdict, ADVANCE_WON);
        assert_int_equal(MOVE("meta_repair", failed, 1, "FINAL_FAIL").verdict, ADVANCE_WON);
        expect_evidence(failed, "CHAIN_REOPENED", "person", "again", "NULL", "stored");
        assert_int_equal(MOVE("meta_repair", failed, 2, "CHAIN_REOPENED").verdict, ADVANCE_WON);
        free(pg_fixture_ask(pg,
                "INSERT INTO reader SELECT 'feed', generation, xid, id FROM event ORDER BY generation DESC, xid DESC, id DESC LIMIT 1;"
                "INSERT INTO figure SELECT 'CHAIN_REOPENED', coalesce(currency, ''), 0, count(*) FROM event e JOIN chain c ON c.id = e.chain_id"
                " WHERE e.type = 'CHAIN_REOPENED' GROUP BY 2"));
        /* Behind the checkpoint: not feed's yet. */
        failed = new_job();
        assert_int_equal(MOVE("meta_repair", failed, 1, "FINAL_FAIL").verdict, ADVANCE_WON);
        expect_evidence(failed, "CHAIN_REOPENED", "person", "again", "NULL", "stored");
        assert_int_equal(MOVE("meta_repair", failed, 2, "CHAIN_REOPENED").verdict, ADVANCE_WON);
        assert_int_equal(read_file(AETHELOS_SOURCE_DIR "/migrations/0018_reopened_figures.sql", 1 << 20, &migration), 0);
        for (int i = 0; i < 2; i++) {
                free(pg_fixture_ask(pg, migration));
                expect("SELECT string_agg(concat_ws(' ', name, count), ', ' ORDER BY name) FROM (SELECT name, sum(count) AS count FROM figure GROUP "
                       "BY 1) f",
                        "FINAL_FAIL reopened 2, PAYMENT_EXPIRED reopened 2"); /* with those of the test before */
        }
        free(pg_fixture_ask(pg, "DELETE FROM figure; DELETE FROM reader"));
}

static void a_row_is_folded_again(void **state)
{
        struct uuid id = paid();
        char text[UUID_TEXT_SIZE], sql[256];
        struct db *repair = db_of("meta_repair");
        static const struct {
                const char *harm, *verdict;
        } cases[] = {{"step = step", "sound"}, {"step = 'PRICED', version = 3, waits_for = 'payer', amount = 1", "refolded"},
                {"status = 'completed'", "refolded"}, {"step = step", "sound"}};

        (void)state;
        uuid_format(&id, text);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                snprintf(sql, sizeof(sql), "UPDATE chain SET %s WHERE id = '%s'", cases[i].harm, text);
                free(pg_fixture_ask(pg, sql));
                snprintf(sql, sizeof(sql), "SELECT refold('%s')", text);
                expect(sql, cases[i].verdict);
                expect_sound();
        }
        expect("SELECT refold(gen_random_uuid())", "unknown");
        assert_int_equal(db_run(repair, "SELECT refold(gen_random_uuid())", NULL, NULL), 0);
        assert_int_equal(db_run(db_of("payments"), "SELECT refold(gen_random_uuid())", NULL, NULL), -EINVAL);
}

/* Every event, tried by every service on a chain at every step: exactly the edges of the specification win. */
static void only_the_edges(void **state)
{
        static const char *const events[] = {"TASK_CREATED", "PAYMENT_REVERSED", "EXECUTION_REQUIRED", "REFUND_REQUIRED", "REFUND_INITIATED",
                "REFUND_CONFIRMED", "FINAL_FAIL", "CHAIN_REOPENED", "META_ISSUE", "META_REPAIR", "META_RESOLVED", "JOB_CREATED", "FLOW_CHOSEN",
                "PRICED", "PAYMENT_REQUIRED", "PAYMENT_INITIATED", "PAYMENT_CONFIRMED", "PAYMENT_EXPIRED", "EXECUTION_STARTED", "STEP_COMPLETED",
                "EXECUTION_COMPLETED", "EXECUTION_FAILED", "REVENUE_BOOKED", "PAYOUT_EARNED", "PAYOUT_READY", "PAYOUT_DONE"};
        static const struct {
                struct uuid (*make)(void);
                const char *kind, *step;
                int version;
        } places[] = {{new_job, "job", "JOB_CREATED", 1}, {waiting_for_payment, "job", "PAYMENT_INITIATED", 5}, {paid, "job", "PAYMENT_CONFIRMED", 6},
                {executed, "job", "EXECUTION_COMPLETED", 9}, {failed, "job", "EXECUTION_FAILED", 8}, {refunding, "job", "REFUND_INITIATED", 10},
                {refunded, "job", "FINAL_FAIL", 12}, {expired, "job", "PAYMENT_EXPIRED", 6}, {new_task, "system", "TASK_CREATED", 1},
                {paid_task, "system", "PAYMENT_CONFIRMED", 4}, {done_task, "system", "EXECUTION_COMPLETED", 7},
                {failed_task, "system", "EXECUTION_FAILED", 6}, {reversed_task, "system", "FINAL_FAIL", 8}};

        (void)state;
        for (size_t p = 0; p < ARRAY_SIZE(places); p++) {
                struct uuid id = places[p].make();
                for (size_t e = 0; e < ARRAY_SIZE(events); e++)
                        for (size_t s = 0; s < ARRAY_SIZE(services); s++) {
                                _cleanup_(freep) char *allowed = NULL;
                                char sql[256];

                                snprintf(sql, sizeof(sql),
                                        "SELECT count(*) FROM edge WHERE kind = '%s' AND from_step = '%s' AND event = '%s' AND service = '%s'",
                                        places[p].kind, places[p].step, events[e], services[s]);
                                allowed = pg_fixture_ask(pg, sql);
                                if (strcmp(allowed, "0") == 0)
                                        assert_int_equal(MOVE(services[s], id, places[p].version, events[e]).verdict, ADVANCE_REFUSED);
                        }
        }
        expect_sound();
}

/* What was allowed once is looked up in table way afterwards; that follows what it is derived from at once. */
static void a_changed_specification_counts_at_once(void **state)
{
        static const char *const take =
                "UPDATE edge SET service = 'ledger' WHERE kind = 'job' AND from_step = 'JOB_CREATED' AND event = 'FLOW_CHOSEN'";
        static const char *const give =
                "UPDATE edge SET service = 'pricing' WHERE kind = 'job' AND from_step = 'JOB_CREATED' AND event = 'FLOW_CHOSEN'";
        struct uuid a = new_job(), b = new_job();

        (void)state;
        assert_int_equal(MOVE("pricing", a, 1, "FLOW_CHOSEN").verdict, ADVANCE_WON);
        free(pg_fixture_ask(pg, take));
        assert_int_equal(MOVE("pricing", b, 1, "FLOW_CHOSEN").verdict, ADVANCE_REFUSED);
        free(pg_fixture_ask(pg, give));
        assert_int_equal(MOVE("pricing", b, 1, "FLOW_CHOSEN").verdict, ADVANCE_WON);
        expect_sound();
}

/* Only open_task opens one, and only for meta-repair; an internal transfer pays tasks and nothing else. */
static void tasks_are_apart(void **state)
{
        static const char *const commands = "INSERT INTO repair_command (id, what, args, by_whom) VALUES (gen_random_uuid(), 'refund', '{}', 'x')";
        static const char *const opens = "SELECT open_task(gen_random_uuid(), 'HEALTH_CHECK', NULL, '{}', 'low')";
        _cleanup_(advance_done) struct advance two = {0}, nameless = {0};
        struct uuid a = uuid_v7(), b = uuid_v7(), job = waiting_for_payment();

        (void)state;
        for (size_t s = 0; s < ARRAY_SIZE(services); s++)
                assert_int_equal(db_run(db_of(services[s]), opens, NULL, NULL), strcmp(services[s], "meta_repair") == 0 ? 0 : -EINVAL);
        /* A task gives no command but that of its CLEANUP. */
        assert_int_equal(db_run(db_of("execution"), commands, NULL, NULL), -EINVAL);
        assert_int_equal(db_run(db_of("execution"), "SELECT cleanup_command(id) FROM chain WHERE kind = 'system'", NULL, NULL), 0);
        assert_int_equal(db_run(db_of("meta_repair"), "SELECT cleanup_command(gen_random_uuid())", NULL, NULL), -EINVAL);
        expect("SELECT count(*) FROM repair_command", "0");
        advance_event(&two, advance_open(&two, &a, "system", "system", LANE_LOW), "TASK_CREATED", "{\"slot\":\"X/1\"}", 14);
        advance_event(&two, advance_open(&two, &b, "system", "system", LANE_LOW), "TASK_CREATED", "{\"slot\":\"X/2\"}", 14);
        assert_int_equal(advance_run(&two, db_of("meta_repair")), 0);
        assert_int_equal(two.t[0].verdict, ADVANCE_REFUSED);
        advance_event(&nameless, advance_open(&nameless, &a, "system", "system", LANE_LOW), "TASK_CREATED", "{}", 2);
        assert_int_equal(advance_run(&nameless, db_of("meta_repair")), -EINVAL);
        expect_evidence(job, "PAYMENT_CONFIRMED", "internal", "transfer", "NULL", "not_waiting");
        expect("SELECT sum(CASE debit WHEN 'system_expense' THEN amount ELSE -amount END) >= 0 FROM journal WHERE debit LIKE 'system%'", "t");
        expect_sound();
        /* What audit() is there to find. */
        free(pg_fixture_ask(pg, "UPDATE chain SET task = 'Y/1' WHERE task LIKE 'HEALTH_CHECK/%'"));
        expect("SELECT string_agg(DISTINCT invariant, ' ') FROM audit()", "I5");
        free(pg_fixture_ask(pg, "UPDATE chain SET task = 'HEALTH_CHECK/stack' WHERE task = 'Y/1'"));
        expect_sound();
}

static void nobody_writes_around_it(void **state)
{
        static const char *const statements[] = {
                "UPDATE chain SET step = step",
                "DELETE FROM chain",
                "INSERT INTO event (generation, xid, chain_id, version, type, at, data) VALUES (1, 1, gen_random_uuid(), 1, 'X', now(), '{}')",
                "UPDATE event SET data = data",
                "DELETE FROM event",
                "TRUNCATE event",
                "INSERT INTO journal VALUES (gen_random_uuid(), 1, 'cash', 'revenue', 1, 'EUR', now())",
                "UPDATE journal SET amount = 1",
                "INSERT INTO evidence VALUES (gen_random_uuid(), 1, 'X', 'person', 'a', 'b', 1, 'EUR', 'x', now())",
                "UPDATE submission SET hash = hash",
                "DELETE FROM submission",
                "UPDATE edge SET service = service",
                "UPDATE step SET evidence = NULL",
                "INSERT INTO way SELECT * FROM way",
                "SELECT learn_ways('pricing', '{job}', '{PRICED}', '{PAYMENT_REQUIRED}')",
                "UPDATE rule SET attempts = 0",
                "DELETE FROM payment_intent",
                "UPDATE settlement_item SET task_id = task_id",
                "INSERT INTO task_kind VALUES ('X', 'x', 'stack', 'x')",
                "INSERT INTO evidence_mismatch VALUES (gen_random_uuid(), 'X', 'x', 'amount', 'provider', 'a', 'b', 1, now())",
        };
        static const char *const everybody[] = {
                "intake", "pricing", "payments", "execution", "ledger", "payouts", "meta_repair", "feed", "webhooks", "board"};
        /* What of these tables a role may do but read, whatever the statement; and how many roles there are, so that none is forgotten above. */
        static const char rights[] =
                "SELECT count(*) FROM pg_roles r CROSS JOIN (VALUES ('event'), ('chain'), ('journal'), ('evidence'), ('edge'), ('step')) t (name)"
                " WHERE r.rolname LIKE 'aethelos\\_%' AND (has_table_privilege(r.oid, t.name, 'INSERT, UPDATE, DELETE, TRUNCATE')"
                " OR has_any_column_privilege(r.oid, t.name, 'INSERT, UPDATE'))";

        (void)state;
        _cleanup_(freep) char *may = pg_fixture_ask(pg, rights),
                              *roles = pg_fixture_ask(pg, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'aethelos\\_%'");
        assert_string_equal(may, "0");
        assert_int_equal(atoi(roles), ARRAY_SIZE(everybody));
        for (size_t s = 0; s < ARRAY_SIZE(everybody); s++) {
                struct db *db = pg_fixture_connect(pg, everybody[s]);
                for (size_t i = 0; i < ARRAY_SIZE(statements); i++) {
                        assert_int_equal(db_run(db, statements[i], NULL, NULL), -EINVAL);
                        assert_string_equal(db_sqlstate(db), "42501");
                }
                db_free(db);
        }
        /* The owner too cannot change what has happened. */
        struct db *owner = pg_fixture_connect(pg, NULL);
        assert_int_equal(db_run(owner, "UPDATE event SET data = data", NULL, NULL), -EINVAL);
        assert_int_equal(db_run(owner, "DELETE FROM journal", NULL, NULL), -EINVAL);
        assert_int_equal(db_run(owner, "TRUNCATE evidence", NULL, NULL), -EINVAL);
        db_free(owner);
}

static void readers_and_intake_cannot_advance_others(void **state)
{
        struct db *board = pg_fixture_connect(pg, "board");

        (void)state;
        assert_int_equal(db_run(board, "SELECT * FROM advance('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')", NULL, NULL), -EINVAL);
        assert_string_equal(db_sqlstate(board), "42501");
        db_free(board);
        assert_int_equal(db_run(db_of("pricing"), "SELECT * FROM submit_evidence('{}', '{}', '{}', '{}', '{}', '{}')", NULL, NULL), -EINVAL);
        assert_string_equal(db_sqlstate(db_of("pricing")), "42501");
        /* A provider's word comes through payments, a person's does not. */
        assert_int_equal(db_run(db_of("payments"), "SELECT * FROM submit_evidence(ARRAY[gen_random_uuid()], '{X}', '{person}', '{a}', '{b}', '{1}')",
                                 NULL, NULL),
                -EINVAL);
        assert_int_equal(db_run(db_of("meta_repair"),
                                 "SELECT * FROM submit_evidence(ARRAY[gen_random_uuid()], '{X}', '{provider}', '{a}', '{b}', '{1}')", NULL, NULL),
                -EINVAL);
}

static void evidence_verdicts(void **state)
{
        struct uuid id = waiting_for_payment();
        char text[UUID_TEXT_SIZE], sql[512];
        static const struct {
                const char *reference, *amount, *verdict;
        } cases[] = {{"r1", "1", "amount"}, {"r1", "NULL::bigint", "stored"}, {"r1", "2588::bigint", "repeated"}, {"r1", "1", "conflict"},
                {"r2", "NULL::bigint", "conflict"}};

        (void)state;
        uuid_format(&id, text);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                snprintf(sql, sizeof(sql),
                        "SELECT verdict FROM submit_evidence(ARRAY['%s'::uuid], ARRAY['PAYMENT_CONFIRMED'], ARRAY['person'], ARRAY['anna'], "
                        "ARRAY['%s'], ARRAY[%s])",
                        text, cases[i].reference, cases[i].amount);
                expect(sql, cases[i].verdict);
        }
        expect("SELECT verdict FROM submit_evidence(ARRAY[gen_random_uuid()], ARRAY['PAYMENT_CONFIRMED'], ARRAY['person'], ARRAY['a'], ARRAY['b'], "
               "ARRAY[NULL::bigint])",
                "unknown");
        snprintf(sql, sizeof(sql), "SELECT count(*) FROM evidence_inbox WHERE chain_id = '%s'", text);
        expect(sql, "1");
}

static void flush_statistics(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                assert_int_equal(db_run(as[i], "SELECT pg_stat_force_next_flush()", NULL, NULL), 0);
        expect("SELECT 1 FROM pg_stat_force_next_flush()", "1");
}

/* Neither an empty table nor one that was never analysed nor one that has grown since may be read as a whole for a batch, not even by its index. */
static void plan_is_pinned(void **state)
{
        static const char scans[] = "SELECT string_agg(relname || ' ' || seq_scan, ' ' ORDER BY relname) FROM pg_stat_user_tables"
                                    " WHERE relname IN ('chain', 'event', 'evidence', 'journal', 'payment_intent')";
        static const char fetched[] = "SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'chain'";
        enum { MANY = 2000, MOVED = 20 };
        struct uuid ids[MANY];
        _cleanup_(freep) char *before = NULL, *after = NULL, *from = NULL, *to = NULL;
        _cleanup_(advance_done) struct advance a = {0};

        (void)state;
        for (size_t i = 0; i < MANY; i++) {
                ids[i] = uuid_v7();
                advance_event(&a, advance_open(&a, &ids[i], "job", "default", LANE_LOW), "JOB_CREATED", "{}", 2);
        }
        assert_int_equal(advance_run(&a, db_of("intake")), 0);
        expect("WITH k AS (INSERT INTO submission (client, key, hash, job_id) SELECT 'default', c.id::text, sha256('x'), c.id FROM chain c"
               " WHERE c.kind = 'job' AND c.lane = 'low' ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) >= 2000 FROM k",
                "t");
        flush_statistics();
        before = pg_fixture_ask(pg, scans);
        from = pg_fixture_ask(pg, fetched);
        for (size_t i = 0; i < MOVED; i++) {
                MOVE("pricing", ids[i], 1, "FLOW_CHOSEN", "PRICED");
                MOVE("payments", ids[i], 3, "PAYMENT_REQUIRED", "PAYMENT_INITIATED");
                give_evidence(ids[i], "PAYMENT_CONFIRMED");
                assert_int_equal(MOVE("payments", ids[i], 5, "PAYMENT_CONFIRMED").verdict, ADVANCE_WON);
        }
        flush_statistics();
        after = pg_fixture_ask(pg, scans);
        to = pg_fixture_ask(pg, fetched);
        assert_string_equal(before, after);
        assert_in_range(atol(to) - atol(from), MOVED, MOVED * 20);
}

/* Who waits for a person has nobody to ring before the person has spoken. */
/* What a service reads for each batch is planned once, on an empty store, and never scans the chains afterwards. */
static void batches_are_planned_once(void **state)
{
        static const char plans[] =
                "SELECT bool_and(custom_plans = 0) AND sum(generic_plans) = 12 FROM pg_prepared_statements WHERE statement LIKE 'SELECT c.id%'";
        static const char scans[] = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'chain'";
        struct db *db = db_new(&(struct db_config){.url = pg_fixture_url(pg), .user = "aethelos_ledger", .generic_plans = true});
        struct uuid id = new_job();
        _cleanup_(freep) char *before = NULL, *after = NULL;
        _cleanup_(PQclearp) PGresult *r = NULL;

        (void)state;
        assert_int_equal(db_ready(db), 0);
        flush_statistics();
        before = pg_fixture_ask(pg, scans);
        for (int i = 0; i < 12; i++) {
                _cleanup_(freep) struct chain *chains = NULL;
                size_t n = 0;

                assert_int_equal(chains_read(db, &id, 1, &chains, &n), 0);
                assert_int_equal(n, 1);
        }
        assert_int_equal(db_run(db, plans, NULL, &r), 0);
        assert_string_equal(PQgetvalue(r, 0, 0), "t");
        assert_int_equal(db_run(db, "SELECT pg_stat_force_next_flush()", NULL, NULL), 0);
        db = db_free(db);
        flush_statistics();
        after = pg_fixture_ask(pg, scans);
        assert_string_equal(before, after);
}

static void waiting_rings_nobody(void **state)
{
        struct uuid id = new_job();

        (void)state;
        assert_string_equal(MOVE("pricing", id, 1, "FLOW_CHOSEN", "PRICED").hearer, "payments");
        assert_string_equal(MOVE("payments", id, 3, "PAYMENT_REQUIRED", "PAYMENT_INITIATED").hearer, "");
        give_evidence(id, "PAYMENT_CONFIRMED");
        assert_string_equal(MOVE("payments", id, 5, "PAYMENT_CONFIRMED").hearer, "execution");
}

static void every_table_and_column_is_described(void **state)
{
        (void)state;
        expect("SELECT coalesce(string_agg(c.relname || coalesce('.' || a.attname, ''), ', '), '') FROM pg_class c JOIN pg_namespace n ON n.oid = "
               "c.relnamespace"
               " LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
               " WHERE n.nspname = 'aethelos' AND c.relkind = 'r' AND (obj_description(c.oid) IS NULL OR col_description(c.oid, a.attnum) IS NULL)",
                "");
}

/* docs/chain.md is printed from the specification: it must be what the tables say. */
static void the_picture_is_the_specification(void **state)
{
        _cleanup_(freep) char *drawn = NULL, *tasks = NULL, *table = NULL, *page = NULL;

        (void)state;
        drawn = pg_fixture_ask(pg,
                "SELECT string_agg(format('    %s --> %s : %s', CASE WHEN from_step = '' THEN '[*]' ELSE from_step END, event, service), E'\\n'"
                " ORDER BY kind, from_step, event) FROM edge WHERE kind <> 'system'");
        tasks = pg_fixture_ask(pg,
                "SELECT string_agg(format('    %s --> %s : %s', CASE WHEN from_step = '' THEN '[*]' ELSE from_step END, event, service), E'\\n'"
                " ORDER BY from_step, event) FROM edge WHERE kind = 'system'");
        table = pg_fixture_ask(pg,
                "SELECT string_agg(format('| %s | %s | %s | %s | %s | %s |', CASE WHEN from_step = '' THEN '(new)' ELSE from_step END, event, "
                "service, relation, array_to_string(coalesce(evidence, (SELECT s.evidence FROM step s WHERE s.kind = e.kind AND s.name = e.event)), "
                "', '), why),"
                " E'\\n' ORDER BY kind, from_step, event) FROM edge e");
        assert_int_equal(read_file(AETHELOS_SOURCE_DIR "/docs/chain.md", 1 << 20, &page), 0);
        if (!strstr(page, drawn) || !strstr(page, tasks) || !strstr(page, table)) {
                fprintf(stderr, "it should hold:\n%s\n\n%s\n\n%s\n", drawn, tasks, table); /* longer than a message may be */
                fail_msg("docs/chain.md differs from the tables");
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whole_chain),
                cmocka_unit_test(revenue_and_payout_win_together),
                cmocka_unit_test(repeats_lose),
                cmocka_unit_test(money_needs_evidence),
                cmocka_unit_test(a_refund_closes_the_books),
                cmocka_unit_test(refund_and_run_exclude_each_other),
                cmocka_unit_test(only_the_unpaid_is_reopened),
                cmocka_unit_test(figures_of_before),
                cmocka_unit_test(a_row_is_folded_again),
                cmocka_unit_test(only_the_edges),
                cmocka_unit_test(a_changed_specification_counts_at_once),
                cmocka_unit_test(tasks_are_apart),
                cmocka_unit_test(nobody_writes_around_it),
                cmocka_unit_test(readers_and_intake_cannot_advance_others),
                cmocka_unit_test(evidence_verdicts),
                cmocka_unit_test(plan_is_pinned),
                cmocka_unit_test(batches_are_planned_once),
                cmocka_unit_test(waiting_rings_nobody),
                cmocka_unit_test(every_table_and_column_is_described),
                cmocka_unit_test(the_picture_is_the_specification),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
