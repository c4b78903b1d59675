/* UUID version 7: bits, text, order, no repetition within or across threads. */
#include "base/uuid.h"

#include <ctype.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void version_variant_and_time(void **state)
{
        (void)state;
        for (int i = 0; i < 1000; i++) {
                int64_t before = now_wall_ms();
                struct uuid id = uuid_v7();
                int64_t after = now_wall_ms(), ms = 0;
                for (int k = 0; k < 6; k++)
                        ms = ms << 8 | id.b[k];
                assert_true(before <= ms && ms <= after);
                assert_int_equal(id.b[6] >> 4, 7);
                assert_int_equal(id.b[8] >> 6, 2);
        }
}

static void every_random_bit_moves(void **state)
{
        (void)state;
        struct uuid ones = {0}, zeros = {0};
        for (int i = 0; i < 500; i++) {
                struct uuid id = uuid_v7();
                for (int k = 6; k < 16; k++) {
                        ones.b[k] |= id.b[k];
                        zeros.b[k] |= (uint8_t)~id.b[k];
                }
        }
        static const uint8_t free_bits[10] = {0x0f, 0xff, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
        for (int k = 0; k < 10; k++) {
                assert_int_equal(ones.b[6 + k] & free_bits[k], free_bits[k]);
                assert_int_equal(zeros.b[6 + k] & free_bits[k], free_bits[k]);
        }
}

#define PER_THREAD 20000
#define THREADS    3

static void *make_ids(void *ids)
{
        struct uuid *out = ids;
        for (int i = 0; i < PER_THREAD; i++)
                out[i] = uuid_v7();
        return NULL;
}

static void no_two_are_equal(void **state)
{
        (void)state;
        static struct uuid ids[THREADS * PER_THREAD];
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, make_ids, ids + i * PER_THREAD), 0);
        for (int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        /* The random parts alone must differ, too: equal ones would mean that a byte of the pool was used twice. */
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
                memset(ids[i].b, 0, 6);
        qsort(ids, ARRAY_SIZE(ids), sizeof *ids, uuid_compare);
        for (size_t i = 1; i < ARRAY_SIZE(ids); i++)
                assert_true(uuid_compare(&ids[i - 1], &ids[i]) < 0);
}

static void text_there_and_back(void **state)
{
        (void)state;
        static const char text[] = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"; /* RFC 9562, A.6 */
        struct uuid id, same;
        assert_true(uuid_parse(text, strlen(text), &id));
        assert_int_equal(id.b[0], 0x01);
        assert_int_equal(id.b[15], 0x8f);
        char out[UUID_TEXT_SIZE];
        uuid_format(&id, out);
        assert_string_equal(out, text);

        char upper[UUID_TEXT_SIZE];
        for (size_t i = 0; i < sizeof upper; i++)
                upper[i] = (char)toupper(text[i]);
        assert_true(uuid_parse(upper, 36, &same));
        assert_true(uuid_equal(&id, &same));
        for (int i = 0; i < 1000; i++) {
                id = uuid_v7();
                uuid_format(&id, out);
                assert_true(uuid_parse(out, 36, &same));
                assert_true(uuid_equal(&id, &same));
        }
        same.b[15] ^= 1;
        assert_false(uuid_equal(&id, &same));
}

static void refuses_other_text(void **state)
{
        (void)state;
        static const char *const bad[] = {
                "",
                "017f22e279b07cc398c4dc0c0c07398f",
                "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
                "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
                "017f22e2-79b0-7cc3-98c4-dc0c0c07398f0",
                "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
                "017f22e2-79b0-7cc3-98c4-dc0c0c07398 ",
                "017f22e2079b0-7cc3-98c4-dc0c0c07398f",
                "017f22e2-79b0-7cc3-98c40dc0c0c07398f",
                "017f22e-279b0-7cc3-98c4-dc0c0c07398f",
                "017f22e2-79b0-7cc3-98c4--c0c0c07398f",
        };
        struct uuid id = {{9}};
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(uuid_parse(bad[i], strlen(bad[i]), &id));
        assert_false(uuid_parse(NULL, 36, &id));
        assert_int_equal(id.b[0], 9); /* set on success only */
}

static void order_is_of_bytes(void **state)
{
        (void)state;
        struct uuid low = {{0x7f}}, high = {{0x80}};
        assert_true(uuid_compare(&low, &high) < 0);
        assert_true(uuid_compare(&high, &low) > 0);
        assert_int_equal(uuid_compare(&low, &low), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(version_variant_and_time),
                cmocka_unit_test(every_random_bit_moves),
                cmocka_unit_test(no_two_are_equal),
                cmocka_unit_test(text_there_and_back),
                cmocka_unit_test(refuses_other_text),
                cmocka_unit_test(order_is_of_bytes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
