/* The HTTP client against a scripted server on raw sockets: what it sends, how it judges every way a call can end, and that no call is sent twice. */
#include "base/strbuf.h"
#include "http/httpc.h"
#include "tests/support/scripted_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE   20000 /* ms; a test that waits so long has failed */
#define TIMEOUT_MS 10000

static struct httpc *client;

static int set_up(void **state)
{
        (void)state;
        server_start();
        return httpc_open(&client);
}

static int tear_down(void **state)
{
        (void)state;
        client = httpc_free(client);
        server_end();
        return 0;
}

/* --- the caller --- */

struct result {
        int n; /* how often `done` was called */
        enum http_outcome outcome;
        int status;
        struct strbuf body;
        char why[300];
        int64_t took_ms;
};

static void on_done(void *arg, const struct http_reply *reply)
{
        struct result *r = arg;

        r->n++;
        r->outcome = reply->outcome;
        r->status = reply->status;
        r->took_ms = reply->took_ms;
        strbuf_reset(&r->body);
        strbuf_add(&r->body, reply->body.s, reply->body.len);
        snprintf(r->why, sizeof r->why, "%s", reply->why ? reply->why : "");
        assert_int_equal(reply->why == NULL, reply->outcome == HTTP_ANSWERED);
}

static void run_once(void)
{
        struct pollfd p = {.fd = httpc_fd(client), .events = POLLIN};
        int64_t timeout = httpc_timeout_ms(client);

        poll(&p, 1, timeout < 0 || timeout > PATIENCE ? PATIENCE : (int)timeout);
        httpc_run(client);
}

static void run_until(const int *n, int wanted)
{
        int64_t until = now_mono_ms() + PATIENCE;

        while (*n < wanted) {
                assert_true(now_mono_ms() < until);
                run_once();
        }
}

static void start(struct http_call call, const char *path, struct result *ret_result)
{
        char url[300];

        if (!call.url) {
                snprintf(url, sizeof url, "http://127.0.0.1:%d%s", server.port, path ? path : "");
                call.url = url;
        }
        if (!call.method)
                call.method = "GET";
        if (!call.timeout_ms)
                call.timeout_ms = TIMEOUT_MS;
        if (!call.answer_max)
                call.answer_max = 4096;
        call.reuse = !path || strcmp(path, "/alone") != 0;
        call.done = on_done;
        call.arg = ret_result;
        httpc_start(client, &call);
        assert_int_equal(ret_result->n, 0);
}

/* Runs one call to its end. */
static void run_call(struct http_call call, const char *path, struct result *ret_result)
{
        strbuf_done(&ret_result->body);
        memset(ret_result, 0, sizeof *ret_result);
        start(call, path, ret_result);
        run_until(&ret_result->n, 1);
        assert_int_equal(ret_result->n, 1);
        assert_int_equal(httpc_in_flight(client), 0);
}

static void result_done(struct result *r)
{
        strbuf_done(&r->body);
}

/* --- answered --- */

static void answers(void **state)
{
        static const struct {
                const char *method, *path;
                int status;
                const char *body;
                size_t len;
        } cases[] = {
                {"GET", "/ok", 200, "hello", 5},
                {"POST", "/ok", 200, "hello", 5},
                {"GET", "/chunked", 201, "hello", 5},
                {"GET", "/until-close", 200, "hello", 5},
                {"GET", "/nul", 200, "a\0b", 3},
                {"DELETE", "/empty", 204, "", 0},
                {"POST", "/error", 500, "oops", 4},
                {"GET", "/interim", 200, "ok", 2},
                {"GET", "/redirect", 302, "", 0},
                {"POST", "/expectation", 417, "", 0},
                {"POST", "/challenge", 401, "", 0},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(result_done) struct result r = {0};
                int before = atomic_load(&server.n_requests);

                run_call((struct http_call){.method = cases[i].method}, cases[i].path, &r);
                print_message("%s %s: %d %s\n", cases[i].method, cases[i].path, r.status, r.why);
                assert_int_equal(r.outcome, HTTP_ANSWERED);
                assert_int_equal(r.status, cases[i].status);
                assert_int_equal(r.body.len, cases[i].len);
                assert_memory_equal(r.body.s ? r.body.s : "", cases[i].body, cases[i].len);
                assert_int_equal(atomic_load(&server.n_requests) - before, 1);
        }
}

