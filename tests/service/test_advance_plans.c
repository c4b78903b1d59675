/* Plans: neither advance() nor what services read for each batch looks at a whole table, whatever its size was when they were planned. The order
 * counts: the first two begin on an empty store, and in the second the services make the plans that the third judges. */
#include "base/util.h"
#include "service/service.h"
#include "services/feed/feed_store.h"
#include "services/intake/job_view.h"
#include "tests/support/chain_moves.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { MANY = 2000 };
static const char fetched[] = "SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'chain'";

static void flush_statistics(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                assert_int_equal(db_run(as[i], "SELECT pg_stat_force_next_flush()", NULL, NULL), 0);
        expect("SELECT 1 FROM pg_stat_force_next_flush()", "1");
}

/* Admitted in one batch. */
static void many_jobs(struct uuid ids[MANY])
{
        _cleanup_(advance_done) struct advance a = {0};

        for (size_t i = 0; i < MANY; i++) {
                ids[i] = uuid_v7();
                advance_event(&a, advance_open(&a, &ids[i], "job", "default", LANE_LOW), "JOB_CREATED", "{}", 2);
        }
        assert_int_equal(advance_run(&a, db_of("intake")), 0);
        expect("WITH k AS (INSERT INTO submission (client, key, hash, job_id) SELECT 'default', c.id::text, sha256('x'), c.id FROM chain c"
               " WHERE c.kind = 'job' AND c.lane = 'low' ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) >= 2000 FROM k",
                "t");
}

static void read_chain(struct db *db, const struct uuid *id, size_t found)
{
        _cleanup_(freep) struct chain *chains = NULL;
        size_t n = SIZE_MAX;

        assert_int_equal(chains_read(db, id, 1, &chains, &n), 0);
        assert_int_equal(n, found);
}

/* What a service reads for each batch is planned once, on an empty store, and never scans the chains afterwards. */
static void batches_are_planned_once(void **state)
{
        static const char plans[] =
                "SELECT bool_and(custom_plans = 0) AND sum(generic_plans) = 13 FROM pg_prepared_statements WHERE statement LIKE 'SELECT c.id%'";
        static const char scans[] = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'chain'";
        enum { READS = 12 };
        struct db *db = db_new(&(struct db_config){.url = pg_fixture_url(pg), .user = "aethelos_ledger", .generic_plans = true});
        struct uuid unknown = uuid_v7(), id, ids[MANY];
        _cleanup_(freep) char *before = NULL, *after = NULL, *from = NULL, *to = NULL;
        _cleanup_(PQclearp) PGresult *r = NULL;

        (void)state;
        assert_int_equal(db_ready(db), 0);
        expect("SELECT count(*) FROM chain", "0");
        free(pg_fixture_ask(pg, "ANALYZE chain")); /* known to be empty: the worst that a plan can be made from */
        read_chain(db, &unknown, 0);
        id = paid(); /* by way of the services, whose plans are made now */
        many_jobs(ids);
        flush_statistics();
        before = pg_fixture_ask(pg, scans);
        from = pg_fixture_ask(pg, fetched);
        for (int i = 0; i < READS; i++)
                read_chain(db, &id, 1);
        assert_int_equal(db_run(db, plans, NULL, &r), 0);
        assert_string_equal(PQgetvalue(r, 0, 0), "t");
        assert_int_equal(db_run(db, "SELECT pg_stat_force_next_flush()", NULL, NULL), 0);
        db = db_free(db);
        flush_statistics();
        after = pg_fixture_ask(pg, scans);
        to = pg_fixture_ask(pg, fetched);
        assert_string_equal(before, after);
        assert_int_equal(atol(to) - atol(from), READS);
}

