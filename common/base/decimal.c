/* Exact decimal numbers in 128 bits. Invariant: a result is exact or there is none; the one place that rounds is decimal_round_minor.
 * Only the compiler's checked operations touch a mantissa that may overflow. */
#include "decimal.h"

#include <errno.h>

#define DIGITS_BEFORE_POINT 18
#define DIGITS_BEHIND_POINT 6
#define MAX_POWER           38 /* 10^38 is the largest power of ten in 127 bits */

static __int128 power_of_ten(int n)
{
        __int128 p = 1;
        while (n-- > 0)
                p *= 10;
        return p;
}

/* m * 10^n; false if it overflows. Zero stays zero however large n is. */
static bool shift_left(__int128 m, int n, __int128 *ret_m)
{
        if (m == 0)
                n = 0;
        return n <= MAX_POWER && !__builtin_mul_overflow(m, power_of_ten(n), ret_m);
}

int decimal_parse(const char *s, size_t len, struct decimal *ret_d)
{
        const char *p = s, *end = s + len;
        bool minus = p < end && *p == '-';
        p += minus;
        struct decimal d = {0};
        const char *from = p;
        for (; p < end && *p >= '0' && *p <= '9'; p++) {
                if (p - from == DIGITS_BEFORE_POINT)
                        return -EINVAL;
                d.mantissa = d.mantissa * 10 + (*p - '0');
        }
        if (p == from)
                return -EINVAL;
        if (p < end && *p == '.') {
                from = ++p;
                for (; p < end && *p >= '0' && *p <= '9'; p++) {
                        if (d.scale == DIGITS_BEHIND_POINT)
                                return -EINVAL;
                        d.mantissa = d.mantissa * 10 + (*p - '0');
                        d.scale++;
                }
                if (p == from)
                        return -EINVAL;
        }
        if (p != end)
                return -EINVAL;
        if (minus)
                d.mantissa = -d.mantissa;
        *ret_d = d;
        return 0;
}

struct decimal decimal_of_int(int64_t n)
{
        return (struct decimal){.mantissa = n};
}

int decimal_add(struct decimal a, struct decimal b, struct decimal *ret_d)
{
        int scale = a.scale > b.scale ? a.scale : b.scale;
        __int128 x, y, sum;
        if (!shift_left(a.mantissa, scale - a.scale, &x) || !shift_left(b.mantissa, scale - b.scale, &y) || __builtin_add_overflow(x, y, &sum))
                return -ERANGE;
        *ret_d = (struct decimal){sum, scale};
        return 0;
}

int decimal_mul(struct decimal a, struct decimal b, struct decimal *ret_d)
{
        __int128 product;
        int scale;
        if (__builtin_mul_overflow(a.mantissa, b.mantissa, &product) || __builtin_add_overflow(a.scale, b.scale, &scale))
                return -ERANGE;
        *ret_d = (struct decimal){product, scale};
        return 0;
}

void decimal_add_text(struct strbuf *b, struct decimal d)
{
        while (d.scale > 0 && d.mantissa % 10 == 0) {
                d.mantissa /= 10;
                d.scale = d.mantissa == 0 ? 0 : d.scale - 1;
        }
        char digits[40]; /* 2^127 has 39 */
        int n = 0;
        unsigned __int128 u = d.mantissa < 0 ? -(unsigned __int128)d.mantissa : (unsigned __int128)d.mantissa;
        do
                digits[n++] = (char)('0' + (int)(u % 10));
        while (u /= 10);
        if (d.mantissa < 0)
                strbuf_addc(b, '-');
        /* Digits stand lowest first: digit i counts 10^(i - scale). */
        for (int i = n > d.scale ? n - 1 : d.scale; i >= 0; i--) {
                strbuf_addc(b, i < n ? digits[i] : '0');
                if (i == d.scale && i > 0)
                        strbuf_addc(b, '.');
        }
}

int decimal_round_minor(struct decimal d, int exponent, int64_t *ret_minor)
{
        __int128 m;
        int drop = d.scale - exponent;
        if (drop <= 0) {
                if (!shift_left(d.mantissa, -drop, &m))
                        return -ERANGE;
        } else if (drop > MAX_POWER) {
                m = 0; /* 2^127 is less than half of 10^39 */
        } else {
                __int128 unit = power_of_ten(drop), rest = d.mantissa % unit; /* C truncates: the rest has the sign of the mantissa */
                __int128 size = rest < 0 ? -rest : rest;
                m = d.mantissa / unit;
                if (size >= unit - size) /* size * 2 could overflow */
                        m += d.mantissa < 0 ? -1 : 1;
        }
        if (m < INT64_MIN || m > INT64_MAX)
                return -ERANGE;
        *ret_minor = (int64_t)m;
        return 0;
}