static void what_is_sent(void **state)
{
        static const char *const headers[] = {"Content-Type: application/json", "Idempotency-Key: abc", "Authorization: Bearer t", NULL};
        _cleanup_(result_done) struct result r = {0};

        (void)state;
        run_call((struct http_call){.method = "POST", .headers = headers, .body = {.s = "{\"a\":\0 1}junk", .len = 9}}, "/ok?x=1", &r);
        assert_memory_equal(server.last, "POST /ok?x=1 HTTP/1.1\r\n", 23);
        assert_non_null(strcasestr(server.last, "\r\nContent-Type: application/json\r\n"));
        assert_non_null(strcasestr(server.last, "\r\nIdempotency-Key: abc\r\n"));
        assert_non_null(strcasestr(server.last, "\r\nAuthorization: Bearer t\r\n"));
        assert_non_null(strcasestr(server.last, "\r\nContent-Length: 9\r\n"));
        assert_null(strcasestr(server.last, "Expect"));
        assert_null(strcasestr(server.last, "urlencoded"));
        assert_memory_equal(strstr(server.last, "\r\n\r\n") + 4, "{\"a\":\0 1}", 10);

        run_call((struct http_call){.method = "PUT", .body = {.s = "x", .len = 1}}, "/ok", &r);
        assert_memory_equal(server.last, "PUT /ok HTTP/1.1\r\n", 18);
        assert_null(strcasestr(server.last, "Content-Type"));
        run_call((struct http_call){.method = "POST"}, "/ok", &r);
        assert_memory_equal(server.last, "POST /ok HTTP/1.1\r\n", 19);
        assert_non_null(strcasestr(server.last, "\r\nContent-Length: 0\r\n"));
        /* Nothing of an earlier call clings to the handle. */
        run_call((struct http_call){0}, "/ok", &r);
        assert_memory_equal(server.last, "GET /ok HTTP/1.1\r\n", 18);
        assert_null(strcasestr(server.last, "Content-"));
        assert_null(strcasestr(server.last, "Authorization"));
        run_call((struct http_call){.method = "HEAD"}, "/empty", &r);
        assert_int_equal(r.status, 204);
        assert_memory_equal(server.last, "HEAD /empty HTTP/1.1\r\n", 22);
        assert_int_equal(atomic_load(&server.n_connections), 1);
}

static void large_request(void **state)
{
        _cleanup_(result_done) struct result r = {0};
        static char body[12000];

        (void)state;
        memset(body, 'b', sizeof body);
        run_call((struct http_call){.method = "POST", .body = {.s = body, .len = sizeof body}}, "/ok", &r);
        assert_int_equal(r.status, 200);
        assert_memory_equal(strstr(server.last, "\r\n\r\n") + 4, body, sizeof body);
}

/* --- certainly not sent --- */

