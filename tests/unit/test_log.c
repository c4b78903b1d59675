/* Log lines: whole, valid JSON, at most 4 KiB, whatever is logged. Read back through json.h. */
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int real_stderr, captured;

/* stderr goes to an unlinked file; each test reads what it wrote and starts anew. */
static int capture(void **state)
{
        (void)state;
        char path[] = "/tmp/test_log.XXXXXX";
        captured = mkstemp(path);
        unlink(path);
        fcntl(captured, F_SETFL, O_APPEND);
        real_stderr = dup(STDERR_FILENO);
        dup2(captured, STDERR_FILENO);
        log_setup("intake", "intake-1", LOG_INFO);
        return 0;
}

static int release(void **state)
{
        (void)state;
        dup2(real_stderr, STDERR_FILENO);
        close(real_stderr);
        close(captured);
        return 0;
}

/* Valid until the next call. */
static const char *logged(void)
{
        static char text[1 << 20];
        ssize_t n = pread(captured, text, sizeof text - 1, 0);
        assert_true(n >= 0);
        text[n] = '\0';
        return text;
}

static void check_member(const struct json_doc *doc, const char *name, const char *value)
{
        json_value v = json_get(doc, json_root(doc), name);
        assert_non_null(v);
        assert_true(json_string_is(doc, v, value));
}

static void parse_line(const char *line, struct json_doc *ret_doc)
{
        struct json_error e;
        size_t len = strlen(line);
        assert_true(len > 0 && len <= 4096);
        assert_ptr_equal(strchr(line, '\n'), line + len - 1); /* exactly one line */
        assert_int_equal(json_parse(line, len, ret_doc, &e), 0);
}

static void fields_in_order(void **state)
{
        (void)state;
        errno = ENOSPC;
        log_warning("job stuck", LOG_S("job", "42"), LOG_I("attempt", -3), LOG_S("reason", NULL));
        assert_int_equal(errno, ENOSPC);
        _cleanup_(json_done) struct json_doc doc = {0};
        parse_line(logged(), &doc);
        check_member(&doc, "level", "warning");
        check_member(&doc, "service", "intake");
        check_member(&doc, "instance", "intake-1");
        check_member(&doc, "message", "job stuck");
        assert_non_null(strstr(doc.text, "\"message\":\"job stuck\",\"job\":\"42\",\"attempt\":-3,\"reason\":null}"));
        static const char prefix[] = "{\"time\":\"20";
        assert_memory_equal(doc.text, prefix, sizeof prefix - 1);
        struct slice time = json_raw(&doc, json_get(&doc, json_root(&doc), "time"));
        assert_int_equal(time.len, strlen("\"2024-06-25T12:00:00.123Z\""));
        assert_int_equal(time.s[time.len - 2], 'Z');
        assert_false(json_get(&doc, json_root(&doc), "cut"));
}

static void below_the_level_nothing(void **state)
{
        (void)state;
        log_debug("quiet");
        assert_string_equal(logged(), "");
        log_info("loud");
        assert_string_not_equal(logged(), "");
}

static void nothing_can_be_forged(void **state)
{
        (void)state;
        log_error("x\"}\n{\"level\":\"info\"", LOG_S("k\n\"", "\xff\x80 \x01\x1b[31m"));
        _cleanup_(json_done) struct json_doc doc = {0};
        parse_line(logged(), &doc);
        check_member(&doc, "message", "x\"}\n{\"level\":\"info\"");
        check_member(&doc, "k\n\"", "\xef\xbf\xbd\xef\xbf\xbd \x01\x1b[31m");
}

/* All lengths around the limits, with characters of one and three bytes and with six-byte escapes. */
static void long_lines_are_cut(void **state)
{
        (void)state;
        static const char *const units[] = {"a", "\xe2\x82\xac", "\x01"};
        for (size_t u = 0; u < ARRAY_SIZE(units); u++) {
                for (size_t n = 1; n <= 4200; n += n < 100 || (n > 600 && n < 700) || (n > 1900 && n < 2100) || n > 4000 ? 1 : 37) {
                        char value[3 * 4200 + 1], *p = value;
                        for (size_t i = 0; i < n; i++)
                                p = stpcpy(p, units[u]);
                        assert_int_equal(ftruncate(captured, 0), 0);
                        log_info("m", LOG_S("a", value), LOG_S("b", value), LOG_I("n", 5), LOG_S("c", value));
                        _cleanup_(json_done) struct json_doc doc = {0};
                        parse_line(logged(), &doc);
                        json_value cut = json_get(&doc, json_root(&doc), "cut");
                        size_t escaped = u == 2 ? 6 * n : strlen(value);
                        if (escaped * 3 < 3800)
                                assert_null(cut);
                        if (escaped * 3 > 4096)
                                assert_true(json_is(cut, JSON_TRUE));
                }
        }
}

static void many_fields_are_cut(void **state)
{
        (void)state;
        struct log_field fields[501] = {0};
        char keys[500][16];
        for (int i = 0; i < 500; i++) {
                snprintf(keys[i], sizeof keys[i], "key%d", i);
                fields[i] = LOG_I(keys[i], INT64_MIN);
        }
        log_write(LOG_INFO, "many", fields);
        _cleanup_(json_done) struct json_doc doc = {0};
        parse_line(logged(), &doc);
        assert_true(json_is(json_get(&doc, json_root(&doc), "cut"), JSON_TRUE));
        assert_non_null(json_get(&doc, json_root(&doc), "key50"));
}

static void levels(void **state)
{
        (void)state;
        enum log_level l = LOG_DEBUG;
        assert_true(log_level_parse("error", &l));
        assert_int_equal(l, LOG_ERROR);
        assert_true(log_level_parse("debug", &l));
        assert_int_equal(l, LOG_DEBUG);
        assert_false(log_level_parse("Debug", &l));
        assert_false(log_level_parse("", &l));
        assert_false(log_level_parse(NULL, &l));
}

static void *log_a_lot(void *arg)
{
        for (int i = 0; i < 200; i++)
                log_info("from a thread", LOG_S("who", arg), LOG_I("i", i));
        return NULL;
}

static void threads_do_not_mix_lines(void **state)
{
        (void)state;
        pthread_t a, b;
        assert_int_equal(pthread_create(&a, NULL, log_a_lot, "a"), 0);
        assert_int_equal(pthread_create(&b, NULL, log_a_lot, "b"), 0);
        pthread_join(a, NULL);
        pthread_join(b, NULL);
        int lines = 0;
        const char *line = logged();
        for (const char *end; (end = strchr(line, '\n')); line = end + 1, lines++) {
                struct json_doc doc;
                struct json_error e;
                assert_int_equal(json_parse(line, (size_t)(end - line), &doc, &e), 0);
                json_done(&doc);
        }
        assert_int_equal(lines, 400);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(fields_in_order, capture, release),
                cmocka_unit_test_setup_teardown(below_the_level_nothing, capture, release),
                cmocka_unit_test_setup_teardown(nothing_can_be_forged, capture, release),
                cmocka_unit_test_setup_teardown(long_lines_are_cut, capture, release),
                cmocka_unit_test_setup_teardown(many_fields_are_cut, capture, release),
                cmocka_unit_test_setup_teardown(levels, capture, release),
                cmocka_unit_test_setup_teardown(threads_do_not_mix_lines, capture, release),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
