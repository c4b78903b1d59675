/* The connections of the HTTP server over real loopback sockets: slow clients, clients that leave, many of them, and its end with requests under way.
 */
#include "tests/support/httpd_site.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define KEPT_ONLY 100 /* ms in which a connection that must stay open would have been closed */

/* --- slow clients --- */

/* Sends a byte every few ms; the time until the server has closed. */
static int64_t trickle(int fd, const char *s)
{
        int64_t start = now_mono_ms();

        while (!site_pump_for(fd, 15)) {
                if (*s == '\0')
                        s = "xxxxxxxxxx";
                if (send(fd, s++, 1, MSG_NOSIGNAL) < 0)
                        break;
        }
        peer_assert_closes(fd);
        return now_mono_ms() - start;
}

static void slow_clients(void **state)
{
        static const char *const starts[] = {
                "G",
                "GET / HTTP/1.1\r\nHost: x\r\nX-A: ",
                "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
                "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n",
                "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
        };

        (void)state;
        site_open((struct httpd_config){.receive_ms = 300});
        for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
                _cleanup_(closep) int fd = peer_dial();
                int64_t took;

                peer_put(fd, starts[i]);
                took = trickle(fd, "abcdefghij");
                print_message("closed after %d ms\n", (int)took);
                /* 300 ms, 100 ms for 1000 bytes (500 ms for BODY_MAX where more is declared), 30 ms of the watch; the rest is for a busy machine. */
                assert_in_range(took, 250, 5000);
        }
        /* Silence is no better than a trickle, on a connection that has served before too. */
        {
                _cleanup_(closep) int fd = peer_dial();

                peer_assert_kept(fd);
                peer_put(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
                peer_assert_closed(fd);
        }
        assert_int_equal(site->n_handled, 1);
}

static void idle_connection(void **state)
{
        _cleanup_(closep) int kept = -1;
        _cleanup_(closep) int mute = -1;

        (void)state;
        site_open((struct httpd_config){.receive_ms = 5000, .idle_ms = 300});
        kept = peer_dial();
        peer_assert_kept(kept);
        assert_false(site_pump_for(kept, KEPT_ONLY));
        peer_assert_kept(kept);
        peer_assert_closed(kept);
        site->httpd = httpd_free(site->httpd);

        site_open((struct httpd_config){.receive_ms = 200});
        mute = peer_dial();
        peer_assert_closed(mute);
}

