/* What the routes about repair take for a command, and what they answer. */
#include "services/board/board_meta_core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct uuid one = {{1}};

static void reading(void **state)
{
        static const struct {
                enum board_command command;
                const char *body, *args, *by; /* args NULL: refused */
                int status;
                const char *field;
        } cases[] = {
                {BOARD_DO_AUTO_REPAIR, "", "{}", "admin", 0, NULL},
                {BOARD_DO_AUTO_REPAIR, "{\"dry_run\":true,\"kind\":\"MISSING_STEP\"}", "{\"dry_run\":true,\"kind\":\"MISSING_STEP\"}", "admin", 0,
                        NULL},
                {BOARD_DO_AUTO_REPAIR, "{\"kind\":null}", "{}", "admin", 0, NULL},
                {BOARD_DO_AUTO_REPAIR, "{\"dry_run\":1}", NULL, NULL, 422, "/dry_run"},
                {BOARD_DO_AUTO_REPAIR, "{\"now\":true}", NULL, NULL, 422, "/now"},
                {BOARD_DO_AUTO_REPAIR, "[]", NULL, NULL, 422, ""},
                {BOARD_DO_AUTO_REPAIR, "{", NULL, NULL, 400, ""},
                {BOARD_DO_REDRIVE, "{\"by\":\"ann\"}", NULL, NULL, 422, "/chain_id"},
                {BOARD_DO_REDRIVE, "{\"by\":\"ann\",\"filter\":{},\"dry_run\":true}", "{\"filter\":{},\"dry_run\":true}", "ann", 0, NULL},
                {BOARD_DO_REDRIVE, "{\"by\":\"ann\",\"filter\":{\"since\":\"2026-01-31T08:00:00Z\",\"limit\":5}}",
                        "{\"filter\":{\"since\":\"2026-01-31T08:00:00Z\",\"limit\":5}}", "ann", 0, NULL},
                {BOARD_DO_REDRIVE, "{\"by\":\"ann\",\"filter\":{\"since\":\"yesterday\"}}", NULL, NULL, 422, "/filter/since"},
                {BOARD_DO_REDRIVE, "{\"by\":\"ann\",\"filter\":{\"colour\":\"red\"}}", NULL, NULL, 422, "/filter/colour"},
                {BOARD_DO_REDRIVE, "{\"by\":\"ann\",\"chain_id\":\"01890000-0000-7000-8000-000000000000\",\"filter\":{}}", NULL, NULL, 422,
                        "/chain_id"},
                {BOARD_DO_REDRIVE, "{\"by\":\"ann\",\"chain_id\":\"x\"}", NULL, NULL, 422, "/chain_id"},
                {BOARD_DO_REDRIVE, "{\"filter\":{}}", NULL, NULL, 422, "/by"},
                {BOARD_DO_REFUND, "{\"by\":\"ann\",\"reason\":\"wish\"}",
                        "{\"chain_id\":\"01000000-0000-0000-0000-000000000000\",\"reason\":\"wish\"}", "ann", 0, NULL},
                {BOARD_DO_CLOSE, "{\"by\":\"ann\"}", NULL, NULL, 422, "/reason"},
                {BOARD_DO_CLOSE, "{\"by\":\"a\\nb\",\"reason\":\"r\"}", NULL, NULL, 422, "/by"},
                {BOARD_DO_CLOSE_ISSUE, "{\"by\":\"ann\",\"reason\":\"looked\"}",
                        "{\"issue_id\":\"01000000-0000-0000-0000-000000000000\",\"reason\":\"looked\"}", "ann", 0, NULL},
                {BOARD_DO_REPAIR_ISSUE, "{}", "{\"issue_id\":\"01000000-0000-0000-0000-000000000000\"}", "admin", 0, NULL},
                {BOARD_DO_RULE, "{\"by\":\"a\",\"kind\":\"job\",\"step\":\"PRICED\",\"deadline_s\":-1,\"why\":\"w\"}", NULL, NULL, 422,
                        "/deadline_s"},
                {BOARD_DO_RULE, "{\"by\":\"a\",\"kind\":\"job\",\"step\":\"PRICED\",\"deadline_s\":60,\"why\":\"w\"}",
                        "{\"kind\":\"job\",\"step\":\"PRICED\",\"deadline_s\":60,\"why\":\"w\"}", "a", 0, NULL},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                bool of_path = cases[i].command == BOARD_DO_REFUND || cases[i].command == BOARD_DO_CLOSE ||
                               cases[i].command == BOARD_DO_REPAIR_ISSUE || cases[i].command == BOARD_DO_CLOSE_ISSUE;
                struct strbuf args = {0};
                struct board_problem p = {0};
                char *by = NULL;
                bool ok = board_read_command(cases[i].command, cases[i].body, strlen(cases[i].body), of_path ? &one : NULL, &args, &by, &p);

                assert_int_equal(ok, cases[i].args != NULL);
                if (ok) {
                        assert_string_equal(args.s, cases[i].args);
                        assert_string_equal(by, cases[i].by);
                } else {
                        assert_int_equal(p.status, cases[i].status);
                        assert_string_equal(p.field, cases[i].field);
                }
                strbuf_done(&args);
                free(by);
        }
}