static void not_sent(void **state)
{
        static const char *const bad_urls[] = {"", "127.0.0.1", "ftp://127.0.0.1/", "file:///etc/passwd", "http://user@127.0.0.1/",
                "http://a:b@127.0.0.1/", "http://127.0.0.1/a b", "http://127.0.0.1/\r\nX: y", "http://127.0.0.1:70000/", "http://",
                "http://name.invalid/"};
        static const char *const bad_headers[] = {"X-A: b\r\nX-C: d", "X-A: b\n", "no colon", ": no name", "X A: b", "X-A: \x01", ""};
        _cleanup_(result_done) struct result r = {0};
        char url[64];
        int before;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad_urls); i++) {
                run_call((struct http_call){.url = bad_urls[i]}, NULL, &r);
                print_message("%s: %s\n", bad_urls[i], r.why);
                assert_int_equal(r.outcome, HTTP_NOT_SENT);
        }
        before = atomic_load(&server.n_connections);
        for (size_t i = 0; i < ARRAY_SIZE(bad_headers); i++) {
                const char *headers[] = {"X-Good: 1", bad_headers[i], NULL};

                run_call((struct http_call){.headers = headers}, "/ok", &r);
                assert_int_equal(r.outcome, HTTP_NOT_SENT);
        }
        run_call((struct http_call){.method = "GET /x"}, "/ok", &r);
        assert_int_equal(r.outcome, HTTP_NOT_SENT);
        run_call((struct http_call){.method = ""}, "/ok", &r);
        assert_int_equal(r.outcome, HTTP_NOT_SENT);
        assert_int_equal(atomic_load(&server.n_connections), before);

        /* Refused: a port that was just free, and has a socket that does not listen. */
        {
                struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
                socklen_t len = sizeof sa;
                _cleanup_(closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

                assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
                assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
                snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(sa.sin_port));
                run_call((struct http_call){.method = "POST", .url = url}, NULL, &r);
                print_message("%s\n", r.why);
                assert_int_equal(r.outcome, HTTP_NOT_SENT);
        }
        /* A listening socket whose queue is full never completes the handshake. */
        {
                struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
                socklen_t len = sizeof sa;
                _cleanup_(closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                int fill[8];

                assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
                assert_int_equal(listen(fd, 0), 0);
                assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
                for (size_t i = 0; i < ARRAY_SIZE(fill); i++) {
                        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                        connect(fill[i], (struct sockaddr *)&sa, sizeof sa);
                }
                snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(sa.sin_port));
                run_call((struct http_call){.method = "POST", .url = url, .timeout_ms = 200}, NULL, &r);
                print_message("%s\n", r.why);
                assert_int_equal(r.outcome, HTTP_NOT_SENT);
                for (size_t i = 0; i < ARRAY_SIZE(fill); i++)
                        close(fill[i]);
        }
        /* No TLS on the other side: the handshake fails, the request never leaves. */
        snprintf(url, sizeof url, "https://127.0.0.1:%d/garbage", server.port);
        before = atomic_load(&server.n_requests);
        run_call((struct http_call){.url = url, .timeout_ms = 300}, NULL, &r);
        print_message("%s\n", r.why);
        assert_int_equal(r.outcome, HTTP_NOT_SENT);
        assert_int_equal(atomic_load(&server.n_requests), before);
}

/* --- unknown --- */

static void unknown(void **state)
{
        static const struct {
                const char *path;
                int64_t timeout_ms;
        } cases[] = {{"/silent", 200}, {"/close"}, {"/reset"}, {"/cut"}, {"/cut-chunk"}, {"/cut-header"}, {"/garbage"}, {"/old"}, {"/endless"},
                {"/endless-header"}};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                for (int k = 0; k < 2; k++) {
                        _cleanup_(result_done) struct result r = {0};
                        int before = atomic_load(&server.n_requests);

                        run_call((struct http_call){.method = k ? "POST" : "GET", .timeout_ms = cases[i].timeout_ms}, cases[i].path, &r);
                        print_message("%s: %s\n", cases[i].path, r.why);
                        assert_int_equal(r.outcome, HTTP_UNKNOWN);
                        assert_int_equal(r.status, 0);
                        assert_int_equal(r.body.len, 0);
                        assert_int_equal(atomic_load(&server.n_requests) - before, 1);
                        if (cases[i].timeout_ms)
                                assert_in_range(r.took_ms, cases[i].timeout_ms - 5, 5000);
                }
        }
}

