/* Crash points: dies at the n-th pass of the named point and nowhere else; logs each name once. Children do the dying. */
#include "base/crashpoint.h"
#include "base/util.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef AETHELOS_CRASH_POINTS

/* Passes "a" three times and "b" once; yields the wait status. */
static int run_child(const char *crash_at, const char *log)
{
        pid_t pid = fork();
        if (pid == 0) {
                crash_at ? setenv("AETHELOS_CRASH_AT", crash_at, 1) : unsetenv("AETHELOS_CRASH_AT");
                log ? setenv("AETHELOS_CRASH_LOG", log, 1) : unsetenv("AETHELOS_CRASH_LOG");
                CRASH_POINT("a");
                CRASH_POINT("a");
                CRASH_POINT("b");
                CRASH_POINT("a");
                _exit(7);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return status;
}

static void assert_survives(const char *crash_at)
{
        int status = run_child(crash_at, NULL);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void assert_log(const char *crash_at, bool dies, const char *expected)
{
        char path[] = "/tmp/test_crashpoint.XXXXXX", *text = NULL;
        close(mkstemp(path));
        int status = run_child(crash_at, path);
        assert_int_equal(dies, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(read_file(path, 1000, &text), 0);
        assert_string_equal(text, expected);
        free(text);
        unlink(path);
}

static void dies_where_told(void **state)
{
        (void)state;
        assert_log(NULL, false, "a\nb");
        assert_log("a:1", true, "a");
        assert_log("a:2", true, "a");
        assert_log("b:1", true, "a\nb");
        assert_log("a:3", true, "a\nb");
        assert_survives("a:4");
        assert_survives("b:2");
        assert_survives("c:1");
        assert_survives(NULL);
}

#else

static void dies_where_told(void **state)
{
        (void)state;
        CRASH_POINT("a"); /* nothing, and no code for it */
        skip();
}

#endif

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(dies_where_told)};
        return cmocka_run_group_tests(tests, NULL, NULL);
}
