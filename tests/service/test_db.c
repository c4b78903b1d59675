/* Transactions over a real connection: what is sent without waiting is as good as waited for, and no failure leaves the connection unusable. */
#include "base/util.h"
#include "store/db.h"
#include "tests/support/pg_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct pg_fixture *pg;
static struct db *db;

#define ASK(sql, answer)                                                                                                                             \
        do {                                                                                                                                         \
                _cleanup_(freep) char *got_ = pg_fixture_ask(pg, sql);                                                                               \
                assert_string_equal(got_, answer);                                                                                                   \
        } while (0)

static const char one[] = "INSERT INTO t VALUES (1)", two[] = "INSERT INTO t VALUES (2)", broken[] = "INSERT INTO t VALUES (1 / (SELECT 0))";
static const char all[] = "SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM t";

static int setup(void **state)
{
        (void)state;
        free(pg_fixture_ask(pg, "CREATE TABLE t (n integer)"));
        db = pg_fixture_connect(pg, NULL);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        db = db_free(db);
        free(pg_fixture_ask(pg, "DROP TABLE t"));
        return 0;
}

static void a_row(const char *sql, const char *answer)
{
        _cleanup_(PQclearp) PGresult *r = NULL;

        assert_int_equal(db_run(db, sql, NULL, &r), 0);
        assert_string_equal(PQgetvalue(r, 0, 0), answer);
}

static void what_is_sent_is_committed_with_the_rest(void **state)
{
        (void)state;
        assert_int_equal(db_begin(db), 0);
        assert_int_equal(db_send(db, one, NULL), 0);
        a_row(all, "1");
        assert_int_equal(db_send(db, two, NULL), 0);
        ASK(all, "");
        assert_int_equal(db_commit(db), 0);
        ASK(all, "1 2");
        assert_int_equal(db_send(db, one, NULL), 0); /* outside a transaction: at once */
        ASK(all, "1 1 2");
}

static void what_is_sent_and_fails_is_told_by_the_commit(void **state)
{
        (void)state;
        assert_int_equal(db_run(db, two, NULL, NULL), 0); /* it is prepared now: doing that needs an answer */
        assert_int_equal(db_begin(db), 0);
        assert_int_equal(db_run(db, one, NULL, NULL), 0);
        assert_int_equal(db_send(db, broken, NULL), 0);
        assert_int_equal(db_send(db, two, NULL), 0);
        assert_int_equal(db_commit(db), -EINVAL);
        assert_non_null(strstr(db_error(db), "division by zero"));
        db_rollback(db);
        ASK(all, "2");
        a_row(all, "2");
}

static void what_is_sent_and_fails_is_told_by_the_next_statement(void **state)
{
        (void)state;
        assert_int_equal(db_begin(db), 0);
        assert_int_equal(db_send(db, broken, NULL), 0);
        assert_int_equal(db_run(db, two, NULL, NULL), -EINVAL);
        assert_string_equal(db_sqlstate(db), "22012");
        db_rollback(db);
        db_rollback(db);
        assert_int_equal(db_run(db, two, NULL, NULL), 0);
        ASK(all, "2");
}

static void a_failure_that_was_passed_over_is_no_commit(void **state)
{
        (void)state;
        assert_int_equal(db_begin(db), 0);
        assert_int_equal(db_run(db, one, NULL, NULL), 0);
        assert_int_equal(db_run(db, broken, NULL, NULL), -EINVAL);
        assert_int_equal(db_commit(db), -EINVAL);
        assert_int_equal(db_run(db, two, NULL, NULL), 0);
        ASK(all, "2");
}

static void an_empty_transaction_is_none(void **state)
{
        (void)state;
        assert_int_equal(db_begin(db), 0);
        db_rollback(db);
        assert_int_equal(db_begin(db), 0);
        assert_int_equal(db_commit(db), 0);
        assert_int_equal(db_begin(db), 0);
        assert_int_equal(db_send(db, one, NULL), 0);
        db_rollback(db);
        ASK(all, "");
}

