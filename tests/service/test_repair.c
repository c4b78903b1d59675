/* meta-repair against a real PostgreSQL and a real nats-server. The other services are played by the test, which moves chains as they would: each
 * kind of issue is found and comes to its documented end, commands count exactly, several instances share the work, and a frozen one writes nothing.
 */
#include "base/util.h"
#include "store/chain.h"
#include "tests/support/stack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct stack *stack;
static const char *const players[] = {"intake", "pricing", "payments", "execution", "ledger", "payouts"};
static struct db *as[ARRAY_SIZE(players)];

static char *_printf_(1, 2) ask(const char *fmt, ...)
{
        _cleanup_(strbuf_done) struct strbuf sql = {0};
        va_list ap;

        va_start(ap, fmt);
        strbuf_vaddf(&sql, fmt, ap);
        va_end(ap);
        return pg_fixture_ask(stack->pg, sql.s);
}

#define RUN(...) free(ask(__VA_ARGS__))

static void await(const char *answer, const char *fmt, ...) _printf_(2, 3);
static void await(const char *answer, const char *fmt, ...)
{
        _cleanup_(strbuf_done) struct strbuf sql = {0};
        va_list ap;

        va_start(ap, fmt);
        strbuf_vaddf(&sql, fmt, ap);
        va_end(ap);
        stack_await(stack, sql.s, answer, 40000);
}

/* The newest version of a rule with other times, in seconds. */
static void rule(const char *step, double late, double deadline, int attempts, double first, double longest)
{
        RUN("INSERT INTO rule SELECT kind, step, version + 1, issue, antibody, basis, %f * interval '1 s', %f * interval '1 s', %d, %f * interval '1 "
            "s',"
            " %f * interval '1 s', 'test', 'test' FROM rule WHERE step = '%s' ORDER BY version DESC LIMIT 1",
                late, deadline, attempts, first, longest, step);
}

static enum advance_verdict move(const char *service, const char *id, const char *const events[], const char *data)
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

#define AMOUNT                            "{\"amount\":{\"minor\":100,\"currency\":\"EUR\"},\"type\":\"test\"}"
#define MOVE_WITH(data, service, id, ...) assert_int_equal(move(service, id, (const char *const[]){__VA_ARGS__, NULL}, data), ADVANCE_WON)
#define MOVE(service, id, ...)            MOVE_WITH(AMOUNT, service, id, __VA_ARGS__)

static char *created(void)
{
        struct uuid u = uuid_v7();
        char id[UUID_TEXT_SIZE];

        uuid_format(&u, id);
        RUN("INSERT INTO submission (client, key, hash, job_id) VALUES ('default', '%s', sha256(''), '%s')", id, id);
        MOVE("intake", id, "JOB_CREATED");
        return xstrdup(id);
}

static char *unpaid(void)
{
        char *id = created();

        MOVE("pricing", id, "FLOW_CHOSEN", "PRICED");
        RUN("INSERT INTO payment_intent (id, driver, expires_at) VALUES ('%s', 'manual', now() + interval '1 day')", id);
        MOVE("payments", id, "PAYMENT_REQUIRED", "PAYMENT_INITIATED");
        return id;
}

static void evidence(const char *id, const char *event)
{
        _cleanup_(freep) char *verdict = ask("SELECT verdict FROM submit_evidence(ARRAY['%s'::uuid], ARRAY['%s'], ARRAY['person'], ARRAY['anna'],"
                                             " ARRAY['bank'], ARRAY[100::bigint])",
                id, event);

        assert_string_equal(verdict, "stored");
}

static char *paid(void)
{
        char *id = unpaid();

        evidence(id, "PAYMENT_CONFIRMED");
        MOVE("payments", id, "PAYMENT_CONFIRMED");
        RUN("DELETE FROM evidence_inbox WHERE chain_id = '%s'", id);
        return id;
}

