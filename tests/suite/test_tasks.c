/* System tasks and Code 19 on the real stack: each kind does its work on what is there, the policies open them from issues, one of a kind is active
 * about the same thing, and whatever becomes of them, no customer's figure, book or page knows of them. */
#include "base/util.h"
#include "tests/support/whole_stack.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/asserts.h"

static char *ask(bool admin, const char *method, const char *path, const char *body, long wanted)
{
        return ask_stack(stack, admin, method, path, NULL, body, wanted);
}

static void expect(const char *sql, const char *answer)
{
        _cleanup_(freep) char *got = pg_fixture_ask(stack->pg, sql);

        if (strcmp(got, answer) != 0)
                fail_msg("%s: %s, not %s", sql, got, answer);
}

/* The id of the task; opened: "true" or "false". */
static char *open_task(const char *kind, const char *entity, const char *opened)
{
        char body[160];

        snprintf(body, sizeof(body), "{\"kind\":\"%s\",%s%s%s\"by\":\"anna\"}", kind, entity ? "\"entity\":\"" : "", entity ? entity : "",
                entity ? "\"," : "");
        _cleanup_(freep) char *answer = ask(true, "POST", "/system/tasks", body, 200);
        assert_at(answer, "opened", opened);
        return json_at(answer, "task_id");
}

static char *task_in(const char *id, const char *state)
{
        char path[80], sql[160];

        snprintf(sql, sizeof(sql), "SELECT status FROM chain WHERE id = '%s'", id);
        stack_await(stack, sql, strcmp(state, "COMPLETED") == 0 ? "completed" : "final_fail", 20000);
        snprintf(path, sizeof(path), "/system/tasks/%s", id);
        char *task = ask(true, "GET", path, NULL, 200);
        assert_at(task, "state", state);
        return task;
}

static char *unpaid_job_in(const char *key, const char *type, const char *context)
{
        char header[80], body[200], sql[160];
        long status = 0;

        snprintf(header, sizeof(header), "Idempotency-Key: %s", key);
        snprintf(body, sizeof(body), "{\"type\":\"%s\",\"payload\":{\"text\":\"Code 19\"},\"context\":%s}", type, context);
        _cleanup_(freep) char *made = stack_http(stack, false, "POST", "/jobs", (const char *const[]){header, NULL}, body, &status);
        char *job = json_at(made, "job.id");

        assert_non_null(job);
        snprintf(sql, sizeof(sql), "SELECT step FROM chain WHERE id = '%s'", job);
        stack_await(stack, sql, "PAYMENT_INITIATED", 20000);
        return job;
}

static char *unpaid_job(const char *key, const char *type)
{
        return unpaid_job_in(key, type, "{}");
}

static void pay(const char *job)
{
        char path[120];

        snprintf(path, sizeof(path), "/payment-intents/%s/confirm", job);
        free(ask(true, "POST", path, "{\"reference\":\"slip\",\"by\":\"anna\"}", 200));
}

/* A job that is paid and done: its payout is ready. */
static char *ready_payout(const char *key)
{
        _cleanup_(freep) char *job = unpaid_job(key, "puz19:text_analysis");
        char sql[160];

        pay(job);
        snprintf(sql, sizeof(sql), "SELECT step FROM chain WHERE parent = '%s'", job);
        stack_await(stack, sql, "PAYOUT_READY", 20000);
        snprintf(sql, sizeof(sql), "SELECT id FROM chain WHERE parent = '%s'", job);
        return pg_fixture_ask(stack->pg, sql);
}

/* Everything was looked for and handled: whatever the policies would open is there. */
static void sweep(void)
{
        free(ask(true, "POST", "/meta/auto_repair", "{}", 200));
}

static void a_fresh_stack_has_none(void **state)
{
        (void)state;
        sweep();
        _cleanup_(freep) char *tasks = ask(true, "GET", "/system/tasks", NULL, 200), *items = json_at(tasks, "items");
        assert_string_equal(items, "[]");
        expect("SELECT count(*) FROM chain", "0");
}