/* Without that setting, too, the plan of this read does not depend on how many chains are asked for. */
static void chains_are_planned_once(void **state)
{
        static const char plans[] =
                "SELECT custom_plans <= 5 AND generic_plans >= 7 FROM pg_prepared_statements WHERE statement LIKE 'SELECT c.id, c.kind%'";
        struct db *db = db_new(&(struct db_config){.url = pg_fixture_url(pg), .user = "aethelos_board"});
        _cleanup_(PQclearp) PGresult *r = NULL;
        struct uuid id = new_job();

        (void)state;
        assert_int_equal(db_ready(db), 0);
        for (int i = 0; i < 12; i++)
                read_chain(db, &id, 1);
        assert_int_equal(db_run(db, plans, NULL, &r), 0);
        assert_int_equal(PQntuples(r), 1);
        assert_string_equal(PQgetvalue(r, 0, 0), "t");
        db_free(db);
}

/* Neither an empty table nor one that was never analysed nor one that has grown since may be read as a whole for a batch, not even by its index. */
static void plan_is_pinned(void **state)
{
        static const char scans[] = "SELECT string_agg(relname || ' ' || seq_scan, ' ' ORDER BY relname) FROM pg_stat_user_tables"
                                    " WHERE relname IN ('chain', 'event', 'evidence', 'journal', 'payment_intent')";
        enum { MOVED = 20 };
        struct uuid ids[MANY];
        _cleanup_(freep) char *before = NULL, *after = NULL, *from = NULL, *to = NULL;

        (void)state;
        many_jobs(ids);
        flush_statistics();
        before = pg_fixture_ask(pg, scans);
        from = pg_fixture_ask(pg, fetched);
        for (size_t i = 0; i < MOVED; i++) {
                MOVE("pricing", ids[i], 1, "FLOW_CHOSEN", "PRICED");
                MOVE("payments", ids[i], 3, "PAYMENT_REQUIRED", "PAYMENT_INITIATED");
                give_evidence(ids[i], "PAYMENT_CONFIRMED");
                assert_int_equal(MOVE("payments", ids[i], 5, "PAYMENT_CONFIRMED").verdict, ADVANCE_WON);
                MOVE("execution", ids[i], 6, "EXECUTION_STARTED", "STEP_COMPLETED", "EXECUTION_COMPLETED");
                assert_int_equal(book(ids[i], uuid_v7(), true), ADVANCE_WON);
        }
        flush_statistics();
        after = pg_fixture_ask(pg, scans);
        to = pg_fixture_ask(pg, fetched);
        assert_string_equal(before, after);
        assert_in_range(atol(to) - atol(from), MOVED, MOVED * 20);
}

static PGconn *as_owner(void)
{
        char url[256];

        snprintf(url, sizeof(url), "%s user=owner options=-csearch_path=aethelos", pg_fixture_url(pg));
        return PQconnectdb(url);
}

static void answers(PGconn *connection, const char *sql, const char *answer)
{
        _cleanup_(PQclearp) PGresult *r = PQexec(connection, sql);

        if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
                fail_msg("%s: %s", sql, PQerrorMessage(connection));
        if (answer)
                assert_string_equal(PQgetvalue(r, 0, 0), answer);
}

static void collect(void *arg, const char *text)
{
        strbuf_adds(arg, text);
}

/* A call that prices two new jobs, the first of them named first; answers how many have won. */
static void pricing_of_two(struct strbuf *call, const struct uuid *first, const struct uuid *second)
{
        static const char data[] = "{\"amount\":{\"minor\":2588,\"currency\":\"EUR\"}}";
        char a[UUID_TEXT_SIZE], b[UUID_TEXT_SIZE];

        uuid_format(first, a);
        uuid_format(second, b);
        strbuf_addf(call, "SELECT count(*) FILTER (WHERE verdict = 'won') FROM advance(ARRAY['%s', '%s']::uuid[], '{1,1}', '{NULL,NULL}',", a, b);
        strbuf_adds(call, " '{NULL,NULL}', '{NULL,NULL}', '{NULL,NULL}', ARRAY['FLOW_CHOSEN,PRICED', 'FLOW_CHOSEN,PRICED'],");
        strbuf_addf(call, " ARRAY['%s', '%s', '%s', '%s'])", data, data, data, data);
}