static void answer_max(void **state)
{
        _cleanup_(result_done) struct result r = {0};

        (void)state;
        run_call((struct http_call){.answer_max = 1000}, "/large", &r);
        assert_int_equal(r.outcome, HTTP_ANSWERED);
        assert_int_equal(r.body.len, 1000);
        run_call((struct http_call){.answer_max = 999}, "/large", &r);
        assert_int_equal(r.outcome, HTTP_UNKNOWN);
        assert_string_equal(r.why, "the answer is too long");
        run_call((struct http_call){.answer_max = 999, .answer_cut = true}, "/large", &r);
        assert_int_equal(r.outcome, HTTP_ANSWERED);
        assert_int_equal(r.status, 200);
        assert_int_equal(r.body.len, 999);
}

/* --- at most once --- */

static void never_sent_twice(void **state)
{
        static const char *const paths[] = {"/fragile", "/fragile-reset"};
        static const char *const methods[] = {"POST", "GET", "PUT"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
                for (size_t k = 0; k < ARRAY_SIZE(methods); k++) {
                        struct http_call call = {.method = methods[k], .body = {.s = "pay", .len = k == 1 ? 0 : 3}};
                        _cleanup_(result_done) struct result r = {0};

                        atomic_store(&server.n_fragile, 0);
                        run_call(call, paths[i], &r);
                        assert_int_equal(r.outcome, HTTP_ANSWERED);
                        /* This one travels over the kept connection, which dies after it was read. */
                        run_call(call, paths[i], &r);
                        print_message("%s %s: %s\n", methods[k], paths[i], r.why);
                        assert_int_equal(r.outcome, HTTP_UNKNOWN);
                        /* libcurl may have connected again, but nothing was sent there. */
                        assert_int_equal(atomic_load(&server.n_fragile), 2);
                }
        }
}

/* The last error is "connection refused", and yet the request was sent: over the kept connection before. */
static void refused_after_sent(void **state)
{
        _cleanup_(result_done) struct result r = {0};

        (void)state;
        run_call((struct http_call){.method = "POST"}, "/fragile-deaf", &r);
        assert_int_equal(r.outcome, HTTP_ANSWERED);
        run_call((struct http_call){.method = "POST"}, "/fragile-deaf", &r);
        print_message("%s\n", r.why);
        assert_int_equal(atomic_load(&server.n_fragile), 2);
        assert_int_equal(r.outcome, HTTP_UNKNOWN);
        run_call((struct http_call){.method = "POST"}, "/ok", &r);
        assert_int_equal(r.outcome, HTTP_NOT_SENT);
}

/* A kept connection that was closed before the call is found dead and replaced; nothing is lost by keeping connections. */
static void closed_between_calls(void **state)
{
        (void)state;
        for (int i = 0; i < 20; i++) {
                _cleanup_(result_done) struct result r = {0};

                run_call((struct http_call){.method = "POST"}, "/ok-then-close", &r);
                assert_int_equal(r.outcome, HTTP_ANSWERED);
                assert_int_equal(atomic_load(&server.n_connections), i + 1);
                while (atomic_load(&server.n_closed) <= i)
                        sched_yield();
        }
}

static void connections_are_kept(void **state)
{
        (void)state;
        for (int i = 0; i < 20; i++) {
                _cleanup_(result_done) struct result r = {0};

                run_call((struct http_call){.method = i % 2 ? "POST" : "GET"}, "/ok", &r);
                assert_int_equal(r.outcome, HTTP_ANSWERED);
        }
        assert_int_equal(atomic_load(&server.n_connections), 1);
}

/* What an operator answers too much must not be taken for the answer of the next call: nobody shares a connection who did not ask for it. */
static void connections_of_their_own(void **state)
{
        (void)state;
        for (int i = 0; i < 3; i++) {
                _cleanup_(result_done) struct result r = {0};

                run_call((struct http_call){.method = "POST"}, "/alone", &r);
                assert_int_equal(r.outcome, HTTP_ANSWERED);
                run_call((struct http_call){.method = "POST"}, "/ok", &r); /* may be kept, but is no /alone's */
                assert_int_equal(r.outcome, HTTP_ANSWERED);
                assert_int_equal(atomic_load(&server.n_connections), i + 2);
        }
}

