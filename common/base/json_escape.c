/* Escapes in JSON strings. json_hex4 and the surrogate tests serve the parser, which checks every escape; the decoders rely on that check and on the
 * fact that no escape is shorter than the character it stands for. */
#include "json_escape.h"

#include <string.h>

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int32_t json_hex4(const char *s, const char *end)
{
        if (end - s < 4)
                return -1;
        int32_t value = 0;
        for (int i = 0; i < 4; i++) {
                int digit = hex_digit(s[i]);
                if (digit < 0)
                        return -1;
                value = value << 4 | digit;
        }
        return value;
}

bool json_is_high_surrogate(int32_t c)
{
        return c >= 0xd800 && c <= 0xdbff;
}

bool json_is_low_surrogate(int32_t c)
{
        return c >= 0xdc00 && c <= 0xdfff;
}

size_t json_unescape_one(const char *s, char **out)
{
        static const char plain[256] = {
                ['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t'};
        char *o = *out;
        if (s[1] != 'u') {
                *o = plain[(unsigned char)s[1]];
                *out = o + 1;
                return 2;
        }
        uint32_t c = (uint32_t)json_hex4(s + 2, s + 6);
        size_t len = 6;
        if (json_is_high_surrogate((int32_t)c)) {
                c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)json_hex4(s + 8, s + 12) - 0xdc00);
                len = 12;
        }
        if (c < 0x80) {
                *o++ = (char)c;
        } else if (c < 0x800) {
                *o++ = (char)(0xc0 | c >> 6);
                *o++ = (char)(0x80 | (c & 0x3f));
        } else if (c < 0x10000) {
                *o++ = (char)(0xe0 | c >> 12);
                *o++ = (char)(0x80 | (c >> 6 & 0x3f));
                *o++ = (char)(0x80 | (c & 0x3f));
        } else {
                *o++ = (char)(0xf0 | c >> 18);
                *o++ = (char)(0x80 | (c >> 12 & 0x3f));
                *o++ = (char)(0x80 | (c >> 6 & 0x3f));
                *o++ = (char)(0x80 | (c & 0x3f));
        }
        *out = o;
        return len;
}

char *json_unescape(const char *s, const char *end, char *out)
{
        while (s < end) {
                const char *backslash = memchr(s, '\\', (size_t)(end - s));
                size_t run = (size_t)((backslash ? backslash : end) - s);
                memcpy(out, s, run);
                out += run;
                s += run;
                if (backslash)
                        s += json_unescape_one(s, &out);
        }
        return out;
}
