/* Two tables of prefixes that are refused. Of IPv6 only global unicast (2000::/3) is public, without the parts that stand for IPv4 addresses or for
 * nobody; what is mapped from IPv4 is judged as that. */
#include "http/http_address.h"

#include "base/util.h"

#include <netinet/in.h>
#include <string.h>

static bool ipv4_public(uint32_t a)
{
        static const struct {
                uint32_t address;
                int bits;
        } refused[] = {
                {0x00000000, 8},  /* this network */
                {0x0a000000, 8},  /* private */
                {0x64400000, 10}, /* shared, behind carriers' NAT */
                {0x7f000000, 8},  /* loopback */
                {0xa9fe0000, 16}, /* link-local, cloud metadata */
                {0xac100000, 12}, /* private */
                {0xc0000000, 24}, /* protocol assignments */
                {0xc0000200, 24}, /* documentation */
                {0xc0586300, 24}, /* 6to4 relays */
                {0xc0a80000, 16}, /* private */
                {0xc6120000, 15}, /* benchmarks */
                {0xc6336400, 24}, /* documentation */
                {0xcb007100, 24}, /* documentation */
                {0xe0000000, 3},  /* multicast, reserved, broadcast */
        };

        for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
                if (((a ^ refused[i].address) >> (32 - refused[i].bits)) == 0)
                        return false;
        return true;
}

static uint32_t four_bytes(const uint8_t *b)
{
        return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static bool ipv6_public(const uint8_t b[16])
{
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
        uint32_t head = four_bytes(b);

        if (memcmp(b, mapped, sizeof(mapped)) == 0)
                return ipv4_public(four_bytes(b + 12));
        return head >> 29 == 1 && head >> 9 != 0x20010000 >> 9 /* protocol assignments, Teredo */ && head != 0x20010db8 /* documentation */ &&
               head >> 16 != 0x2002 /* 6to4 */ && head >> 12 != 0x3fff0 /* documentation */;
}

bool http_address_public(const struct sockaddr *address)
{
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;

        switch (address->sa_family) {
        case AF_INET:
                memcpy(&in4, address, sizeof(in4));
                return ipv4_public(ntohl(in4.sin_addr.s_addr));
        case AF_INET6:
                memcpy(&in6, address, sizeof(in6));
                return ipv6_public(in6.sin6_addr.s6_addr);
        default:
                return false;
        }
}
