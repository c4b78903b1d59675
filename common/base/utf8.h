/* One decoder step of UTF-8 (RFC 3629), shared by everything that checks or escapes text: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#ifndef AETHELOS_BASE_UTF8_H
#define AETHELOS_BASE_UTF8_H

#include <stddef.h>

/* Length (1 to 4) of the character at s, of which `left` > 0 bytes may be read; 0 if the bytes are no character. */
static inline size_t utf8_step(const char *s, size_t left)
{
        const unsigned char *u = (const unsigned char *)s;
        if (u[0] < 0x80)
                return 1;
        if (u[0] < 0xc2 || u[0] > 0xf4)
                return 0; /* a continuation byte, or an overlong or too large lead byte */
        if (left < 2 || (u[1] & 0xc0) != 0x80)
                return 0;
        if (u[0] < 0xe0)
                return 2;
        if (left < 3 || (u[2] & 0xc0) != 0x80)
                return 0;
        if (u[0] < 0xf0) {
                if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f))
                        return 0; /* overlong; surrogates */
                return 3;
        }
        if (left < 4 || (u[3] & 0xc0) != 0x80)
                return 0;
        if ((u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] > 0x8f))
                return 0; /* overlong; above U+10FFFF */
        return 4;
}

#endif
