/* Signatures against a known one, and what is done about answers. */
#include "services/webhooks/webhook_sign.h"
#include "services/webhooks/webhooks_core.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

static void signatures(void **state)
{
        static const char *const bad[] = {"", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_abc", "whsec_!!!!"};
        _cleanup_(strbuf_done) struct strbuf b = {0}, made = {0};

        (void)state;
        /* The example of the Standard Webhooks specification's reference libraries. */
        assert_int_equal(webhook_sign(&b, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
                                 slice_of("{\"test\": 2432232314}")),
                0);
        assert_string_equal(b.s, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(webhook_sign(&b, bad[i], "m", 1, slice_of("x")), -EINVAL);
        assert_int_equal(webhook_secret_new(&made), 0);
        assert_int_equal(made.len, strlen("whsec_") + 44);
        assert_int_equal(webhook_sign(&b, made.s, "m", 1, slice_of("x")), 0);
}

static void verdicts(void **state)
{
        static const struct {
                int status;
                enum webhooks_verdict verdict;
        } cases[] = {{200, WEBHOOKS_DELIVERED}, {204, WEBHOOKS_DELIVERED}, {299, WEBHOOKS_DELIVERED}, {0, WEBHOOKS_AGAIN}, {199, WEBHOOKS_AGAIN},
                {301, WEBHOOKS_AGAIN}, {404, WEBHOOKS_AGAIN}, {410, WEBHOOKS_GONE}, {500, WEBHOOKS_AGAIN}, {503, WEBHOOKS_AGAIN}};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_int_equal(webhooks_judge(cases[i].status), cases[i].verdict);
}

static void delays(void **state)
{
        (void)state;
        assert_int_equal(webhooks_delay_ms(1, 5000, 0.5), 5000);
        assert_int_equal(webhooks_delay_ms(2, 5000, 0.5), 10000);
        assert_int_equal(webhooks_delay_ms(1, 5000, 0), 4000);
        assert_int_equal(webhooks_delay_ms(1, 5000, 1), 6000);
        assert_int_equal(webhooks_delay_ms(11, 5000, 0.5), 3600000);
        assert_int_equal(webhooks_delay_ms(1000000, 5000, 0.5), 3600000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(signatures), cmocka_unit_test(verdicts), cmocka_unit_test(delays)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
