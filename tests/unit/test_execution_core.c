/* The decisions of execution: health, score and choice of operators; the meaning of every kind of answer; what is done about an open run; plans. */
#include "services/execution/execution_core.h"
#include "services/execution/execution_plan.h"
#include "services/execution/execution_tasks_core.h"
#include "services/execution/waiting.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- operators --- */

static void health(void **state)
{
        (void)state;
        for (int ok = 0; ok <= 6; ok++)
                for (int bad = 0; bad <= 6; bad++) {
                        struct execution_operator op = {.successes = ok, .failures = bad};
                        enum execution_health expected = ok == 0 && bad >= 3 ? EXECUTION_DISABLED : bad > ok ? EXECUTION_DEGRADED : EXECUTION_HEALTHY;
                        assert_int_equal(execution_health(&op), expected);
                }
}

static void score(void **state)
{
        static const struct {
                int64_t ok, bad, ms;
                double score;
        } rows[] = {
                {0, 0, 0, 0.6 * 0.5 + 0.3 + 0.1},
                {1, 0, 0, 0.6 + 0.3 + 0.1},
                {10, 0, 90, 0.6 + 0.3 / 10 + 0.1},
                {1, 1, 200, 0.3 + 0.3 / 101 + 0.1},
                {1, 3, 0, 0.6 * 0.25 + 0.3 + 0.07},
                {0, 2, 0, 0.3 + 0.07},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct execution_operator op = {.successes = rows[i].ok, .failures = rows[i].bad, .total_ms = rows[i].ms};
                assert_true(fabs(execution_score(&op) - rows[i].score) < 1e-12);
        }
}

static void tuning(void **state)
{
        static const struct {
                struct execution_stats stats;
                bool others;
                enum execution_tuning tuning;
        } rows[] = {
                {{0, 0, false}, true, EXECUTION_TUNE_TOO_FEW},
                {{0, 4, false}, true, EXECUTION_TUNE_TOO_FEW},
                {{3, 2, false}, true, EXECUTION_TUNE_KEEP},
                {{3, 3, false}, true, EXECUTION_TUNE_AVOID},
                {{2, 3, false}, false, EXECUTION_TUNE_ALONE},
                {{0, 9, true}, true, EXECUTION_TUNE_AVOIDED},
                {{9, 0, true}, true, EXECUTION_TUNE_KEEP},
        };
        char *a[] = {(char *)"a"}, *ab[] = {(char *)"a", (char *)"b"};
        struct execution_operator ops[] = {{.name = (char *)"one", .tags = a, .n_tags = 1, .max_in_flight = 1, .url = (char *)"http://x"},
                {.name = (char *)"two", .tags = ab, .n_tags = 2, .max_in_flight = 1, .url = (char *)"http://x"}};
        struct execution_operators all = {.v = ops, .n = 2};
        _cleanup_(strbuf_done) struct strbuf b = {0};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                assert_int_equal(execution_tune(&rows[i].stats, rows[i].others), rows[i].tuning);
        assert_true(execution_others(&all, &ops[0]));
        assert_false(execution_others(&all, &ops[1])); /* nobody for b */
        assert_true(execution_audit_tag(&all, "b", &b));
        assert_string_equal(b.s, "{\"tag\":\"b\",\"operator\":\"two\",\"health\":\"healthy\",\"avoided\":false,\"proven\":true}");
        strbuf_reset(&b);
        assert_false(execution_audit_tag(&all, "c", &b));
        assert_string_equal(b.s, "{\"tag\":\"c\",\"operator\":null,\"health\":null,\"avoided\":null,\"proven\":false}");
        ops[0].avoided = ops[1].avoided = true;
        strbuf_reset(&b);
        assert_false(execution_audit_tag(&all, "b", &b));
}

static void room(void **state)
{
        int64_t in_flight = 1;
        struct execution_operator op = {.max_in_flight = 2, .in_flight = &in_flight};

        (void)state;
        assert_true(execution_has_room(&op));
        in_flight = 2;
        assert_false(execution_has_room(&op));
        op.in_flight = NULL;
        assert_true(execution_has_room(&op));
}

static char *t_a[] = {"a"}, *t_b[] = {"b"}, *t_ab[] = {"a", "b"};
static char *for_first[] = {"first"}, *for_tag_a[] = {"a"}, *for_each_other[] = {"y", "x"};

static const char *chosen(struct execution_operator *v, size_t n, const char *tag, const char *failed)
{
        struct execution_operators ops = {v, n};
        struct execution_attempt attempts[8];
        size_t n_attempts = 0;
        _cleanup_(freep) char *copy = xstrdup(failed);

        for (char *save, *s = strtok_r(copy, " ", &save); s; s = strtok_r(NULL, " ", &save))
                attempts[n_attempts++] = (struct execution_attempt){.who = s, .error = "x"};
        const struct execution_operator *op = execution_choose(&ops, tag, attempts, n_attempts);
        return op ? op->name : "-";
}

