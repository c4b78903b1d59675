#include "tests/support/execution_world.h"

#include "tests/support/paid_jobs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

void run_sql(struct world *w, const char *sql)
{
        free(pg_fixture_ask(w->stack->pg, sql));
}

long number(struct world *w, const char *sql)
{
        _cleanup_(freep) char *s = pg_fixture_ask(w->stack->pg, sql);

        return strtol(s, NULL, 10);
}

void operator_is(struct world *w, const char *name, const char *url, const char *status_url, const char *tag, const char *more, const char *values)
{
        _cleanup_(strbuf_done) struct strbuf sql = {0};

        strbuf_addf(&sql,
                "INSERT INTO aethelos.operator (name, kind, url, status_url, tags%s) VALUES ('%s', 'http', '%s', nullif('%s', ''), '{%s}'%s)", more,
                name, url, status_url ? status_url : "", tag, values);
        run_sql(w, sql.s);
}

void ring(struct world *w, const char *which)
{
        paid_jobs_ring(w->stack, w->bus, which);
}

void jobs(struct world *w, int n, const char *steps, const char *payload, bool at_once)
{
        paid_jobs(w->stack, at_once ? w->bus : NULL, n, steps, payload);
}

int setup(void **state)
{
        struct world *w = xcalloc(1, sizeof(*w));

        w->stack = stack_start_bare();
        w->one = fake_operator_start("one");
        w->two = fake_operator_start("two");
        w->bus = paid_jobs_bus(w->stack);
        stack_spawn(w->stack, "execution", (const char *const[]){"AETHELOS_AVOID_FIRST_MS=1000", NULL});
        paid_jobs_await_execution(w->stack, w->bus);
        *state = w;
        return 0;
}

int teardown(void **state)
{
        struct world *w = *state;

        bus_free(w->bus);
        stack_free(w->stack);
        fake_operator_free(w->one);
        fake_operator_free(w->two);
        free(w);
        return 0;
}

void operators_change(struct world *w, const char *sql)
{
        stack_stop(w->stack, "execution", SIGTERM);
        run_sql(w, sql);
        stack_spawn(w->stack, "execution", NULL);
}

#define RESULT "SELECT data FROM aethelos.event WHERE type IN ('EXECUTION_COMPLETED', 'EXECUTION_FAILED') ORDER BY id DESC LIMIT 1"

void expect_last(struct world *w, const char *part)
{
        _cleanup_(freep) char *data = pg_fixture_ask(w->stack->pg, RESULT);

        if (!strstr(data, part))
                fail_msg("%s instead of %s", data, part);
}
