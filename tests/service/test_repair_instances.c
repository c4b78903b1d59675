/* Instances of meta-repair: several share the work, a frozen one writes nothing, and one that is killed anywhere leaves nothing undone. Neither one
 * client's flood nor what is finished takes their time from others, and a broker that lost everything costs a chain seconds. */
#include "tests/support/bus_party.h"
#include "tests/support/repair_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void instances_share_the_work(void **state)
{
        (void)state;
        rule("EXECUTION_FAILED", 0, 0, 1, 0.2, 1);
        for (int i = 0; i < 60; i++)
                free(failed());
        start();
        start();
        start();
        await("60", "SELECT count(*) FROM chain WHERE step = 'EXECUTION_REQUIRED'");
        await("60", "SELECT count(*) FROM issue WHERE state = 'resolved' AND attempts = 1");
        await("60 60", "SELECT count(*) || ' ' || count(DISTINCT chain_id) FROM event WHERE type = 'EXECUTION_REQUIRED'");
        await("60 60", "SELECT count(*) || ' ' || count(DISTINCT chain_id) FROM event WHERE type = 'META_REPAIR'");
}

static void a_frozen_instance_writes_nothing(void **state)
{
        (void)state;
#ifdef AETHELOS_CRASH_POINTS
        pid_t frozen;
        int status;

        rule("EXECUTION_FAILED", 0, 0, 1, 0.2, 1);
        _cleanup_(freep) char *id = failed();
        stack_spawn(stack, "meta-repair", (const char *const[]){"AETHELOS_FREEZE_AT=meta-repair: before writing:1", "AETHELOS_LEASE_MS=1500", NULL});
        frozen = stack->processes[--stack->n].pid;
        assert_int_equal(waitpid(frozen, &status, WUNTRACED), frozen);
        assert_true(WIFSTOPPED(status));
        await("1 open", "SELECT epoch || ' ' || state FROM issue WHERE chain_id = '%s'", id);
        start();
        await("EXECUTION_REQUIRED", STEP, id);
        await("2 resolved 1", "SELECT epoch || ' ' || state || ' ' || attempts FROM issue WHERE chain_id = '%s'", id);
        /* Alone again, the frozen one first ends what it had decided, and then answers. */
        stack_stop(stack, "meta-repair", SIGTERM);
        snprintf(stack->processes[stack->n].name, sizeof(stack->processes[0].name), "meta-repair");
        stack->processes[stack->n++].pid = frozen;
        assert_int_equal(kill(frozen, SIGCONT), 0);
        expect_command("auto_repair", "{}", "{\"found\":0,\"repaired\":0,\"waiting\":0,\"refused\":0}");
        await("2 resolved 1", "SELECT epoch || ' ' || state || ' ' || attempts FROM issue WHERE chain_id = '%s'", id);
        await("1", "SELECT count(*) FROM event WHERE type = 'EXECUTION_REQUIRED'");
        await("1", "SELECT count(*) FROM event WHERE type = 'META_REPAIR'");
#else
        skip();
#endif
}

#ifdef AETHELOS_CRASH_POINTS
/* Until the store says so; when meta-repair dies it is started again. */
static void drive(int *killed, const char *answer, const char *fmt, const char *id)
{
        for (int64_t until = now_mono_ms() + 40000; now_mono_ms() < until; usleep(5000)) {
                _cleanup_(strbuf_done) struct strbuf sql = {0};

                for (const char *c = fmt; *c; c++)
                        if (strncmp(c, "%s", 2) == 0) {
                                strbuf_adds(&sql, id);
                                c++;
                        } else {
                                strbuf_addc(&sql, *c);
                        }
                _cleanup_(freep) char *got = pg_fixture_ask(stack->pg, sql.s);
                if (strcmp(got, answer) == 0)
                        return;
                if (stack_wait_end(stack, "meta-repair", 0) >= 0) {
                        (*killed)++;
                        stack_spawn(stack, "meta-repair", (const char *const[]){OFTEN, NULL});
                }
        }
        fail_msg("%s is not reached", answer);
}
#endif