static void health_and_books(void **state)
{
        _cleanup_(freep) char *id = open_task("HEALTH_CHECK", NULL, "true"), *task = task_in(id, "COMPLETED");
        char path[100];

        (void)state;
        assert_at(task, "kind", "HEALTH_CHECK");
        assert_at(task, "entity", "stack");
        assert_at(task, "lane", "low");
        assert_at(task, "cause.by", "anna");
        assert_at(task, "result.healthy", "true");
        assert_at(task, "result.database.answers", "true");
        assert_at(task, "result.broker.answers", "true");
        assert_at(task, "result.watched", "true");
        assert_at(task, "result.services.0.service", "execution");
        assert_at(task, "result.services.0.moves", "true");
        /* {"task":"HEALTH_CHECK","entity":"stack"} has 40 characters: (5.00 + 0.01 * 40) * 0.9 * 0.95 = 4.617 */
        assert_at(task, "price.minor", "462");
        assert_at(task, "ledger.0.debit", "system_expense");
        assert_at(task, "ledger.0.credit", "system_account");
        assert_at(task, "ledger.0.amount.minor", "462");
        expect("SELECT kind || ' ' || who || ' ' || amount FROM evidence", "internal system 462");

        _cleanup_(freep) char *overview = ask(true, "GET", "/status/overview", NULL, 200), *offers = ask(false, "GET", "/offers", NULL, 200);
        assert_at(overview, "jobs_total", "0");
        assert_at(overview, "jobs_completed", "0");
        assert_at(overview, "revenue", "[]");
        assert_at(overview, "payouts_earned", "0");
        assert_null(strstr(offers, "system"));
        expect("SELECT count(*) FROM chain WHERE kind <> 'system'", "0");
        expect("SELECT count(*) FROM journal WHERE debit NOT LIKE 'system%' OR credit NOT LIKE 'system%'", "0");

        /* The public side neither takes nor shows them; nobody pays or refunds them by hand. */
        free(ask(false, "POST", "/jobs", "{\"type\":\"system:health_check\",\"payload\":{}}", 400)); /* no key */
        long status = 0;
        _cleanup_(freep) char *submitted = stack_http(stack, false, "POST", "/jobs", (const char *const[]){"Idempotency-Key: s-1", NULL},
                "{\"type\":\"system:health_check\",\"payload\":{}}", &status);
        assert_int_equal(status, 422);
        assert_at(submitted, "field", "/type");
        free(stack_http(stack, false, "POST", "/buy/offer/system_health_check", (const char *const[]){"Idempotency-Key: s-2", NULL}, "{}", &status));
        assert_int_equal(status, 404);
        static const char *const hidden[] = {"/jobs/%s", "/jobs/%s/dossier", "/jobs/%s/events", "/jobs/%s/events/stream"};
        for (size_t i = 0; i < ARRAY_SIZE(hidden); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                snprintf(path, sizeof(path), hidden[i], id);
#pragma GCC diagnostic pop
                free(ask(false, "GET", path, NULL, 404));
        }
        snprintf(path, sizeof(path), "/payment-intents/%s/confirm", id);
        free(ask(true, "POST", path, "{\"reference\":\"slip\",\"by\":\"anna\"}", 404));
        snprintf(path, sizeof(path), "/jobs/%s/refund", id);
        free(ask(true, "POST", path, "{\"reason\":\"no\",\"by\":\"anna\"}", 404));
        snprintf(path, sizeof(path), "/jobs/%s/dossier", id);
        _cleanup_(freep) char *dossier = ask(true, "GET", path, NULL, 200);
        assert_at(dossier, "job.type", "system:health_check");
        assert_at(dossier, "job.status", "completed");
        assert_at(dossier, "may.0.what", "run_task");
}

