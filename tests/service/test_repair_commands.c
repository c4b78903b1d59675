/* What people tell meta-repair: commands count exactly what they did, a hasty label is made, changed and removed, and docs/repair.md says what is
 * so. */
#include "tests/support/repair_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void commands_count_exactly(void **state)
{
        (void)state;
        rule("EXECUTION_FAILED", 0, 0, 1, 3600, 3600); /* nothing moves by itself */
        _cleanup_(freep) char *open = failed(), *refunding = failed(), *wait = unpaid(), *closed = unpaid(), *going = paid();
        _cleanup_(strbuf_done) struct strbuf args = {0};
        RUN("UPDATE payment_intent SET expires_at = now() WHERE id = '%s'", closed);
        MOVE("payments", closed, "PAYMENT_EXPIRED");
        (void)going;
        start();
        strbuf_addf(&args, "{\"chain_id\":\"%s\"}", refunding);
        expect_command("refund", args.s, "{\"found\":1,\"refunded\":1,\"refused\":0,\"refusals\":[]}");
        MOVE("payments", refunding, "REFUND_INITIATED");
        age(wait, "2 h");
        expect_command("auto_repair", "{\"dry_run\":true}", "{\"found\":2,\"repaired\":1,\"waiting\":1,\"refused\":0}");
        expect_command("redrive", "{\"filter\":{\"reason\":\"all_operators_failed\"},\"dry_run\":true}",
                "{\"found\":1,\"redriven\":1,\"refused\":0,\"refusals\":[]}");
        expect_command("redrive", "{\"filter\":{\"client\":\"nobody\"}}", "{\"found\":0,\"redriven\":0,\"refused\":0,\"refusals\":[]}");
        expect_command("redrive", "{\"filter\":{\"type\":\"test\",\"limit\":2},\"dry_run\":true}",
                "{\"found\":2,\"redriven\":2,\"refused\":0,\"refusals\":[]}");
        expect_command("redrive", "{\"filter\":{}}", "{\"found\":3,\"redriven\":3,\"refused\":0,\"refusals\":[]}");
        await("EXECUTION_REQUIRED", STEP, open);
        await("EXECUTION_REQUIRED", STEP, refunding);
        await("CHAIN_REOPENED", STEP, closed);
        expect_last(open, "\"cause\":\"redrive\",\"step\":0,\"by\":\"anna\"");
        expect_command("redrive", "{\"filter\":{\"since\":\"no date\"}}",
                "{\"error\":\"invalid input syntax for type timestamp with time zone: \\\"no date\\\"\"}");
        expect_command("redrive", "[]", "{\"error\":\"args is no JSON object\"}");
        strbuf_reset(&args);
        strbuf_addf(&args, "{\"chain_id\":\"%s\"}", wait);
        expect_command("close", args.s, "{\"found\":1,\"closed\":1,\"refused\":0,\"refusals\":[]}");
        await("FINAL_FAIL", STEP, wait);
        expect_last(wait, "\"reason\":\"closed_by_person\"");
        expect_command("rule", "{\"kind\":\"job\",\"step\":\"PRICED\",\"late_s\":7,\"why\":\"test\"}", "{\"version\":2}");
        await("00:00:07 01:00:00", "SELECT late || ' ' || deadline FROM rule WHERE step = 'PRICED' ORDER BY version DESC LIMIT 1");
        expect_command("rule", "{\"kind\":\"job\",\"step\":\"PRICED\",\"antibody\":\"prayer\",\"why\":\"test\"}",
                "{\"error\":\"there is no such antibody\"}");
}

/* A label is made, changed and removed by command, and what was there stays on record; who has a label that is no more keeps its times. */
static void hasty_labels(void **state)
{
        (void)state;
        start();
        expect_command("haste", "{\"label\":\"rush\",\"why\":\"x\"}", "{\"error\":\"a new label needs late_s and deadline_s\"}");
        expect_command("haste", "{\"label\":\"a label of more than thirty characters\",\"late_s\":1,\"deadline_s\":2,\"why\":\"x\"}",
                "{\"error\":\"a label is 1 to 31 characters A-Z a-z 0-9 _ . : -\"}");
        expect_command("haste", "{\"label\":\"rush\",\"late_s\":1,\"deadline_s\":2,\"why\":\"x\"}", "{\"version\":1}");
        expect_command("haste", "{\"label\":\"rush\",\"deadline_s\":3,\"why\":\"x\"}", "{\"version\":2}");
        await("1 s 3 s 00:00:01 f anna",
                "SELECT concat_ws(' ', extract(epoch FROM late)::integer || ' s', extract(epoch FROM deadline)::integer || ' s',"
                " backoff_first, removed, changed_by) FROM haste WHERE label = 'rush'");
        await("t", "SELECT count(*) > 10 AND bool_and(deadline <= interval '3 s') FROM rule_in_force WHERE label = 'rush'");
        _cleanup_(freep) char *id = created();
        RUN("UPDATE chain SET label = 'rush', updated_at = now() - interval '10 s'");
        await("MISSING_STEP repair open - -", "SELECT concat_ws(' ', kind, grade, 'open - -') FROM issue WHERE chain_id = '%s'", id);
        expect_command("haste", "{\"label\":\"rush\",\"remove\":true,\"why\":\"over\"}", "{\"version\":3}");
        expect_command("haste", "{\"label\":\"rush\",\"remove\":true,\"why\":\"over\"}", "{\"error\":\"there is no such label\"}");
        await("3", "SELECT count(*) FROM haste_version WHERE label = 'rush'");
        await("t", "SELECT count(*) > 10 FROM rule_in_force WHERE label = 'rush'");
        /* One that nobody knows is watched as one without. */
        _cleanup_(freep) char *other = created();
        RUN("UPDATE chain SET label = 'nobody knows this', updated_at = now() - interval '2 h' WHERE id::text = (SELECT max(id::text) FROM chain "
            "WHERE kind = 'job')");
        await("MISSING_STEP repair", "SELECT concat_ws(' ', kind, grade) FROM issue WHERE chain_id = '%s'", other);
        expect_command("task", "{\"task_id\":\"no id\"}", "{\"error\":\"task_id is no id\"}");
        RUN("UPDATE chain SET label = NULL");
}

static void the_document_says_what_is_so(void **state)
{
        _cleanup_(freep) char *doc = NULL, *printed = NULL;
        _cleanup_(freep) char *rules =
                ask("SELECT string_agg('| ' || concat_ws(' | ', kind, step, issue, antibody, basis, extract(epoch FROM late)::integer,"
                    " extract(epoch FROM deadline)::integer, attempts, extract(epoch FROM backoff_first)::integer,"
                    " extract(epoch FROM backoff_max)::integer) || E' |\\n', '' ORDER BY kind, step COLLATE \"C\") FROM rule");
        char command[1024], tables[256];

        (void)state;
        snprintf(tables, sizeof(tables), "%s/antibodies", stack->dir);
        snprintf(command, sizeof(command), "%s/aethelos-meta-repair --antibodies > %s", AETHELOS_BIN_DIR, tables);
        assert_int_equal(system(command), 0);
        assert_int_equal(read_file(AETHELOS_SOURCE_DIR "/docs/repair.md", 1 << 20, &doc), 0);
        assert_int_equal(read_file(tables, 1 << 20, &printed), 0);
        assert_true(printed[0]);
        assert_non_null(strstr(doc, printed));
        assert_non_null(strstr(doc, rules));
}

int main(int argc, char *argv[])
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(commands_count_exactly),
                TEST(hasty_labels),
                TEST(the_document_says_what_is_so),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
