/* Who may write: nobody around advance() and submit_evidence(), nobody in another's name, and evidence only once and as it was due. */
#include "base/util.h"
#include "tests/support/chain_moves.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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

/* The store itself refuses a key that is none, whoever writes it. */
static void keys_are_checked(void **state)
{
        static const char sql[] = "INSERT INTO submission (client, key, hash, job_id)"
                                  " VALUES ('c', rpad($1, $2::bigint::integer, 'k'), sha256('x'), gen_random_uuid())";
        static const struct {
                const char *key;
                int length;
                bool refused;
        } cases[] = {{"Az-_09", 6}, {"k", 128}, {"k", 129, true}, {"", 0, true}, {"a b", 3, true}, {"a.b", 3, true}, {"a\n", 2, true},
                {"\u00e4", 1, true}};
        struct db *owner = pg_fixture_connect(pg, NULL);

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(db_args_done) struct db_args args = {0};

                db_arg_text(&args, cases[i].key);
                db_arg_int(&args, cases[i].length);
                assert_int_equal(db_run(owner, sql, &args, NULL), cases[i].refused ? -EINVAL : 0);
                assert_string_equal(db_sqlstate(owner), cases[i].refused ? "23514" : "");
        }
        db_free(owner);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(nobody_writes_around_it),
                cmocka_unit_test(readers_and_intake_cannot_advance_others),
                cmocka_unit_test(evidence_verdicts),
                cmocka_unit_test(keys_are_checked),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
