/* A growing byte buffer. Invariant: when s is set, len < cap and s[len] is NUL, so s is a C string at any time. */
#include "strbuf.h"

#include "utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void strbuf_done(struct strbuf *b)
{
        free(b->s);
        *b = (struct strbuf){0};
}

void strbuf_reset(struct strbuf *b)
{
        b->len = 0;
        if (b->s)
                b->s[0] = '\0';
}

char *strbuf_take(struct strbuf *b)
{
        char *s = b->s ? b->s : xstrdup("");
        *b = (struct strbuf){0};
        return s;
}

char *strbuf_grow(struct strbuf *b, size_t more)
{
        size_t need;
        if (__builtin_add_overflow(b->len, more, &need) || need > SIZE_MAX / 4)
                die("strbuf too large");
        if (need >= b->cap) {
                size_t cap = b->cap * 2 > need + 1 ? b->cap * 2 : need + 1;
                b->cap = cap < 64 ? 64 : cap;
                b->s = xrealloc(b->s, b->cap);
                b->s[b->len] = '\0';
        }
        return b->s + b->len;
}

void strbuf_add(struct strbuf *b, const void *data, size_t len)
{
        char *end = strbuf_grow(b, len);
        if (len)
                memcpy(end, data, len);
        end[len] = '\0';
        b->len += len;
}

void strbuf_adds(struct strbuf *b, const char *s)
{
        strbuf_add(b, s, strlen(s));
}

void strbuf_addc(struct strbuf *b, char c)
{
        strbuf_add(b, &c, 1);
}

void strbuf_addf(struct strbuf *b, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        strbuf_vaddf(b, fmt, ap);
        va_end(ap);
}

void strbuf_vaddf(struct strbuf *b, const char *fmt, va_list ap)
{
        /* Most texts fit into what is left; only the long ones are formatted twice. */
        va_list again;
        va_copy(again, ap);
        char *end = strbuf_grow(b, 63);
        size_t room = b->cap - b->len;
        int len = vsnprintf(end, room, fmt, ap);
        if (len < 0)
                die("vsnprintf failed");
        if ((size_t)len >= room) {
                end = strbuf_grow(b, (size_t)len);
                vsnprintf(end, (size_t)len + 1, fmt, again);
        }
        va_end(again);
        b->len += (size_t)len;
}

void strbuf_addi(struct strbuf *b, int64_t n)
{
        char digits[20], *p = digits + sizeof digits;
        uint64_t u = n < 0 ? 0 - (uint64_t)n : (uint64_t)n; /* INT64_MIN has no positive int64 */
        do
                *--p = (char)('0' + u % 10);
        while (u /= 10);
        if (n < 0)
                *--p = '-';
        strbuf_add(b, p, (size_t)(digits + sizeof digits - p));
}

size_t json_escape_char(const char *s, size_t left, char ret_out[JSON_ESCAPE_MAX], size_t *ret_taken)
{
        static const char hex[] = "0123456789abcdef";
        unsigned char c = (unsigned char)*s;
        *ret_taken = 1;
        if (c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t') {
                ret_out[0] = '\\';
                ret_out[1] = c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : (char)c;
                return 2;
        }
        if (c < 0x20) {
                memcpy(ret_out, "\\u00", 4);
                ret_out[4] = hex[c >> 4];
                ret_out[5] = hex[c & 15];
                return 6;
        }
        size_t len = utf8_step(s, left);
        if (len == 0) {
                memcpy(ret_out, "\xef\xbf\xbd", 3); /* U+FFFD */
                return 3;
        }
        memcpy(ret_out, s, len);
        *ret_taken = len;
        return len;
}

void strbuf_add_json(struct strbuf *b, const char *s, size_t len)
{
        strbuf_grow(b, len + 2); /* the usual case: nothing to escape */
        strbuf_addc(b, '"');
        const char *end = s + len;
        while (s < end) {
                /* Plain ASCII goes in runs; everything else one character at a time. */
                const char *run = s;
                while (s < end && (unsigned char)*s >= 0x20 && (unsigned char)*s < 0x80 && *s != '"' && *s != '\\')
                        s++;
                if (s > run)
                        strbuf_add(b, run, (size_t)(s - run));
                if (s == end)
                        break;
                char out[JSON_ESCAPE_MAX];
                size_t taken, n = json_escape_char(s, (size_t)(end - s), out, &taken);
                strbuf_add(b, out, n);
                s += taken;
        }
        strbuf_addc(b, '"');
}

void strbuf_add_member(struct strbuf *b, const char *name, const char *value)
{
        if (!value)
                return;
        if (b->len > 0 && b->s[b->len - 1] != '{')
                strbuf_addc(b, ',');
        strbuf_addc(b, '"');
        strbuf_adds(b, name);
        strbuf_adds(b, "\":");
        strbuf_add_json(b, value, strlen(value));
}