static void killed_at_every_point(void **state)
{
        (void)state;
#ifdef AETHELOS_CRASH_POINTS
        static const char *const points[] = {"meta-repair: before opening", "meta-repair: after opening", "meta-repair: after taking",
                "meta-repair: before writing", "meta-repair: after writing", "meta-repair: before the end", "meta-repair: after the end",
                "meta-repair: before a command", "meta-repair: after a command", "meta-repair: before ringing", "before publish", "after publish"};

        rule("EXECUTION_FAILED", 0, 0, 1, 0.1, 0.2);
        for (size_t n = 0; n < ARRAY_SIZE(points) * (size_t)stack_crash_rounds(); n++) {
                const char *point = points[n % ARRAY_SIZE(points)];
                _cleanup_(freep) char *id = failed(), *other = failed();
                struct uuid u = uuid_v7();
                char setting[100], asked[UUID_TEXT_SIZE];
                int killed = 0;

                uuid_format(&u, asked);
                /* Looks are ten times as often as usual, and what a pause is for is aged: the points are the same, and come sooner. */
                RUN("INSERT INTO repair_command (id, what, args, by_whom) VALUES ('%s', 'refund', '{\"chain_id\":\"%s\"}', 'anna')", asked, other);
                snprintf(setting, sizeof(setting), "AETHELOS_CRASH_AT=%s:1", point);
                stack_spawn(stack, "meta-repair", (const char *const[]){setting, OFTEN, NULL});
                drive(&killed, "EXECUTION_REQUIRED", STEP, id);
                MOVE_WITH(FAILURE, "execution", id, "EXECUTION_STARTED", "EXECUTION_FAILED");
                drive(&killed, "REFUND_REQUIRED", STEP, id);
                refund(id);
                age(id, "3 s");
                drive(&killed, "FINAL_FAIL", STEP, id);
                drive(&killed, "{\"found\":1,\"refunded\":1,\"refused\":0,\"refusals\":[]}", "SELECT result FROM repair_command WHERE id = '%s'",
                        asked);
                refund(other); /* in a long run it would be late */
                drive(&killed, "FINAL_FAIL", STEP, other);
                drive(&killed, "0", "SELECT count(*) FROM issue WHERE closed_at IS NULL AND (chain_id = '%s' OR true)", id);
                if (killed == 0 && stack_wait_end(stack, "meta-repair", 5000) >= 0)
                        killed++;
                else
                        stack_stop(stack, "meta-repair", SIGTERM);
                if (killed != 1)
                        fail_msg("killed %d times at \"%s\"", killed, point);
                stack_assert_sound(stack);
        }
        await("t", "SELECT count(*) = 2 * count(DISTINCT chain_id) AND max(version) > 0 FROM event WHERE type = 'EXECUTION_FAILED' AND chain_id IN"
                   " (SELECT chain_id FROM event WHERE type = 'EXECUTION_REQUIRED')");
#else
        skip();
#endif
}

/* Hears one bell of execution, as an instance that has just come to the broker, and leaves. */
static void hear_one_bell(void)
{
        static const struct bus_stream stream = {.name = "HOP_EXECUTION", .subjects = {"aethelos.hop.execution.*"}, .memory = true};
        static const struct bus_lane lanes[] = {
                {.durable = "high", .filter = "aethelos.hop.execution.high", .weight = 8},
                {.durable = "normal", .filter = "aethelos.hop.execution.normal", .weight = 3},
                {.durable = "low", .filter = "aethelos.hop.execution.low", .weight = 1},
                {0},
        };
        struct party execution = party_open(stack->nats, (struct bus_config){0});

        assert_int_equal(bus_source(execution.bus, &stream, lanes), 0);
        bus_ack(execution.bus, party_next(&execution));
        party_close(&execution);
}