static void one_of_a_kind(void **state)
{
        static const char second[] =
                "INSERT INTO chain (id, kind, step, version, status, lane, client, created_at, updated_at, task)"
                " SELECT gen_random_uuid(), kind, step, version, status, lane, client, now(), now(), task FROM chain WHERE status = 'open'"
                " AND task = 'FLOW_AUDIT/catalogue'";
        char path[80];

        (void)state;
        stack_stop(stack, "pricing", SIGTERM);
        _cleanup_(freep) char *first = open_task("FLOW_AUDIT", NULL, "true"), *again = open_task("FLOW_AUDIT", "catalogue", "false"),
                              *other = open_task("HEALTH_CHECK", NULL, "true");
        assert_string_equal(first, again);
        assert_string_not_equal(first, other);
        /* The database keeps it too, whoever writes. */
        struct db *owner = pg_fixture_connect(stack->pg, NULL);
        assert_int_equal(db_run(owner, second, NULL, NULL), -EINVAL);
        assert_string_equal(db_sqlstate(owner), "23505");
        db_free(owner);
        /* Run at once: the active one itself, rung in the highest lane. */
        snprintf(path, sizeof(path), "/system/tasks/%s/run", first);
        _cleanup_(freep) char *rung = ask(true, "POST", path, "{}", 200), *scheduled = ask(true, "GET", "/system/tasks?state=SCHEDULED", NULL, 200);
        assert_at(rung, "task_id", first);
        assert_at(rung, "opened", "false");
        assert_at(scheduled, "items.0.id", other);
        assert_at(scheduled, "items.1.id", first);
        stack_spawn(stack, "pricing", NULL);
        _cleanup_(freep) char *audit = task_in(first, "COMPLETED");
        free(task_in(other, "COMPLETED"));
        assert_at(audit, "result.unproven", "0");
        assert_at(audit, "result.items.1.flow", "puz19_numeric_flow");
        assert_at(audit, "result.items.1.tags.0.operator", "puz19_numeric_stats");
        assert_at(audit, "result.items.1.tags.0.health", "healthy");
        /* Over, so the same again is a new one, at once. */
        _cleanup_(freep) char *more = ask(true, "POST", path, NULL, 200), *next = json_at(more, "task_id");
        assert_at(more, "opened", "true");
        _cleanup_(freep) char *done = task_in(next, "COMPLETED");
        assert_at(done, "lane", "high");
        free(ask(true, "POST", "/system/tasks", "{\"kind\":\"TEA\"}", 422));
        free(ask(true, "POST", "/system/tasks", "{\"kind\":\"OPERATOR_TUNING\"}", 422));
        free(ask(true, "POST", "/system/tasks", "{\"kind\":\"OPERATOR_TUNING\",\"entity\":\"nobody\"}", 422));
        free(ask(true, "POST", "/system/tasks", "{\"kind\":\"HEALTH_CHECK\",\"entity\":\"moon\"}", 422));
        free(ask(true, "POST", "/system/tasks/01890000-0000-7000-8000-000000000000/run", NULL, 404));
}

