/* The decisions of execution: health, score and choice of operators; what is done about an open run; who waits for room. */
#include "services/execution/execution_core.h"
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
                cmocka_unit_test(open_runs_are_never_resent_blindly),
                cmocka_unit_test(giving_up),
                cmocka_unit_test(backoff),
                cmocka_unit_test(late_call),
                cmocka_unit_test(what_is_sent),
                cmocka_unit_test(waiting_is_first_in_first_out_and_once),
                cmocka_unit_test(lanes_share_what_room_there_is),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
