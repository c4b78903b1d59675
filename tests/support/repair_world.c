#include "tests/support/repair_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

struct stack *stack;
static const char *const players[] = {"intake", "pricing", "payments", "execution", "ledger", "payouts"};
static struct db *as[ARRAY_SIZE(players)];

char *ask(const char *fmt, ...)
{
        _cleanup_(strbuf_done) struct strbuf sql = {0};
        va_list ap;

        va_start(ap, fmt);
        strbuf_vaddf(&sql, fmt, ap);
        va_end(ap);
        return pg_fixture_ask(stack->pg, sql.s);
}

void await(const char *answer, const char *fmt, ...)
{
        _cleanup_(strbuf_done) struct strbuf sql = {0};
        va_list ap;

        va_start(ap, fmt);
        strbuf_vaddf(&sql, fmt, ap);
        va_end(ap);
        stack_await(stack, sql.s, answer, 40000);
}

void rule(const char *step, double late, double deadline, int attempts, double first, double longest)
{
        RUN("INSERT INTO rule SELECT kind, step, version + 1, issue, antibody, basis, %f * interval '1 s', %f * interval '1 s', %d, %f * interval '1 "
            "s',"
            " %f * interval '1 s', 'test', 'test' FROM rule WHERE step = '%s' ORDER BY version DESC LIMIT 1",
                late, deadline, attempts, first, longest, step);
}

enum advance_verdict move(const char *service, const char *id, const char *const events[], const char *data)
{
        _cleanup_(advance_done) struct advance a = {0};
        _cleanup_(freep) char *version = ask("SELECT coalesce((SELECT version FROM chain WHERE id = '%s'), 0)", id);
        struct uuid u;
        size_t t;

        assert_true(uuid_parse(id, strlen(id), &u));
        t = atoi(version) ? advance_move(&a, &u, atoi(version)) : advance_open(&a, &u, "job", "default", LANE_NORMAL);
        for (; *events; events++)
                advance_event(&a, t, *events, data, strlen(data));
        for (size_t i = 0; i < ARRAY_SIZE(players); i++)
                if (strcmp(players[i], service) == 0)
                        assert_int_equal(advance_run(&a, as[i]), 0);
        return a.t[0].verdict;
}

char *created(void)
{
        struct uuid u = uuid_v7();
        char id[UUID_TEXT_SIZE];

        uuid_format(&u, id);
        RUN("INSERT INTO submission (client, key, hash, job_id) VALUES ('default', '%s', sha256(''), '%s')", id, id);
        MOVE("intake", id, "JOB_CREATED");
        return xstrdup(id);
}

char *unpaid(void)
{
        char *id = created();

        MOVE("pricing", id, "FLOW_CHOSEN", "PRICED");
        RUN("INSERT INTO payment_intent (id, driver, expires_at) VALUES ('%s', 'manual', now() + interval '1 day')", id);
        MOVE("payments", id, "PAYMENT_REQUIRED", "PAYMENT_INITIATED");
        return id;
}

void evidence(const char *id, const char *event)
{
        _cleanup_(freep) char *verdict = ask("SELECT verdict FROM submit_evidence(ARRAY['%s'::uuid], ARRAY['%s'], ARRAY['person'], ARRAY['anna'],"
                                             " ARRAY['bank'], ARRAY[100::bigint])",
                id, event);

        assert_string_equal(verdict, "stored");
}

char *paid(void)
{
        char *id = unpaid();

        evidence(id, "PAYMENT_CONFIRMED");
        MOVE("payments", id, "PAYMENT_CONFIRMED");
        RUN("DELETE FROM evidence_inbox WHERE chain_id = '%s'", id);
        return id;
}

char *failed(void)
{
        char *id = paid();

        MOVE_WITH(FAILURE, "execution", id, "EXECUTION_STARTED", "EXECUTION_FAILED");
        return id;
}

void refund_confirmed(const char *id)
{
        evidence(id, "REFUND_CONFIRMED");
        MOVE_WITH("{\"amount\":{\"minor\":100,\"currency\":\"EUR\"},\"evidence\":{\"kind\":\"person\",\"who\":\"anna\",\"reference\":\"bank\"}}",
                "payments", id, "REFUND_CONFIRMED");
        RUN("DELETE FROM evidence_inbox WHERE chain_id = '%s'", id);
}

void refund(const char *id)
{
        await("REFUND_REQUIRED", "SELECT step FROM chain WHERE id = '%s'", id);
        MOVE("payments", id, "REFUND_INITIATED");
        refund_confirmed(id);
}

void age(const char *id, const char *interval)
{
        RUN("UPDATE chain SET updated_at = now() - interval '%s', created_at = now() - interval '%s' WHERE id = '%s'", interval, interval, id);
}

void start(void)
{
        stack_spawn(stack, "meta-repair", (const char *const[]){"AETHELOS_LEASE_MS=1500", "AETHELOS_TICK_MS=200", NULL});
}

char *command(const char *what, const char *args)
{
        struct uuid u = uuid_v7();
        char id[UUID_TEXT_SIZE];

        uuid_format(&u, id);
        RUN("INSERT INTO repair_command (id, what, args, by_whom) VALUES ('%s', '%s', $a$%s$a$, 'anna')", id, what, args);
        await("t", "SELECT done_at IS NOT NULL FROM repair_command WHERE id = '%s'", id);
        return ask("SELECT result FROM repair_command WHERE id = '%s'", id);
}

void expect_command(const char *what, const char *args, const char *answer)
{
        _cleanup_(freep) char *got = command(what, args);

        assert_string_equal(got, answer);
}

int setup(void **state)
{
        (void)state;
        stack = stack_start_bare();
        for (size_t i = 0; i < ARRAY_SIZE(players); i++)
                as[i] = pg_fixture_connect(stack->pg, players[i]);
        RUN("INSERT INTO operator (name, kind, url, tags) VALUES ('one', 'http', 'http://127.0.0.1:1/', '{puz19_text}')");
        return 0;
}

int teardown(void **state)
{
        (void)state;
        stack_assert_sound(stack);
        for (size_t i = 0; i < ARRAY_SIZE(players); i++)
                as[i] = db_free(as[i]);
        stack = stack_free(stack);
        return 0;
}

void expect_last(const char *id, const char *part)
{
        _cleanup_(freep) char *data = ask(LAST, id);

        if (!strstr(data, part))
                fail_msg("%s instead of %s", data, part);
}
