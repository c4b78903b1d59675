/* What operators say: the meaning of every kind of answer, of beats and of results, and what speaks against an operator. */
#include "base/utf8.h"
#include "services/execution/execution_core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static void expect(const struct execution_answer *a, const char *label, enum execution_verdict verdict, const char *output, const char *error)
{
        if (a->verdict != verdict)
                fail_msg("%s: verdict %d instead of %d (%s)", label, a->verdict, verdict, a->error ? a->error : "");
        if ((output || a->output) && (!output || !a->output || strcmp(a->output, output) != 0))
                fail_msg("%s: output %s", label, a->output ? a->output : "missing");
        if (error && (!a->error || strcmp(a->error, error) != 0))
                fail_msg("%s: error %s", label, a->error ? a->error : "missing");
        if (verdict != EXECUTION_DONE && verdict != EXECUTION_ACCEPTED && !a->error)
                fail_msg("%s: no error", label);
}

static void expect_text(const char *is, const char *wanted)
{
        if (wanted && is)
                assert_string_equal(is, wanted);
        else
                assert_true(!is && !wanted);
}

static void answers_to_calls(void **state)
{
        static const struct {
                int status;
                const char *body;
                enum execution_verdict verdict;
                const char *output, *error;
        } rows[] = {
                {200, "{\"output\":{\"a\": 1}}", EXECUTION_DONE, "{\"a\":1}", NULL},
                {200, "{\"output\":null}", EXECUTION_DONE, "null", NULL},
                {200, "{\"output\":\"x\",\"more\":1}", EXECUTION_DONE, "\"x\"", NULL},
                {200, "{}", EXECUTION_FAILED, NULL, "bad_output"},
                {200, "", EXECUTION_FAILED, NULL, "bad_output"},
                {200, "[1]", EXECUTION_FAILED, NULL, "bad_output"},
                {200, "{\"output\":1,\"output\":2}", EXECUTION_FAILED, NULL, "bad_output"},
                {200, "{\"output\":1}x", EXECUTION_FAILED, NULL, "bad_output"},
                {200, "{\"output\":\"\xff\"}", EXECUTION_FAILED, NULL, "bad_output"},
                {200, "{\"output\":\"\\u0000\"}", EXECUTION_FAILED, NULL, "bad_output"},
                {202, "", EXECUTION_ACCEPTED, NULL, NULL},
                {202, "{\"output\":1}", EXECUTION_ACCEPTED, NULL, NULL},
                {422, "{\"error\":\"wrong kind\"}", EXECUTION_FAILED, NULL, "wrong kind"},
                {400, "{\"error\":{\"code\":7}}", EXECUTION_FAILED, NULL, "{\"code\":7}"},
                {404, "<html>", EXECUTION_FAILED, NULL, "answered HTTP 404"},
                {409, "{}", EXECUTION_FAILED, NULL, "answered HTTP 409"},
                {500, "{\"error\":\"boom\"}", EXECUTION_UNKNOWN, NULL, "boom"},
                {500, "{\"error\":\"not sent: honestly\"}", EXECUTION_UNKNOWN, NULL, "honestly"},
                {503, "", EXECUTION_UNKNOWN, NULL, "answered HTTP 503"},
                {201, "{\"output\":1}", EXECUTION_UNKNOWN, NULL, "answered HTTP 201"},
                {302, "", EXECUTION_UNKNOWN, NULL, "answered HTTP 302"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                for (int clean = 0; clean < 2; clean++) {
                        struct execution_reply reply = {.kind = EXECUTION_REPLY_ANSWERED, .status = rows[i].status, .body = slice_of(rows[i].body)};
                        struct execution_answer a;
                        execution_read_call(&reply, clean, &a);
                        expect(&a, rows[i].body, rows[i].verdict, rows[i].output, rows[i].error);
                        execution_answer_done(&a);
                }
}

/* What the operator refuses because of the request speaks against the job, everything else against the operator. */
static void refusals_are_no_faults(void **state)
{
        static const struct {
                int status;
                bool refused;
        } rows[] = {{400, true}, {401, false}, {402, false}, {403, false}, {404, false}, {405, false}, {408, false}, {409, true}, {410, false},
                {413, true}, {415, false}, {422, true}, {424, false}, {429, false}, {500, false}, {503, false}};
        static const struct {
                const char *body;
                bool refused;
        } words[] = {
                {"{\"status\":\"failed\",\"error\":\"no\"}", false},
                {"{\"status\":\"failed\",\"refused\":true}", true},
                {"{\"status\":\"failed\",\"refused\":false}", false},
                {"{\"status\":\"failed\",\"refused\":\"true\"}", false},
                {"{\"status\":\"done\",\"refused\":true}", false}, /* an output is missing: bad_output */
                {"{\"status\":\"unknown\",\"refused\":true}", false},
        };
        struct execution_answer a;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct execution_reply reply = {.kind = EXECUTION_REPLY_ANSWERED, .status = rows[i].status, .body = slice_of("{\"error\":\"no\"}")};
                execution_read_call(&reply, true, &a);
                if (a.refused != rows[i].refused || execution_fault(&a) == rows[i].refused)
                        fail_msg("%d", rows[i].status);
                execution_answer_done(&a);
        }
        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                struct execution_reply reply = {.kind = EXECUTION_REPLY_ANSWERED, .status = 200, .body = slice_of(words[i].body)};
                for (int bus = 0; bus < 2; bus++) {
                        if (bus)
                                execution_read_bus_call(&reply, true, &a);
                        else
                                execution_read_status(&reply, false, &a);
                        if (a.refused != words[i].refused || (a.refused && execution_fault(&a)))
                                fail_msg("%s", words[i].body);
                        execution_answer_done(&a);
                }
        }
}

