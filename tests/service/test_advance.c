/* The event store: what advance() lets through and what it refuses, for every place a chain can stand, every event and every service. */
#include "base/util.h"
#include "tests/support/chain_moves.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void whole_chain(void **state)
{
        struct uuid job = executed(), payout = uuid_v7();
        struct transition t;

        (void)state;
        assert_int_equal(book(job, payout, true), ADVANCE_WON);
        t = MOVE("payouts", payout, 1, "PAYOUT_READY");
        assert_int_equal(t.verdict, ADVANCE_WON);
        assert_string_equal(t.hearer, ""); /* it waits for a person, who rings it by what he brings */
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

/* Of what one call says twice the first that counts is stored, and what is said before it and does not count is no twin. */
static void one_call_says_it_twice(void **state)
{
        static const char sql[] = "SELECT string_agg(verdict, ' ' ORDER BY ord) FROM submit_evidence(array_fill($1::uuid, '{5}'),"
                                  " '{REFUND_CONFIRMED,PAYMENT_CONFIRMED,PAYMENT_CONFIRMED,PAYMENT_CONFIRMED,PAYMENT_CONFIRMED}',"
                                  " array_fill('person'::text, '{5}'), array_fill('anna'::text, '{5}'), '{r,a,a,b,a}', '{NULL,NULL,2588,NULL,1}')";
        struct uuid id = waiting_for_payment();
        _cleanup_(db_args_done) struct db_args args = {0};

        (void)state;
        db_arg_uuid(&args, &id);
        for (int turn = 0; turn < 2; turn++) {
                _cleanup_(PQclearp) PGresult *r = NULL;

                assert_int_equal(db_run(db_of("meta_repair"), sql, &args, &r), 0);
                assert_string_equal(
                        PQgetvalue(r, 0, 0), turn ? "conflict repeated repeated conflict conflict" : "not_waiting stored repeated conflict amount");
        }
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
                {"status = 'completed'", "refolded"}, {"aside = 'payer'", "refolded"}, {"step = step", "sound"}};

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

/* Who waits for a payer has nobody to move it, and intake to tell him. */
static void waiting_rings_who_tells_the_payer(void **state)
{
        struct uuid id = new_job();

        (void)state;
        assert_string_equal(MOVE("pricing", id, 1, "FLOW_CHOSEN", "PRICED").hearer, "payments");
        assert_string_equal(MOVE("payments", id, 3, "PAYMENT_REQUIRED", "PAYMENT_INITIATED").hearer, "intake");
        give_evidence(id, "PAYMENT_CONFIRMED");
        assert_string_equal(MOVE("payments", id, 5, "PAYMENT_CONFIRMED").hearer, "execution");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whole_chain),
                cmocka_unit_test(revenue_and_payout_win_together),
                cmocka_unit_test(repeats_lose),
                cmocka_unit_test(money_needs_evidence),
                cmocka_unit_test(one_call_says_it_twice),
                cmocka_unit_test(a_refund_closes_the_books),
                cmocka_unit_test(refund_and_run_exclude_each_other),
                cmocka_unit_test(only_the_unpaid_is_reopened),
                cmocka_unit_test(figures_of_before),
                cmocka_unit_test(a_row_is_folded_again),
                cmocka_unit_test(only_the_edges),
                cmocka_unit_test(a_changed_specification_counts_at_once),
                cmocka_unit_test(tasks_are_apart),
                cmocka_unit_test(waiting_rings_who_tells_the_payer),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
