/* Many transitions in one call of advance(): each is judged for itself, whatever stands beside it, and what it writes goes to its own chain. */
#include "base/util.h"
#include "tests/support/chain_moves.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What moves at once takes ways that are known; where none is, as the first time, everything goes the long way. Each test goes both, and the verdicts
 * are the same. */
static bool forget;

static int unknown_ways(void **state)
{
        (void)state;
        forget = true;
        return 0;
}

static int known_ways(void **state)
{
        (void)state;
        forget = false;
        return 0;
}

#define BOTH_WAYS(test) cmocka_unit_test_setup(test, unknown_ways), cmocka_unit_test_setup(test, known_ways)

static void run(struct advance *a, const char *service)
{
        if (forget)
                expect("WITH w AS (DELETE FROM way RETURNING 1) SELECT count(*) > 0 FROM w", "t");
        assert_int_equal(advance_run(a, db_of(service)), 0);
}

/* A call moves a chain once, also where another of its transitions begins at the place that the move leads to. */
static void one_move_a_call(void **state)
{
        static const int expected[] = {10, 9};
        _cleanup_(advance_done) struct advance a = {0};
        struct uuid id = paid();

        (void)state;
        MOVE("execution", id, 6, "EXECUTION_STARTED");
        for (int version = 7; version < 9; version++)
                assert_int_equal(MOVE("execution", id, version, "STEP_COMPLETED").verdict, ADVANCE_WON);
        for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
                advance_event(&a, advance_move(&a, &id, expected[i]), "STEP_COMPLETED", "{}", 2);
        run(&a, "execution");
        assert_int_equal(a.t[0].verdict, ADVANCE_LOST);
        assert_int_equal(a.t[1].verdict, ADVANCE_WON);
        assert_int_equal(a.t[1].version, 10);
        expect_sound();
}

/* The data of events names the chain and the event that it belongs to. */
static const char strays[] = "SELECT count(*) FROM event WHERE data LIKE '{\"of\"%' AND (data::json->>'of', data::json->>'is') IS DISTINCT FROM"
                             " (chain_id::text, type)";

static void say_whose(struct advance *a, size_t t, const struct uuid *id, const char *type)
{
        _cleanup_(strbuf_done) struct strbuf data = {0};
        char text[UUID_TEXT_SIZE];

        uuid_format(id, text);
        strbuf_addf(&data, "{\"of\":\"%s\",\"is\":\"%s\"%s}", text, type,
                strcmp(type, "PAYOUT_EARNED") == 0 ? ",\"amount\":{\"minor\":2588,\"currency\":\"EUR\"}" : "");
        advance_event(a, t, type, data.s, data.len);
}

/* Moves of one event and of two in one call, won, lost and refused ones between them: each event goes to its own chain. */
static void events_find_their_chains(void **state)
{
        static const char *const moves[][2] = {{"FLOW_CHOSEN", "PRICED"}, {"FLOW_CHOSEN"}, {"FLOW_CHOSEN", "PRICED"}, {"PRICED"}, {"FLOW_CHOSEN"}},
                                 *const same[2] = {"FLOW_CHOSEN", "PRICED"};
        static const char told[] = "SELECT count(*) FROM event WHERE data LIKE '{\"of\"%'";
        _cleanup_(freep) char *before = pg_fixture_ask(pg, told), *after = NULL;
        static const enum advance_verdict mixed[] = {ADVANCE_WON, ADVANCE_LOST, ADVANCE_WON, ADVANCE_REFUSED, ADVANCE_WON};

        (void)state;
        for (int alike = 0; alike < 2; alike++) {
                _cleanup_(advance_done) struct advance a = {0};
                struct uuid ids[ARRAY_SIZE(moves)];

                for (size_t i = ARRAY_SIZE(moves); i-- > 0;) /* not in the order of the ids */
                        ids[i] = new_job();
                for (size_t i = 0; i < ARRAY_SIZE(moves); i++) {
                        const char *const *events = alike ? same : moves[i];
                        size_t t = advance_move(&a, &ids[i], mixed[i] == ADVANCE_LOST ? 7 : 1);

                        for (size_t n = 0; n < 2 && events[n]; n++)
                                say_whose(&a, t, &ids[i], events[n]);
                }
                run(&a, "pricing");
                for (size_t i = 0; i < ARRAY_SIZE(moves); i++)
                        assert_int_equal(a.t[i].verdict, alike && mixed[i] == ADVANCE_REFUSED ? ADVANCE_WON : mixed[i]);
                expect(strays, "0");
                expect_sound();
        }
        after = pg_fixture_ask(pg, told);
        assert_int_equal(atol(after) - atol(before), 13);
}

/* In whatever order they are added, each event goes to its transition, and those of one transition follow each other as they were added. */
static void events_in_any_order(void **state)
{
        _cleanup_(advance_done) struct advance a = {0};
        struct uuid ids[] = {new_job(), new_job()};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
                (void)advance_move(&a, &ids[i], 1);
        say_whose(&a, 1, &ids[1], "FLOW_CHOSEN");
        say_whose(&a, 0, &ids[0], "FLOW_CHOSEN");
        say_whose(&a, 0, &ids[0], "PRICED");
        say_whose(&a, 1, &ids[1], "PRICED");
        run(&a, "pricing");
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
                assert_int_equal(a.t[i].verdict, ADVANCE_WON);
        expect(strays, "0");
        expect_sound();
}

