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
                bool asked, over; /* else an answer to a call; over: and no call can be under way */
                enum provider_status status;
                bool reached, about_call;
        } rows[] = {
                {200, "{\"status\":\"pending\"}", false, false, PROVIDER_PENDING, true, false},
                {200, "{\"status\":\"confirmed\",\"reference\":\"r\"}", false, false, PROVIDER_CONFIRMED, true, false},
                {200, "{\"status\":\"confirmed\"}", false, false, PROVIDER_UNKNOWN, true, false}, /* no reference, no evidence */
                {200, "{\"status\":\"done\",\"reference\":\"\"}", false, false, PROVIDER_UNKNOWN, true, false},
                {200, "{\"status\":\"done\",\"reference\":\"r\"}", false, false, PROVIDER_DONE, true, false},
                {200, "{\"status\":\"expired\"}", false, false, PROVIDER_EXPIRED, true, false},
                {200, "{\"status\":\"failed\",\"error\":\"e\"}", false, false, PROVIDER_FAILED, true, false},
                {200, "{\"status\":\"unknown\"}", false, false, PROVIDER_UNKNOWN, true, false},
                {200, "{\"status\":\"unknown\"}", true, false, PROVIDER_UNKNOWN, true, false}, /* a call may still be under way */
                {404, "", true, false, PROVIDER_UNKNOWN, true, false},
                {200, "{\"status\":\"unknown\"}", true, true, PROVIDER_NOT_KNOWN, true, false},
                {200, "{\"status\":\"paid\"}", true, true, PROVIDER_UNKNOWN, true, false},
                {200, "{\"status\":\"confirmed\",\"reference\":\"r\",\"amount\":{\"minor\":1.5,\"currency\":\"EUR\"}}", true, true, PROVIDER_UNKNOWN,
                        true, false},
                {200, "not JSON", true, true, PROVIDER_UNKNOWN, true, false},
                {422, "{\"error\":\"no\"}", false, false, PROVIDER_FAILED, true, false},
                {404, "", false, false, PROVIDER_FAILED, true, false},
                {401, "", false, false, PROVIDER_FAILED, true, true},
                {403, "", false, false, PROVIDER_FAILED, true, true},
                {409, "", false, false, PROVIDER_FAILED, true, true},
                {429, "", false, false, PROVIDER_FAILED, true, true},
                {401, "", true, true, PROVIDER_UNKNOWN, true, true}, /* who asks and is refused has learnt nothing */
                {404, "", true, true, PROVIDER_UNKNOWN, true, false},
                {301, "", true, true, PROVIDER_UNKNOWN, true, false},
                {500, "{\"status\":\"done\",\"reference\":\"r\"}", true, true, PROVIDER_UNKNOWN, false, false},
                {0, "", true, true, PROVIDER_UNKNOWN, false, false},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct provider_answer a;

                provider_read(rows[i].http, slice_of(rows[i].body), "lost", rows[i].asked, rows[i].over, &a);
                if (a.status != rows[i].status || a.reached != rows[i].reached || a.about_call != rows[i].about_call)
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

/* A row's marks decide whether money is sent again and whether a job may be closed: no provider writes them. */
static void no_provider_writes_our_marks(void **state)
{
        static const struct {
                enum provider_says says;
                const char *error, *row;
        } rows[] = {
                {PROVIDER_SAYS_ERROR, "refused by the bank", "refused by the bank"},
                {PROVIDER_SAYS_ERROR, "send", "said: send"},
                {PROVIDER_SAYS_ERROR, "refused: no", "said: refused: no"},
                {PROVIDER_SAYS_ERROR, "open: yes", "said: open: yes"},
                {PROVIDER_SAYS_SEND, "whatever", "send"},
                {PROVIDER_SAYS_REFUSED, "no", "refused: no"},
                {PROVIDER_SAYS_OPEN, "send", "open: send"},
                {PROVIDER_SAYS_OPEN, NULL, "open: "},
        };
        char buffer[PROVIDER_ROW_ERROR_MAX];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                assert_string_equal(provider_row_error(rows[i].says, rows[i].error, buffer), rows[i].row);
        assert_null(provider_row_error(PROVIDER_SAYS_ERROR, NULL, buffer));
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
                cmocka_unit_test(no_provider_writes_our_marks),
                cmocka_unit_test(pauses),
                cmocka_unit_test(the_breaker),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
