/* One JSON object a line on stderr. Invariants: a line is whole and valid JSON whatever the values hold, at most 4 KiB (so one write(2) to a pipe
 * is atomic), and writing it allocates nothing, so that it works when memory is out.
 * What does not fit is cut at a character; room for the closing text is kept free from the start. */
#include "log.h"

#include "strbuf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES   4096
#define STRING_MAX_BYTES 2048 /* of one value, after escaping */

static const char *const level_names[] = {[LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARNING] = "warning", [LOG_ERROR] = "error"};
static const char ending[] = ",\"cut\":true}\n";

/* Written by log_setup before threads start, then only read. */
static char log_service[64], log_instance[128];
static enum log_level log_least = LOG_INFO;

struct line {
        char s[LINE_MAX_BYTES];
        size_t len;
        bool cut;
};

static bool line_fits(const struct line *l, size_t more)
{
        return more <= sizeof l->s - (sizeof ending - 1) - l->len;
}

static bool line_add(struct line *l, const char *s, size_t len)
{
        if (!line_fits(l, len))
                return false;
        memcpy(l->s + l->len, s, len);
        l->len += len;
        return true;
}

/* A string literal, cut to what fits; false if not even its quotes fit. */
static bool line_add_string(struct line *l, const char *s)
{
        if (!s)
                return line_add(l, "null", 4);
        if (!line_fits(l, 2))
                return false;
        l->s[l->len++] = '"';
        size_t left = strlen(s), start = l->len;
        while (left) {
                char out[JSON_ESCAPE_MAX];
                size_t taken, n = json_escape_char(s, left, out, &taken);
                if (!line_fits(l, n + 1) || l->len - start + n > STRING_MAX_BYTES) {
                        l->cut = true;
                        break;
                }
                line_add(l, out, n);
                s += taken;
                left -= taken;
        }
        l->s[l->len++] = '"'; /* fits: kept free by the n + 1 above */
        return true;
}

static bool line_add_key(struct line *l, const char *key)
{
        return (l->len == 1 || line_add(l, ",", 1)) && line_add_string(l, key) && line_add(l, ":", 1);
}

/* Adds the whole field or nothing of it (a string value may be shortened). */
static void line_add_field(struct line *l, const struct log_field *f)
{
        size_t before = l->len;
        bool ok = line_add_key(l, f->key);
        switch (f->kind) {
        case LOG_FIELD_STRING:
                ok = ok && line_add_string(l, f->s);
                break;
        case LOG_FIELD_INT: {
                char digits[24];
                int n = snprintf(digits, sizeof digits, "%" PRId64, f->i);
                ok = ok && line_add(l, digits, (size_t)n);
                break;
        }
        }
        if (!ok) {
                l->len = before;
                l->cut = true;
        }
}

static void copy_name(char *dst, size_t size, const char *src)
{
        snprintf(dst, size, "%s", src ? src : "");
}

void log_setup(const char *service, const char *instance, enum log_level least)
{
        copy_name(log_service, sizeof log_service, service);
        copy_name(log_instance, sizeof log_instance, instance);
        log_least = least;
}

bool log_level_parse(const char *name, enum log_level *ret_level)
{
        for (int i = LOG_DEBUG; i <= LOG_ERROR; i++) {
                if (name && strcmp(name, level_names[i]) == 0) {
                        *ret_level = (enum log_level)i;
                        return true;
                }
        }
        return false;
}

static void format_time(char *ret_text, size_t size)
{
        struct timespec t;
        struct tm tm;
        clock_gettime(CLOCK_REALTIME, &t);
        gmtime_r(&t.tv_sec, &tm);
        size_t n = strftime(ret_text, size, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(ret_text + n, size - n, ".%03dZ", (int)(t.tv_nsec / 1000000));
}

void log_write(enum log_level level, const char *message, const struct log_field fields[])
{
        if (level < log_least)
                return;
        int saved_errno = errno; /* logging must not disturb the error being handled */
        char now[40];
        format_time(now, sizeof now);
        const struct log_field head[] = {
                LOG_S("time", now),
                LOG_S("level", level_names[level]),
                LOG_S("service", log_service[0] ? log_service : program_invocation_short_name),
                LOG_S("instance", log_instance),
                LOG_S("message", message),
                {0},
        };
        struct line l;
        l.s[0] = '{';
        l.len = 1;
        l.cut = false;
        for (const struct log_field *f = head; f->key; f++)
                line_add_field(&l, f);
        for (const struct log_field *f = fields; f && f->key; f++)
                line_add_field(&l, f);
        const char *tail = l.cut ? ending : "}\n";
        memcpy(l.s + l.len, tail, strlen(tail));
        l.len += strlen(tail);
        /* There is nobody to tell when stderr fails; a short write happens on regular files only when the disk is full. */
        ssize_t n;
        do
                n = write(STDERR_FILENO, l.s, l.len);
        while (n < 0 && errno == EINTR);
        errno = saved_errno;
}