/* The chains of a batch are found by one scan of the primary key and joined by hash, also where the role has hash joins switched off: loops over what
 * is believed to be one row would compare each with each. */
static void a_batch_is_joined_by_hash(void **state)
{
        static const char *const settings[] = {"LOAD 'auto_explain'", "SET auto_explain.log_min_duration = 0",
                "SET auto_explain.log_nested_statements = on", "SET client_min_messages = log",
                "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off", "SET SESSION AUTHORIZATION aethelos_pricing"};
        _cleanup_(strbuf_done) struct strbuf plans = {0}, call = {0};
        PGconn *connection = as_owner();
        struct uuid one = new_job(), other = new_job();
        const char *update;

        (void)state;
        (void)paid(); /* the way is known */
        for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
                answers(connection, settings[i], NULL);
        pricing_of_two(&call, &one, &other);
        PQsetNoticeProcessor(connection, collect, &plans);
        answers(connection, call.s, "2");
        PQfinish(connection);
        update = strstr(plans.s, "Update on chain c");
        assert_non_null(update);
        assert_non_null(strstr(update, "Hash Join"));
        assert_non_null(strstr(update, "Index Cond: (id = ANY"));
        assert_null(strstr(plans.s, "Join Filter: ((c.id = "));
}

static void wait_for_a_lock(PGconn *connection)
{
        char sql[128];

        snprintf(sql, sizeof(sql), "SELECT coalesce(wait_event_type, '') = 'Lock' FROM pg_stat_activity WHERE pid = %d", PQbackendPID(connection));
        for (int64_t until = now_mono_ms() + 10000;; usleep(10000)) {
                _cleanup_(freep) char *waits = pg_fixture_ask(pg, sql);

                if (strcmp(waits, "t") == 0)
                        return;
                if (now_mono_ms() > until)
                        fail_msg("nobody waits for the lock");
        }
}

/* Two instances of a service with the same chains must not wait for each other: whatever the order in a call, it waits for the lower id first, and
 * has not touched the higher one then. Nor does set_aside() wait for whoever is held. */
static void chains_are_locked_in_the_order_of_their_ids(void **state)
{
        _cleanup_(strbuf_done) struct strbuf call = {0};
        PGconn *holder = as_owner(), *mover = as_owner();
        struct uuid low = new_job(), high = new_job(), unpaid = waiting_for_payment();
        char text[UUID_TEXT_SIZE], hold_low[128], hold_high[128], hold_unpaid[128], aside[128];
        PGresult *r;

        (void)state;
        (void)paid(); /* the way is known */
        assert_true(uuid_compare(&low, &high) < 0);
        uuid_format(&low, text);
        snprintf(hold_low, sizeof(hold_low), "SELECT 1 FROM chain WHERE id = '%s' FOR UPDATE", text);
        uuid_format(&high, text);
        snprintf(hold_high, sizeof(hold_high), "SELECT 1 FROM chain WHERE id = '%s' FOR UPDATE NOWAIT", text);
        uuid_format(&unpaid, text);
        snprintf(hold_unpaid, sizeof(hold_unpaid), "SELECT 1 FROM chain WHERE id = '%s' FOR UPDATE", text);
        snprintf(aside, sizeof(aside), "SELECT set_aside(ARRAY['%s']::uuid[])", text);
        pricing_of_two(&call, &high, &low);
        answers(holder, "BEGIN", NULL);
        answers(holder, hold_low, "1");
        answers(holder, hold_unpaid, "1");
        expect(aside, "0");
        answers(mover, "SET SESSION AUTHORIZATION aethelos_pricing", NULL);
        assert_int_equal(PQsendQuery(mover, call.s), 1);
        wait_for_a_lock(mover);
        expect(hold_high, "1");
        answers(holder, "ROLLBACK", NULL);
        r = PQgetResult(mover);
        assert_string_equal(PQgetvalue(r, 0, 0), "2");
        PQclear(r);
        assert_null(PQgetResult(mover));
        expect(aside, "1");
        expect(aside, "0");
        expect_sound();
        PQfinish(mover);
        PQfinish(holder);
}