static void choice_by_tag_and_score(void **state)
{
        struct execution_operator v[] = {
                {.name = "slow", .tags = t_a, .n_tags = 1, .successes = 10, .total_ms = 100000},
                {.name = "fast", .tags = t_ab, .n_tags = 2, .successes = 10, .total_ms = 10},
                {.name = "dead", .tags = t_b, .n_tags = 1, .failures = 3},
                {.name = "twin", .tags = t_ab, .n_tags = 2, .successes = 10, .total_ms = 10},
        };

        (void)state;
        assert_string_equal(chosen(v, 4, "a", ""), "fast"); /* equal scores: the lesser name */
        assert_string_equal(chosen(v, 4, "a", "fast"), "twin");
        assert_string_equal(chosen(v, 4, "a", "fast twin"), "slow");
        assert_string_equal(chosen(v, 4, "a", "fast twin slow"), "-");
        assert_string_equal(chosen(v, 4, "b", "fast twin"), "-"); /* never a disabled one */
        assert_string_equal(chosen(v, 4, "c", ""), "-");
        assert_string_equal(chosen(v, 0, "a", ""), "-");
}

static void fallbacks_come_after(void **state)
{
        struct execution_operator v[] = {
                {.name = "backup", .tags = t_a, .n_tags = 1, .fallback_for = for_first, .n_fallback_for = 1, .successes = 9},
                {.name = "elsewhere", .tags = t_b, .n_tags = 1, .fallback_for = for_tag_a, .n_fallback_for = 1},
                {.name = "first", .tags = t_a, .n_tags = 1, .successes = 1, .failures = 5, .total_ms = 9999},
        };

        (void)state;
        assert_string_equal(chosen(v, 3, "a", ""), "first"); /* though its score is worse */
        assert_string_equal(chosen(v, 3, "a", "first"), "backup");
        assert_string_equal(chosen(v, 3, "a", "first backup"), "elsewhere");
        assert_string_equal(chosen(v, 3, "a", "first backup elsewhere"), "-");
        assert_string_equal(chosen(v, 3, "b", ""), "elsewhere");
        v[2].successes = 0; /* disabled: its fallback stands in at once */
        assert_string_equal(chosen(v, 3, "a", ""), "backup");
        assert_string_equal(chosen(v, 2, "a", "gone"), "backup"); /* "first" is not registered: backup has the tag */
}

static char *t_any[] = {"any"};

static void an_avoided_operator_is_probed(void **state)
{
        int64_t in_flight = 0, limit = 1, other_in_flight = 0;
        struct execution_operator v[] = {
                {.name = "bad",
                        .url = "u",
                        .status_url = "s",
                        .tags = t_any,
                        .n_tags = 1,
                        .successes = 9,
                        .max_in_flight = 9,
                        .avoided = true,
                        .in_flight = &in_flight,
                        .limit = &limit},
                {.name = "good", .url = "u", .tags = t_any, .n_tags = 1, .failures = 1, .max_in_flight = 9, .in_flight = &other_in_flight},
        };
        struct execution_operators both = {v, 2}, only = {v, 1};

        (void)state;
        /* In its pause: not while another can; alone, its step waits for it. */
        assert_ptr_equal(execution_choose(&both, "any", NULL, 0), &v[1]);
        assert_ptr_equal(execution_choose(&only, "any", NULL, 0), &v[0]);
        assert_int_equal(execution_room(&v[0]), 0);
        assert_false(execution_other(&only, "any", NULL, 0));
        /* Its pause is over: one run. */
        v[0].probe_due = true;
        assert_ptr_equal(execution_choose(&both, "any", NULL, 0), &v[0]);
        assert_int_equal(execution_room(&v[0]), 1);
        assert_true(execution_other(&both, "any", NULL, 0));
        in_flight = 1;
        assert_ptr_equal(execution_choose(&both, "any", NULL, 0), &v[1]);
        in_flight = 0;
        /* One that could not be asked risks no job that another can do. */
        v[0].status_url = NULL;
        assert_ptr_equal(execution_choose(&both, "any", NULL, 0), &v[1]);
        /* DISABLED: for a probe only. */
        v[0].successes = 0;
        v[0].failures = 3;
        assert_ptr_equal(execution_choose(&only, "any", NULL, 0), &v[0]);
        in_flight = 1; /* found by the fault suite: a second job, while the probe is under way, waits for it and does not fail */
        assert_ptr_equal(execution_choose(&only, "any", NULL, 0), &v[0]);
        assert_int_equal(execution_room(&v[0]), 0);
        in_flight = 0;
        v[0].probe_due = false;
        assert_null(execution_choose(&only, "any", NULL, 0));
        /* Taken back by and by. */
        v[0].successes = 1;
        v[0].avoided = false;
        limit = 3;
        assert_int_equal(execution_room(&v[0]), 3);
        limit = 100;
        assert_int_equal(execution_room(&v[0]), 9);
}