/* Who has too much to do has not done it, and is no reason for a job to fail. */
static void too_many_at_once(void **state)
{
        struct execution_reply busy = {.kind = EXECUTION_REPLY_ANSWERED, .status = 429, .body = slice_of("{\"error\":\"slow down\"}")};
        struct execution_answer a;

        (void)state;
        execution_read_call(&busy, true, &a);
        expect(&a, "first call", EXECUTION_NOT_SENT, NULL, "slow down");
        assert_true(execution_fault(&a));
        execution_answer_done(&a);
        execution_read_call(&busy, false, &a); /* an earlier call may have been done */
        expect(&a, "later call", EXECUTION_UNKNOWN, NULL, "slow down");
        execution_answer_done(&a);
}

static void no_answer_to_a_call(void **state)
{
        struct execution_reply refused = {.kind = EXECUTION_REPLY_NOT_SENT, .why = "refused"},
                               lost = {.kind = EXECUTION_REPLY_LOST, .why = "timeout"};
        struct execution_answer a;

        (void)state;
        execution_read_call(&refused, true, &a);
        expect(&a, "first call", EXECUTION_NOT_SENT, NULL, "refused");
        execution_answer_done(&a);
        execution_read_call(&refused, false, &a); /* an earlier call may have been done */
        expect(&a, "later call", EXECUTION_UNKNOWN, NULL, "refused");
        execution_answer_done(&a);
        for (int clean = 0; clean < 2; clean++) {
                execution_read_call(&lost, clean, &a);
                expect(&a, "lost", EXECUTION_UNKNOWN, NULL, "timeout");
                execution_answer_done(&a);
        }
}