static void payouts_are_gathered(void **state)
{
        _cleanup_(freep) char *p1 = ready_payout("t-1"), *p2 = ready_payout("t-2"), *id = open_task("PAYOUT_SETTLEMENT", NULL, "true"),
                              *task = task_in(id, "COMPLETED");
        char path[100], sql[200], wanted[80];

        (void)state;
        assert_at(task, "result.payouts", "2");
        assert_at(task, "result.left_for_the_next", "0");
        assert_at(task, "result.totals.0.currency", "EUR");
        assert_at(task, "result.totals.0.count", "2");
        _cleanup_(freep) char *sum = pg_fixture_ask(stack->pg, "SELECT sum(amount) FROM chain WHERE kind = 'payout'");
        assert_at(task, "result.totals.0.minor", sum);
        snprintf(path, sizeof(path), "/system/tasks/%s/export", id);
        _cleanup_(freep) char *json = ask(true, "GET", path, NULL, 200);
        assert_at(json, "items.0.payout_id", p1);
        assert_at(json, "items.1.payout_id", p2);
        assert_at(json, "items.1.status", "ready");
        snprintf(path, sizeof(path), "/system/tasks/%s/export?format=csv", id);
        _cleanup_(freep) char *csv = ask(true, "GET", path, NULL, 200);
        snprintf(sql, sizeof(sql),
                "SELECT id || ',' || parent || ',' || to_char(amount / 100.0, 'FM990.00') || ',EUR,ready,' FROM chain WHERE id = '%s'", p1);
        _cleanup_(freep) char *line = pg_fixture_ask(stack->pg, sql);
        assert_non_null(strstr(csv, line));
        /* Nothing is paid out by being gathered. */
        expect("SELECT count(*) FROM chain WHERE step = 'PAYOUT_READY'", "2");

        /* The policy: late payouts that a settlement has gathered already want none; one that it has not opens one, once. */
        free(ask(true, "POST", "/meta/rules",
                "{\"kind\":\"payout\",\"step\":\"PAYOUT_READY\",\"late_s\":0,\"deadline_s\":0,\"backoff_first_s\":1,\"backoff_max_s\":1,"
                "\"why\":\"test\",\"by\":\"test\"}",
                200));
        stack_await(stack, "SELECT count(*) FROM issue WHERE kind = 'MISSING_PAYOUT' AND state = 'waiting_evidence'", "2", 20000);
        expect("SELECT count(*) FROM chain WHERE task LIKE 'PAYOUT_SETTLEMENT/%'", "1");
        _cleanup_(freep) char *p3 = ready_payout("t-3");
        snprintf(sql, sizeof(sql),
                "SELECT e.data::json #>> '{cause,issue}' FROM settlement_item i JOIN event e ON e.chain_id = i.task_id AND e.version = 1 WHERE "
                "i.payout_id = '%s'",
                p3);
        stack_await(stack, sql, "MISSING_PAYOUT", 20000);
        snprintf(wanted, sizeof(wanted), "/payouts?status=ready");
        free(ask(true, "GET", wanted, NULL, 200));
        sweep();
        sweep();
        expect("SELECT count(*) FROM chain WHERE task LIKE 'PAYOUT_SETTLEMENT/%'", "2");
        stack_await(stack, "SELECT count(*) FROM chain WHERE kind = 'system' AND status = 'open'", "0", 20000);
}

