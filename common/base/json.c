/* Reading parsed JSON, and writing its numbers. A document comes from json_parse only, so nothing here checks the text again: tokens are in order,
 * literals are well-formed, strings are valid UTF-8. Values are borrowed; the one thing handed out is the copy json_string makes. */
#include "json.h"

#include "json_escape.h"
#include "utf8.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void json_done(struct json_doc *doc)
{
        free(doc->text);
        free(doc->tokens);
        *doc = (struct json_doc){0};
}

/* ---- walking ---- */

json_value json_root(const struct json_doc *doc)
{
        return doc->tokens;
}

json_value json_get(const struct json_doc *doc, json_value object, const char *name)
{
        if (!json_is(object, JSON_OBJECT))
                return NULL;
        for (json_value n = json_first(doc, object); n; n = json_after(doc, object, n + 1)) {
                if (json_string_is(doc, n, name))
                        return n + 1;
        }
        return NULL;
}

json_value json_first(const struct json_doc *doc, json_value array_or_object)
{
        (void)doc;
        if (!json_is(array_or_object, JSON_ARRAY) && !json_is(array_or_object, JSON_OBJECT))
                return NULL;
        return array_or_object->n ? array_or_object + 1 : NULL;
}

json_value json_after(const struct json_doc *doc, json_value container, json_value v)
{
        return container && v && v->next < container->next ? doc->tokens + v->next : NULL;
}

struct slice json_raw(const struct json_doc *doc, json_value v)
{
        return v ? (struct slice){doc->text + v->start, v->end - v->start} : (struct slice){0};
}

bool json_is(json_value v, enum json_kind kind)
{
        return v && v->kind == kind;
}

/* ---- strings ---- */

char *json_string(const struct json_doc *doc, json_value v, size_t *ret_len)
{
        if (!json_is(v, JSON_STRING))
                return NULL;
        char *s = xmalloc((size_t)v->n + 1);
        *json_unescape(doc->text + v->start + 1, doc->text + v->end - 1, s) = '\0';
        if (ret_len)
                *ret_len = v->n;
        return s;
}

bool json_string_is(const struct json_doc *doc, json_value v, const char *s)
{
        if (!json_is(v, JSON_STRING) || strlen(s) != v->n)
                return false;
        const char *p = doc->text + v->start + 1, *end = doc->text + v->end - 1;
        if ((size_t)(end - p) == v->n)
                return memcmp(p, s, v->n) == 0;
        while (p < end) {
                char one[4], *out = one;
                if (*p == '\\')
                        p += json_unescape_one(p, &out);
                else
                        *out++ = *p++;
                if (memcmp(one, s, (size_t)(out - one)) != 0)
                        return false;
                s += out - one;
        }
        return true;
}

/* ---- numbers ---- */

int json_int64(const struct json_doc *doc, json_value v, int64_t *ret_n)
{
        if (!json_is(v, JSON_NUMBER))
                return -EINVAL;
        const char *s = doc->text + v->start, *end = doc->text + v->end;
        bool minus = *s == '-', overflow = false;
        int64_t n = 0;
        for (s += minus; s < end; s++) {
                if (*s < '0' || *s > '9')
                        return -EINVAL; /* a fraction or an exponent, however large the digits before it */
                int digit = *s - '0';
                overflow = overflow || __builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, minus ? -digit : digit, &n);
        }
        if (overflow)
                return -ERANGE;
        *ret_n = n;
        return 0;
}

int json_double(const struct json_doc *doc, json_value v, double *ret_d)
{
        if (!json_is(v, JSON_NUMBER))
                return -EINVAL;
        /* strtod stops at whatever stands behind a number in JSON, the text ends with a NUL, and no program here calls setlocale. */
        double d = strtod(doc->text + v->start, NULL);
        if (!isfinite(d))
                return -ERANGE;
        *ret_d = d;
        return 0;
}

void json_add_double(struct strbuf *b, double d)
{
        if (!isfinite(d))
                die("json_add_double: not a finite number");
        char text[40];
        if (fabs(d) < 0x1p53 && d == (double)(int64_t)d) { /* the cast is exact there, and needs no libm */
                snprintf(text, sizeof text, "%.0f", d);
                strbuf_adds(b, text);
                return;
        }
        /* 15 digits survive the way there and back for every normal number, and %g cuts the zeros, so shorter ones need no try; subnormal ones do. */
        for (int digits = fabs(d) < DBL_MIN ? 1 : 15; digits <= 17; digits++) {
                snprintf(text, sizeof text, "%.*g", digits, d);
                if (strtod(text, NULL) == d)
                        break;
        }
        /* 1e+20 and 1e-07 become 1e20 and 1e-7. */
        char *e = strchr(text, 'e');
        if (e) {
                char *from = e + 1, *to = e + 1;
                if (*from == '-')
                        *to++ = '-';
                from += 1 + strspn(from + 1, "0");
                memmove(to, from, strlen(from) + 1);
        }
        strbuf_adds(b, text);
}

/* ---- UTF-8 ---- */

size_t utf8_length(const char *s, size_t len)
{
        size_t n = 0;
        for (size_t i = 0; i < len; i++)
                n += ((unsigned char)s[i] & 0xc0) != 0x80;
        return n;
}

bool utf8_valid(const char *s, size_t len)
{
        while (len) {
                size_t step = utf8_step(s, len);
                if (step == 0)
                        return false;
                s += step;
                len -= step;
        }
        return true;
}

bool utf8_line(const char *s, size_t len, size_t max)
{
        for (size_t i = 0; i < len; i++)
                if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
                        return false;
        return len > 0 && utf8_valid(s, len) && utf8_length(s, len) <= max;
}