static void answers_to_status_queries(void **state)
{
        static const struct {
                int status;
                const char *body;
                enum execution_verdict verdict, over; /* before and after the lease of the call is over */
                const char *output;
        } rows[] = {
                {200, "{\"status\":\"done\",\"output\":[1]}", EXECUTION_DONE, EXECUTION_DONE, "[1]"},
                {200, "{\"status\":\"done\"}", EXECUTION_FAILED, EXECUTION_FAILED, NULL},
                {200, "{\"status\":\"failed\",\"error\":\"no\"}", EXECUTION_FAILED, EXECUTION_FAILED, NULL},
                {200, "{\"status\":\"failed\"}", EXECUTION_FAILED, EXECUTION_FAILED, NULL},
                {200, "{\"status\":\"running\"}", EXECUTION_ACCEPTED, EXECUTION_ACCEPTED, NULL},
                {200, "{\"status\":\"unknown\"}", EXECUTION_UNKNOWN, EXECUTION_NOT_KNOWN, NULL},
                {200, "{\"status\":\"else\"}", EXECUTION_UNKNOWN, EXECUTION_UNKNOWN, NULL},
                {200, "{\"output\":1}", EXECUTION_UNKNOWN, EXECUTION_UNKNOWN, NULL},
                {200, "nonsense", EXECUTION_UNKNOWN, EXECUTION_UNKNOWN, NULL},
                {202, "{\"status\":\"done\",\"output\":1}", EXECUTION_UNKNOWN, EXECUTION_UNKNOWN, NULL},
                {404, "{\"status\":\"unknown\"}", EXECUTION_UNKNOWN, EXECUTION_UNKNOWN, NULL},
                {500, "", EXECUTION_UNKNOWN, EXECUTION_UNKNOWN, NULL},
        };
        struct execution_answer a;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct execution_reply reply = {.kind = EXECUTION_REPLY_ANSWERED, .status = rows[i].status, .body = slice_of(rows[i].body)};
                execution_read_status(&reply, false, &a);
                expect(&a, rows[i].body, rows[i].verdict, rows[i].output, NULL);
                execution_answer_done(&a);
                execution_read_status(&reply, true, &a);
                expect(&a, rows[i].body, rows[i].over, rows[i].output, NULL);
                execution_answer_done(&a);
        }
        for (int kind = EXECUTION_REPLY_NOT_SENT; kind <= EXECUTION_REPLY_LOST; kind++) {
                /* That the question did not arrive says nothing about the run. */
                struct execution_reply reply = {.kind = (enum execution_reply_kind)kind};
                execution_read_status(&reply, true, &a);
                expect(&a, "no answer", EXECUTION_UNKNOWN, NULL, NULL);
                execution_answer_done(&a);
        }
}

#define BYTES(s) (s), sizeof(s) - 1

static void answers_on_the_bus(void **state)
{
        static const struct {
                const char *body;
                enum execution_verdict verdict;
                const char *output, *worker;
        } rows[] = {
                {"{\"status\":\"done\",\"output\":{\"a\": 1}}", EXECUTION_DONE, "{\"a\":1}", NULL},
                {"{\"status\":\"done\"}", EXECUTION_FAILED, NULL, NULL},
                {"{\"status\":\"failed\",\"error\":\"no\"}", EXECUTION_FAILED, NULL, NULL},
                {"{\"status\":\"accepted\",\"worker\":\"w\"}", EXECUTION_ACCEPTED, NULL, "w"},
                {"{\"status\":\"unknown\"}", EXECUTION_UNKNOWN, NULL, NULL},
                {"{\"output\":1}", EXECUTION_UNKNOWN, NULL, NULL},
                {"", EXECUTION_UNKNOWN, NULL, NULL},
                {"[]", EXECUTION_UNKNOWN, NULL, NULL},
        };
        struct execution_reply missing = {.kind = EXECUTION_REPLY_NOT_SENT};
        struct execution_answer a;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct execution_reply reply = {.kind = EXECUTION_REPLY_ANSWERED, .status = 200, .body = slice_of(rows[i].body)};
                execution_read_bus_call(&reply, true, &a);
                assert_int_equal(a.verdict, rows[i].verdict);
                expect_text(a.output, rows[i].output);
                expect_text(a.worker, rows[i].worker);
                execution_answer_done(&a);
        }
        execution_read_bus_call(&missing, true, &a);
        assert_int_equal(a.verdict, EXECUTION_NOT_SENT);
        execution_answer_done(&a);
        execution_read_bus_call(&missing, false, &a); /* an earlier call may have been done */
        assert_int_equal(a.verdict, EXECUTION_UNKNOWN);
        execution_answer_done(&a);
}

