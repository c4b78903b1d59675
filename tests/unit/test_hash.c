/* SHA-256 against published values, the framing of parts, and the comparison. */
#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void hex(const uint8_t hash[SHA256_SIZE], char ret_text[2 * SHA256_SIZE + 1])
{
        for (int i = 0; i < SHA256_SIZE; i++)
                snprintf(ret_text + 2 * i, 3, "%02x", hash[i]);
}

static void published_values(void **state)
{
        (void)state;
        static const struct {
                const char *text, *hash;
        } cases[] = {
                {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
                {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
                {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        };
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                uint8_t hash[SHA256_SIZE];
                char text[2 * SHA256_SIZE + 1];
                sha256_bytes(cases[i].text, strlen(cases[i].text), hash);
                hex(hash, text);
                assert_string_equal(text, cases[i].hash);
        }
}

static void parts_are_framed(void **state)
{
        (void)state;
        uint8_t a[SHA256_SIZE], b[SHA256_SIZE];
        static const struct slice two[] = {{"ab", 2}, {"c", 1}};
        sha256_parts(two, 2, a);
        static const uint8_t framed[] = {0, 0, 0, 0, 0, 0, 0, 2, 'a', 'b', 0, 0, 0, 0, 0, 0, 0, 1, 'c'};
        sha256_bytes(framed, sizeof framed, b);
        assert_memory_equal(a, b, SHA256_SIZE);

        static const struct slice shifted[] = {{"a", 1}, {"bc", 2}};
        sha256_parts(shifted, 2, b);
        assert_memory_not_equal(a, b, SHA256_SIZE);
        static const struct slice longer[] = {{"ab", 2}, {"c", 1}, {NULL, 0}};
        sha256_parts(longer, 3, b);
        assert_memory_not_equal(a, b, SHA256_SIZE);

        sha256_parts(NULL, 0, a);
        sha256_bytes(NULL, 0, b);
        assert_memory_equal(a, b, SHA256_SIZE);
}

static void comparison(void **state)
{
        (void)state;
        assert_true(equal_constant_time("token", 5, "token", 5));
        assert_false(equal_constant_time("token", 5, "tokem", 5));
        assert_false(equal_constant_time("Token", 5, "token", 5));
        assert_false(equal_constant_time("token", 5, "toke", 4));
        assert_false(equal_constant_time("toke", 4, "token", 5));
        assert_false(equal_constant_time("", 0, "token", 5));
        assert_false(equal_constant_time("token", 5, "", 0));
        assert_true(equal_constant_time("", 0, NULL, 0));
}

static void randomness(void **state)
{
        (void)state;
        uint8_t a[1000] = {0}, b[1000] = {0};
        assert_int_equal(random_bytes(a, sizeof a), 0);
        assert_int_equal(random_bytes(b, sizeof b), 0);
        assert_memory_not_equal(a, b, sizeof a);
        assert_memory_not_equal(a + 984, b + 984, 16);
        assert_int_equal(random_bytes(NULL, 0), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(published_values),
                cmocka_unit_test(parts_are_framed),
                cmocka_unit_test(comparison),
                cmocka_unit_test(randomness),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