static void an_operator_that_fails_is_analysed(void **state)
{
        static const char seed[] =
                "INSERT INTO operator (name, kind, url, tags, successes, failures, streak) VALUES"
                " ('flaky', 'http', 'http://127.0.0.1:9/', '{shaky}', 2, 6, 3), ('steady', 'http', 'http://127.0.0.1:9/', '{shaky}', 9, 0, 0);"
                "INSERT INTO operator_run (id, chain_id, step, attempt, tag, operator, state, error, owner, lease_until, next_at, refused)"
                " SELECT (lpad(to_hex(floor(extract(epoch FROM now() - n * interval '1 minute') * 1000)::bigint), 12, '0') || '7'"
                "   || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,"
                "  gen_random_uuid(), 0, 1, 'shaky', CASE WHEN n = 9 THEN 'steady' ELSE 'flaky' END, CASE WHEN n IN (7, 8, 9) THEN 'done' ELSE "
                "'failed' END,"
                "  CASE WHEN n < 5 THEN 'HTTP 500' WHEN n < 7 THEN 'HTTP 503' WHEN n = 10 THEN 'no such text' END, 'x', now(), now(), n = 10"
                "  FROM generate_series(1, 10) n";

        (void)state;
        free(pg_fixture_ask(stack->pg, seed));
        stack_await(stack, "SELECT count(*) FROM chain WHERE task = 'OPERATOR_TUNING/flaky' AND status = 'completed'", "1", 20000);
        _cleanup_(freep) char *id = pg_fixture_ask(stack->pg, "SELECT id FROM chain WHERE task = 'OPERATOR_TUNING/flaky'"),
                              *task = task_in(id, "COMPLETED");
        assert_at(task, "cause.issue", "HIGH_OPERATOR_FAIL_RATE");
        assert_at(task, "result.operator", "flaky");
        assert_at(task, "result.window.runs", "9");
        assert_at(task, "result.window.failed", "6");
        assert_at(task, "result.window.refused", "1");
        assert_at(task, "result.window.done", "2");
        assert_at(task, "result.latest.failed", "6");
        assert_at(task, "result.errors.0.error", "HTTP 500");
        assert_at(task, "result.errors.0.count", "4");
        assert_at(task, "result.recommends", "avoid");
        assert_at(task, "result.set.avoid_ms", "300000");
        expect("SELECT avoid_until > now() + interval '4 minutes' FROM operator WHERE name = 'flaky'", "t");
        /* Its pause is over, and its probe is due: that is not taken from it. */
        free(pg_fixture_ask(stack->pg, "UPDATE operator SET avoid_until = now() - interval '1 s' WHERE name = 'flaky'"));
        _cleanup_(freep) char *due = open_task("OPERATOR_TUNING", "flaky", "true"), *waits = task_in(due, "COMPLETED");
        assert_at(waits, "result.recommends", "avoided_already");
        expect("SELECT avoid_until < now() FROM operator WHERE name = 'flaky'", "t");
        /* Its issue stays, and opens no second one. */
        sweep();
        sweep();
        expect("SELECT count(*) FROM chain WHERE task = 'OPERATOR_TUNING/flaky'", "2");
        _cleanup_(freep) char *again = open_task("OPERATOR_TUNING", "steady", "true"), *steady = task_in(again, "COMPLETED");
        assert_at(steady, "result.recommends", "too_few_runs");
        assert_at(steady, "result.set", "null");
}

/* Tasks are paid by one call for all of them, in a transaction that no customer's step is in. */
static void transfers_are_committed_apart(void **state)
{
        char header[] = "Idempotency-Key: apart";
        long status = 0;

        (void)state;
        stack_stop(stack, "payments", SIGTERM);
        free(stack_http(stack, false, "POST", "/jobs", (const char *const[]){header, NULL},
                "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\"}}", &status));
        _cleanup_(freep) char *health = open_task("HEALTH_CHECK", NULL, "true"), *audit = open_task("FLOW_AUDIT", NULL, "true");
        stack_await(stack, "SELECT count(*) >= 3 FROM chain WHERE step = 'PRICED'", "t", 20000);
        stack_spawn(stack, "payments", NULL);
        free(task_in(health, "COMPLETED"));
        free(task_in(audit, "COMPLETED"));
        stack_await(stack, "SELECT count(*) FROM chain WHERE step = 'PRICED'", "0", 20000);
        expect("SELECT count(*) FROM event t JOIN event j USING (generation, xid) WHERE t.type = 'PAYMENT_CONFIRMED' AND j.type = "
               "'PAYMENT_INITIATED'",
                "0");
        expect("SELECT string_agg(DISTINCT v.kind || ' ' || v.who || ' ' || (v.reference = v.chain_id::text), ',') FROM evidence v JOIN chain c"
               " ON c.id = v.chain_id WHERE c.kind = 'system' AND v.event = 'PAYMENT_CONFIRMED'",
                "internal system true");
}