/* Its bell is lost with the broker, the next regular one is most of a minute away, and there is nobody to hear it until execution is back. */
static void what_stands_is_rung_once_at_a_new_broker(void **state)
{
        (void)state;
        rule("PAYMENT_CONFIRMED", 3600, 7200, 1, 3600, 3600);
        _cleanup_(freep) char *id = paid();
        age(id, "65 s");
        start();
        hear_one_bell();
        nats_fixture_kill(stack->nats);
        nats_fixture_wipe(stack->nats);
        _cleanup_(freep) char *wiped = ask("SELECT clock_timestamp()");
        nats_fixture_restart(stack->nats);
        /* It is there, and has looked, before execution is: it renews its lease of 0.6 s only while it is connected. */
        await("t", "SELECT until > '%s'::timestamptz + interval '1 s' FROM lease WHERE name = 'ringer'", wiped);
        hear_one_bell();
}

static void one_clients_flood_does_not_delay_another(void **state)
{
        (void)state;
        RUN("WITH c AS (INSERT INTO chain (id, kind, step, version, status, lane, client, created_at, updated_at)"
            "  SELECT CASE WHEN n = 0 THEN '00000000-0000-7000-8000-000000000000'::uuid ELSE gen_random_uuid() END, 'job', 'JOB_CREATED', 1, 'open', "
            "'normal',"
            "   CASE WHEN n = 0 THEN 'small' ELSE 'big' END, now() - interval '2 h', now() - interval '2 h' FROM generate_series(0, 3000) n "
            "RETURNING id, client),"
            " s AS (INSERT INTO submission (client, key, hash, job_id) SELECT client, id::text, sha256(''), id FROM c)"
            " INSERT INTO event (generation, xid, chain_id, version, type, at, data) SELECT 1, 1, id, 1, 'JOB_CREATED', now(), '{}' FROM c");
        start();
        stack_await(stack, "SELECT count(*) FROM issue WHERE attempts > 0", "3001", 120000);
        /* The small one came within the first turns, although three thousand others were due before or with it. */
        await("t",
                "SELECT count(*) < 1000 FROM event e JOIN issue i ON i.id = e.chain_id WHERE e.type = 'META_REPAIR' AND e.version = 2 AND i.client = "
                "'big'"
                " AND e.at < (SELECT min(f.at) FROM event f JOIN issue j ON j.id = f.chain_id WHERE f.type = 'META_REPAIR' AND j.client = 'small')");
}

static void what_is_finished_costs_nothing(void **state)
{
        (void)state;
        start();
        for (int i = 0; i < 8; i++) /* every statement is prepared and has its plan while there is nothing */
                free(command("auto_repair", "{}"));
        RUN("INSERT INTO chain (id, kind, step, version, status, lane, client, amount, currency, created_at, updated_at)"
            " SELECT gen_random_uuid(), 'job', 'REVENUE_BOOKED', 1, 'completed', 'normal', 'default', 1, 'EUR', now(), now()"
            " FROM generate_series(1, 300000)");
        RUN("SELECT pg_stat_reset_single_table_counters('chain'::regclass)");
        free(unpaid());
        await("1", "SELECT value FROM repair_figure WHERE name = 'waiting' AND label = 'job/PAYMENT_INITIATED'");
        free(command("auto_repair", "{}"));
        free(command("redrive", "{\"filter\":{}}"));
        stack_stop(stack, "meta-repair", SIGTERM); /* its counts are there when it has ended */
        await("0 t", "SELECT seq_scan || ' ' || CASE WHEN coalesce(idx_tup_fetch, 0) < 5000 THEN 't' ELSE idx_tup_fetch::text END"
                     " FROM pg_stat_user_tables WHERE relname = 'chain'");
        RUN("TRUNCATE chain"); /* they have no events */
        RUN("ALTER TABLE event DISABLE TRIGGER ALL");
        RUN("ALTER TABLE submission DISABLE TRIGGER ALL");
        RUN("TRUNCATE event, submission");
}

int main(int argc, char *argv[])
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(instances_share_the_work),
                TEST(a_frozen_instance_writes_nothing),
                TEST(killed_at_every_point),
                TEST(what_stands_is_rung_once_at_a_new_broker),
                TEST(one_clients_flood_does_not_delay_another),
                TEST(what_is_finished_costs_nothing),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