/* --- many, and the end --- */

static void hundreds(void **state)
{
        static struct result results[400];
        int64_t until = now_mono_ms() + PATIENCE;

        (void)state;
        memset(results, 0, sizeof results);
        for (size_t i = 0; i < ARRAY_SIZE(results); i++)
                start((struct http_call){.method = "POST"}, i % 4 ? "/ok" : "/close", &results[i]);
        assert_int_equal(httpc_in_flight(client), ARRAY_SIZE(results));
        while (httpc_in_flight(client) > 0) {
                assert_true(now_mono_ms() < until);
                run_once();
        }
        for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
                assert_int_equal(results[i].n, 1);
                assert_int_equal(results[i].outcome, i % 4 ? HTTP_ANSWERED : HTTP_UNKNOWN);
                result_done(&results[i]);
        }
        assert_int_equal(atomic_load(&server.n_requests), ARRAY_SIZE(results));
}

struct chain {
        int left, ended;
        const char *url;
};

static void on_link(void *arg, const struct http_reply *reply)
{
        struct chain *c = arg;

        (void)reply;
        c->ended++;
        if (c->left-- > 0)
                httpc_start(client,
                        &(struct http_call){.method = "GET", .url = c->url, .timeout_ms = TIMEOUT_MS, .answer_max = 100, .done = on_link, .arg = c});
}

static void started_from_a_callback(void **state)
{
        struct chain c = {.left = 10};
        char url[64];

        (void)state;
        snprintf(url, sizeof url, "http://127.0.0.1:%d/ok", server.port);
        c.url = url;
        on_link(&c, NULL);
        run_until(&c.ended, 11);
        c = (struct chain){.left = 10, .url = "nonsense"};
        on_link(&c, NULL);
        run_until(&c.ended, 11);
        assert_int_equal(httpc_in_flight(client), 0);
        assert_int_equal(httpc_timeout_ms(client) == 0, 0);
}

static void freed_with_calls_under_way(void **state)
{
        struct result results[5] = {0};

        (void)state;
        for (size_t i = 0; i < 3; i++)
                start((struct http_call){.method = "POST"}, "/silent", &results[i]);
        while (atomic_load(&server.n_requests) < 3)
                run_once();
        start((struct http_call){.method = "POST"}, "/silent", &results[3]);
        start((struct http_call){.url = "nonsense"}, NULL, &results[4]);
        client = httpc_free(client);
        for (size_t i = 0; i < 5; i++) {
                assert_int_equal(results[i].n, 1);
                assert_int_equal(results[i].outcome, i < 4 ? HTTP_UNKNOWN : HTTP_NOT_SENT);
                result_done(&results[i]);
        }
        assert_null(httpc_free(NULL));
}

static void idle_client(void **state)
{
        struct pollfd p = {.fd = httpc_fd(client), .events = POLLIN};

        (void)state;
        assert_int_equal(httpc_timeout_ms(client), -1);
        assert_int_equal(poll(&p, 1, 0), 0);
        httpc_run(client);
        assert_int_equal(httpc_in_flight(client), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        static const struct CMUnitTest tests[] = {
                TEST(answers),
                TEST(what_is_sent),
                TEST(large_request),
                TEST(not_sent),
                TEST(unknown),
                TEST(answer_max),
                TEST(never_sent_twice),
                TEST(refused_after_sent),
                TEST(closed_between_calls),
                TEST(connections_are_kept),
                TEST(connections_of_their_own),
                TEST(hundreds),
                TEST(started_from_a_callback),
                TEST(freed_with_calls_under_way),
                TEST(idle_client),
        };

        cmocka_set_message_output(CM_OUTPUT_STDOUT);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
