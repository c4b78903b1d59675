/* The specification as it is read: every table and column says what it is, and the page that draws the chain is what the tables say. */
#include "base/util.h"
#include "tests/support/pg_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct pg_fixture *pg;

static int set_up(void **state)
{
        (void)state;
        pg = pg_fixture_start();
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        pg = pg_fixture_free(pg);
        return 0;
}

static void expect(const char *sql, const char *answer)
{
        _cleanup_(freep) char *got = pg_fixture_ask(pg, sql);

        assert_string_equal(got, answer);
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
                cmocka_unit_test(every_table_and_column_is_described),
                cmocka_unit_test(the_picture_is_the_specification),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
