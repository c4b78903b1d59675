/* The byte buffer and the small things of util.h. */
#include "base/strbuf.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void grows_and_stays_terminated(void **state)
{
        (void)state;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        for (int i = 0; i < 1000; i++) {
                strbuf_addc(&b, 'x');
                assert_int_equal(b.len, i + 1);
                assert_int_equal(strlen(b.s), b.len);
                assert_true(b.len < b.cap);
        }
        strbuf_reset(&b);
        assert_int_equal(b.len, 0);
        assert_string_equal(b.s, "");
        strbuf_add(&b, "a\0b", 3);
        strbuf_add(&b, NULL, 0);
        assert_int_equal(b.len, 3);
        assert_memory_equal(b.s, "a\0b", 4);
}

static void grow_hands_out_room(void **state)
{
        (void)state;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        strbuf_adds(&b, "ab");
        char *room = strbuf_grow(&b, 500);
        assert_ptr_equal(room, b.s + 2);
        memset(room, 'c', 500);
        room[500] = '\0';
        b.len += 500;
        strbuf_adds(&b, "d");
        assert_int_equal(strlen(b.s), 503);
}

static void take_leaves_nothing(void **state)
{
        (void)state;
        struct strbuf b = {0};
        char *s = strbuf_take(&b);
        assert_string_equal(s, "");
        free(s);
        strbuf_adds(&b, "text");
        s = strbuf_take(&b);
        assert_string_equal(s, "text");
        free(s);
        assert_null(b.s);
        assert_int_equal(b.len, 0);
        strbuf_done(&b);
        strbuf_done(&b);
        strbuf_reset(&b);
}

static void formats(void **state)
{
        (void)state;
        _cleanup_(strbuf_done) struct strbuf b = {0};
        /* Every length around the room that is tried first. */
        for (int width = 1; width < 300; width++) {
                strbuf_reset(&b);
                strbuf_addf(&b, "%s%*d", "n=", width, 7);
                assert_int_equal(b.len, (size_t)width + 2);
                assert_int_equal(strlen(b.s), b.len);
        }
        static const struct {
                int64_t n;
                const char *text;
        } numbers[] = {{0, "0"}, {7, "7"}, {-7, "-7"}, {10, "10"}, {INT64_MAX, "9223372036854775807"}, {INT64_MIN, "-9223372036854775808"}};
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                strbuf_reset(&b);
                strbuf_addi(&b, numbers[i].n);
                assert_string_equal(b.s, numbers[i].text);
        }
}

static void json_literals(void **state)
{
        (void)state;
#define FFFD "\xef\xbf\xbd"
        static const struct {
                const char *in;
                size_t len;
                const char *out;
        } cases[] = {
                {"", 0, "\"\""}, {"plain text", 10, "\"plain text\""}, {"a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\""},
                {"\n\r\t\b\x01\x1f\x7f", 7, "\"\\n\\r\\t\\u0008\\u0001\\u001f\x7f\""}, {"a\0b", 3, "\"a\\u0000b\""},
                {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
                {"a\xff"
                 "b",
                        3, "\"a" FFFD "b\""},
                {"\xc0\x80", 2, "\"" FFFD FFFD "\""},                   /* overlong */
                {"\xed\xa0\x80", 3, "\"" FFFD FFFD FFFD "\""},          /* surrogate */
                {"\xf4\x90\x80\x80", 4, "\"" FFFD FFFD FFFD FFFD "\""}, /* above U+10FFFF */
                {"\xe2\x82\xac", 2, "\"" FFFD FFFD "\""},               /* cut off: the third byte must not be read */
        };
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(strbuf_done) struct strbuf b = {0};
                char *exact = xstrndup(cases[i].in, cases[i].len);
                strbuf_add_json(&b, exact, cases[i].len);
                free(exact);
                assert_string_equal(b.s, cases[i].out);
        }
}

