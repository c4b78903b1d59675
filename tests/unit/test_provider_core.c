/* What a provider's answers mean, over every kind of answer; the pauses and the circuit breaker. */
#include "services/payments/provider_core.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void answers(void **state)
{
        static const struct {
                int http;
                const char *body;
                bool over; /* asked, and no call under way; else an answer to a call */
                enum provider_status status;
                bool reached;
        } rows[] = {
                {200, "{\"status\":\"pending\"}", false, PROVIDER_PENDING, true},
                {200, "{\"status\":\"confirmed\",\"reference\":\"r\"}", false, PROVIDER_CONFIRMED, true},
                {200, "{\"status\":\"confirmed\"}", false, PROVIDER_UNKNOWN, true}, /* no reference, no evidence */
                {200, "{\"status\":\"done\",\"reference\":\"\"}", false, PROVIDER_UNKNOWN, true},
                {200, "{\"status\":\"done\",\"reference\":\"r\"}", false, PROVIDER_DONE, true},
                {200, "{\"status\":\"expired\"}", false, PROVIDER_EXPIRED, true},
                {200, "{\"status\":\"failed\",\"error\":\"e\"}", false, PROVIDER_FAILED, true},
                {200, "{\"status\":\"unknown\"}", false, PROVIDER_UNKNOWN, true}, /* a call may still be under way */
                {200, "{\"status\":\"unknown\"}", true, PROVIDER_NOT_KNOWN, true},
                {200, "{\"status\":\"paid\"}", true, PROVIDER_UNKNOWN, true},
                {200, "{\"status\":\"confirmed\",\"reference\":\"r\",\"amount\":{\"minor\":1.5,\"currency\":\"EUR\"}}", true, PROVIDER_UNKNOWN, true},
                {200, "not JSON", true, PROVIDER_UNKNOWN, true},
                {422, "{\"error\":\"no\"}", false, PROVIDER_FAILED, true},
                {404, "", false, PROVIDER_FAILED, true},
                {401, "", false, PROVIDER_FAILED, true},
                {401, "", true, PROVIDER_UNKNOWN, true}, /* who asks and is refused has learnt nothing */
                {404, "", true, PROVIDER_UNKNOWN, true},
                {301, "", true, PROVIDER_UNKNOWN, true},
                {500, "{\"status\":\"done\",\"reference\":\"r\"}", true, PROVIDER_UNKNOWN, false},
                {0, "", true, PROVIDER_UNKNOWN, false},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct provider_answer a;

                provider_read(rows[i].http, slice_of(rows[i].body), "lost", rows[i].over, rows[i].over, &a);
                assert_int_equal(a.about_call, rows[i].http == 401);
                if (a.status != rows[i].status || a.reached != rows[i].reached)
                        fail_msg("%d %s: %d", rows[i].http, rows[i].body, (int)a.status);
        }
}

static void amounts_and_texts_are_kept(void **state)
{
        struct provider_answer a;

        (void)state;
        provider_read(200, slice_of("{\"status\":\"confirmed\",\"reference\":\"a\\nb\",\"amount\":{\"minor\":2588,\"currency\":\"EUR\"}}"), NULL,
                true, true, &a);
        assert_string_equal(a.reference, "a b");
        assert_true(a.has_amount);
        assert_int_equal(a.amount.minor, 2588);
        assert_string_equal(a.amount.currency, "EUR");
}

/* Money moves on three answers alone, and a refund is sent again only when it never arrived. */
static void only_a_clear_word_moves_money(void **state)
{
        (void)state;
        for (int w = 0; w < PROVIDER_WHATS; w++)
                for (int s = 0; s < PROVIDER_STATUSES; s++) {
                        enum provider_next next = provider_decide((enum provider_what)w, (enum provider_status)s);

                        assert_int_equal(next == PROVIDER_PAID, w == PROVIDER_QUERY && s == PROVIDER_CONFIRMED);
                        assert_int_equal(next == PROVIDER_RAN_OUT, w == PROVIDER_QUERY && s == PROVIDER_EXPIRED);
                        assert_int_equal(next == PROVIDER_REFUNDED, w == PROVIDER_REFUND && s == PROVIDER_DONE);
                        if (w == PROVIDER_REFUND)
                                assert_int_equal(next == PROVIDER_SEND_AGAIN, s == PROVIDER_NOT_KNOWN);
                }
}

static void pauses(void **state)
{
        (void)state;
        assert_int_equal(provider_backoff_ms(0, 0), 1000);
        assert_int_equal(provider_backoff_ms(3, 0), 8000);
        assert_int_equal(provider_backoff_ms(1000, 0), 60000);
        assert_int_equal(provider_backoff_ms(1000, 1), 45000);
}

static void the_breaker(void **state)
{
        struct provider_window w = {.size = PROVIDER_WINDOW_MAX};

        (void)state;
        assert_int_equal(provider_window_room(&w, 0, 10), PROVIDER_WINDOW_MAX - 10);
        provider_window_answer(&w, false, 0, 0);
        provider_window_answer(&w, false, 0, 0);
        assert_int_equal(provider_window_room(&w, 0, 0), PROVIDER_WINDOW_MAX); /* two are not yet an outage */
        for (int i = 0; i < 20; i++)                                           /* what was under way together is one pause */
                provider_window_answer(&w, false, 0, 0);
        assert_int_equal(provider_window_room(&w, 999, 0), 0);
        assert_int_equal(provider_window_room(&w, 1000, 0), 1);
        assert_int_equal(provider_window_room(&w, 1000, 1), 0);
        provider_window_answer(&w, false, 1000, 0);
        assert_int_equal(provider_window_room(&w, 60999, 0), 0);
        assert_int_equal(provider_window_room(&w, 61000, 0), 1);
        for (int size = 2; size <= 128; size *= 2) {
                provider_window_answer(&w, true, 61000, 0);
                assert_int_equal(provider_window_room(&w, 61000, 0), size < PROVIDER_WINDOW_MAX ? size : PROVIDER_WINDOW_MAX);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(answers),
                cmocka_unit_test(amounts_and_texts_are_kept),
                cmocka_unit_test(only_a_clear_word_moves_money),
                cmocka_unit_test(pauses),
                cmocka_unit_test(the_breaker),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