static void an_avoided_operators_run_goes_where_that_is_safe(void **state)
{
        const struct execution_operator op = {.url = "u", .status_url = "s"}, idempotent = {.url = "u", .idempotent = true};

        (void)state;
        assert_int_equal(execution_spare(&op, &(struct execution_open_run){.other = true}), EXECUTION_NEXT_WAIT);
        assert_int_equal(execution_spare(&op, &(struct execution_open_run){.other = true, .resend_marked = true}), EXECUTION_NEXT_OTHER);
        assert_int_equal(execution_spare(&op, &(struct execution_open_run){.resend_marked = true}), EXECUTION_NEXT_WAIT);
        assert_int_equal(execution_spare(&idempotent, &(struct execution_open_run){.other = true}), EXECUTION_NEXT_OTHER);
        assert_int_equal(execution_spare(&idempotent, &(struct execution_open_run){.other = false}), EXECUTION_NEXT_WAIT);
}

static void two_that_stand_in_for_each_other(void **state)
{
        struct execution_operator v[] = {
                {.name = "x", .tags = t_a, .n_tags = 1, .fallback_for = for_each_other, .n_fallback_for = 1},
                {.name = "y", .tags = t_a, .n_tags = 1, .fallback_for = for_each_other + 1, .n_fallback_for = 1, .successes = 1},
        };

        (void)state;
        assert_string_equal(chosen(v, 2, "a", ""), "y");
        assert_string_equal(chosen(v, 2, "a", "y"), "x");
}

/* --- answers --- */

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
                {"{\"status\":\"done\",\"output\":{\"a\": 1}}", EXECUTION_DONE, "{\"a\": 1}", NULL},
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
                assert_int_equal(a.output != NULL, rows[i].output != NULL);
                assert_int_equal(a.worker != NULL, rows[i].worker != NULL);
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
                const char *text;
        } rows[] = {
                {{BYTES("\x08\x00\x12\x02{}")}, EXECUTION_DONE, "{}"},
                {{BYTES("\x08\x00")}, EXECUTION_FAILED, "bad_output"},
                {{BYTES("\x08\x02\x2a\x01w")}, EXECUTION_ACCEPTED, NULL},
                {{BYTES("\x08\x01\x1a\x02no")}, EXECUTION_FAILED, "no"},
                {{BYTES("\x08\x63")}, EXECUTION_UNKNOWN, "the answer has no usable status"},
                {{BYTES("\x08\x00\x12\x01{")}, EXECUTION_UNKNOWN, "the answer is unusable: a field that must be JSON text is not"},
                {{BYTES("{\"status\":\"done\",\"output\":1}")}, EXECUTION_UNKNOWN,
                        "the answer is unusable: not the protobuf message that it must be, or not whole"},
        };
        struct execution_answer a;
        char deep[2 * JSON_DEPTH_MAX + 5] = "\x08\x00\x12\x40";

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct execution_reply reply = {.kind = EXECUTION_REPLY_ANSWERED, .status = 200, .protobuf = true, .body = rows[i].body};
                execution_read_bus_call(&reply, true, &a);
                print_message("%zu: %s\n", i, a.error ? a.error : a.output ? a.output : "");
                assert_int_equal(a.verdict, rows[i].verdict);
                assert_string_equal(a.error ? a.error : a.output ? a.output : "", rows[i].text ? rows[i].text : "");
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

/* --- open runs --- */