/* Whoever waits for a payer stays in the index of what stands, so that neither this update nor the next changes an index. */
static void a_short_wait_changes_no_index(void **state)
{
        static const char updates[] = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'chain'",
                          hot[] = "SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'chain'";
        enum { MOVES = 3 /* priced, owed, paid */ };
        _cleanup_(freep) char *from = NULL, *to = NULL, *hot_from = NULL, *hot_to = NULL;

        (void)state;
        flush_statistics();
        from = pg_fixture_ask(pg, updates);
        hot_from = pg_fixture_ask(pg, hot);
        (void)paid();
        flush_statistics();
        to = pg_fixture_ask(pg, updates);
        hot_to = pg_fixture_ask(pg, hot);
        assert_int_equal(atol(to) - atol(from), MOVES);
        assert_int_equal(atol(hot_to) - atol(hot_from), MOVES);
}

static void move_all(const struct uuid ids[MANY], const char *service, int version, const char *first, const char *second, const char *data)
{
        _cleanup_(advance_done) struct advance a = {0};

        for (size_t i = 0; i < MANY; i++) {
                size_t t = advance_move(&a, &ids[i], version);

                advance_event(&a, t, first, "{}", 2);
                advance_event(&a, t, second, data, strlen(data));
        }
        assert_int_equal(advance_run(&a, db_of(service)), 0);
        for (size_t i = 0; i < MANY; i++)
                assert_int_equal(a.t[i].verdict, ADVANCE_WON);
}

/* Chains that were opened together and move together find room for two versions beside them, before what they were can be pruned. */
static void a_batch_stays_in_its_pages(void **state)
{
        static const char hot[] = "SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'chain'";
        PGconn *holder = as_owner();
        _cleanup_(freep) char *from = NULL, *to = NULL;
        struct uuid ids[MANY];

        (void)state;
        many_jobs(ids);
        answers(holder, "BEGIN ISOLATION LEVEL REPEATABLE READ", NULL);
        answers(holder, "SELECT 1", "1"); /* whoever looks since then may still see them as they were */
        flush_statistics();
        from = pg_fixture_ask(pg, hot);
        move_all(ids, "pricing", 1, "FLOW_CHOSEN", "PRICED", "{\"amount\":{\"minor\":2588,\"currency\":\"EUR\"}}");
        move_all(ids, "payments", 3, "PAYMENT_REQUIRED", "PAYMENT_INITIATED", "{}");
        flush_statistics();
        to = pg_fixture_ask(pg, hot);
        PQfinish(holder);
        assert_in_range(atol(to) - atol(from), 2 * MANY * 3 / 4, 2 * MANY);
}

/* What the steps of a batch ask for and post is read once for the batch, not for each of its chains. */
static void steps_are_read_once(void **state)
{
        static const char steps[] = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'step'";
        enum { PAID = 200, STEPS = 100 /* more than there are */ };
        _cleanup_(advance_done) struct advance a = {0};
        _cleanup_(freep) char *from = NULL, *to = NULL;
        struct uuid ids[MANY];

        (void)state;
        many_jobs(ids);
        for (size_t i = 0; i < PAID; i++) {
                MOVE("pricing", ids[i], 1, "FLOW_CHOSEN", "PRICED");
                MOVE("payments", ids[i], 3, "PAYMENT_REQUIRED", "PAYMENT_INITIATED");
                give_evidence(ids[i], "PAYMENT_CONFIRMED");
        }
        flush_statistics();
        from = pg_fixture_ask(pg, steps);
        for (size_t i = 0; i < PAID; i++)
                advance_event(&a, advance_move(&a, &ids[i], 5), "PAYMENT_CONFIRMED", "{}", 2);
        assert_int_equal(advance_run(&a, db_of("payments")), 0);
        for (size_t i = 0; i < PAID; i++)
                assert_int_equal(a.t[i].verdict, ADVANCE_WON);
        flush_statistics();
        to = pg_fixture_ask(pg, steps);
        assert_in_range(atol(to) - atol(from), 1, STEPS);
}

