/* UUID version 7. Invariant: no random byte is used twice. Each thread draws from its own 4 KiB fetched from getrandom() at once, because one system
 * call per id is most of its price, and wipes what it used, so that a memory dump does not tell the ids handed out before.
 * A forked child would share the unused bytes with its parent: the programs of this project do not fork after start. */
#include "uuid.h"

#include "hash.h"

#include <string.h>

#define RANDOM_PER_ID 10 /* 74 bits are used */

static void take_random(uint8_t ret_bytes[RANDOM_PER_ID])
{
        static _Thread_local uint8_t pool[4096];
        static _Thread_local size_t left;
        if (left < RANDOM_PER_ID) {
                /* An id is a secret: without randomness there is none, and ending is better than guessing. */
                if (random_bytes(pool, sizeof pool) != 0)
                        die("getrandom failed");
                left = sizeof pool;
        }
        left -= RANDOM_PER_ID;
        memcpy(ret_bytes, pool + left, RANDOM_PER_ID);
        explicit_bzero(pool + left, RANDOM_PER_ID);
}

struct uuid uuid_v7(void)
{
        struct uuid id;
        uint64_t ms = (uint64_t)now_wall_ms();
        for (int i = 0; i < 6; i++)
                id.b[i] = (uint8_t)(ms >> (40 - 8 * i));
        take_random(id.b + 6);
        id.b[6] = 0x70 | (id.b[6] & 0x0f); /* version 7 */
        id.b[8] = 0x80 | (id.b[8] & 0x3f); /* variant of RFC 9562 */
        return id;
}

static int hex_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

bool uuid_parse(const char *s, size_t len, struct uuid *ret_id)
{
        struct uuid id;
        if (!s || len != UUID_TEXT_SIZE - 1)
                return false;
        for (size_t i = 0, at = 0; i < sizeof id.b; i++, at += 2) {
                if ((at == 8 || at == 13 || at == 18 || at == 23) && s[at++] != '-')
                        return false;
                int high = hex_value(s[at]), low = hex_value(s[at + 1]);
                if (high < 0 || low < 0)
                        return false;
                id.b[i] = (uint8_t)(high << 4 | low);
        }
        *ret_id = id;
        return true;
}

void uuid_format(const struct uuid *id, char ret_text[UUID_TEXT_SIZE])
{
        static const char hex[] = "0123456789abcdef";
        char *out = ret_text;
        for (size_t i = 0; i < sizeof id->b; i++) {
                if (i == 4 || i == 6 || i == 8 || i == 10)
                        *out++ = '-';
                *out++ = hex[id->b[i] >> 4];
                *out++ = hex[id->b[i] & 15];
        }
        *out = '\0';
}

int uuid_compare(const void *a, const void *b)
{
        return memcmp(a, b, sizeof(struct uuid));
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
        return uuid_compare(a, b) == 0;
}