static void a_lost_connection_is_told_and_made_again(void **state)
{
        static const char own[] =
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()";

        (void)state;
        assert_int_equal(db_begin(db), 0);
        assert_int_equal(db_run(db, one, NULL, NULL), 0);
        assert_int_equal(db_send(db, two, NULL), 0);
        free(pg_fixture_ask(pg, own));
        assert_int_equal(db_commit(db), -ENOTCONN);
        db_rollback(db);
        for (int64_t until = now_mono_ms() + 10000; db_ready(db) < 0 && now_mono_ms() < until;)
                usleep(10000);
        assert_int_equal(db_begin(db), 0);
        free(pg_fixture_ask(pg, own)); /* the BEGIN has not been sent yet */
        assert_int_equal(db_run(db, one, NULL, NULL), -ENOTCONN);
        db_rollback(db);
        ASK(all, "");
}

struct tries {
        int (*how)(struct db *db, int (*work)(struct db *db, void *arg), void *arg);
        int n, failing;
};

static int try(struct db *d, void *arg)
{
        static const char deadlock[] = "SELECT fail('40P01')";
        struct tries *t = arg;

        return ++t->n <= t->failing ? db_send(d, deadlock, NULL) : db_send(d, one, NULL);
}

/* Numbers, ids and words are the same in both forms. */
static void results_read_alike_in_both_forms(void **state)
{
        static const char sql[] = "SELECT 7::smallint, -8::integer, '-9223372036854775808'::bigint, 9223372036854775807, true, false, NULL::bigint, "
                                  "NULL::uuid, 'w\u00f6rd',"
                                  " '01a21a78-3e9d-7aab-ae39-a6e8f987b94b'::uuid, -1::smallint";
        static const int64_t numbers[] = {7, -8, INT64_MIN, INT64_MAX};
        struct uuid id, none = {0};

        (void)state;
        assert_true(uuid_parse("01a21a78-3e9d-7aab-ae39-a6e8f987b94b", 36, &id));
        for (int binary = 0; binary < 2; binary++) {
                struct db_args args = {.binary_results = binary};
                _cleanup_(PQclearp) PGresult *r = NULL;
                struct uuid found;

                assert_int_equal(db_run(db, sql, &args, &r), 0);
                assert_int_equal(PQfformat(r, 0), binary);
                for (int column = 0; column < (int)ARRAY_SIZE(numbers); column++)
                        assert_true(db_int(r, 0, column) == numbers[column]);
                assert_true(db_bool(r, 0, 4));
                assert_false(db_bool(r, 0, 5));
                assert_int_equal(db_int(r, 0, 6), 0);
                found = db_uuid(r, 0, 7);
                assert_true(uuid_equal(&found, &none));
                assert_true(slice_equal(db_text(r, 0, 8), "w\u00f6rd"));
                found = db_uuid(r, 0, 9);
                assert_true(uuid_equal(&found, &id));
                assert_int_equal(db_int(r, 0, 10), -1);
        }
}

static void a_deadlock_is_tried_again(void **state)
{
        struct tries t[] = {{db_transaction, .failing = 2}, {db_statement, .failing = 3}, {db_transaction, .failing = 99}};

        (void)state;
        free(pg_fixture_ask(pg, "CREATE FUNCTION fail(state text) RETURNS integer LANGUAGE plpgsql AS"
                                " $$BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = state; END$$"));
        assert_int_equal(t[0].how(db, try, &t[0]), 0);
        ASK(all, "1");
        assert_int_equal(t[1].how(db, try, &t[1]), 0);
        ASK(all, "1 1");
        assert_int_equal(t[1].n, 4);
        assert_int_equal(t[2].how(db, try, &t[2]), -EAGAIN);
        assert_int_equal(t[2].n, 5);
        a_row(all, "1 1");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(what_is_sent_is_committed_with_the_rest),
                TEST(what_is_sent_and_fails_is_told_by_the_commit),
                TEST(what_is_sent_and_fails_is_told_by_the_next_statement),
                TEST(a_failure_that_was_passed_over_is_no_commit),
                TEST(an_empty_transaction_is_none),
                TEST(a_lost_connection_is_told_and_made_again),
                TEST(results_read_alike_in_both_forms),
                TEST(a_deadlock_is_tried_again),
        };
        int failed;

        pg = pg_fixture_start();
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        pg = pg_fixture_free(pg);
        return failed;
}