#define FAILURE                                                                                                                                      \
        "{\"error\":{\"reason\":\"all_operators_failed\",\"step\":0,\"tag\":\"puz19_text\",\"attempts\":[{\"operator\":\"one\",\"error\":\"no\"}]}}"

static char *failed(void)
{
        char *id = paid();

        MOVE_WITH(FAILURE, "execution", id, "EXECUTION_STARTED", "EXECUTION_FAILED");
        return id;
}

static void refund_confirmed(const char *id)
{
        evidence(id, "REFUND_CONFIRMED");
        MOVE_WITH("{\"amount\":{\"minor\":100,\"currency\":\"EUR\"},\"evidence\":{\"kind\":\"person\",\"who\":\"anna\",\"reference\":\"bank\"}}",
                "payments", id, "REFUND_CONFIRMED");
        RUN("DELETE FROM evidence_inbox WHERE chain_id = '%s'", id);
}

static void refund(const char *id)
{
        await("REFUND_REQUIRED", "SELECT step FROM chain WHERE id = '%s'", id);
        MOVE("payments", id, "REFUND_INITIATED");
        refund_confirmed(id);
}

static void age(const char *id, const char *interval)
{
        RUN("UPDATE chain SET updated_at = now() - interval '%s', created_at = now() - interval '%s' WHERE id = '%s'", interval, interval, id);
}

#define OFTEN "AETHELOS_LEASE_MS=300", "AETHELOS_TICK_MS=100"

static void start(void)
{
        stack_spawn(stack, "meta-repair", (const char *const[]){"AETHELOS_LEASE_MS=1500", "AETHELOS_TICK_MS=200", NULL});
}

/* Asks meta-repair, and waits for its answer. */
static char *command(const char *what, const char *args)
{
        struct uuid u = uuid_v7();
        char id[UUID_TEXT_SIZE];

        uuid_format(&u, id);
        RUN("INSERT INTO repair_command (id, what, args, by_whom) VALUES ('%s', '%s', $a$%s$a$, 'anna')", id, what, args);
        await("t", "SELECT done_at IS NOT NULL FROM repair_command WHERE id = '%s'", id);
        return ask("SELECT result FROM repair_command WHERE id = '%s'", id);
}

static void expect_command(const char *what, const char *args, const char *answer)
{
        _cleanup_(freep) char *got = command(what, args);

        assert_string_equal(got, answer);
}

static int setup(void **state)
{
        (void)state;
        stack = stack_start_bare();
        for (size_t i = 0; i < ARRAY_SIZE(players); i++)
                as[i] = pg_fixture_connect(stack->pg, players[i]);
        RUN("INSERT INTO operator (name, kind, url, tags) VALUES ('one', 'http', 'http://127.0.0.1:1/', '{puz19_text}')");
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        stack_assert_sound(stack);
        for (size_t i = 0; i < ARRAY_SIZE(players); i++)
                as[i] = db_free(as[i]);
        stack = stack_free(stack);
        return 0;
}

#define ISSUE                                                                                                                                        \
        "SELECT kind || ' ' || grade || ' ' || state || ' ' || coalesce(waits_for, '-') || ' ' || coalesce(outcome, '-') FROM issue WHERE chain_id " \
        "= '%s' ORDER BY opened_at DESC LIMIT 1"
#define STEP "SELECT step FROM chain WHERE id = '%s'"
#define LAST "SELECT data FROM event WHERE chain_id = '%s' ORDER BY version DESC LIMIT 1"

static void expect_last(const char *id, const char *part)
{
        _cleanup_(freep) char *data = ask(LAST, id);

        if (!strstr(data, part))
                fail_msg("%s instead of %s", data, part);
}

