/* Which addresses are public: whatever stands for loopback, a private network or nobody is not. */
#include "http/http_address.h"

#include "base/util.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

static bool judge(const char *text)
{
        struct sockaddr_in in4 = {.sin_family = AF_INET};
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

        if (inet_pton(AF_INET, text, &in4.sin_addr) == 1)
                return http_address_public((const struct sockaddr *)&in4);
        if (inet_pton(AF_INET6, text, &in6.sin6_addr) != 1)
                fail_msg("%s is no address", text);
        return http_address_public((const struct sockaddr *)&in6);
}

static void refused(void **state)
{
        static const char *const cases[] = {"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1",
                "127.255.0.9", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.9", "192.88.99.1", "192.168.1.1",
                "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1",
                "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "100::1",
                "2001::1", "2001:1ff::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "3fff:fff::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1",
                "ff02::1", "4000::1"};
        struct sockaddr_un un = {.sun_family = AF_UNIX};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                if (judge(cases[i]))
                        fail_msg("%s counts as public", cases[i]);
        assert_false(http_address_public((const struct sockaddr *)&un));
}

static void public_ones(void **state)
{
        static const char *const cases[] = {"1.1.1.1", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255", "128.0.0.1",
                "169.253.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "192.167.1.1", "198.17.1.1", "198.20.1.1", "223.255.255.255",
                "::ffff:1.1.1.1", "2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700::1111", "3ffe::1"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                if (!judge(cases[i]))
                        fail_msg("%s does not count as public", cases[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(refused), cmocka_unit_test(public_ones)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
