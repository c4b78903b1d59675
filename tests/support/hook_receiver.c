#include "tests/support/hook_receiver.h"

#include "base/util.h"
#include "http/httpd.h"
#include "tests/support/signature.h"
#include "tests/support/stack.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define HUNG_MAX 64

struct receiver receiver = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct {
        struct httpd *httpd;
        pthread_t thread;
        int wake_fd;
        atomic_int mood;
        atomic_bool stop;
        struct http_request *hung[HUNG_MAX];
        size_t n_hung;
} own;

static const char chatter[200000]; /* more than the sender reads */

static void on_hook(void *ctx, struct http_request *r)
{
        struct slice body = http_body(r);
        _cleanup_(freep) char *text = xstrndup(body.s, body.len), *type = json_at(text, "type");
        const char *id = http_header(r, "webhook-id");

        (void)ctx;
        pthread_mutex_lock(&receiver.lock);
        receiver.n++;
        snprintf(receiver.content_type, sizeof(receiver.content_type), "%s", http_header(r, "Content-Type"));
        snprintf(receiver.body, sizeof(receiver.body), "%s", text);
        receiver.n_bad +=
                !type || !signature_holds(receiver.secret, id, http_header(r, "webhook-timestamp"), http_header(r, "webhook-signature"), body);
        strbuf_addf(&receiver.ids, "%s\n", id ? id : "none");
        strbuf_addf(&receiver.types, "%s\n", type ? type : "none");
        pthread_mutex_unlock(&receiver.lock);
        switch ((enum mood)own.mood) {
        case ANSWERS:
                http_answer(r, 204, NULL, NULL, 0);
                return;
        case CHATTERS:
                http_answer(r, 200, "text/html", chatter, sizeof(chatter));
                return;
        case FAILS:
                http_answer_json(r, 500, "{}", 2);
                return;
        case REDIRECTS:
                http_set_header(r, "Location", "/elsewhere");
                http_answer_json(r, 307, "{}", 2);
                return;
        case GONE:
                http_answer_json(r, 410, "{}", 2);
                return;
        case HANGS:
                if (own.n_hung < HUNG_MAX)
                        own.hung[own.n_hung++] = r;
                return;
        }
}

static void on_elsewhere(void *ctx, struct http_request *r)
{
        (void)ctx;
        pthread_mutex_lock(&receiver.lock);
        receiver.n_bad++; /* a redirect was followed */
        pthread_mutex_unlock(&receiver.lock);
        http_answer(r, 204, NULL, NULL, 0);
}

static const struct http_route routes[] = {
        {.method = "POST", .pattern = "/hook", .handle = on_hook},
        {.method = "POST", .pattern = "/elsewhere", .handle = on_elsewhere},
        {0},
};

static void *receiver_main(void *arg)
{
        const struct http_route *route;
        struct http_request *r;

        (void)arg;
        while (!own.stop) {
                struct pollfd p = {.fd = own.wake_fd, .events = POLLIN};
                eventfd_t count;

                poll(&p, 1, 20);
                eventfd_read(own.wake_fd, &count);
                while ((r = httpd_take(own.httpd, &route)))
                        route->handle(NULL, r);
        }
        return NULL;
}

void receiver_start(void)
{
        struct httpd_config config = {.address = "127.0.0.1", .port = receiver.port, .body_max = 1 << 20, .routes = routes};

        own.wake_fd = config.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        own.stop = false;
        own.n_hung = 0;
        assert_int_equal(httpd_open(&config, &own.httpd), 0);
        assert_true(receiver.port == 0 || receiver.port == httpd_port(own.httpd));
        receiver.port = httpd_port(own.httpd);
        assert_int_equal(pthread_create(&own.thread, NULL, receiver_main, NULL), 0);
}

void receiver_die(void)
{
        own.stop = true;
        pthread_join(own.thread, NULL);
        own.httpd = httpd_free(own.httpd);
        close(own.wake_fd);
}

void receiver_feels(enum mood mood)
{
        pthread_mutex_lock(&receiver.lock);
        own.mood = (int)mood;
        receiver.n = 0;
        strbuf_reset(&receiver.ids);
        strbuf_reset(&receiver.types);
        pthread_mutex_unlock(&receiver.lock);
}

size_t received(void)
{
        size_t n;

        pthread_mutex_lock(&receiver.lock);
        n = receiver.n;
        pthread_mutex_unlock(&receiver.lock);
        return n;
}

void await_received(size_t n, int64_t ms)
{
        int64_t until = now_mono_ms() + ms;

        while (received() < n) {
                if (now_mono_ms() > until)
                        fail_msg("%zu came, not %zu", received(), n);
                usleep(2000);
        }
}