/* What the store refuses fails the task: it is done again once, and then ends with its transfer reversed. */
static void work_that_fails(void **state)
{
        _cleanup_(freep) char *before = ask(true, "GET", "/status/overview", NULL, 200), *failed_before = json_at(before, "jobs_failed");
        char sql[300];

        (void)state;
        free(pg_fixture_ask(stack->pg, "REVOKE INSERT ON settlement_item FROM aethelos_execution"));
        free(ask(true, "POST", "/meta/rules",
                "{\"kind\":\"system\",\"step\":\"EXECUTION_FAILED\",\"backoff_first_s\":1,\"why\":\"test\",\"by\":\"test\"}", 200));
        _cleanup_(freep) char *id = open_task("PAYOUT_SETTLEMENT", NULL, "true"), *task = task_in(id, "FAILED");
        assert_at(task, "error.reason", "all_operators_failed");
        assert_at(task, "ledger.1.debit", "system_account");
        assert_at(task, "ledger.1.credit", "system_expense");
        snprintf(sql, sizeof(sql), "SELECT string_agg(type, ' ' ORDER BY version) FROM event WHERE chain_id = '%s'", id);
        expect(sql, "TASK_CREATED FLOW_CHOSEN PRICED PAYMENT_CONFIRMED EXECUTION_STARTED EXECUTION_FAILED EXECUTION_REQUIRED EXECUTION_STARTED "
                    "EXECUTION_FAILED PAYMENT_REVERSED FINAL_FAIL");
        snprintf(sql, sizeof(sql), "SELECT string_agg(event || ' ' || kind || ' ' || who, ', ' ORDER BY version) FROM evidence WHERE chain_id = '%s'",
                id);
        expect(sql, "PAYMENT_CONFIRMED internal system, PAYMENT_REVERSED internal meta-repair");
        snprintf(sql, sizeof(sql),
                "SELECT data::json #>> '{error,attempts,0,error}' LIKE '%%permission denied%%' FROM event WHERE chain_id = '%s' AND "
                "type = 'EXECUTION_FAILED' LIMIT 1",
                id);
        expect(sql, "t");
        _cleanup_(freep) char *after = ask(true, "GET", "/status/overview", NULL, 200);
        assert_at(after, "jobs_failed", failed_before);
        expect("SELECT count(*) FROM chain WHERE kind = 'system' AND status = 'open'", "0"); /* its failure opened no further task */

        free(pg_fixture_ask(stack->pg, "GRANT INSERT ON settlement_item TO aethelos_execution"));
        _cleanup_(freep) char *next = open_task("PAYOUT_SETTLEMENT", NULL, "true");
        free(task_in(next, "COMPLETED"));
}

/* In the figures that feed has summed up they stand apart, as in those of the tail. */
static void no_customer_figure(void **state)
{
        (void)state;
        _cleanup_(freep) char *tasks = pg_fixture_ask(stack->pg, "SELECT count(*) FROM chain WHERE kind = 'system'");
        stack_await(stack, "SELECT sum(count) FROM figure WHERE name = 'system TASK_CREATED'", tasks, 20000);
        expect("SELECT count(*) FROM figure WHERE name IN ('TASK_CREATED', 'PAYMENT_REVERSED', 'FINAL_FAIL')", "0");
        _cleanup_(freep) char *overview = ask(true, "GET", "/status/overview", NULL, 200);
        assert_at(overview, "jobs_total", "3");
        assert_at(overview, "jobs_completed", "3");
        assert_at(overview, "payouts_ready", "3");
}

static void hurry(const char *step)
{
        char body[200];

        snprintf(body, sizeof(body), "{\"kind\":\"job\",\"step\":\"%s\",\"late_s\":0,\"deadline_s\":0,\"why\":\"test\",\"by\":\"test\"}", step);
        free(ask(true, "POST", "/meta/rules", body, 200));
}