static void keys(void **state)
{
        struct uuid a = board_command_id(BOARD_DO_REFUND, &one, "k"), b = board_command_id(BOARD_DO_REFUND, &one, "k"),
                    c = board_command_id(BOARD_DO_CLOSE, &one, "k"), d = board_command_id(BOARD_DO_REFUND, &one, "l");

        (void)state;
        assert_true(uuid_equal(&a, &b));
        assert_false(uuid_equal(&a, &c));
        assert_false(uuid_equal(&a, &d));
        assert_int_equal(a.b[6] >> 4, 8);
}

static void results(void **state)
{
        static const char chain[] = "{\"chain_id\":\"x\"}";
        static const struct {
                enum board_command command;
                const char *args, *result;
                int status;
        } cases[] = {
                {BOARD_DO_REFUND, chain, "{\"found\":1,\"refunded\":1,\"refused\":0,\"refusals\":[]}", 0},
                {BOARD_DO_REFUND, chain, "{\"found\":1,\"refused\":1,\"refusals\":[{\"chain_id\":\"x\",\"why\":\"completed\"}]}", 409},
                {BOARD_DO_REFUND, chain, "{\"found\":1,\"refused\":1,\"refusals\":[{\"chain_id\":\"x\",\"why\":\"unknown\"}]}", 404},
                {BOARD_DO_CLOSE, chain, "{\"found\":1,\"refused\":1,\"refusals\":[{\"chain_id\":\"x\",\"why\":\"never heard of\"}]}", 409},
                {BOARD_DO_REDRIVE, "{\"filter\":{}}", "{\"found\":1,\"refused\":1,\"refusals\":[{\"chain_id\":\"x\",\"why\":\"completed\"}]}", 0},
                {BOARD_DO_RULE, "{}", "{\"error\":\"there is no such antibody\"}", 422},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char *detail;

                assert_int_equal(board_command_problem(cases[i].command, cases[i].args, cases[i].result, &detail).status, cases[i].status);
                assert_int_equal(detail != NULL, cases[i].status == 422);
                free(detail);
        }
}

static void cursors(void **state)
{
        struct uuid id;
        bool closed;

        (void)state;
        assert_true(board_issue_cursor_parse("1.01000000-0000-0000-0000-000000000000", &closed, &id));
        assert_true(closed && uuid_equal(&id, &one));
        assert_false(board_issue_cursor_parse("2.01000000-0000-0000-0000-000000000000", &closed, &id));
        assert_false(board_issue_cursor_parse("", &closed, &id));
        assert_false(board_issue_cursor_parse("0.", &closed, &id));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(reading), cmocka_unit_test(keys), cmocka_unit_test(results), cmocka_unit_test(cursors)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