static void open_runs_are_never_resent_blindly(void **state)
{
        (void)state;
        for (int bits = 0; bits < 32; bits++)
                for (int probes = 0; probes < 6; probes++) {
                        struct execution_operator op = {
                                .name = "o", .url = "http://o", .status_url = bits & 1 ? "http://s" : NULL, .idempotent = bits & 2};
                        struct execution_open_run run = {.resend_marked = bits & 4, .other = bits & 8, .probes = probes};
                        bool registered = bits & 16;
                        enum execution_next next = execution_resolve(registered ? &op : NULL, &run), expected;

                        if (!registered)
                                expected = EXECUTION_NEXT_WAIT;
                        else if (run.resend_marked)
                                expected = EXECUTION_NEXT_SEND;
                        else if (op.idempotent && run.other && probes >= EXECUTION_PROBES_BEFORE_OTHER)
                                expected = EXECUTION_NEXT_OTHER;
                        else if (op.status_url)
                                expected = EXECUTION_NEXT_ASK;
                        else
                                expected = op.idempotent ? EXECUTION_NEXT_SEND : EXECUTION_NEXT_WAIT;
                        assert_int_equal(next, expected);
                        if (!op.idempotent && !run.resend_marked)
                                assert_true(next == EXECUTION_NEXT_ASK || next == EXECUTION_NEXT_WAIT);
                }
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

static void giving_up(void **state)
{
        (void)state;
        assert_true(execution_gives_up(EXECUTION_NOT_SENT, 0, 4, true));
        assert_false(execution_gives_up(EXECUTION_NOT_SENT, 0, 4, false));
        assert_false(execution_gives_up(EXECUTION_NOT_SENT, 3, 4, false));
        assert_true(execution_gives_up(EXECUTION_NOT_SENT, 4, 4, false));
        assert_false(execution_gives_up(EXECUTION_NOT_KNOWN, 1, 4, true));
        assert_true(execution_gives_up(EXECUTION_NOT_KNOWN, 4, 4, false));
}

/* One that stood still between its commit and its call calls nobody: the operator may have been asked meanwhile (tests/model, LATE_CALL). */
static void late_call(void **state)
{
        (void)state;
        assert_true(execution_in_time(0, 5000));
        assert_true(execution_in_time(4999, 5000));
        assert_false(execution_in_time(5000, 5000));
        assert_false(execution_in_time(30000, 5000));
}

static void backoff(void **state)
{
        static const int64_t ms[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};

        (void)state;
        for (int i = 0; i < (int)ARRAY_SIZE(ms); i++) {
                assert_int_equal(execution_backoff_ms(i, 0), ms[i]);
                assert_int_equal(execution_backoff_ms(i, 0.5), ms[i] - ms[i] / 8);
                assert_true(execution_backoff_ms(i, 0.999999) >= ms[i] * 3 / 4);
        }
        assert_int_equal(execution_backoff_ms(1000000, 0), 60000);
        assert_int_equal(execution_backoff_ms(-1, 0), 1000);
}

static void what_is_sent(void **state)
{
        struct execution_call call = {.step = 1, .attempt = 2, .input = {"{\"a\":1}", 7}};
        _cleanup_(strbuf_done) struct strbuf b = {0};

        (void)state;
        assert_true(uuid_parse("01890000-0000-7000-8000-000000000001", 36, &call.run_id));
        assert_true(uuid_parse("01890000-0000-7000-8000-000000000002", 36, &call.job_id));
        execution_call_body(&b, &call);
        assert_string_equal(b.s,
                "{\"run_id\":\"01890000-0000-7000-8000-000000000001\",\"job_id\":\"01890000-0000-7000-8000-000000000002\",\"step\":1,"
                "\"attempt\":2,\"input\":{\"a\":1},\"context\":{}}");
        strbuf_reset(&b);
        execution_status_url(&b, "http://o/s", &call.run_id);
        strbuf_addc(&b, ' ');
        execution_status_url(&b, "http://o/s?k=1", &call.run_id);
        assert_string_equal(b.s, "http://o/s?run_id=01890000-0000-7000-8000-000000000001 http://o/s?k=1&run_id=01890000-0000-7000-8000-000000000001");
}

/* --- plans --- */

static char *t_text[] = {"puz19_text"}, *t_numeric[] = {"puz19_numeric"}, *t_out[] = {"out"};
static int64_t out_in_flight;
static struct execution_operator plan_ops[] = {
        {.name = "out1", .url = "http://1", .tags = t_out, .n_tags = 1, .max_in_flight = 1, .in_flight = &out_in_flight},
        {.name = "puz19_numeric_stats", .tags = t_numeric, .n_tags = 1},
        {.name = "puz19_text_summary", .tags = t_text, .n_tags = 1},
};
static const struct execution_operators all_ops = {plan_ops, ARRAY_SIZE(plan_ops)};

/* "EVENT{data} EVENT{data} ...call=who@step.attempt<input". The record comes without the data of JOB_CREATED. */
static void check_record(
        const char *steps, const char *payload, struct execution_record record, const struct execution_result *done, const char *expected)
{
        _cleanup_(strbuf_done) struct strbuf job = {0}, got = {0};
        struct execution_chain c;
        struct execution_plan p;
        const char *why = NULL;

        strbuf_addf(&job, "{\"payload\":%s,\"context\":{\"priority\":\"high\"},\"flow\":{\"id\":\"f\",\"version\":1,\"steps\":%s}}", payload, steps);
        record.job = (struct slice){job.s, job.len};
        if (execution_chain_parse(&record, &c, &why) < 0)
                fail_msg("%s: %s", expected, why);
        assert_true(slice_equal(c.context, "{\"priority\":\"high\"}"));
        execution_plan_make(&c, &all_ops, done, &p);
        for (size_t i = 0; i < p.n_events; i++) {
                struct json_doc doc;
                struct json_error error;
                strbuf_addf(&got, "%s%s ", p.events[i].type, p.events[i].data.s);
                assert_int_equal(json_parse(p.events[i].data.s, p.events[i].data.len, &doc, &error), 0);
                json_done(&doc);
        }
        if (p.call)
                strbuf_addf(&got, "call=%s@%d.%d<%s", p.call->name, p.step, p.attempt, p.input);
        if (p.room_for)
                strbuf_addf(&got, "room=%s", p.room_for->name);
        assert_string_equal(got.s ? got.s : "", expected);
        execution_plan_done(&p);
        execution_chain_done(&c);
}

static void check_plan(
        const char *steps, const char *payload, const char *last, const char *runs, const struct execution_result *done, const char *expected)
{
        const char *at = last ? "STEP_COMPLETED" : runs ? "EXECUTION_STARTED" : "PAYMENT_CONFIRMED";

        check_record(steps, payload, (struct execution_record){.at = at, .last = slice_of(last), .runs = slice_of(runs)}, done, expected);
}

#define STARTED1 "EXECUTION_STARTED{\"steps\":1} "
#define STARTED2 "EXECUTION_STARTED{\"steps\":2} "
#define BUILTIN(s)                                                                                                                                   \
        "STEP_COMPLETED{\"step\":" s                                                                                                                 \
        ",\"tag\":\"puz19_text\",\"operator\":\"puz19_text_summary\",\"run_id\":null,\"attempt\":1,\"took_ms\":0,\"output\":"
#define SUM_HI "{\"length\":2,\"word_count\":1,\"preview\":\"hi\"}"
#define RUN_ID "01890000-0000-7000-8000-000000000001"

static void plans_of_built_in_steps(void **state)
{
        (void)state;
        check_plan("[\"puz19_text\"]", "{\"text\":\"hi\"}", NULL, NULL, NULL,
                STARTED1 BUILTIN("0") SUM_HI "} EXECUTION_COMPLETED{\"result\":" SUM_HI "} ");
        check_plan("[\"nobody\"]", "{}", NULL, NULL, NULL,
                "EXECUTION_FAILED{\"error\":{\"reason\":\"no_operator\",\"step\":0,\"tag\":\"nobody\",\"attempts\":[]}} ");
        check_plan("[\"puz19_text\"]", "{}", NULL, NULL, NULL,
                STARTED1 "EXECUTION_FAILED{\"error\":{\"reason\":\"all_operators_failed\",\"step\":0,\"tag\":\"puz19_text\",\"attempts\":["
                         "{\"operator\":\"puz19_text_summary\",\"error\":\"text must be a string\"}]}} ");
        /* The output of a step is the input of the next. */
        check_plan("[\"puz19_text\",\"puz19_numeric\"]", "{\"text\":\"hi\"}", NULL, NULL, NULL,
                STARTED2 BUILTIN("0") SUM_HI
                "} EXECUTION_FAILED{\"error\":{\"reason\":\"all_operators_failed\",\"step\":1,\"tag\":\"puz19_numeric\","
                "\"attempts\":[{\"operator\":\"puz19_numeric_stats\",\"error\":\"numbers must be an array of numbers\"}]}} ");
}

static void plans_with_outside_steps(void **state)
{
        struct execution_result done = {.who = "out1", .attempt = 1, .took_ms = 7, .output = {"{\"text\":\"hi\"}", 13}};

        (void)state;
        assert_true(uuid_parse(RUN_ID, 36, &done.run_id));
        check_plan("[\"out\"]", "{\"a\":1}", NULL, NULL, NULL, STARTED1 "call=out1@0.1<{\"a\":1}");
        check_plan("[\"puz19_text\",\"out\"]", "{\"text\":\"hi\"}", NULL, NULL, NULL, STARTED2 BUILTIN("0") SUM_HI "} call=out1@1.1<" SUM_HI);
        /* Its answer, and the rest of the flow. */
        check_plan("[\"out\",\"puz19_text\"]", "{}", NULL, "[{\"step\":0,\"operator\":\"out1\",\"state\":\"calling\",\"error\":null}]", &done,
                "STEP_COMPLETED{\"step\":0,\"tag\":\"out\",\"operator\":\"out1\",\"run_id\":\"" RUN_ID
                "\",\"attempt\":1,\"took_ms\":7,\"output\":{\"text\":\"hi\"}} " BUILTIN("1") SUM_HI "} EXECUTION_COMPLETED{\"result\":" SUM_HI "} ");
        check_plan("[\"out\",\"out\"]", "{}", NULL, "[{\"step\":0,\"operator\":\"out1\",\"state\":\"calling\",\"error\":null}]", &done,
                "STEP_COMPLETED{\"step\":0,\"tag\":\"out\",\"operator\":\"out1\",\"run_id\":\"" RUN_ID
                "\",\"attempt\":1,\"took_ms\":7,\"output\":{\"text\":\"hi\"}} call=out1@1.1<{\"text\":\"hi\"}");
        /* From a completed step on. */
        check_plan("[\"puz19_text\",\"out\"]", "{}", "{\"step\":0,\"output\":[5]}", NULL, NULL, "call=out1@1.1<[5]");
        check_plan("[\"puz19_text\"]", "{}", "{\"step\":0,\"output\":[5]}", NULL, NULL, "EXECUTION_COMPLETED{\"result\":[5]} ");
        /* Failed attempts: nobody is left; those of an earlier step do not count. */
        check_plan("[\"out\"]", "{}", NULL, "[{\"step\":0,\"operator\":\"out1\",\"state\":\"failed\",\"error\":\"no\"}]", NULL,
                "EXECUTION_FAILED{\"error\":{\"reason\":\"all_operators_failed\",\"step\":0,\"tag\":\"out\",\"attempts\":[{\"operator\":\"out1\","
                "\"error\":\"no\"}]}} ");
        check_plan("[\"out\"]", "{}", NULL, "[{\"step\":0,\"operator\":\"out1\",\"state\":\"failed\",\"error\":\"bad_output\"}]", NULL,
                "EXECUTION_FAILED{\"error\":{\"reason\":\"bad_output\",\"step\":0,\"tag\":\"out\",\"attempts\":[{\"operator\":\"out1\",\"error\":"
                "\"bad_output\"}]}} ");
        check_plan("[\"out\",\"out\"]", "{}", "{\"step\":0,\"output\":[5]}",
                "[{\"step\":0,\"operator\":\"out1\",\"state\":\"failed\",\"error\":\"no\"}]", NULL, "call=out1@1.1<[5]");
        check_plan("[\"out\"]", "{}", NULL, "[{\"step\":0,\"operator\":\"gone\",\"state\":\"failed\",\"error\":\"no\"}]", NULL, "call=out1@0.2<{}");
}

#define FAILED_RUN(step, who) "{\"step\":" step ",\"operator\":\"" who "\",\"state\":\"failed\",\"error\":\"no\"}"
#define DONE_RUN(step, who)   "{\"step\":" step ",\"operator\":\"" who "\",\"state\":\"done\",\"error\":null}"
#define LIVE_RUN(step, who)   "{\"step\":" step ",\"operator\":\"" who "\",\"state\":\"calling\",\"error\":null}"

static void a_further_start_goes_on_at_the_failed_step(void **state)
{
        struct execution_result done = {.who = "out1", .attempt = 3, .output = {"1", 1}};
        struct execution_record again = {.at = "EXECUTION_REQUIRED",
                .last = slice_of("{\"step\":0,\"output\":[5]}"),
                .runs = slice_of("[" DONE_RUN("0", "out1") "," FAILED_RUN("1", "out1") "," FAILED_RUN("1", "gone") "]")};
        struct execution_record started = {.at = "EXECUTION_STARTED", .last = again.last, .attempts_before = 2};

        (void)state;
        assert_true(uuid_parse(RUN_ID, 36, &done.run_id));
        /* What was completed is kept, attempts go on counting, and who failed before is asked again. */
        check_record(
                "[\"out\",\"out\"]", "{}", again, NULL, "EXECUTION_STARTED{\"steps\":2,\"from_step\":1,\"attempts_before\":2} call=out1@1.3<[5]");
        /* At the first step, with nothing run before. */
        check_record("[\"out\"]", "{\"a\":1}", (struct execution_record){.at = "EXECUTION_REQUIRED"}, NULL,
                "EXECUTION_STARTED{\"steps\":1,\"from_step\":0,\"attempts_before\":0} call=out1@0.1<{\"a\":1}");
        /* Nobody is there: nothing was started. */
        check_record("[\"nobody\"]", "{}", (struct execution_record){.at = "EXECUTION_REQUIRED", .runs = slice_of("[" FAILED_RUN("0", "gone") "]")},
                NULL, "EXECUTION_FAILED{\"error\":{\"reason\":\"no_operator\",\"step\":0,\"tag\":\"nobody\",\"attempts\":[]}} ");
        /* Under way: it is done, */
        started.runs = slice_of("[" DONE_RUN("0", "out1") "," FAILED_RUN("1", "out1") "," FAILED_RUN("1", "gone") "," LIVE_RUN("1", "out1") "]");
        check_record("[\"out\",\"out\"]", "{}", started, &done,
                "STEP_COMPLETED{\"step\":1,\"tag\":\"out\",\"operator\":\"out1\",\"run_id\":\"" RUN_ID
                "\",\"attempt\":3,\"took_ms\":0,\"output\":1} EXECUTION_COMPLETED{\"result\":1} ");
        /* or it failed: only what failed since the start rules out, and is named. */
        started.runs = slice_of("[" DONE_RUN("0", "out1") "," FAILED_RUN("1", "out1") "," FAILED_RUN("1", "gone") "," FAILED_RUN("1", "gone") "]");
        check_record("[\"out\",\"out\"]", "{}", started, NULL, "call=out1@1.4<[5]");
        started.runs = slice_of("[" DONE_RUN("0", "out1") "," FAILED_RUN("1", "out1") "," FAILED_RUN("1", "gone") "," FAILED_RUN("1", "out1") "]");
        check_record("[\"out\",\"out\"]", "{}", started, NULL,
                "EXECUTION_FAILED{\"error\":{\"reason\":\"all_operators_failed\",\"step\":1,\"tag\":\"out\",\"attempts\":["
                "{\"operator\":\"out1\",\"error\":\"no\"}]}} ");
}

static void a_full_operator_is_waited_for(void **state)
{
        (void)state;
        out_in_flight = 1;
        check_plan("[\"out\"]", "{}", NULL, NULL, NULL, "room=out1"); /* nothing is begun */
        check_plan("[\"puz19_text\",\"out\"]", "{\"text\":\"hi\"}", NULL, NULL, NULL, STARTED2 BUILTIN("0") SUM_HI "} room=out1");
        check_plan("[\"puz19_text\"]", "{\"text\":\"hi\"}", NULL, NULL, NULL,
                STARTED1 BUILTIN("0") SUM_HI "} EXECUTION_COMPLETED{\"result\":" SUM_HI "} "); /* it holds up nobody else */
        out_in_flight = 0;
}

static void chains_that_cannot_be_used(void **state)
{
        static const struct {
                const char *job, *last, *runs;
        } rows[] = {
                {"", NULL, NULL},
                {"{}", NULL, NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[]}}", NULL, NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[1]}}", NULL, NULL},
                {"{\"flow\":{\"steps\":[\"a\"]}}", NULL, NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[\"a\"]}}", "{\"step\":1,\"output\":1}", NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[\"a\"]}}", "{\"step\":-1,\"output\":1}", NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[\"a\"]}}", "{\"step\":0}", NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[\"a\"]}}", "x", NULL},
                {"{\"payload\":1,\"flow\":{\"steps\":[\"a\"]}}", NULL, "x"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct execution_chain c;
                const char *why = NULL;
                struct execution_record record = {
                        .at = "STEP_COMPLETED", .job = slice_of(rows[i].job), .last = slice_of(rows[i].last), .runs = slice_of(rows[i].runs)};
                assert_int_not_equal(execution_chain_parse(&record, &c, &why), 0);
                assert_non_null(why);
                execution_chain_done(&c);
        }
}

static void an_open_run_is_seen(void **state)
{
        static const struct {
                const char *state;
                bool live;
        } rows[] = {{"calling", true}, {"accepted", true}, {"unknown", true}, {"done", false}, {"failed", false}};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                _cleanup_(strbuf_done) struct strbuf runs = {0};
                struct execution_chain c;
                const char *why;

                strbuf_addf(&runs, "[{\"step\":0,\"operator\":\"o\",\"state\":\"%s\",\"error\":null}]", rows[i].state);
                struct execution_record record = {
                        .at = "EXECUTION_STARTED", .job = slice_of("{\"payload\":1,\"flow\":{\"steps\":[\"a\"]}}"), .runs = {runs.s, runs.len}};
                assert_int_equal(execution_chain_parse(&record, &c, &why), 0);
                assert_int_equal(c.live, rows[i].live);
                assert_int_equal(c.n_runs, 1);
                execution_chain_done(&c);
        }
}

static void waiting_is_first_in_first_out_and_once(void **state)
{
        struct waiting *w = waiting_new();
        struct uuid ids[100];
        uint32_t in = 0, out = 0;

        (void)state;
        assert_int_equal(waiting_count(NULL), 0);
        for (int round = 0; round < 3000; round++) {
                for (int i = 0; i < 30; i++, in++) {
                        /* Many share a bucket. */
                        struct uuid id = {.b = {(uint8_t)(in >> 24), (uint8_t)(in >> 16), (uint8_t)(in >> 8), (uint8_t)in, [15] = (uint8_t)(in % 7)}};
                        bool place = in - out < WAITING_MAX;
                        assert_int_equal(waiting_put(w, &id), place);
                        if (!place) {
                                i = 30;
                                in--;
                        }
                        assert_false(waiting_put(w, &id));
                }
                size_t n = waiting_take(w, ids, (size_t)(round * 7 % 50));
                for (size_t i = 0; i < n; i++, out++)
                        assert_int_equal((uint32_t)ids[i].b[0] << 24 | (uint32_t)ids[i].b[1] << 16 | (uint32_t)ids[i].b[2] << 8 | ids[i].b[3], out);
                assert_int_equal(waiting_count(w), in - out);
        }
        while (waiting_take(w, ids, 100) > 0)
                ;
        assert_int_equal(waiting_count(w), 0);
        assert_true(waiting_put(w, &ids[0]));
        waiting_free(w);
}

static void lanes_share_what_room_there_is(void **state)
{
        struct waiting_lanes w = {0};
        struct uuid ids[240];
        size_t of[WAITING_LANES] = {0};

        (void)state;
        assert_int_equal(waiting_lanes_take(&w, ids, 240), 0);
        for (size_t lane = 0; lane < WAITING_LANES; lane++)
                for (size_t i = 0; i < 100; i++) {
                        struct uuid id = {.b = {(uint8_t)lane, (uint8_t)i}};

                        assert_true(waiting_lanes_put(&w, lane, &id));
                        assert_false(waiting_lanes_put(&w, lane, &id));
                }
        /* By ones as by many. */
        for (size_t n = 0; n < 60; n++)
                assert_int_equal(waiting_lanes_take(&w, ids + n, 1), 1);
        assert_int_equal(waiting_lanes_take(&w, ids + 60, 60), 60);
        for (size_t n = 0; n < 120; n++)
                of[ids[n].b[0]]++;
        assert_int_equal(of[0], 80);
        assert_int_equal(of[1], 30);
        assert_int_equal(of[2], 10);
        /* What one does not use the others have, and each is first in, first out. */
        assert_int_equal(waiting_lanes_count(&w), 180);
        assert_int_equal(waiting_lanes_take(&w, ids, 240), 180);
        memset(of, 0, sizeof(of));
        for (size_t n = 0; n < 180; n++) {
                static const size_t first[WAITING_LANES] = {80, 30, 10};

                assert_int_equal(ids[n].b[1], first[ids[n].b[0]] + of[ids[n].b[0]]++);
        }
        waiting_lanes_done(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(health),
                cmocka_unit_test(score),
                cmocka_unit_test(tuning),
                cmocka_unit_test(room),
                cmocka_unit_test(choice_by_tag_and_score),
                cmocka_unit_test(fallbacks_come_after),
                cmocka_unit_test(an_avoided_operator_is_probed),
                cmocka_unit_test(an_avoided_operators_run_goes_where_that_is_safe),
                cmocka_unit_test(two_that_stand_in_for_each_other),
                cmocka_unit_test(answers_to_calls),
                cmocka_unit_test(refusals_are_no_faults),
                cmocka_unit_test(no_answer_to_a_call),
                cmocka_unit_test(answers_to_status_queries),
                cmocka_unit_test(answers_on_the_bus),
                cmocka_unit_test(answers_in_protobuf),
                cmocka_unit_test(what_workers_say),
                cmocka_unit_test(whose_result_counts),
                cmocka_unit_test(what_speaks_against_an_operator),
                cmocka_unit_test(long_errors_are_cut_between_characters),
                cmocka_unit_test(open_runs_are_never_resent_blindly),
                cmocka_unit_test(a_decision_stands_for_the_answer),
                cmocka_unit_test(giving_up),
                cmocka_unit_test(backoff),
                cmocka_unit_test(late_call),
                cmocka_unit_test(what_is_sent),
                cmocka_unit_test(plans_of_built_in_steps),
                cmocka_unit_test(plans_with_outside_steps),
                cmocka_unit_test(a_further_start_goes_on_at_the_failed_step),
                cmocka_unit_test(a_full_operator_is_waited_for),
                cmocka_unit_test(chains_that_cannot_be_used),
                cmocka_unit_test(an_open_run_is_seen),
                cmocka_unit_test(waiting_is_first_in_first_out_and_once),
                cmocka_unit_test(lanes_share_what_room_there_is),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