static void an_unheard_job_is_rung_and_ends_unpaid(void **state)
{
        (void)state;
        rule("JOB_CREATED", 60, 120, 2, 0.2, 0.4);
        _cleanup_(freep) char *late = created(), *lost = created(), *young = created();
        age(late, "90 s");
        age(lost, "200 s");
        start();
        await("MISSING_STEP late open - -", ISSUE, late);
        await("FINAL_FAIL", STEP, lost);
        await("MISSING_STEP repair final_fail - final_fail", ISSUE, lost);
        await("2", "SELECT attempts - 1 FROM issue WHERE chain_id = '%s'", lost);
        expect_last(lost, "{\"error\":{\"reason\":\"could_not_be_priced\",\"step\":\"JOB_CREATED\",\"attempts\":2},"
                          "\"rule\":{\"kind\":\"job\",\"step\":\"JOB_CREATED\",\"version\":2},\"compensation\":{\"kind\":\"none\"},\"issue_id\":");
        await("META_ISSUE META_REPAIR META_REPAIR META_REPAIR META_RESOLVED",
                "SELECT string_agg(e.type, ' ' ORDER BY e.version) FROM event e JOIN issue i ON i.id = e.chain_id WHERE i.chain_id = '%s'", lost);
        await("0", "SELECT count(*) FROM issue WHERE chain_id = '%s'", young);
        await("2", "SELECT value FROM repair_figure WHERE name = 'repair' AND label = 'ring_again/rang_again'");
        /* An unpaid end is no end for ever. */
        _cleanup_(strbuf_done) struct strbuf args = {0};
        strbuf_addf(&args, "{\"chain_id\":\"%s\"}", lost);
        expect_command("reopen", args.s, "{\"found\":1,\"redriven\":1,\"refused\":0,\"refusals\":[]}");
        await("CHAIN_REOPENED", STEP, lost);
}

static void an_unpaid_job_waits_for_its_payer(void **state)
{
        (void)state;
        _cleanup_(freep) char *id = unpaid(), *other = unpaid();
        age(id, "2 h");
        age(other, "8 min");
        start();
        await("STUCK_PAYMENT repair waiting_evidence payer waits_for_payment", ISSUE, id);
        await("STUCK_PAYMENT late open - -", ISSUE, other);
        await("t", "SELECT next_at > now() + interval '40 min' FROM issue WHERE chain_id = '%s'", id);
        evidence(id, "PAYMENT_CONFIRMED");
        MOVE("payments", id, "PAYMENT_CONFIRMED");
        RUN("DELETE FROM evidence_inbox");
        await("STUCK_PAYMENT repair resolved - moved_on", ISSUE, id);
        await("1", "SELECT value FROM repair_figure WHERE name = 'waiting' AND label = 'job/PAYMENT_INITIATED'");
}

static void a_failed_execution_is_run_again_and_refunded(void **state)
{
        (void)state;
        rule("EXECUTION_FAILED", 0, 0, 1, 0.5, 1);
        _cleanup_(freep) char *id = failed();
        start();
        await("EXECUTION_REQUIRED", STEP, id);
        await("MISSING_EXECUTION repair resolved - run_again", ISSUE, id);
        expect_last(id, "{\"cause\":\"retry\",\"step\":0,\"issue_id\":");
        MOVE_WITH(FAILURE, "execution", id, "EXECUTION_STARTED", "EXECUTION_FAILED");
        refund(id);
        await("FINAL_FAIL", STEP, id);
        expect_last(id, "{\"error\":{\"reason\":\"all_operators_failed\",\"step\":0,");
        expect_last(
                id, "\"rule\":{\"kind\":\"job\",\"step\":\"EXECUTION_FAILED\",\"version\":2},\"retries\":1,\"compensation\":{\"kind\" : \"refund\"");
        await("0", "SELECT sum(CASE WHEN debit = 'cash' THEN amount ELSE -amount END) FROM journal");
        await("1", "SELECT count(*) FROM event WHERE chain_id = '%s' AND type = 'EXECUTION_REQUIRED'", id);
        await("0", "SELECT count(*) FROM issue WHERE closed_at IS NULL");
        /* What was paid once is not charged again. */
        _cleanup_(strbuf_done) struct strbuf args = {0}, answer = {0};
        strbuf_addf(&args, "{\"chain_id\":\"%s\",\"dry_run\":false}", id);
        strbuf_addf(&answer, "{\"found\":1,\"redriven\":0,\"refused\":1,\"refusals\":[{\"chain_id\":\"%s\",\"why\":\"refunded\"}]}", id);
        expect_command("redrive", args.s, answer.s);
}

