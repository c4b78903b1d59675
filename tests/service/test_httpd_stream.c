/* Answers without an end over real loopback sockets: readers that read, that stop reading, that leave, and the end of the server with streams open.
 */
#include "http/httpd.h"
#include "http/sse.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE    20000 /* ms; a test that waits so long has failed */
#define RECEIVE_MS  300
#define STREAMS_MAX 32

static struct httpd *httpd;
static int wake_fd;
static struct http_stream *streams[STREAMS_MAX];
static size_t n_streams;

static void on_stream(void *ctx, struct http_request *r)
{
        (void)ctx;
        assert_true(n_streams < STREAMS_MAX);
        streams[n_streams++] = http_answer_stream(r, "text/plain");
}

static void on_events(void *ctx, struct http_request *r)
{
        const char *last = sse_last_id(r);
        struct sse s;

        (void)ctx;
        s = sse_open(r, last ? last : "none");
        sse_send(&s, "1", "{\"a\":\n1}", strlen("{\"a\":\n1}"));
        s.said_ms -= SSE_KEEP_MS;
        sse_keep(&s, "2", now_mono_ms());
        sse_keep(&s, "3", now_mono_ms()); /* something has just been said */
        http_stream_end(s.stream);
}

static void on_root(void *ctx, struct http_request *r)
{
        (void)ctx;
        http_answer_json(r, 200, "{}", 2);
}

static const struct http_route routes[] = {
        {.method = "GET", .pattern = "/stream", .handle = on_stream},
        {.method = "GET", .pattern = "/events", .handle = on_events},
        {.method = "GET", .pattern = "/", .handle = on_root},
        {0},
};

static int set_up(void **state)
{
        struct httpd_config config = {.address = "127.0.0.1", .body_max = 1000, .routes = routes, .receive_ms = RECEIVE_MS};

        (void)state;
        wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        config.wake_fd = wake_fd;
        n_streams = 0;
        return httpd_open(&config, &httpd);
}

static int tear_down(void **state)
{
        (void)state;
        for (size_t i = 0; i < n_streams; i++)
                streams[i] = http_stream_end(streams[i]);
        httpd = httpd_free(httpd);
        close(wake_fd);
        return 0;
}

static int dial(void)
{
        struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)httpd_port(httpd)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 4096;

        assert_true(fd >= 0);
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
        return fd;
}

