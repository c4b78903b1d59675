/* Chains led to where a test wants them, by advance() and evidence alone. */
#include "tests/support/chain_moves.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct pg_fixture *pg;
const char *const services[] = {"intake", "pricing", "payments", "execution", "ledger", "payouts", "meta_repair"};
struct db *as[ARRAY_SIZE(services)];

struct db *db_of(const char *service)
{
        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                if (strcmp(services[i], service) == 0)
                        return as[i];
        fail_msg("no such service: %s", service);
        return NULL;
}

int set_up(void **state)
{
        (void)state;
        pg = pg_fixture_start();
        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                as[i] = pg_fixture_connect(pg, services[i]);
        return 0;
}

int tear_down(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                as[i] = db_free(as[i]);
        pg = pg_fixture_free(pg);
        return 0;
}

void expect(const char *sql, const char *answer)
{
        _cleanup_(freep) char *got = pg_fixture_ask(pg, sql);

        assert_string_equal(got, answer);
}

void expect_sound(void)
{
        expect("SELECT coalesce(string_agg(invariant || ' ' || fault, ', '), '') FROM audit()", "");
}

/* One transition as one service. */
struct transition move(const char *service, struct uuid id, int version, const char *const events[])
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

void expect_evidence(struct uuid id, const char *event, const char *kind, const char *reference, const char *amount, const char *verdict)
{
        char text[UUID_TEXT_SIZE], sql[512];

        uuid_format(&id, text);
        snprintf(sql, sizeof(sql),
                "SELECT verdict FROM submit_evidence(ARRAY['%s'::uuid], ARRAY['%s'], ARRAY['%s'], ARRAY['anna'], ARRAY['%s'], ARRAY[%s::bigint])",
                text, event, kind, reference, amount);
        expect(sql, verdict);
}

void give_evidence(struct uuid id, const char *event)
{
        expect_evidence(id, event, "person", "bank 1", "NULL", "stored");
}

struct uuid new_job(void)
{
        struct uuid id = uuid_v7();
        char text[UUID_TEXT_SIZE], sql[256];

        uuid_format(&id, text);
        snprintf(sql, sizeof(sql), "INSERT INTO submission (client, key, hash, job_id) VALUES ('default', '%s', sha256('x'), '%s')", text, text);
        free(pg_fixture_ask(pg, sql));
        assert_int_equal(MOVE("intake", id, 0, "JOB_CREATED").verdict, ADVANCE_WON);
        return id;
}

struct uuid waiting_for(const char *driver, const char *term)
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

struct uuid waiting_for_payment(void)
{
        return waiting_for("manual", "1 hour");
}

struct uuid paid(void)
{
        struct uuid id = waiting_for_payment();

        give_evidence(id, "PAYMENT_CONFIRMED");
        assert_int_equal(MOVE("payments", id, 5, "PAYMENT_CONFIRMED").verdict, ADVANCE_WON);
        return id;
}

struct uuid executed(void)
{
        struct uuid id = paid();

        assert_int_equal(MOVE("execution", id, 6, "EXECUTION_STARTED", "STEP_COMPLETED", "EXECUTION_COMPLETED").verdict, ADVANCE_WON);
        return id;
}

enum advance_verdict book(struct uuid job, struct uuid payout, bool with_payout)
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
        return a.t[0].verdict;
}

struct uuid failed(void)
{
        struct uuid id = paid();

        assert_int_equal(MOVE("execution", id, 6, "EXECUTION_STARTED", "EXECUTION_FAILED").verdict, ADVANCE_WON);
        return id;
}

struct uuid refunding(void)
{
        struct uuid id = failed();

        assert_int_equal(MOVE("meta_repair", id, 8, "REFUND_REQUIRED").verdict, ADVANCE_WON);
        assert_int_equal(MOVE("payments", id, 9, "REFUND_INITIATED").verdict, ADVANCE_WON);
        return id;
}

struct uuid refunded(void)
{
        struct uuid id = refunding();

        expect_evidence(id, "REFUND_CONFIRMED", "person", "back 1", "NULL", "stored");
        assert_int_equal(MOVE("payments", id, 10, "REFUND_CONFIRMED").verdict, ADVANCE_WON);
        assert_int_equal(MOVE("meta_repair", id, 11, "FINAL_FAIL").verdict, ADVANCE_WON);
        return id;
}

struct uuid expired(void)
{
        struct uuid id = waiting_for("manual", "-1 s");

        assert_int_equal(MOVE("payments", id, 5, "PAYMENT_EXPIRED").verdict, ADVANCE_WON);
        return id;
}

/* Each about an operator of its own, because one of a kind is active about the same. */
struct uuid new_task(void)
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

struct uuid paid_task(void)
{
        struct uuid id = new_task();

        assert_int_equal(MOVE("pricing", id, 1, "FLOW_CHOSEN", "PRICED").verdict, ADVANCE_WON);
        assert_int_equal(MOVE("payments", id, 3, "PAYMENT_CONFIRMED").verdict, ADVANCE_REFUSED);
        expect_evidence(id, "PAYMENT_CONFIRMED", "person", "bank 1", "NULL", "not_waiting");
        expect_evidence(id, "PAYMENT_CONFIRMED", "internal", "transfer", "NULL", "stored");
        assert_int_equal(MOVE("payments", id, 3, "PAYMENT_CONFIRMED").verdict, ADVANCE_WON);
        return id;
}

struct uuid done_task(void)
{
        struct uuid id = paid_task();

        assert_int_equal(MOVE("execution", id, 4, "EXECUTION_STARTED", "STEP_COMPLETED", "EXECUTION_COMPLETED").verdict, ADVANCE_WON);
        return id;
}

struct uuid failed_task(void)
{
        struct uuid id = paid_task();

        assert_int_equal(MOVE("execution", id, 4, "EXECUTION_STARTED", "EXECUTION_FAILED").verdict, ADVANCE_WON);
        return id;
}

struct uuid reversed_task(void)
{
        struct uuid id = failed_task();

        assert_int_equal(MOVE("meta_repair", id, 6, "PAYMENT_REVERSED", "FINAL_FAIL").verdict, ADVANCE_REFUSED);
        expect_evidence(id, "PAYMENT_REVERSED", "internal", "issue", "NULL", "stored");
        assert_int_equal(MOVE("meta_repair", id, 6, "PAYMENT_REVERSED", "FINAL_FAIL").verdict, ADVANCE_WON);
        return id;
}
