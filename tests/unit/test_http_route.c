/* Request targets and route matching, without sockets. */
#include "http/http_route.h"
#include "http/httpc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct http_route routes[] = {
        {.method = "GET", .pattern = "/"},
        {.method = "POST", .pattern = "/jobs"},
        {.method = "GET", .pattern = "/jobs"},
        {.method = "GET", .pattern = "/jobs/search"},
        {.method = "GET", .pattern = "/jobs/{id}"},
        {.method = "DELETE", .pattern = "/jobs/{id}"},
        {.method = "GET", .pattern = "/jobs/{id}/events/{n}"},
        {.method = "PUT", .pattern = "/only-put"},
        {.method = NULL},
};

struct match_case {
        const char *method, *target;
        enum http_match_result result;
        const char *pattern, *arg0, *arg1, *allow;
};

static void matching(void **state)
{
        static const struct match_case cases[] = {
                {"GET", "/", HTTP_MATCH, "/"},
                {"GET", "/jobs", HTTP_MATCH, "/jobs"},
                {"POST", "/jobs", HTTP_MATCH, "/jobs"},
                {"HEAD", "/jobs", HTTP_MATCH, "/jobs"},
                {"GET", "/jobs?limit=3", HTTP_MATCH, "/jobs"},
                {"GET", "/jobs/search", HTTP_MATCH, "/jobs/search"},
                {"GET", "/jobs/42", HTTP_MATCH, "/jobs/{id}", "42"},
                {"GET", "/jobs/a%2Fb", HTTP_MATCH, "/jobs/{id}", "a/b"},
                {"GET", "/jobs/a+b%20c", HTTP_MATCH, "/jobs/{id}", "a+b c"},
                {"GET", "/%6aobs/42", HTTP_MATCH, "/jobs/{id}", "42"},
                {"GET", "/jobs/42/events/7", HTTP_MATCH, "/jobs/{id}/events/{n}", "42", "7"},
                {"GET", "http://example.test:80/jobs/42", HTTP_MATCH, "/jobs/{id}", "42"},
                {"GET", "HTTP://example.test", HTTP_MATCH, "/"},
                {"GET", "/jobs/", HTTP_MATCH_NO_PATH},
                {"GET", "//jobs", HTTP_MATCH_NO_PATH},
                {"GET", "/jobs//events/7", HTTP_MATCH_NO_PATH},
                {"GET", "/jobs/42/events", HTTP_MATCH_NO_PATH},
                {"GET", "/jobs/42/", HTTP_MATCH_NO_PATH},
                {"GET", "/jobs%2F42", HTTP_MATCH_NO_PATH},
                {"GET", "/job", HTTP_MATCH_NO_PATH},
                {"GET", "/jobss", HTTP_MATCH_NO_PATH},
                {"GET", "/nothing", HTTP_MATCH_NO_PATH},
                {"PATCH", "/jobs/42", HTTP_MATCH_NO_METHOD, .allow = "GET, HEAD, DELETE"},
                {"PATCH", "/jobs/search", HTTP_MATCH_NO_METHOD, .allow = "GET, HEAD, DELETE"},
                {"get", "/jobs", HTTP_MATCH_NO_METHOD, .allow = "POST, GET, HEAD"},
                {"HEAD", "/only-put", HTTP_MATCH_NO_METHOD, .allow = "PUT"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const struct match_case *c = &cases[i];
                _cleanup_(strbuf_done) struct strbuf allow = {0};
                _cleanup_(http_target_done) struct http_target target;
                struct http_match match = {0};

                print_message("%s %s\n", c->method, c->target);
                assert_int_equal(http_target_parse(&target, c->target), 0);
                assert_int_equal(http_route_match(routes, c->method, &target, &match, &allow), c->result);
                if (c->pattern)
                        assert_string_equal(match.route->pattern, c->pattern);
                if (c->pattern)
                        assert_int_equal(match.n_args, !!c->arg0 + !!c->arg1);
                if (c->arg0)
                        assert_string_equal(match.args[0], c->arg0);
                if (c->arg1)
                        assert_string_equal(match.args[1], c->arg1);
                if (c->allow)
                        assert_string_equal(allow.s, c->allow);
        }
}

static void queries(void **state)
{
        _cleanup_(http_target_done) struct http_target t;

        (void)state;
        assert_int_equal(http_target_parse(&t, "/x?a=1&b=%26%3D&&c&d=&e=x=y&f+g=h+i&a=2?"), 0);
        assert_int_equal(t.n_query, 7);
        assert_string_equal(t.query[0].name, "a");
        assert_string_equal(t.query[0].value, "1");
        assert_string_equal(t.query[1].value, "&=");
        assert_string_equal(t.query[2].name, "c");
        assert_string_equal(t.query[2].value, "");
        assert_string_equal(t.query[3].value, "");
        assert_string_equal(t.query[4].value, "x=y");
        assert_string_equal(t.query[5].name, "f g");
        assert_string_equal(t.query[5].value, "h i");
        assert_string_equal(t.query[6].value, "2?");
}

static void refused_targets(void **state)
{
        static const char *const bad[] = {"", "*", "jobs", "host:80", "https://x/jobs", "/a b", "/a\tb", "/a\x7f", "/%", "/%4", "/%zz", "/a%00b",
                "/%ff", "/%c3", "/x?%", "/x?a=%00", "/x?a=%f0%28", "/x?%80=1", "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17",
                "/x?1&2&3&4&5&6&7&8&9&10&11&12&13&14&15&16&17&18&19&20&21&22&23&24&25&26&27&28&29&30&31&32&33"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                _cleanup_(http_target_done) struct http_target t;

                print_message("%s\n", bad[i]);
                assert_int_equal(http_target_parse(&t, bad[i]), -EINVAL);
        }
}

static void idempotency_keys(void **state)
{
        char key[130];

        (void)state;
        memset(key, 'a', sizeof key);
        key[128] = '\0';
        assert_true(http_idempotency_key_valid(key));
        key[128] = 'a';
        key[129] = '\0';
        assert_false(http_idempotency_key_valid(key));
        assert_true(http_idempotency_key_valid("A-z_09"));
        assert_false(http_idempotency_key_valid(""));
        assert_false(http_idempotency_key_valid("a b"));
        assert_false(http_idempotency_key_valid("a.b"));
        assert_false(http_idempotency_key_valid("\xc3\xa4"));
}

static void problems(void **state)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        (void)state;
        http_problem_json(&b, 422, "unknown-type", "no such \"type\"", "/payload/0");
        assert_string_equal(b.s, "{\"type\":\"/problems/unknown-type\",\"title\":\"Unknown type\",\"status\":422,"
                                 "\"detail\":\"no such \\\"type\\\"\",\"field\":\"/payload/0\"}");
        strbuf_reset(&b);
        http_problem_json(&b, 503, "x", NULL, NULL);
        assert_string_equal(b.s, "{\"type\":\"/problems/x\",\"title\":\"X\",\"status\":503}");
}

static void urls(void **state)
{
        static const char *const good[] = {
                "http://localhost", "http://127.0.0.1:8080/a?b=c", "https://operator.example/pay%20out", "http://[::1]:80/"};
        static const char *const bad[] = {"", "localhost", "//localhost/", "ftp://localhost/", "file:///etc/passwd", "gopher://x/", "http://",
                "http:///x", "http://user@localhost/", "http://user:pass@localhost/", "http://:pass@localhost/", "http://local host/",
                "http://localhost/a b", "http://localhost/\r\nX: y", "http://localhost:99999/", "http://localhost/\x7f", "javascript:alert(1)",
                "HTTP//x"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                print_message("%s\n", good[i]);
                assert_int_equal(http_url_check(good[i]), 0);
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                print_message("%s\n", bad[i]);
                assert_int_equal(http_url_check(bad[i]), -EINVAL);
        }
        assert_int_equal(http_url_check(NULL), -EINVAL);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(matching),
                cmocka_unit_test(queries),
                cmocka_unit_test(refused_targets),
                cmocka_unit_test(idempotency_keys),
                cmocka_unit_test(problems),
                cmocka_unit_test(urls),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