static void held_longer_than_the_deadline(void **state)
{
        _cleanup_(closep) int fd = -1;
        struct peer_answer a;

        (void)state;
        site_open((struct httpd_config){.receive_ms = 50, .idle_ms = 5000});
        fd = peer_dial();
        peer_put(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
        site_pump_until_held(1);
        assert_false(site_pump_for(fd, 300));
        assert_false(http_gone(site->held[0]));
        http_answer_json(site->held[0], 200, "{}", 2);
        a = peer_answer_of(fd);
        assert_int_equal(a.status, 200);
        peer_answer_done(&a);
        peer_assert_kept(fd);
}

static void gone_while_reading(void **state)
{
        _cleanup_(closep) int fd = -1;
        int64_t start;
        int small = 4096;

        (void)state;
        site_open((struct httpd_config){.receive_ms = 200});
        fd = peer_dial();
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        peer_put(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
        site_pump_until_held(1);
        {
                size_t len = 8 * 1024 * 1024;
                char *text = xcalloc(1, len);

                /* 8 MiB would be allowed 14 minutes; its size does not matter to a client that has gone. */
                http_answer_json(site->held[0], 200, text, len);
                free(text);
        }
        close(fd);
        fd = -1;
        start = now_mono_ms();
        site->httpd = httpd_free(site->httpd);
        assert_true(now_mono_ms() - start < 5000);
}

/* --- clients that go away --- */

static void reset(int fd)
{
        struct linger l = {.l_onoff = 1, .l_linger = 0};

        setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
        close(fd);
}

static void pump_until_gone(const struct http_request *r)
{
        int64_t until = now_mono_ms() + PATIENCE;

        while (!http_gone(r))
                assert_true(now_mono_ms() < until);
}

static void gone_while_held(void **state)
{
        int fd[3];

        (void)state;
        site_open((struct httpd_config){0});
        for (size_t i = 0; i < 3; i++) {
                fd[i] = peer_dial();
                peer_put(fd[i], "GET /hold HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
                site_pump_until_held(i + 1);
                assert_false(http_gone(site->held[i]));
        }
        assert_int_equal(httpd_open_requests(site->httpd), 3);
        close(fd[0]);
        reset(fd[1]);
        pump_until_gone(site->held[0]);
        pump_until_gone(site->held[1]);
        assert_false(http_gone(site->held[2]));
        http_answer_json(site->held[0], 200, "{}", 2);
        http_answer_problem(site->held[1], 500, "x", NULL, NULL);
        http_answer_json(site->held[2], 200, "{}", 2);
        for (int i = 0; i < 2; i++) {
                struct peer_answer a = peer_answer_of(fd[2]);

                assert_int_equal(a.status, 200);
                peer_answer_done(&a);
        }
        assert_int_equal(httpd_open_requests(site->httpd), 0);
        close(fd[2]);
}

static void gone_while_sending(void **state)
{
        static const char *const parts[] = {"", "GET", "GET / HTTP/1.1\r\nHo", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
                "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
                "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"};

        (void)state;
        site_open((struct httpd_config){0});
        for (int round = 0; round < 20; round++) {
                for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
                        int fd = peer_dial();

                        peer_put(fd, parts[i]);
                        if (round % 2)
                                reset(fd);
                        else
                                close(fd);
                }
        }
        assert_int_equal(peer_status_of("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
        assert_int_equal(site->n_handled, 1);
}

/* --- many --- */

static void many_held(void **state)
{
        static int fds[200];

        (void)state;
        site_open((struct httpd_config){0});
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
                fds[i] = peer_dial();
                peer_put(fds[i], "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        site_pump_until_held(ARRAY_SIZE(fds));
        assert_int_equal(httpd_open_requests(site->httpd), ARRAY_SIZE(fds));
        while (site->n_held > 0)
                http_answer_json(site->held[--site->n_held], 200, "{}", 2);
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
                struct peer_answer a = peer_answer_of(fds[i]);

                assert_int_equal(a.status, 200);
                peer_answer_done(&a);
                close(fds[i]);
        }
}

static void connection_limit(void **state)
{
        _cleanup_(closep) int a = -1;
        _cleanup_(closep) int b = -1;
        _cleanup_(closep) int c = -1;
        struct peer_answer answer;

        (void)state;
        site_open((struct httpd_config){.connections_max = 2});
        a = peer_dial();
        b = peer_dial();
        peer_assert_kept(a);
        peer_assert_kept(b);
        c = peer_dial();
        peer_put(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_false(site_pump_for(c, KEPT_ONLY));
        close(a);
        a = -1;
        answer = peer_answer_of(c);
        assert_int_equal(answer.status, 200);
        peer_answer_done(&answer);
}

#define LOAD_THREADS  8
#define LOAD_REQUESTS 250

static atomic_int load_left;

static void *load_main(void *arg)
{
        int fd = *(int *)arg;

        for (int i = 0; i < LOAD_REQUESTS; i++) {
                struct peer_answer a;

                peer_put(fd, i % 2 ? "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" : "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n");
                peer_read_answer(fd, &a, false, true);
                if (a.status != (i % 2 ? 201 : 404))
                        die("load: wrong answer");
                peer_answer_done(&a);
        }
        close(fd);
        if (atomic_fetch_sub(&load_left, 1) == 1)
                eventfd_write(site->wake_fd, 1);
        return NULL;
}

static void load(void **state)
{
        pthread_t threads[LOAD_THREADS];
        int fds[LOAD_THREADS];
        int64_t start;

        (void)state;
        site_open((struct httpd_config){0});
        atomic_store(&load_left, LOAD_THREADS);
        for (size_t i = 0; i < LOAD_THREADS; i++)
                fds[i] = peer_dial();
        start = now_mono_ms();
        for (size_t i = 0; i < LOAD_THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, load_main, &fds[i]), 0);
        while (atomic_load(&load_left) > 0)
                site_pump(site->wake_fd);
        for (size_t i = 0; i < LOAD_THREADS; i++)
                pthread_join(threads[i], NULL);
        print_message("%d requests in %d ms\n", LOAD_THREADS * LOAD_REQUESTS, (int)(now_mono_ms() - start));
        assert_int_equal(site->n_handled, LOAD_THREADS * LOAD_REQUESTS / 2);
}

static void quiesce(void **state)
{
        _cleanup_(closep) int fd = -1;
        struct peer_answer a;
        int64_t port;

        (void)state;
        site_open((struct httpd_config){0});
        port = httpd_port(site->httpd);
        fd = peer_dial();
        peer_put(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
        site_pump_until_held(1);
        httpd_quiesce(site->httpd);
        httpd_quiesce(site->httpd);
        assert_int_equal(peer_dial_port(port), -ECONNREFUSED);
        http_answer_json(site->held[0], 200, "{}", 2);
        a = peer_answer_of(fd);
        assert_int_equal(a.status, 200);
        peer_answer_done(&a);
        peer_assert_kept(fd);
}

static void free_answers_all(void **state)
{
        int fds[60], partial;

        (void)state;
        site_open((struct httpd_config){0});
        partial = peer_dial();
        peer_put(partial, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
        for (size_t i = 0; i < 30; i++) {
                fds[i] = peer_dial();
                peer_put(fds[i], "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        site_pump_until_held(30);
        for (size_t i = 30; i < 60; i++) {
                fds[i] = peer_dial();
                peer_put(fds[i], "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        /* Not taken, only waited for. */
        while (httpd_open_requests(site->httpd) < 60) {
                struct pollfd p = {.fd = site->wake_fd, .events = POLLIN};
                eventfd_t n;

                assert_int_equal(poll(&p, 1, PATIENCE), 1);
                eventfd_read(site->wake_fd, &n);
        }
        site->httpd = httpd_free(site->httpd);
        for (size_t i = 0; i < 60; i++) {
                struct peer_answer a;

                peer_read_answer(fds[i], &a, false, true);
                assert_int_equal(a.status, 503);
                assert_non_null(strstr(a.body.s, "shutting-down"));
                peer_answer_done(&a);
                assert_int_equal(peer_get_byte(fds[i], false), -1);
                close(fds[i]);
        }
        assert_int_equal(peer_get_byte(partial, false), -1);
        close(partial);
}

/* Requests keep coming while the server ends: each is answered or its connection is closed, and nothing crashes. */
static void *hammer_main(void *arg)
{
        static const char request[] = "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n";
        int64_t port = *(int64_t *)arg;

        for (;;) {
                struct peer_answer a;
                int fd = peer_dial_port(port);

                if (fd < 0)
                        return NULL;
                do {
                        memset(&a, 0, sizeof a);
                        /* The NUL goes too: every second request is malformed. */
                        if (send(fd, request, sizeof request, MSG_NOSIGNAL) != sizeof request)
                                break;
                        peer_read_answer(fd, &a, false, true);
                        peer_answer_done(&a);
                } while (a.status != 0);
                close(fd);
        }
}

static void free_under_load(void **state)
{
        (void)state;
        for (int round = 0; round < 5; round++) {
                pthread_t threads[8];
                int64_t port;

                site->n_held = 0;
                site_open((struct httpd_config){0});
                port = httpd_port(site->httpd);
                for (size_t i = 0; i < 8; i++)
                        assert_int_equal(pthread_create(&threads[i], NULL, hammer_main, &port), 0);
                site_pump_until_held(8);
                for (int i = 0; i < 100; i++) {
                        http_answer_json(site->held[--site->n_held], 200, "{}", 2);
                        site_pump_until_held(8);
                }
                site->httpd = httpd_free(site->httpd);
                for (size_t i = 0; i < 8; i++)
                        pthread_join(threads[i], NULL);
        }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, site_set_up, site_tear_down)
        static const struct CMUnitTest tests[] = {
                TEST(slow_clients),
                TEST(idle_connection),
                TEST(held_longer_than_the_deadline),
                TEST(gone_while_reading),
                TEST(gone_while_held),
                TEST(gone_while_sending),
                TEST(many_held),
                TEST(connection_limit),
                TEST(load),
                TEST(quiesce),
                TEST(free_answers_all),
                TEST(free_under_load),
        };

        cmocka_set_message_output(CM_OUTPUT_STDOUT);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
