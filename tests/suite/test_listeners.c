/* Other systems learn what happened without asking: streams of server-sent events, to everything on the admin port and to one job on the public one.
 */
#include "base/json.h"
#include "base/strbuf.h"
#include "base/util.h"
#include "tests/support/whole_stack.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/asserts.h"

#define PATIENCE 20000
#define TEXT_JOB "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"Code 19\"}}"
#define WORD     "{\"reference\":\"slip 4711\",\"by\":\"anna\"}"
#define ORDERED  "ORDER BY e.generation, e.xid, e.id"

static char *new_job(const char *key)
{
        char header[80];
        long status = 0;

        snprintf(header, sizeof(header), "Idempotency-Key: %s", key);
        _cleanup_(freep) char *made = stack_http(stack, false, "POST", "/jobs", (const char *const[]){header, NULL}, TEXT_JOB, &status);
        char *id = json_at(made, "job.id");

        assert_non_null(id);
        return id;
}

static void pay(const char *id)
{
        char path[128];
        long status = 0;

        snprintf(path, sizeof(path), "/payment-intents/%s/confirm", id);
        free(stack_http(stack, true, "POST", path, NULL, WORD, &status));
        assert_int_equal(status, 200);
}

/* --- a reader of a stream --- */

struct reader {
        int fd; /* -1: not connected */
        bool admin;
        char path[200], last_id[64], status[32];
        struct strbuf text; /* what has come and is not taken yet */
};

static void reader_close(struct reader *r)
{
        if (r->fd >= 0)
                close(r->fd);
        r->fd = -1;
        strbuf_done(&r->text);
}

/* False: nothing more came within ms, or the stream has ended (then it is closed). */
static bool reader_fill(struct reader *r, int ms)
{
        struct pollfd p = {.fd = r->fd, .events = POLLIN};
        char block[8192];
        ssize_t n;

        if (r->fd < 0 || poll(&p, 1, ms) <= 0)
                return false;
        n = read(r->fd, block, sizeof(block));
        if (n <= 0) {
                close(r->fd);
                r->fd = -1;
                return false;
        }
        strbuf_add(&r->text, block, (size_t)n);
        return true;
}

/* What stands before `end` is taken off; NULL: it is not there yet. malloc'ed. */
static char *take_until(struct reader *r, const char *end)
{
        char *at = r->text.len > 0 ? memmem(r->text.s, r->text.len, end, strlen(end)) : NULL, *taken;
        size_t whole;

        if (!at)
                return NULL;
        taken = xstrndup(r->text.s, (size_t)(at - r->text.s));
        whole = (size_t)(at - r->text.s) + strlen(end);
        memmove(r->text.s, r->text.s + whole, r->text.len - whole);
        r->text.len -= whole;
        return taken;
}