/* A page of the tail is not everything behind the checkpoint, sorted: not even when it is planned while there is nothing. */
static void tail_is_read_in_its_order(void **state)
{
        static const char plan[] =
                "EXPLAIN (COSTS OFF) SELECT * FROM event WHERE (generation, xid, id) > ($1::smallint, $2, $3) AND " JOB_VIEW_HORIZON
                " ORDER BY generation, xid, id LIMIT 2000";
        struct db *feed = db_new(&(struct db_config){.url = pg_fixture_url(pg), .user = "aethelos_feed", .generic_plans = true});
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;

        (void)state;
        assert_int_equal(db_ready(feed), 0);
        expect("SELECT count(*) FROM event", "0");
        for (int i = 0; i < 3; i++)
                db_arg_int(&args, 1);
        assert_int_equal(db_run(feed, plan, &args, &r), 0);
        for (int row = 0; row < PQntuples(r); row++) {
                assert_null(strstr(PQgetvalue(r, row, 0), "Sort"));
                assert_null(strstr(PQgetvalue(r, row, 0), "Seq Scan on event"));
        }
        db_free(feed);
}

/* A reader of the tail does not read what it may not show yet: with one long transaction that would be everything since, at each look. */
static void tail_ends_at_the_horizon(void **state)
{
        static const char before[] = "SELECT generation, xid, id FROM event ORDER BY generation DESC, xid DESC, id DESC LIMIT 1",
                          hold[] = "SELECT pg_current_xact_id()", force[] = "SELECT pg_stat_force_next_flush()",
                          fetched_events[] = "SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'event'";
        struct db *holder = db_of("payouts"), *reader = db_of("ledger");
        _cleanup_(freep) char *from = NULL, *between = NULL, *to = NULL;
        _cleanup_(PQclearp) PGresult *last = NULL, *hidden = NULL, *shown = NULL;
        struct feed_position position;
        struct uuid ids[MANY];

        (void)state;
        assert_int_equal(db_run(reader, before, NULL, &last), 0);
        position = (struct feed_position){db_int(last, 0, 0), db_int(last, 0, 1), db_int(last, 0, 2)};
        assert_int_equal(db_begin(holder), 0);
        assert_int_equal(db_run(holder, hold, NULL, NULL), 0);
        many_jobs(ids);
        flush_statistics();
        from = pg_fixture_ask(pg, fetched_events);
        assert_int_equal(feed_page(reader, &position, &hidden), 0);
        assert_int_equal(db_run(reader, force, NULL, NULL), 0);
        between = pg_fixture_ask(pg, fetched_events);
        assert_int_equal(db_commit(holder), 0);
        assert_int_equal(feed_page(reader, &position, &shown), 0);
        assert_int_equal(db_run(reader, force, NULL, NULL), 0);
        to = pg_fixture_ask(pg, fetched_events);
        assert_int_equal(PQntuples(hidden), 0);
        assert_int_equal(atol(between) - atol(from), 0);
        assert_int_equal(PQntuples(shown), MANY);
        assert_int_equal(atol(to) - atol(between), MANY);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(tail_is_read_in_its_order),
                cmocka_unit_test(batches_are_planned_once),
                cmocka_unit_test(plan_is_pinned),
                cmocka_unit_test(chains_are_planned_once),
                cmocka_unit_test(a_batch_is_joined_by_hash),
                cmocka_unit_test(chains_are_locked_in_the_order_of_their_ids),
                cmocka_unit_test(a_short_wait_changes_no_index),
                cmocka_unit_test(a_batch_stays_in_its_pages),
                cmocka_unit_test(steps_are_read_once),
                cmocka_unit_test(tail_ends_at_the_horizon),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