/* A refund that stands is rung, however long; and when a person must send the money, he is waited for. */
static void a_refund_that_stands(void **state)
{
        (void)state;
        rule("EXECUTION_FAILED", 0, 0, 0, 0.2, 1);
        rule("REFUND_REQUIRED", 60, 120, 1, 0.2, 0.4);
        _cleanup_(freep) char *id = failed();
        start();
        await("REFUND_REQUIRED", STEP, id);
        age(id, "90 s");
        await("STUCK_AT_STEP late open - -", ISSUE, id);
        age(id, "200 s");
        await("STUCK_AT_STEP repair open - rang_again", ISSUE, id);
        await("t", "SELECT attempts > 1 FROM issue WHERE chain_id = '%s' AND kind = 'STUCK_AT_STEP'", id);
        await("REFUND_REQUIRED", STEP, id);
        MOVE("payments", id, "REFUND_INITIATED");
        await("STUCK_AT_STEP repair resolved - moved_on", ISSUE, id);
        age(id, "2 days");
        await("STUCK_AT_STEP repair waiting_evidence person waits_for_refund", ISSUE, id);
        refund_confirmed(id);
        await("FINAL_FAIL", STEP, id);
        await("0", "SELECT count(*) FROM issue WHERE closed_at IS NULL");
}

/* What was executed and is not booked is rung for ever: neither a count nor a time takes the revenue away. */
static void executed_and_not_booked(void **state)
{
        (void)state;
        rule("EXECUTION_COMPLETED", 60, 120, 1, 0.2, 0.4);
        _cleanup_(freep) char *id = paid();
        MOVE("execution", id, "EXECUTION_STARTED", "STEP_COMPLETED", "EXECUTION_COMPLETED");
        age(id, "200 s");
        start();
        await("MISSING_PAYOUT repair open - rang_again", ISSUE, id);
        await("t", "SELECT attempts > 1 FROM issue WHERE chain_id = '%s'", id);
        await("EXECUTION_COMPLETED", STEP, id);
}

static void without_an_operator_the_payment_goes_back(void **state)
{
        (void)state;
        rule("EXECUTION_FAILED", 0, 0, 5, 0.2, 1);
        RUN("UPDATE operator SET failures = 3 WHERE 'puz19_text' = ANY (tags)");
        _cleanup_(freep) char *id = failed();
        RUN("UPDATE operator SET successes = 0, failures = 9");
        start();
        refund(id);
        await("FINAL_FAIL", STEP, id);
}

static void an_unknown_run_waits_for_its_operator(void **state)
{
        (void)state;
        _cleanup_(freep) char *id = paid();
        MOVE("execution", id, "EXECUTION_STARTED");
        RUN("INSERT INTO operator_run (id, chain_id, step, attempt, tag, operator, state, owner, lease_until, next_at)"
            " VALUES (gen_random_uuid(), '%s', 0, 1, 'puz19_text', 'one', 'unknown', 'x', now() - interval '1 h', now() + interval '1 h')",
                id);
        age(id, "2 h");
        start();
        await("STUCK_EXECUTION repair waiting_evidence operator asked_operator", ISSUE, id);
        await("t", "SELECT next_at > now() AND attempts = 1 FROM issue WHERE chain_id = '%s'", id);
        await("t", "SELECT next_at <= now() FROM operator_run");
        /* Nobody gets his money back while the work may be done. */
        _cleanup_(strbuf_done) struct strbuf args = {0}, answer = {0};
        strbuf_addf(&args, "{\"chain_id\":\"%s\"}", id);
        strbuf_addf(&answer, "{\"found\":1,\"refunded\":0,\"refused\":1,\"refusals\":[{\"chain_id\":\"%s\",\"why\":\"operator_at_it\"}]}", id);
        expect_command("refund", args.s, answer.s);
        RUN("UPDATE operator_run SET state = 'failed'");
        expect_command("refund", args.s, "{\"found\":1,\"refunded\":1,\"refused\":0,\"refusals\":[]}");
        await("STUCK_EXECUTION repair resolved - moved_on", ISSUE, id);
}