/* One kind of move for all: whoever may not make it, or has moved on, hears so and where it stands, and keeps nobody else from moving. */
static void one_kind_of_move(void **state)
{
        static const struct {
                enum advance_verdict verdict;
                int version;
                const char *step, *hearer;
        } wanted[] = {{ADVANCE_WON, 3, "PRICED", "payments"}, {ADVANCE_LOST, 1, "JOB_CREATED", ""}, {ADVANCE_REFUSED, 5, "PAYMENT_INITIATED", ""},
                {ADVANCE_LOST, 6, "PAYMENT_CONFIRMED", ""}, {ADVANCE_WON, 3, "PRICED", "payments"}};
        struct uuid ids[] = {new_job(), new_job(), waiting_for_payment(), paid(), new_job()};
        static const int expected[] = {1, 7, 5, 1, 1};
        _cleanup_(advance_done) struct advance a = {0};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
                size_t t = advance_move(&a, &ids[i], expected[i]);

                say_whose(&a, t, &ids[i], "FLOW_CHOSEN");
                say_whose(&a, t, &ids[i], "PRICED");
        }
        run(&a, "pricing");
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
                assert_int_equal(a.t[i].verdict, wanted[i].verdict);
                assert_int_equal(a.t[i].version, wanted[i].version);
                assert_string_equal(a.t[i].step, wanted[i].step);
                assert_string_equal(a.t[i].hearer, wanted[i].hearer);
        }
        expect(strays, "0");
        expect("SELECT count(*) FROM event e JOIN event f ON f.chain_id = e.chain_id AND f.version > e.version AND (f.xid, f.id) < (e.xid, e.id)",
                "0");
        expect_sound();
}

/* A batch of confirmations: who has no evidence, or moved on, keeps nobody else from moving, and only what moved is posted. */
static void confirmations_in_one_call(void **state)
{
        struct uuid ids[] = {waiting_for_payment(), waiting_for_payment(), paid(), waiting_for_payment(), paid_task()};
        static const enum advance_verdict wanted[] = {ADVANCE_WON, ADVANCE_REFUSED, ADVANCE_LOST, ADVANCE_WON, ADVANCE_LOST};
        static const char posted[] = "SELECT count(*) FROM journal WHERE debit = 'cash'";
        _cleanup_(freep) char *before = NULL, *after = NULL;
        _cleanup_(advance_done) struct advance a = {0};

        (void)state;
        give_evidence(ids[0], "PAYMENT_CONFIRMED");
        give_evidence(ids[3], "PAYMENT_CONFIRMED");
        before = pg_fixture_ask(pg, posted);
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
                say_whose(&a, advance_move(&a, &ids[i], 5), &ids[i], "PAYMENT_CONFIRMED");
        run(&a, "payments");
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
                assert_int_equal(a.t[i].verdict, wanted[i]);
                assert_string_equal(a.t[i].hearer, wanted[i] == ADVANCE_WON ? "execution" : "");
        }
        after = pg_fixture_ask(pg, posted);
        assert_int_equal(atol(after) - atol(before), 2);
        expect(strays, "0");
        expect_sound();
}

/* A batch of bookings: who is booked already, or comes twice, is booked once, and each payout is that of its own job. */
static void bookings_in_one_call(void **state)
{
        struct uuid first = executed(), second = executed(), early = paid();
        const struct uuid *const jobs[] = {&first, &second, &early, &second};
        static const enum advance_verdict wanted[] = {ADVANCE_WON, ADVANCE_WON, ADVANCE_REFUSED, ADVANCE_LOST};
        struct uuid payouts[ARRAY_SIZE(jobs)];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
                payouts[i] = uuid_v7();
        for (int again = 0; again < 2; again++) {
                _cleanup_(advance_done) struct advance a = {0};

                for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
                        say_whose(&a, advance_move(&a, jobs[i], jobs[i] == &early ? 6 : 9), jobs[i], "REVENUE_BOOKED");
                        say_whose(&a, advance_open_child(&a, &payouts[i], "payout", jobs[i]), &payouts[i], "PAYOUT_EARNED");
                }
                run(&a, "ledger");
                for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
                        enum advance_verdict verdict = again && wanted[i] == ADVANCE_WON ? ADVANCE_LOST : wanted[i];

                        assert_int_equal(a.t[2 * i].verdict, verdict);
                        if (verdict != ADVANCE_LOST || again) /* whoever comes twice may be told where the chain stood before the first */
                                assert_int_equal(a.t[2 * i].version, jobs[i] == &early ? 6 : 10);
                        if (verdict == ADVANCE_WON)
                                assert_string_equal(a.t[2 * i + 1].hearer, "payouts");
                        assert_true((a.t[2 * i + 1].verdict == ADVANCE_WON) == (verdict == ADVANCE_WON));
                }
                expect(strays, "0");
                expect_sound();
        }
        for (size_t i = 0; i < 2; i++) {
                _cleanup_(strbuf_done) struct strbuf sql = {0};
                char payout[UUID_TEXT_SIZE], job[UUID_TEXT_SIZE];

                uuid_format(&payouts[i], payout);
                uuid_format(jobs[i], job);
                strbuf_addf(&sql, "SELECT c.parent = '%s' AND c.amount = j.amount FROM chain c JOIN chain j ON j.id = c.parent WHERE c.id = '%s'",
                        job, payout);
                expect(sql.s, "t");
        }
}

