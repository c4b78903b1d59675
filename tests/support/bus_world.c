#include "tests/support/bus_world.h"

#include "bus/bus.h"
#include "tests/support/paid_jobs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct bus *bus_world_worker(struct bus_world *w, const char *name)
{
        struct bus *bus = paid_jobs_bus(w->stack);
        char subject[64];

        snprintf(subject, sizeof(subject), "aethelos.operator.%s", name);
        assert_int_equal(bus_subscribe(bus, subject, name), 0);
        strcat(subject, ".status");
        assert_int_equal(bus_subscribe(bus, subject, name), 0);
        bus_flush(bus);
        return bus;
}

void bus_world_await_runs(struct bus_world *w, const char *name, const char *what, const char *is)
{
        char sql[512];

        snprintf(sql, sizeof(sql), "SELECT string_agg((%s)::text, ' ' ORDER BY step, attempt, id) FROM aethelos.operator_run WHERE operator = '%s'",
                what, name);
        stack_await(w->stack, sql, is, PATIENCE_MS);
}

void bus_world_operator(struct bus_world *w, const char *name, const char *more)
{
        _cleanup_(strbuf_done) struct strbuf body = {0};
        _cleanup_(freep) char *answer = NULL;
        long status;

        strbuf_addf(&body, "{\"name\":\"%s\",\"kind\":\"bus\",\"tags\":[\"%s\"]%s}", name, name, more);
        answer = stack_http(w->stack, true, "POST", "/operators", NULL, body.s, &status);
        if (status != 201)
                fail_msg("%ld %s", status, answer);
}

void bus_world_job(struct bus_world *w, const char *tag)
{
        char steps[96];

        snprintf(steps, sizeof(steps), "[\"%s\",\"puz19_text\"]", tag);
        paid_jobs(w->stack, w->bus, 1, steps, "{\"text\":\"one two\"}");
}

int bus_world_setup(void **state)
{
        struct bus_world *w = xcalloc(1, sizeof(*w));
        long status = 0;

        w->stack = stack_start_bare();
        w->bus = paid_jobs_bus(w->stack);
        stack_spawn(w->stack, "board", NULL);
        stack_spawn(w->stack, "execution", (const char *const[]){"AETHELOS_AVOID_FIRST_MS=1000", "AETHELOS_STATUS_TIMEOUT_MS=1000", NULL});
        paid_jobs_await_execution(w->stack, w->bus);
        for (int64_t until = now_mono_ms() + PATIENCE_MS; status != 200 && now_mono_ms() < until; usleep(20000))
                free(stack_http(w->stack, true, "GET", "/operators", NULL, NULL, &status));
        assert_int_equal(status, 200);
        *state = w;
        return 0;
}

int bus_world_teardown(void **state)
{
        struct bus_world *w = *state;

        bus_free(w->bus);
        stack_free(w->stack);
        free(w);
        return 0;
}

int bus_world_finished(void **state)
{
        struct bus_world *w = *state;

        stack_await(w->stack, "SELECT count(*) FROM aethelos.chain WHERE step NOT IN ('EXECUTION_COMPLETED', 'EXECUTION_FAILED')", "0", PATIENCE_MS);
        stack_assert_sound(w->stack);
        return 0;
}