static void put(int fd, const char *text)
{
        assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void serve(void)
{
        const struct http_route *route;
        struct http_request *r;

        while ((r = httpd_take(httpd, &route)))
                route->handle(NULL, r);
}

/* Asks for a stream and waits until the service has it. */
static int ask(const char *headers)
{
        size_t n = n_streams;
        int64_t until = now_mono_ms() + PATIENCE;
        int fd = dial();

        put(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n");
        put(fd, headers);
        put(fd, "\r\n");
        while (n_streams == n) {
                struct pollfd p = {.fd = wake_fd, .events = POLLIN};
                eventfd_t count;

                assert_true(now_mono_ms() < until);
                poll(&p, 1, 50);
                eventfd_read(wake_fd, &count);
                serve();
        }
        return fd;
}

/* Reads until what has come ends with `end`; NULL: until the connection closes. */
static char *read_until(int fd, const char *end)
{
        int64_t until = now_mono_ms() + PATIENCE;
        struct strbuf b = {0};

        for (;;) {
                struct pollfd p = {.fd = fd, .events = POLLIN};
                char block[4096];
                ssize_t n;

                if (end && b.len >= strlen(end) && memcmp(b.s + b.len - strlen(end), end, strlen(end)) == 0)
                        break;
                if (poll(&p, 1, 10) == 0) {
                        if (now_mono_ms() > until)
                                fail_msg("nothing more after: %s", b.s ? b.s : "");
                        serve();
                        continue;
                }
                n = read(fd, block, end ? 1 : sizeof block);
                if (n <= 0 && end)
                        fail_msg("closed after: %s", b.s ? b.s : "");
                if (n <= 0)
                        break;
                strbuf_add(&b, block, (size_t)n);
        }
        strbuf_adds(&b, "");
        return strbuf_take(&b);
}

static void assert_comes(int fd, const char *end)
{
        free(read_until(fd, end));
}

static void say(size_t i, const char *text)
{
        http_stream_send(streams[i], text, strlen(text));
}

static void await_gone(size_t i)
{
        int64_t until = now_mono_ms() + PATIENCE;

        while (!http_stream_gone(streams[i])) {
                assert_true(now_mono_ms() < until);
                usleep(1000);
        }
}

static void await_nothing_pending(size_t i)
{
        int64_t until = now_mono_ms() + PATIENCE;

        while (http_stream_pending(streams[i]) > 0) {
                assert_true(now_mono_ms() < until);
                usleep(1000);
        }
}

/* The header comes before there is anything to say, each word when it is said, and behind the end the connection serves the next request. */
static void word_by_word(void **state)
{
        int fd = ask("");

        (void)state;
        _cleanup_(freep) char *head = read_until(fd, "\r\n\r\n");
        assert_non_null(strstr(head, "HTTP/1.1 200 "));
        assert_non_null(strcasestr(head, "Transfer-Encoding: chunked"));
        assert_non_null(strstr(head, "Content-Type: text/plain"));
        assert_non_null(strstr(head, "Cache-Control: no-store"));
        say(0, "one");
        assert_comes(fd, "3\r\none\r\n");
        usleep((RECEIVE_MS + 200) * 1000); /* longer than a request may take: a stream with nothing to say is not late */
        assert_false(http_stream_gone(streams[0]));
        say(0, "two");
        assert_comes(fd, "3\r\ntwo\r\n");
        say(0, "three");
        streams[0] = http_stream_end(streams[0]);
        n_streams = 0;
        assert_comes(fd, "5\r\nthree\r\n0\r\n\r\n");
        put(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_comes(fd, "{}");
        close(fd);
}

static void without_chunks(void **state)
{
        int fd = dial();

        (void)state;
        put(fd, "GET /events?after=7 HTTP/1.0\r\n\r\n");
        _cleanup_(freep) char *all = read_until(fd, NULL), *body = NULL;
        assert_non_null(strstr(all, "Content-Type: text/event-stream"));
        body = xstrdup(strstr(all, "\r\n\r\n") + 4);
        assert_string_equal(body, "id: 7\n\nid: 1\ndata: {\"a\":\ndata: 1}\n\n: here\nid: 2\n\n");
        close(fd);
        fd = dial();
        put(fd, "GET /events?after=7 HTTP/1.0\r\nLast-Event-ID: 9\r\n\r\n");
        _cleanup_(freep) char *again = read_until(fd, NULL);
        assert_non_null(strstr(again, "\r\n\r\nid: 9\n\n"));
        close(fd);
}

/* Who does not read is cut, whatever the service goes on saying; who reads beside him is served. */
static void who_does_not_read(void **state)
{
        static char much[1 << 20];
        int deaf = ask(""), good = ask("");

        (void)state;
        memset(much, 'x', sizeof much);
        for (int i = 0; i < 8; i++)
                http_stream_send(streams[0], much, sizeof much);
        assert_true(http_stream_pending(streams[0]) > sizeof much);
        await_gone(0);
        say(0, "into the void");
        say(1, "still here");
        assert_comes(good, "still here\r\n");
        assert_false(http_stream_gone(streams[1]));
        close(deaf);
        close(good);
}

static void who_leaves(void **state)
{
        int silent = ask(""), told = ask("");

        (void)state;
        assert_comes(silent, "\r\n\r\n");
        assert_comes(told, "\r\n\r\n");
        close(silent);
        await_gone(0);
        say(0, "nobody hears this");
        say(1, "word");
        assert_comes(told, "word\r\n");
        close(told);
        say(1, "and this");
        await_gone(1);
}

static void head_only(void **state)
{
        int fd = dial();

        (void)state;
        put(fd, "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_comes(fd, "\r\n\r\n");
        await_gone(0);
        close(fd);
}

struct reader {
        int fd;
        size_t count;
};

static void *read_main(void *arg)
{
        struct reader *r = arg;
        char block[16384];
        ssize_t n;

        while ((n = read(r->fd, block, sizeof block)) > 0)
                for (ssize_t i = 0; i < n; i++)
                        r->count += block[i] == '#';
        return NULL;
}

/* The two threads meet at every point of falling asleep and waking up: no byte is lost, and none comes twice. */
static void bursts(void **state)
{
        struct reader readers[4];
        pthread_t threads[4];
        const size_t words = 20000;

        (void)state;
        for (size_t i = 0; i < 4; i++) {
                readers[i] = (struct reader){.fd = ask("Connection: close\r\n")};
                assert_int_equal(pthread_create(&threads[i], NULL, read_main, &readers[i]), 0);
        }
        for (size_t w = 0; w < words; w++)
                for (size_t i = 0; i < 4; i++) {
                        say(i, "#");
                        if (w % 64 == i)
                                await_nothing_pending(i);
                }
        for (size_t i = 0; i < 4; i++)
                streams[i] = http_stream_end(streams[i]);
        n_streams = 0;
        for (size_t i = 0; i < 4; i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(readers[i].count, words);
                close(readers[i].fd);
        }
}

/* Streams that were ended are written out before the server goes, one that nobody reads does not keep it. */
static void the_end(void **state)
{
        static char much[1 << 20];
        int idle = ask(""), busy = ask(""), deaf = ask("");

        (void)state;
        memset(much, 'x', sizeof much);
        say(1, "last words");
        for (int i = 0; i < 8; i++)
                http_stream_send(streams[2], much, sizeof much);
        for (size_t i = 0; i < 3; i++)
                streams[i] = http_stream_end(streams[i]);
        n_streams = 0;
        httpd = httpd_free(httpd);
        assert_comes(idle, "\r\n\r\n0\r\n\r\n");
        assert_comes(busy, "last words\r\n0\r\n\r\n");
        close(idle);
        close(busy);
        close(deaf);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(word_by_word), TEST(without_chunks), TEST(who_does_not_read), TEST(who_leaves), TEST(head_only), TEST(bursts), TEST(the_end)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