/* A payout that is there already, or comes twice in a call, is nobody else's: verdicts, and no error. */
static void a_payout_has_one_job(void **state)
{
        struct uuid jobs[] = {executed(), executed(), executed()}, shared = uuid_v7();

        (void)state;
        for (int again = 0; again < 2; again++) {
                _cleanup_(advance_done) struct advance a = {0};

                for (size_t i = 0; i < 2; i++) {
                        const struct uuid *job = &jobs[again ? i + 1 : i];

                        say_whose(&a, advance_move(&a, job, 9), job, "REVENUE_BOOKED");
                        say_whose(&a, advance_open_child(&a, &shared, "payout", job), &shared, "PAYOUT_EARNED");
                }
                run(&a, "ledger");
                for (size_t i = 0; i < 4; i++)
                        assert_true((a.t[i].verdict == ADVANCE_WON) == (!again && i < 2));
                expect_sound();
        }
}

/* A batch of new jobs: who is there already, or comes twice, is opened once. */
static void jobs_are_opened_once(void **state)
{
        struct uuid there = new_job(), fresh = uuid_v7(), other = uuid_v7();
        const struct uuid *const ids[] = {&fresh, &there, &other, &fresh};
        static const enum advance_verdict wanted[] = {ADVANCE_WON, ADVANCE_LOST, ADVANCE_WON, ADVANCE_LOST};
        _cleanup_(advance_done) struct advance a = {0};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
                say_whose(&a, advance_open(&a, ids[i], "job", "default", LANE_NORMAL), ids[i], "JOB_CREATED");
        run(&a, "intake");
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
                assert_int_equal(a.t[i].verdict, wanted[i]);
        expect("WITH k AS (INSERT INTO submission (client, key, hash, job_id) SELECT 'default', c.id::text, sha256('x'), c.id FROM chain c WHERE "
               "c.kind = 'job'"
               " AND NOT EXISTS (SELECT 1 FROM submission s WHERE s.job_id = c.id) RETURNING 1) SELECT count(*) FROM k",
                "2");
        expect(strays, "0");
        expect_sound();
}

/* Arrays that begin elsewhere, and more or less data than there are events: nothing is written for another chain or left out. */
static void arrays_of_any_shape(void **state)
{
#define CALL(e_data)                                                                                                                                 \
        "SELECT coalesce(string_agg(verdict, ' ' ORDER BY ord), '') FROM (SELECT array_agg(x ORDER BY o) AS id, array_agg(1) AS one,"                \
        " array_agg(NULL::text) AS none, array_agg(NULL::uuid) AS nobody FROM unnest($1) WITH ORDINALITY u(x, o)) i CROSS JOIN LATERAL"              \
        " advance(('[0:1]=' || id::text)::uuid[], one, none, none, none, nobody, '[-3:-2]={FLOW_CHOSEN,FLOW_CHOSEN}'::text[], " e_data ") v"
#define OF(n) "format('{\"of\":\"%s\",\"is\":\"FLOW_CHOSEN\"}', id[" n "])"
        static const char whole[] = CALL("ARRAY[" OF("1") "," OF("2") "]"), more[] = CALL("ARRAY[" OF("1") "," OF("2") ",'{}']"),
                          less[] = CALL("ARRAY[" OF("1") "]");
        static const struct {
                const char *sql;
                int error;
        } calls[] = {{whole, 0}, {more, 0}, {less, -EINVAL}};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
                struct uuid ids[] = {new_job(), new_job()};
                _cleanup_(db_args_done) struct db_args args = {0};
                _cleanup_(PQclearp) PGresult *r = NULL;

                db_arg_uuids(&args, ids, ARRAY_SIZE(ids));
                assert_int_equal(db_run(db_of("pricing"), calls[i].sql, &args, &r), calls[i].error);
                if (calls[i].error == 0)
                        assert_string_equal(PQgetvalue(r, 0, 0), "won won");
                expect(strays, "0");
                expect_sound();
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(one_move_a_call),
                BOTH_WAYS(events_find_their_chains),
                BOTH_WAYS(events_in_any_order),
                BOTH_WAYS(one_kind_of_move),
                BOTH_WAYS(confirmations_in_one_call),
                BOTH_WAYS(bookings_in_one_call),
                BOTH_WAYS(a_payout_has_one_job),
                BOTH_WAYS(jobs_are_opened_once),
                cmocka_unit_test(arrays_of_any_shape),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