/* What cannot be read leaves the outcome open; what a person reads says why. */
static void answers_in_protobuf(void **state)
{
        static const struct {
                struct slice body;
                enum execution_verdict verdict;
                const char *text, *worker;
        } rows[] = {
                {{BYTES("\x08\x00\x12\x02{}")}, EXECUTION_DONE, "{}", NULL},
                {{BYTES("\x08\x00")}, EXECUTION_FAILED, "bad_output", NULL},
                {{BYTES("\x08\x02\x2a\x01w")}, EXECUTION_ACCEPTED, NULL, "w"},
                {{BYTES("\x08\x01\x1a\x02no")}, EXECUTION_FAILED, "no", NULL},
                {{BYTES("\x08\x63")}, EXECUTION_UNKNOWN, "the answer has no usable status", NULL},
                {{BYTES("\x08\x00\x12\x01{")}, EXECUTION_UNKNOWN, "the answer is unusable: a field that must be JSON text is not", NULL},
                {{BYTES("{\"status\":\"done\",\"output\":1}")}, EXECUTION_UNKNOWN,
                        "the answer is unusable: not the protobuf message that it must be, or not whole", NULL},
        };
        struct execution_answer a;
        char deep[2 * JSON_DEPTH_MAX + 5] = "\x08\x00\x12\x40";

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct execution_reply reply = {.kind = EXECUTION_REPLY_ANSWERED, .status = 200, .protobuf = true, .body = rows[i].body};
                execution_read_bus_call(&reply, true, &a);
                print_message("%zu: %s\n", i, a.error ? a.error : a.output ? a.output : "");
                assert_int_equal(a.verdict, rows[i].verdict);
                expect_text(a.error ? a.error : a.output, rows[i].text);
                expect_text(a.worker, rows[i].worker);
                execution_answer_done(&a);
        }
        /* As deep as a JSON text may be. */
        memset(deep + 4, '[', JSON_DEPTH_MAX);
        memset(deep + 4 + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
        execution_read_bus_call(
                &(struct execution_reply){.kind = EXECUTION_REPLY_ANSWERED, .protobuf = true, .body = {deep, sizeof(deep) - 1}}, true, &a);
        assert_int_equal(a.verdict, EXECUTION_DONE);
        execution_answer_done(&a);
        deep[1] = 3; /* an Answer: unknown */
        execution_read_status(
                &(struct execution_reply){.kind = EXECUTION_REPLY_ANSWERED, .status = 200, .protobuf = true, .body = {deep, 2}}, true, &a);
        assert_int_equal(a.verdict, EXECUTION_NOT_KNOWN);
        execution_answer_done(&a);
}

#define RUN "\"run_id\":\"01890000-0000-7000-8000-000000000001\""

static void what_workers_say(void **state)
{
        static const struct {
                const char *body;
                bool result, ok;
        } rows[] = {
                {"{" RUN ",\"token\":1}", false, true},
                {"{" RUN ",\"token\":1,\"percent\":100,\"progress\":\"p\",\"worker\":\"w\"}", false, true},
                {"{" RUN ",\"token\":1,\"percent\":101}", false, false},
                {"{" RUN ",\"token\":1,\"percent\":0.5}", false, false},
                {"{" RUN ",\"token\":0}", false, false},
                {"{" RUN ",\"token\":2147483648}", false, false},
                {"{" RUN "}", false, false},
                {"{\"run_id\":\"x\",\"token\":1}", false, false},
                {"nonsense", false, false},
                {"[]", false, false},
                {"{" RUN ",\"token\":1,\"status\":\"done\",\"output\":null}", true, true},
                {"{" RUN ",\"token\":1,\"status\":\"failed\",\"error\":\"e\"}", true, true},
                {"{" RUN ",\"token\":1,\"status\":\"accepted\"}", true, false},
                {"{" RUN ",\"token\":1}", true, false},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct execution_word w;
                const char *why = execution_read_worker(slice_of(rows[i].body), false, rows[i].result, &w);

                print_message("%s: %s\n", rows[i].body, why ? why : "taken");
                assert_int_equal(!why, rows[i].ok);
                if (!why)
                        execution_word_done(&w);
        }
        struct execution_word said;
        assert_null(execution_read_worker(slice_of(rows[1].body), false, false, &said));
        assert_int_equal(said.token, 1);
        assert_int_equal(said.percent, 100);
        expect_text(said.progress, "p");
        expect_text(said.answer.worker, "w");
        execution_word_done(&said);
}

