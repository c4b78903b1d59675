/* Readiness: the file and systemd's socket say the same, at once when it changes, and are not told more than once a second. */
#include "service/skeleton.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static void said(int fd, const char *words)
{
        char text[256];
        ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

        assert_true(n > 0);
        text[n] = '\0';
        assert_non_null(strstr(text, words));
        assert_non_null(strstr(text, "WATCHDOG=1")); /* the loop lives, ready or not */
}

static void test_file_and_socket(void **state)
{
        char dir[] = "/tmp/aethelos-ready-XXXXXX", file[64], text[8];
        struct sockaddr_un a = {.sun_family = AF_UNIX};

        (void)state;
        assert_non_null(mkdtemp(dir));
        snprintf(file, sizeof(file), "%s/ready", dir);
        snprintf(a.sun_path, sizeof(a.sun_path), "%s/notify", dir);
        int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
        setenv("NOTIFY_SOCKET", a.sun_path, 1);

        ready_tell(file, false);
        assert_int_not_equal(access(file, F_OK), 0);
        said(fd, "STATUS=");
        ready_tell(file, true);
        assert_int_equal(access(file, F_OK), 0);
        said(fd, "READY=1");
        ready_tell(file, false);
        assert_int_not_equal(access(file, F_OK), 0);
        said(fd, "away");
        ready_tell(file, false);
        assert_true(recv(fd, text, sizeof(text), MSG_DONTWAIT) < 0);
        ready_tell(NULL, true);
        assert_int_not_equal(access(file, F_OK), 0);

        close(fd);
        unlink(a.sun_path);
        assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_file_and_socket)};
        return cmocka_run_group_tests(tests, NULL, NULL);
}
