/* The event store: what advance() lets through and what it refuses, for every place a chain can stand, every event and every service; and that nobody
 * writes around it. */
#include "base/util.h"
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
static const char *const services[] = {"intake", "pricing", "payments", "execution", "ledger", "payouts"};
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

static void give_evidence(struct uuid id, const char *event)
{
        char text[UUID_TEXT_SIZE], sql[512];

        uuid_format(&id, text);
        snprintf(sql, sizeof(sql),
                "SELECT verdict FROM submit_evidence(ARRAY['%s'::uuid], ARRAY['%s'], ARRAY['person'], ARRAY['anna'], ARRAY['bank 1'], "
                "ARRAY[NULL::bigint])",
                text, event);
        expect(sql, "stored");
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

static struct uuid waiting_for_payment(void)
{
        struct uuid id = new_job();
        char text[UUID_TEXT_SIZE], sql[256];

        assert_int_equal(MOVE("pricing", id, 1, "FLOW_CHOSEN", "PRICED").verdict, ADVANCE_WON);
        uuid_format(&id, text);
        snprintf(sql, sizeof(sql), "INSERT INTO payment_intent (id, driver, expires_at) VALUES ('%s', 'manual', now() + interval '1 hour')", text);
        free(pg_fixture_ask(pg, sql));
        assert_int_equal(MOVE("payments", id, 3, "PAYMENT_REQUIRED", "PAYMENT_INITIATED").verdict, ADVANCE_WON);
        return id;
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

/* Every event, tried by every service on a chain at every step: exactly the edges of the specification win. */
static void only_the_edges(void **state)
{
        static const char *const events[] = {"JOB_CREATED", "FLOW_CHOSEN", "PRICED", "PAYMENT_REQUIRED", "PAYMENT_INITIATED", "PAYMENT_CONFIRMED",
                "PAYMENT_EXPIRED", "EXECUTION_STARTED", "STEP_COMPLETED", "EXECUTION_COMPLETED", "EXECUTION_FAILED", "REVENUE_BOOKED",
                "PAYOUT_EARNED", "PAYOUT_READY", "PAYOUT_DONE"};
        static const struct {
                struct uuid (*make)(void);
                const char *step;
                int version;
        } places[] = {{new_job, "JOB_CREATED", 1}, {waiting_for_payment, "PAYMENT_INITIATED", 5}, {paid, "PAYMENT_CONFIRMED", 6},
                {executed, "EXECUTION_COMPLETED", 9}};

        (void)state;
        for (size_t p = 0; p < ARRAY_SIZE(places); p++) {
                struct uuid id = places[p].make();
                for (size_t e = 0; e < ARRAY_SIZE(events); e++)
                        for (size_t s = 0; s < ARRAY_SIZE(services); s++) {
                                _cleanup_(freep) char *allowed = NULL;
                                char sql[256];

                                snprintf(sql, sizeof(sql),
                                        "SELECT count(*) FROM edge WHERE kind = 'job' AND from_step = '%s' AND event = '%s' AND service = '%s'",
                                        places[p].step, events[e], services[s]);
                                allowed = pg_fixture_ask(pg, sql);
                                if (strcmp(allowed, "0") == 0)
                                        assert_int_equal(MOVE(services[s], id, places[p].version, events[e]).verdict, ADVANCE_REFUSED);
                        }
        }
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
        };
        static const char *const everybody[] = {"intake", "pricing", "payments", "execution", "ledger", "payouts", "meta_repair", "feed", "board"};

        (void)state;
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
        assert_int_equal(db_run(board, "SELECT * FROM advance('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')", NULL, NULL), -EINVAL);
        assert_string_equal(db_sqlstate(board), "42501");
        db_free(board);
        assert_int_equal(db_run(db_of("payments"), "SELECT * FROM submit_evidence('{}', '{}', '{}', '{}', '{}', '{}')", NULL, NULL), -EINVAL);
        assert_string_equal(db_sqlstate(db_of("payments")), "42501");
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

/* An empty, never analysed table must not be scanned for each batch. */
static void plan_is_pinned(void **state)
{
        _cleanup_(freep) char *before = NULL, *after = NULL;
        static const char asked[] = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'chain'";
        struct db *db = pg_fixture_connect(pg, "intake");

        (void)state;
        before = pg_fixture_ask(pg, asked);
        for (int i = 0; i < 20; i++) {
                struct uuid id = uuid_v7();
                _cleanup_(advance_done) struct advance a = {0};
                advance_event(&a, advance_open(&a, &id, "job", "default", LANE_LOW), "FLOW_CHOSEN", "{}", 2); /* refused: writes nothing */
                assert_int_equal(advance_run(&a, db), 0);
        }
        assert_int_equal(db_run(db, "SELECT pg_stat_force_next_flush()", NULL, NULL), 0);
        db_free(db);
        after = pg_fixture_ask(pg, asked);
        assert_string_equal(before, after);
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
        _cleanup_(freep) char *drawn = NULL, *table = NULL, *page = NULL;

        (void)state;
        drawn = pg_fixture_ask(pg,
                "SELECT string_agg(format('    %s --> %s : %s', CASE WHEN from_step = '' THEN '[*]' ELSE from_step END, event, service), E'\\n'"
                " ORDER BY kind, from_step, event) FROM edge");
        table = pg_fixture_ask(pg,
                "SELECT string_agg(format('| %s | %s | %s | %s | %s | %s |', CASE WHEN from_step = '' THEN '(new)' ELSE from_step END, event, "
                "service, relation,"
                " coalesce(extract(epoch FROM deadline)::int || ' s', ''), why), E'\\n' ORDER BY kind, from_step, event) FROM edge");
        assert_int_equal(read_file(AETHELOS_SOURCE_DIR "/docs/chain.md", 1 << 20, &page), 0);
        if (!strstr(page, drawn) || !strstr(page, table))
                fail_msg("docs/chain.md differs from the tables; it should hold:\n%s\n\n%s", drawn, table);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(plan_is_pinned),
                cmocka_unit_test(whole_chain),
                cmocka_unit_test(revenue_and_payout_win_together),
                cmocka_unit_test(repeats_lose),
                cmocka_unit_test(money_needs_evidence),
                cmocka_unit_test(only_the_edges),
                cmocka_unit_test(nobody_writes_around_it),
                cmocka_unit_test(readers_and_intake_cannot_advance_others),
                cmocka_unit_test(evidence_verdicts),
                cmocka_unit_test(every_table_and_column_is_described),
                cmocka_unit_test(the_picture_is_the_specification),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