static void a_broken_row_is_folded_anew(void **state)
{
        (void)state;
        _cleanup_(freep) char *row = unpaid(), *events = unpaid();
        RUN("UPDATE chain SET step = 'PRICED', version = 3, waits_for = NULL WHERE id = '%s'", row);
        RUN("ALTER TABLE event DISABLE TRIGGER ALL");
        RUN("CREATE TABLE kept AS SELECT * FROM event WHERE chain_id = '%s' AND version = 2", events);
        RUN("DELETE FROM event WHERE chain_id = '%s' AND version = 2", events);
        start();
        await("BROKEN_CHAIN repair resolved - refolded", ISSUE, row);
        await("PAYMENT_INITIATED", STEP, row);
        await("BROKEN_CHAIN repair quarantined person events_broken", ISSUE, events);
        RUN("INSERT INTO event (generation, xid, chain_id, version, type, at, data) SELECT generation, xid, chain_id, version, type, at, data FROM "
            "kept");
        RUN("ALTER TABLE event ENABLE TRIGGER ALL");
        expect_command("auto_repair", "{\"kind\":\"BROKEN_CHAIN\",\"dry_run\":true}", "{\"found\":1,\"repaired\":1,\"waiting\":0,\"refused\":0}");
        expect_command("auto_repair", "{\"kind\":\"BROKEN_CHAIN\"}", "{\"found\":1,\"repaired\":1,\"waiting\":0,\"refused\":0}");
        await("BROKEN_CHAIN repair resolved - sound", ISSUE, events);
}

/* What is broken must not be in anybody's way: an event that cannot be read is shown, its neighbours are handled, and everything else is looked for.
 */
static void an_event_that_cannot_be_read_stops_nobody(void **state)
{
        (void)state;
        rule("EXECUTION_FAILED", 0, 0, 5, 0.2, 1);
        _cleanup_(freep) char *priced = unpaid(), *ended = failed(), *sound = failed();
        RUN("ALTER TABLE event DISABLE TRIGGER ALL");
        RUN("UPDATE event SET data = '{\"amount\":{\"minor\":1e3}' WHERE chain_id = '%s' AND type = 'PRICED'", priced);
        RUN("UPDATE event SET data = 'nonsense' WHERE chain_id = '%s' AND type = 'EXECUTION_FAILED'", ended);
        RUN("ALTER TABLE event ENABLE TRIGGER ALL");
        RUN("UPDATE operator SET failures = 5, successes = 5, streak = 2 WHERE name = 'one'");
        start();
        await("EXECUTION_REQUIRED", STEP, sound);
        await("MISSING_EXECUTION repair quarantined person cannot_be_handled", ISSUE, ended);
        await("BROKEN_CHAIN repair quarantined person events_broken", ISSUE, priced);
        await("1", "SELECT count(*) FROM issue WHERE operator = 'one'");
        await("1", "SELECT count(*) FROM quarantine WHERE chain_id = '%s'", ended);
        /* Mended, it goes on. */
        RUN("ALTER TABLE event DISABLE TRIGGER ALL");
        RUN("UPDATE event SET data = '%s' WHERE chain_id = '%s' AND type = 'EXECUTION_FAILED'", FAILURE, ended);
        RUN("UPDATE event SET data = '%s' WHERE chain_id = '%s' AND type = 'PRICED'", AMOUNT, priced);
        RUN("ALTER TABLE event ENABLE TRIGGER ALL");
        RUN("UPDATE issue SET next_at = now() WHERE chain_id = '%s'", ended);
        await("EXECUTION_REQUIRED", STEP, ended);
}