static void whose_result_counts(void **state)
{
        struct execution_word done = {.token = 2, .answer = {.verdict = EXECUTION_DONE}},
                              failed = {.token = 2, .answer = {.verdict = EXECUTION_FAILED}};
        struct execution_held open = {.same_operator = true, .token = 2}, old = open, other = open, was_done = open, had_failed = open;

        (void)state;
        old.token = 3;
        other.same_operator = false;
        was_done.ended = was_done.done = had_failed.ended = true;
        assert_int_equal(execution_judge_result(&done, NULL), EXECUTION_CLAIM_OVER);
        assert_int_equal(execution_judge_result(&done, &open), EXECUTION_CLAIM_TAKE);
        assert_int_equal(execution_judge_result(&done, &old), EXECUTION_CLAIM_OVER);
        assert_int_equal(execution_judge_result(&done, &other), EXECUTION_CLAIM_OVER);
        assert_int_equal(execution_judge_result(&done, &was_done), EXECUTION_CLAIM_REPEATED);
        assert_int_equal(execution_judge_result(&failed, &was_done), EXECUTION_CLAIM_OVER);
        assert_int_equal(execution_judge_result(&failed, &had_failed), EXECUTION_CLAIM_REPEATED);
        assert_int_equal(execution_judge_result(&done, &had_failed), EXECUTION_CLAIM_OVER);
}

static void what_speaks_against_an_operator(void **state)
{
        struct execution_reply reply = {.kind = EXECUTION_REPLY_ANSWERED, .status = 200, .body = slice_of("{\"status\":\"unknown\"}")};
        struct execution_answer a;

        (void)state;
        /* One that is up again, and has never heard of the run, is not avoided for saying so. */
        execution_read_status(&reply, false, &a);
        assert_int_equal(a.verdict, EXECUTION_UNKNOWN);
        assert_false(execution_fault(&a));
        execution_answer_done(&a);
        reply.status = 503;
        execution_read_status(&reply, false, &a);
        assert_true(execution_fault(&a));
        execution_answer_done(&a);
        execution_read_call(&reply, true, &a);
        assert_true(execution_fault(&a));
        execution_answer_done(&a);
        reply.status = 403;
        execution_read_call(&reply, true, &a);
        assert_true(execution_fault(&a));
        execution_answer_done(&a);
        reply.status = 202;
        execution_read_call(&reply, true, &a);
        assert_false(execution_fault(&a));
        execution_answer_done(&a);
        reply.kind = EXECUTION_REPLY_NOT_SENT;
        execution_read_call(&reply, true, &a);
        assert_true(execution_fault(&a));
        execution_answer_done(&a);
}

static void long_errors_are_cut_between_characters(void **state)
{
        _cleanup_(strbuf_done) struct strbuf body = {0};
        struct execution_answer a;

        (void)state;
        strbuf_adds(&body, "{\"error\":\"x");
        for (int i = 0; i < 400; i++)
                strbuf_adds(&body, "ä");
        strbuf_adds(&body, "\"}");
        struct execution_reply reply = {.kind = EXECUTION_REPLY_ANSWERED, .status = 422, .body = {body.s, body.len}};
        execution_read_call(&reply, true, &a);
        assert_int_equal(strlen(a.error), EXECUTION_ERROR_MAX - 1);
        assert_true(utf8_valid(a.error, strlen(a.error)));
        execution_answer_done(&a);
}

static void a_decision_stands_for_the_answer(void **state)
{
        struct execution_open_run run = {.decided = true, .resend_marked = true, .other = true, .probes = 9};
        struct execution_operator op = {.url = "http://o", .status_url = "http://o", .idempotent = true};
        struct execution_answer a;

        (void)state;
        assert_int_equal(execution_resolve(&op, &run), EXECUTION_NEXT_DECIDED);
        assert_int_equal(execution_resolve(NULL, &run), EXECUTION_NEXT_DECIDED);
        execution_read_decision(true, slice_of("[1]"), &a);
        assert_int_equal(a.verdict, EXECUTION_DONE);
        assert_string_equal(a.output, "[1]");
        execution_answer_done(&a);
        execution_read_decision(false, slice_of(NULL), &a);
        assert_int_equal(a.verdict, EXECUTION_FAILED);
        assert_string_equal(a.error, "failed, on a person's word");
        execution_answer_done(&a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(answers_to_calls),
                cmocka_unit_test(refusals_are_no_faults),
                cmocka_unit_test(too_many_at_once),
                cmocka_unit_test(no_answer_to_a_call),
                cmocka_unit_test(answers_to_status_queries),
                cmocka_unit_test(answers_on_the_bus),
                cmocka_unit_test(answers_in_protobuf),
                cmocka_unit_test(what_workers_say),
                cmocka_unit_test(whose_result_counts),
                cmocka_unit_test(what_speaks_against_an_operator),
                cmocka_unit_test(long_errors_are_cut_between_characters),
                cmocka_unit_test(a_decision_stands_for_the_answer),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
