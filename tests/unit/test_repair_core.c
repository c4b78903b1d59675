/* When bells are due, exhaustively over ages and tick lengths. */
#include "services/meta-repair/repair_core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The rule as it is said: 2, then doubling steps up to 60 s, then every 60 s. */
static bool due_slowly(int64_t before, int64_t now)
{
        static const int64_t first[] = {2000, 6000, 14000, 30000};

        for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++)
                if (before < first[i] && first[i] <= now)
                        return true;
        for (int64_t at = 60000; at <= now; at += 60000)
                if (before < at)
                        return true;
        return false;
}

static void bells_are_due(void **state)
{
        static const int64_t ticks[] = {0, 1, 20, 1000, 1003, 2500, 7000, 65000, 200000};

        (void)state;
        for (size_t t = 0; t < sizeof(ticks) / sizeof(ticks[0]); t++)
                for (int64_t now = -5000; now <= 400000; now += now < 70000 ? 1 : 37)
                        assert_int_equal(ring_due(now - ticks[t], now), due_slowly(now - ticks[t], now));
}

static void each_bell_once(void **state)
{
        (void)state;
        for (int64_t tick = 100; tick <= 1900; tick += 100) {
                int n = 0;

                for (int64_t at = 0; at + tick <= 240000 + tick; at += tick)
                        n += ring_due(at, at + tick);
                assert_int_equal(n, 4 + (int)((240000 / tick + 1) * tick / 60000)); /* the last tick may reach behind 240 s */
        }
}

static void a_start_rings_the_old_once(void **state)
{
        (void)state;
        assert_false(ring_due(0, 1999));
        assert_true(ring_due(0, 2000));
        assert_true(ring_due(0, 86400000));
        assert_false(ring_due(86400000 - 1, 86400000 - 1));
        assert_true(ring_due(86400000 - 1, 86400000));
        assert_true(ring_due(-300000, 2500)); /* it moved since the last tick */
}

static void an_overload_is_not_fed(void **state)
{
        static const struct ring_backlog none = {0, 7}, stands = {5, 7}, moves = {5, 8}, fresh = {5, 0};

        (void)state;
        assert_false(ring_withheld(NULL, &none));
        assert_true(ring_withheld(NULL, &stands));
        assert_false(ring_withheld(&none, &none));
        assert_false(ring_withheld(&stands, &none));
        assert_false(ring_withheld(&stands, &stands));
        assert_true(ring_withheld(&stands, &moves));
        assert_true(ring_withheld(&none, &moves));
        assert_false(ring_withheld(&moves, &fresh)); /* the broker lost its store */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bells_are_due),
                cmocka_unit_test(each_bell_once),
                cmocka_unit_test(a_start_rings_the_old_once),
                cmocka_unit_test(an_overload_is_not_fed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