static void expect_close(const char *issue, const char *closed, const char *why)
{
        _cleanup_(strbuf_done) struct strbuf args = {0}, answer = {0};

        strbuf_addf(&args, "{\"issue_id\":\"%s\"}", issue);
        strbuf_addf(&answer, "{\"found\":1,\"closed\":%s,\"refused\":1,\"refusals\":[{\"chain_id\":\"%s\",\"why\":\"%s\"}]}", closed, issue, why);
        expect_command("close", args.s, answer.s);
}

static void operators_and_evidence(void **state)
{
        (void)state;
        _cleanup_(freep) char *id = paid(), *issue = NULL;
        RUN("UPDATE operator SET failures = 5, successes = 5, streak = 2 WHERE name = 'one'");
        RUN("INSERT INTO evidence_mismatch (chain_id, event, hash, verdict, kind, who, reference) VALUES ('%s', 'PAYMENT_CONFIRMED', sha256(''), "
            "'conflict',"
            " 'provider', 'p', 'r')",
                id);
        start();
        await("HIGH_OPERATOR_FAIL_RATE waiting_evidence operator watched",
                "SELECT kind || ' ' || state || ' ' || waits_for || ' ' || outcome FROM issue WHERE operator = 'one'");
        await("EVIDENCE_MISMATCH repair quarantined person quarantined", ISSUE, id);
        RUN("UPDATE operator SET successes = 6, streak = 0 WHERE name = 'one'");
        await("resolved taken_back", "SELECT state || ' ' || outcome FROM issue WHERE operator = 'one'");
        issue = ask("SELECT id FROM issue WHERE operator = 'one'");
        expect_close(issue, "0", "over");
        free(issue);
        RUN("UPDATE operator SET failures = 9, streak = 2 WHERE name = 'one'");
        await("1", "SELECT count(*) FROM issue WHERE operator = 'one' AND closed_at IS NULL");
        issue = ask("SELECT id FROM issue WHERE operator = 'one' AND closed_at IS NULL");
        expect_close(issue, "0", "not_closable"); /* it would be found again at once */
        free(issue);
        issue = ask("SELECT id FROM issue WHERE chain_id = '%s'", id);
        _cleanup_(strbuf_done) struct strbuf args = {0};
        strbuf_addf(&args, "{\"issue_id\":\"%s\"}", issue);
        expect_command("close", args.s, "{\"found\":1,\"closed\":1,\"refused\":0,\"refusals\":[]}");
        await("EVIDENCE_MISMATCH repair resolved - closed_by_person", ISSUE, id);
        await("1", "SELECT count(*) FROM issue WHERE kind = 'EVIDENCE_MISMATCH'");
}

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
                TEST(an_unheard_job_is_rung_and_ends_unpaid),
                TEST(an_unpaid_job_waits_for_its_payer),
                TEST(a_failed_execution_is_run_again_and_refunded),
                TEST(a_refund_that_stands),
                TEST(executed_and_not_booked),
                TEST(without_an_operator_the_payment_goes_back),
                TEST(an_unknown_run_waits_for_its_operator),
                TEST(a_broken_row_is_folded_anew),
                TEST(an_event_that_cannot_be_read_stops_nobody),
                TEST(operators_and_evidence),
                TEST(commands_count_exactly),
                TEST(instances_share_the_work),
                TEST(a_frozen_instance_writes_nothing),
                TEST(killed_at_every_point),
                TEST(one_clients_flood_does_not_delay_another),
                TEST(hasty_labels),
                TEST(the_document_says_what_is_so),
                TEST(what_is_finished_costs_nothing),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