/* What is stuck is resolved by meta-repair's antibody, and its answer is the result. */
static void clean_up(const char *job, const char *kind, const char *type, const char *outcome)
{
        char sql[200];

        snprintf(sql, sizeof(sql), "SELECT count(*) FROM issue WHERE chain_id = '%s' AND kind = '%s' AND closed_at IS NULL", job, kind);
        stack_await(stack, sql, "1", 20000);
        snprintf(sql, sizeof(sql), "SELECT id FROM issue WHERE chain_id = '%s' AND kind = '%s'", job, kind);
        _cleanup_(freep) char *issue = pg_fixture_ask(stack->pg, sql), *id = open_task("CLEANUP", issue, "true"), *task = task_in(id, "COMPLETED");
        assert_at(task, "entity", issue);
        assert_at(task, "result.command_id", id);
        assert_at(task, "result.result.found", "1");
        assert_at(task, "result.issue.id", issue);
        assert_at(task, "result.issue.outcome", outcome);
        snprintf(sql, sizeof(sql), "SELECT data::json ->> 'type' FROM event WHERE chain_id = '%s' AND version = 1", id);
        expect(sql, type);
}

/* What was asked about three times and still stands opens its task by itself, once. */
static void cleaned_up_unasked(const char *job)
{
        char sql[400];

        snprintf(sql, sizeof(sql), "UPDATE issue SET attempts = 3, next_at = now() WHERE chain_id = '%s' AND kind = 'STUCK_EXECUTION'", job);
        free(pg_fixture_ask(stack->pg, sql));
        snprintf(sql, sizeof(sql),
                "SELECT count(*) FROM chain c JOIN issue i ON c.task = 'CLEANUP/' || i.id JOIN event e ON e.chain_id = c.id AND e.version = 1"
                " WHERE i.chain_id = '%s' AND c.status = 'completed' AND e.data::json -> 'cause' ->> 'issue' = 'STUCK_EXECUTION'",
                job);
        stack_await(stack, sql, "1", 20000);
        sweep();
        sweep();
        snprintf(sql, sizeof(sql), "SELECT attempts FROM issue WHERE chain_id = '%s' AND kind = 'STUCK_EXECUTION'", job);
        expect(sql, "4");
        snprintf(sql, sizeof(sql), "UPDATE issue SET next_at = now() WHERE chain_id = '%s' AND kind = 'STUCK_EXECUTION'", job);
        free(pg_fixture_ask(stack->pg, sql));
        snprintf(sql, sizeof(sql), "SELECT attempts > 4 FROM issue WHERE chain_id = '%s' AND kind = 'STUCK_EXECUTION'", job);
        stack_await(stack, sql, "t", 20000);
        sweep();
        snprintf(sql, sizeof(sql),
                "SELECT count(*) FROM chain c JOIN issue i ON c.task = 'CLEANUP/' || i.id JOIN event e ON e.chain_id = c.id AND e.version = 1"
                " WHERE i.chain_id = '%s' AND e.data::json -> 'cause' ->> 'issue' = 'STUCK_EXECUTION'",
                job);
        expect(sql, "1");
}

static void what_is_stuck_is_cleaned_up(void **state)
{
        _cleanup_(freep) char *unpaid = unpaid_job("t-4", "puz19:text_analysis");

        (void)state;
        free(ask(true, "POST", "/flows",
                "{\"type\":\"t:shaky\",\"name\":\"shaky_flow\",\"base\":\"1.00\",\"per_unit\":\"0\",\"currency\":\"EUR\",\"steps\":[{\"tag\":"
                "\"shaky\"}]}",
                201));
        hurry("PAYMENT_INITIATED");
        clean_up(unpaid, "STUCK_PAYMENT", "system:stuck_payment", "waits_for_payment");
        _cleanup_(freep) char *stuck = unpaid_job("t-5", "t:shaky");
        hurry("EXECUTION_STARTED");
        pay(stuck); /* to an operator that is not there: it is tried again for seconds */
        clean_up(stuck, "STUCK_EXECUTION", "system:stuck_execution", "asked_operator");
        cleaned_up_unasked(stuck);
        free(ask(true, "POST", "/system/tasks", "{\"kind\":\"CLEANUP\",\"entity\":\"01890000-0000-7000-8000-000000000000\"}", 422));
        free(ask(true, "POST", "/system/tasks", "{\"kind\":\"CLEANUP\",\"entity\":\"x\"}", 422));
        _cleanup_(freep) char *other = pg_fixture_ask(stack->pg, "SELECT id FROM issue WHERE kind = 'MISSING_PAYOUT' LIMIT 1");
        char body[120];
        snprintf(body, sizeof(body), "{\"kind\":\"CLEANUP\",\"entity\":\"%s\"}", other);
        free(ask(true, "POST", "/system/tasks", body, 422));
}