/* Connects as the reader was cut off: with the id of the last event that it has had. */
static void reader_open(struct reader *r)
{
        struct sockaddr_in sa = {
                .sin_family = AF_INET, .sin_port = htons((uint16_t)stack_port(stack, r->admin)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        _cleanup_(strbuf_done) struct strbuf b = {0};
        _cleanup_(freep) char *head = NULL;
        int64_t until = now_mono_ms() + PATIENCE;

        reader_close(r);
        strbuf_addf(&b, "GET %s HTTP/1.0\r\n", r->path); /* 1.0: the bytes come without chunks */
        if (r->admin)
                strbuf_adds(&b, "Authorization: Bearer " STACK_TOKEN "\r\n");
        if (r->last_id[0])
                strbuf_addf(&b, "Last-Event-ID: %s\r\n", r->last_id);
        strbuf_adds(&b, "\r\n");
        r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(r->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        assert_int_equal(send(r->fd, b.s, b.len, MSG_NOSIGNAL), (ssize_t)b.len);
        while (!(head = take_until(r, "\r\n\r\n"))) {
                (void)reader_fill(r, 100);
                assert_true(now_mono_ms() < until && (r->fd >= 0 || r->text.len > 0));
        }
        snprintf(r->status, sizeof(r->status), "%.3s", head + strlen("HTTP/1.1 "));
}

/* The data of the next event, malloc'ed; NULL: none within ms, or the stream has ended. */
static char *reader_next(struct reader *r, int ms)
{
        int64_t until = now_mono_ms() + ms;

        for (;;) {
                _cleanup_(freep) char *event = take_until(r, "\n\n");
                int64_t left = until - now_mono_ms();
                char *line, *rest = event, *data = NULL;

                if (!event) {
                        if (!reader_fill(r, left > 0 ? (int)left : 0))
                                return NULL;
                        continue;
                }
                while ((line = strsep(&rest, "\n"))) {
                        if (strncmp(line, "id: ", 4) == 0)
                                snprintf(r->last_id, sizeof(r->last_id), "%s", line + 4);
                        else if (strncmp(line, "data: ", 6) == 0)
                                data = xstrdup(line + 6);
                }
                if (data)
                        return data;
        }
}

static char *reader_await(struct reader *r)
{
        char *data = reader_next(r, PATIENCE);

        if (!data)
                fail_msg("no event on %s", r->path);
        return data;
}

static void add_name(struct strbuf *b, const char *event)
{
        _cleanup_(freep) char *type = json_at(event, "type"), *chain = json_at(event, "chain_id"), *version = json_at(event, "version");

        strbuf_addf(b, "%s %s %s\n", chain, version, type);
}

/* Adds what comes until nothing does for ms; at most n events. How many it was. */
static size_t add_names(struct strbuf *b, struct reader *r, size_t n, int ms)
{
        for (size_t i = 0; i < n; i++) {
                _cleanup_(freep) char *event = reader_next(r, ms);

                if (!event)
                        return i;
                add_name(b, event);
        }
        return n;
}

/* --- tests --- */

/* Through cuts of the reader and ends of the board, everything comes, once, and in the order of readers. */
static void nothing_missed_nothing_twice(void **state)
{
        struct reader r = {.fd = -1, .admin = true, .path = "/events/stream?after=0.0.0"};
        _cleanup_(strbuf_done) struct strbuf got = {0};
        _cleanup_(freep) char *all = NULL;
        (void)state;
        reader_open(&r);
        assert_string_equal(r.status, "200");
        for (int i = 0; i < 40; i++) {
                char key[32];

                snprintf(key, sizeof(key), "stream-%d", i);
                _cleanup_(freep) char *id = new_job(key);
                pay(id);
                if (i == 20) {
                        stack_stop(stack, "board", SIGKILL);
                        stack_spawn(stack, "board", NULL);
                        stack_wait_ready(stack);
                        add_names(&got, &r, SIZE_MAX, 0); /* what was on its way */
                        reader_open(&r);
                }
                add_names(&got, &r, 5, 20);
                if (i % 3 == 0)
                        reader_open(&r);
        }
        stack_await(stack, "SELECT count(*) FROM chain WHERE step = 'PAYOUT_READY'", "40", PATIENCE);
        stack_stop(stack, "board", SIGTERM); /* streams do not hold up its end */
        stack_spawn(stack, "board", NULL);
        stack_wait_ready(stack);
        add_names(&got, &r, SIZE_MAX, 0);
        reader_open(&r);
        all = pg_fixture_ask(stack->pg, "SELECT string_agg(e.chain_id || ' ' || e.version || ' ' || e.type || E'\\n', '' " ORDERED ") FROM event e");
        while (got.len < strlen(all))
                assert_int_equal(add_names(&got, &r, 1, PATIENCE), 1);
        assert_string_equal(got.s, all);
        assert_null(reader_next(&r, 300));
        reader_close(&r);
}

static void what_one_wants(void **state)
{
        struct reader live = {.fd = -1, .admin = true, .path = "/events/stream"};
        struct reader types = {.fd = -1, .admin = true, .path = "/events/stream?after=0.0.0&type=PAYOUT_READY,PRICED&client=default"};
        struct reader nobody = {.fd = -1, .admin = true, .path = "/events/stream?after=0.0.0&client=somebody"};
        struct reader chain = {.fd = -1, .admin = true};
        static const char *const wrong[] = {"after=x", "after=1.2", "type=", "type=paid", "type=PRICED,,PAID", "chain=7", "client="};
        _cleanup_(freep) char *id = NULL, *first = NULL;
        long status;

        (void)state;
        reader_open(&live);
        id = new_job("wanted-1");
        first = reader_await(&live);
        assert_at(first, "type", "JOB_CREATED");
        assert_at(first, "chain_id", id);
        assert_at(first, "data.key", "wanted-1");
        reader_close(&live);

        reader_open(&types);
        for (int i = 0; i < 81; i++) {
                _cleanup_(freep) char *event = reader_await(&types), *type = json_at(event, "type");
                assert_true(strcmp(type, "PAYOUT_READY") == 0 || strcmp(type, "PRICED") == 0);
        }
        reader_open(&nobody);
        assert_null(reader_next(&nobody, 300));
        snprintf(chain.path, sizeof(chain.path), "/events/stream?after=0.0.0&chain=%s", id);
        reader_open(&chain);
        for (int i = 1; i <= 5; i++) {
                _cleanup_(freep) char *event = reader_await(&chain);
                char version[8];

                snprintf(version, sizeof(version), "%d", i);
                assert_at(event, "chain_id", id);
                assert_at(event, "version", version);
        }
        reader_close(&types);
        reader_close(&nobody);
        reader_close(&chain);
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                char path[128];

                snprintf(path, sizeof(path), "/events/stream?%s", wrong[i]);
                free(stack_http(stack, true, "GET", path, NULL, NULL, &status));
                if (status != 422)
                        fail_msg("%s: %ld", path, status);
        }
        nobody.admin = false;
        reader_open(&nobody);
        assert_string_equal(nobody.status, "404"); /* not on the public port */
        reader_close(&nobody);
}

static void streams_are_bounded(void **state)
{
        struct reader r[65];
        int64_t until = now_mono_ms() + PATIENCE;

        (void)state;
        for (size_t i = 0; i < 65; i++) {
                r[i] = (struct reader){.fd = -1, .admin = true, .path = "/events/stream"};
                reader_open(&r[i]);
        }
        assert_string_equal(r[63].status, "200");
        assert_string_equal(r[64].status, "503");
        reader_close(&r[0]);
        do {
                assert_true(now_mono_ms() < until);
                reader_open(&r[64]); /* as soon as the board has seen it leave */
        } while (strcmp(r[64].status, "200") != 0);
        for (size_t i = 0; i < 65; i++)
                reader_close(&r[i]);
}

/* Whoever has the id of a job follows it to its end, without names, and is then told that there is no more. */
static void one_job(void **state)
{
        static const char *const expected[] = {"JOB_CREATED", "FLOW_CHOSEN", "PRICED", "PAYMENT_REQUIRED", "PAYMENT_INITIATED", "PAYMENT_CONFIRMED",
                "EXECUTION_STARTED", "STEP_COMPLETED", "EXECUTION_COMPLETED", "REVENUE_BOOKED"};
        struct reader r = {.fd = -1};
        _cleanup_(freep) char *id = new_job("one-job");

        (void)state;
        snprintf(r.path, sizeof(r.path), "/jobs/%s/events/stream", id);
        reader_open(&r);
        assert_string_equal(r.status, "200");
        for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
                _cleanup_(freep) char *event = reader_await(&r);

                assert_at(event, "type", expected[i]);
                assert_null(strstr(event, "anna"));
                assert_null(strstr(event, "slip 4711"));
                if (i == 2)
                        reader_open(&r);
                if (i == 4)
                        pay(id);
        }
        assert_null(reader_next(&r, PATIENCE));
        assert_int_equal(r.fd, -1); /* it has ended by itself */
        reader_open(&r);
        assert_string_equal(r.status, "204");
        r.last_id[0] = '\0';
        reader_open(&r);
        _cleanup_(freep) char *again = reader_await(&r);
        assert_at(again, "type", "JOB_CREATED");
        for (size_t i = 0; i < 2; i++) {
                snprintf(r.path, sizeof(r.path), "/jobs/%s/events/stream", i == 0 ? "none" : "01890000-0000-7000-8000-000000000000");
                reader_open(&r);
                assert_string_equal(r.status, "404");
        }
        r.last_id[0] = '\0';
        snprintf(r.path, sizeof(r.path), "/jobs/%s/events/stream?after=x", id);
        reader_open(&r);
        assert_string_equal(r.status, "400");
        reader_close(&r);
}

static void places_of_one_job(void **state)
{
        struct reader r[9];
        _cleanup_(freep) char *id = new_job("many-readers");

        (void)state;
        for (size_t i = 0; i < 9; i++) {
                r[i] = (struct reader){.fd = -1};
                snprintf(r[i].path, sizeof(r[i].path), "/jobs/%s/events/stream", id);
                reader_open(&r[i]);
                assert_string_equal(r[i].status, i < 8 ? "200" : "503");
        }
        for (size_t i = 0; i < 9; i++)
                reader_close(&r[i]);
}

/* Pages are bounded in bytes, too, and the cursor goes on behind what was left out: everything once. */
static void pages_of_large_events(void **state)
{
        _cleanup_(strbuf_done) struct strbuf body = {0};
        _cleanup_(freep) char *all = NULL, *job = NULL;
        char path[160] = "/events?since=0.0.0&limit=1000", key[60];
        long status, count = 0, pages = 0;

        (void)state;
        strbuf_adds(&body, "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"");
        for (int i = 0; i < 1000000; i++)
                strbuf_addc(&body, (char)('a' + i % 26));
        strbuf_adds(&body, "\"}}");
        for (int i = 0; i < 6; i++) {
                snprintf(key, sizeof(key), "Idempotency-Key: large-%d", i);
                _cleanup_(freep) char *made = stack_http(stack, false, "POST", "/jobs", (const char *const[]){key, NULL}, body.s, &status);
                free(job);
                job = json_at(made, "job.id");
        }
        stack_await(stack, "SELECT count(*) FROM chain WHERE step = 'PAYMENT_INITIATED' AND amount > 1000000", "6", PATIENCE);
        for (bool more = true; more; pages++) {
                _cleanup_(freep) char *page = stack_http(stack, true, "GET", path, NULL, NULL, &status), *next = json_at(page, "next");

                assert_int_equal(status, 200);
                assert_true(strlen(page) < 6 << 20);
                for (const char *at = page; (at = strstr(at, "\"chain_id\":")); at++)
                        count++;
                more = strcmp(next, "null") != 0;
                snprintf(path, sizeof(path), "/events?since=%s&limit=1000", next);
        }
        assert_true(pages > 1);
        all = pg_fixture_ask(stack->pg, "SELECT count(*) FROM event");
        assert_int_equal(count, atol(all));
        _cleanup_(freep) char *latest = stack_http(stack, true, "GET", "/events?limit=1000", NULL, NULL, &status), *older = json_at(latest, "next");
        assert_true(strlen(latest) < 6 << 20);
        assert_string_not_equal(older, "null");
        snprintf(path, sizeof(path), "/jobs/%s/events?limit=1000", job);
        _cleanup_(freep) char *public = stack_http(stack, false, "GET", path, NULL, NULL, &status), *behind = json_at(public, "next");
        assert_string_equal(behind, "5"); /* one large event, and four small ones */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(nothing_missed_nothing_twice),
                cmocka_unit_test(what_one_wants),
                cmocka_unit_test(streams_are_bounded),
                cmocka_unit_test(one_job),
                cmocka_unit_test(places_of_one_job),
                cmocka_unit_test(pages_of_large_events),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