static void slices(void **state)
{
        (void)state;
        assert_null(slice_of(NULL).s);
        assert_int_equal(slice_of("abc").len, 3);
        assert_true(slice_equal(slice_of("abc"), "abc"));
        assert_false(slice_equal(slice_of("abc"), "ab"));
        assert_false(slice_equal(slice_of("abc"), "abd"));
        assert_false(slice_equal(slice_of(NULL), ""));
        assert_true(slice_equal(slice_of(""), ""));
}

static void hand_over(void **state)
{
        (void)state;
        char *p = xstrdup("mine");
        _cleanup_(freep) char *q = TAKE_PTR(p);
        assert_null(p);
        assert_string_equal(q, "mine");
        q = xrealloc(q, 100);
        assert_string_equal(q, "mine");
        _cleanup_(freep) int *zeros = xcalloc(10, sizeof(int));
        assert_int_equal(zeros[9], 0);
        _cleanup_(freep) void *nothing = xmalloc(0);
        assert_non_null(nothing);
        int fd = open("/dev/null", O_RDONLY);
        closep(&fd);
        assert_int_equal(fcntl(fd, F_GETFD), -1);
        fd = -1;
        closep(&fd);
}

/* Run in a child: xcalloc of a product that overflows must end the process, not hand out a small block. */
static void overflow_ends_the_process(void **state)
{
        (void)state;
        pid_t pid = fork();
        if (pid == 0) {
                close(STDERR_FILENO);
                volatile size_t many = SIZE_MAX / 2; /* volatile: the compiler refuses what it sees through */
                free(xcalloc(many, 4));
                _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
}

static void clocks(void **state)
{
        (void)state;
        int64_t mono = now_mono_ms();
        assert_true(mono <= now_mono_ms());
        assert_true(now_wall_ms() > 1700000000000);
}

static void write_file(const char *path, const char *text, size_t len)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, len), len);
        close(fd);
}

static void reads_files(void **state)
{
        (void)state;
        char dir[] = "/tmp/test_strbuf.XXXXXX", path[64];
        assert_non_null(mkdtemp(dir));
        snprintf(path, sizeof path, "%s/file", dir);
        char *text = NULL;

        assert_int_equal(read_file(path, 100, &text), -ENOENT);
        assert_int_equal(read_file(dir, 100, &text), -EISDIR);
        write_file(path, "secret\r\n\n", 9);
        assert_int_equal(read_file(path, 100, &text), 0);
        assert_string_equal(text, "secret");
        free(TAKE_PTR(text));
        assert_int_equal(read_file(path, 9, &text), 0);
        free(TAKE_PTR(text));
        assert_int_equal(read_file(path, 8, &text), -EFBIG);
        write_file(path, "a\0b", 3);
        assert_int_equal(read_file(path, 100, &text), -EINVAL);
        write_file(path, "", 0);
        assert_int_equal(read_file(path, 0, &text), 0);
        assert_string_equal(text, "");
        free(TAKE_PTR(text));
        assert_null(text);

        /* Larger than the first guess: a file that tells no size. */
        assert_int_equal(read_file("/proc/self/maps", 1 << 20, &text), 0);
        assert_true(strlen(text) > 512);
        free(text);
        unlink(path);
        rmdir(dir);
}

static void copies(void **state)
{
        char text[5] = "past";

        (void)state;
        copy_text(text, sizeof(text), "");
        assert_string_equal(text, "");
        copy_text(text, sizeof(text), "four");
        assert_string_equal(text, "four");
        copy_text(text, sizeof(text), "fiver");
        assert_string_equal(text, "five");
        copy_text(text, 1, "fiver");
        assert_string_equal(text, "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(grows_and_stays_terminated),
                cmocka_unit_test(grow_hands_out_room),
                cmocka_unit_test(take_leaves_nothing),
                cmocka_unit_test(formats),
                cmocka_unit_test(copies),
                cmocka_unit_test(json_literals),
                cmocka_unit_test(slices),
                cmocka_unit_test(hand_over),
                cmocka_unit_test(overflow_ends_the_process),
                cmocka_unit_test(clocks),
                cmocka_unit_test(reads_files),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
