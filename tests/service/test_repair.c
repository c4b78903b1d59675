/* meta-repair against a real PostgreSQL and a real nats-server: each kind of issue is found and comes to its documented end. */
#include "tests/support/repair_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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
        _cleanup_(freep) char *id = unpaid(), *other = unpaid(), *young = unpaid();
        age(id, "2 h");
        age(other, "8 min");
        start();
        await("STUCK_PAYMENT repair waiting_evidence payer waits_for_payment", ISSUE, id);
        await("STUCK_PAYMENT late open - -", ISSUE, other);
        await("t", "SELECT next_at > now() + interval '40 min' FROM issue WHERE chain_id = '%s'", id);
        /* A long wait is set aside until it ends, a short one is not. */
        await("payer", "SELECT aside FROM chain WHERE id = '%s'", id);
        await("t", "SELECT aside IS NULL FROM chain WHERE id = '%s'", young);
        await("payer", "SELECT aside FROM chain WHERE id = '%s'", other);
        evidence(id, "PAYMENT_CONFIRMED");
        MOVE("payments", id, "PAYMENT_CONFIRMED");
        await("t", "SELECT aside IS NULL FROM chain WHERE id = '%s'", id);
        RUN("DELETE FROM evidence_inbox");
        await("STUCK_PAYMENT repair resolved - moved_on", ISSUE, id);
        await("2", "SELECT value FROM repair_figure WHERE name = 'waiting' AND label = 'job/PAYMENT_INITIATED'");
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
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