/* Code 19: its label alone gives it its flow, the high lane, and a watch of seconds where others have minutes. */
static void code_19_is_watched_at_once(void **state)
{
        _cleanup_(freep) char *job = unpaid_job_in("c-1", "any:thing", "{\"label\":\"code19_issue\",\"priority\":\"low\"}"),
                              *plain = unpaid_job_in("c-2", "puz19:text_analysis", "{\"label\":\"other\",\"priority\":\"high\"}");
        char sql[300], path[100];
        long status = 0;

        (void)state;
        snprintf(sql, sizeof(sql),
                "SELECT concat_ws(' ', c.lane, c.label, e.data::json #>> '{flow,id}', c.amount) FROM chain c JOIN event e ON"
                " e.chain_id = c.id AND e.version = 1 WHERE c.id = '%s'",
                job);
        expect(sql, "high code19_issue code19_flow 2383"); /* (20.00 + 0.05 * 18) * 1.2 * 0.95 */
        snprintf(sql, sizeof(sql), "SELECT lane || coalesce(label, ' none') FROM chain WHERE id = '%s'", plain);
        expect(sql, "high none");
        _cleanup_(freep) char *bare = stack_http(stack, false, "POST", "/jobs", (const char *const[]){"Idempotency-Key: c-3", NULL},
                "{\"type\":\"code19:issue\",\"payload\":{\"text\":\"x\"}}", &status);
        assert_int_equal(status, 422);
        assert_at(bare, "field", "/type");

        stack_stop(stack, "execution", SIGTERM);
        pay(plain);
        pay(job);
        snprintf(sql, sizeof(sql), "SELECT grade FROM issue WHERE chain_id = '%s' AND kind = 'MISSING_EXECUTION'", job);
        stack_await(stack, sql, "late", 20000);
        snprintf(sql, sizeof(sql), "SELECT count(*) FROM issue WHERE chain_id = '%s' AND kind = 'MISSING_EXECUTION'", plain);
        expect(sql, "0");
        snprintf(path, sizeof(path), "/jobs/%s/dossier", job);
        _cleanup_(freep) char *dossier = ask(true, "GET", path, NULL, 200), *since = json_at(dossier, "waits.since"),
                              *deadline = json_at(dossier, "waits.deadline_at");
        snprintf(sql, sizeof(sql), "SELECT '%s'::timestamptz - '%s'::timestamptz", deadline, since);
        expect(sql, "00:00:10");
        stack_spawn(stack, "execution", NULL);
        snprintf(sql, sizeof(sql), "SELECT count(*) FROM chain WHERE parent IN ('%s', '%s') AND step = 'PAYOUT_READY'", job, plain);
        stack_await(stack, sql, "2", 20000);
        snprintf(path, sizeof(path), "/jobs/%s", job);
        _cleanup_(freep) char *done = ask(false, "GET", path, NULL, 200);
        assert_at(done, "type", "any:thing");
        assert_at(done, "result.word_count", "2");
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_fresh_stack_has_none),
                cmocka_unit_test(health_and_books),
                cmocka_unit_test(one_of_a_kind),
                cmocka_unit_test(payouts_are_gathered),
                cmocka_unit_test(an_operator_that_fails_is_analysed),
                cmocka_unit_test(work_that_fails),
                cmocka_unit_test(no_customer_figure),
                cmocka_unit_test(what_is_stuck_is_cleaned_up),
                cmocka_unit_test(code_19_is_watched_at_once),
                cmocka_unit_test(transfers_are_committed_apart),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
