/* Request targets and the route table, without sockets.
 *
 * Invariant: the path is cut at its slashes before anything is decoded, so that %2F never makes a new segment, and every decoded text is UTF-8
 * without NUL, so that it may go into a database column as it is. */
#include "http/http_route.h"

#include "base/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

/* Decodes in place; the text only gets shorter. */
static int decode(char *s, bool plus_is_blank)
{
        char *out = s;

        for (const char *in = s; *in; in++) {
                if (*in == '%') {
                        int high = hex_digit(in[1]);
                        int low = high < 0 ? -1 : hex_digit(in[2]);

                        if (low < 0 || (high == 0 && low == 0))
                                return -EINVAL;
                        *out++ = (char)(high * 16 + low);
                        in += 2;
                } else if (*in == '+' && plus_is_blank) {
                        *out++ = ' ';
                } else {
                        *out++ = *in;
                }
        }
        *out = '\0';
        return utf8_valid(s, (size_t)(out - s)) ? 0 : -EINVAL;
}

static int parse_path(struct http_target *t, char *path)
{
        char *rest = path;

        while (rest) {
                char *segment = strsep(&rest, "/");

                if (t->n_segments == HTTP_SEGMENTS_MAX || decode(segment, false) < 0)
                        return -EINVAL;
                t->segments[t->n_segments++] = segment;
        }
        return 0;
}

static int parse_query(struct http_target *t, char *query)
{
        char *rest = query;

        while (rest) {
                char *value = strsep(&rest, "&");
                char *name;

                if (*value == '\0')
                        continue;
                name = strsep(&value, "=");
                if (t->n_query == HTTP_QUERY_MAX || decode(name, true) < 0 || (value && decode(value, true) < 0))
                        return -EINVAL;
                t->query[t->n_query].name = name;
                t->query[t->n_query++].value = value ? value : "";
        }
        return 0;
}

int http_target_parse(struct http_target *ret_target, const char *raw)
{
        char *path, *query;

        memset(ret_target, 0, sizeof *ret_target);
        for (const char *c = raw; *c; c++)
                if ((unsigned char)*c <= 0x20 || *c == 0x7f)
                        return -EINVAL;
        /* The absolute form is for proxies, but every server must take it (RFC 9112 section 3.2.2). */
        if (strncasecmp(raw, "http://", 7) == 0) {
                raw += 7;
                raw += strcspn(raw, "/?");
                if (*raw == '\0')
                        raw = "/";
        }
        if (*raw != '/')
                return -EINVAL;
        ret_target->text = xstrdup(raw + 1);
        query = ret_target->text;
        path = strsep(&query, "?");
        return parse_path(ret_target, path) < 0 || parse_query(ret_target, query) < 0 ? -EINVAL : 0;
}

void http_target_done(struct http_target *t)
{
        free(t->text);
        memset(t, 0, sizeof *t);
}

static bool path_matches(const char *pattern, const struct http_target *t, struct http_match *ret_match)
{
        size_t n_args = 0;

        if (*pattern == '/')
                pattern++;
        for (size_t i = 0; i < t->n_segments; i++) {
                size_t len = strcspn(pattern, "/");

                if (len >= 2 && pattern[0] == '{' && pattern[len - 1] == '}') {
                        if (t->segments[i][0] == '\0' || n_args == HTTP_ARGS_MAX)
                                return false;
                        ret_match->args[n_args++] = t->segments[i];
                } else if (strlen(t->segments[i]) != len || memcmp(t->segments[i], pattern, len) != 0) {
                        return false;
                }
                pattern += len;
                if ((*pattern == '/') != (i + 1 < t->n_segments))
                        return false;
                if (*pattern == '/')
                        pattern++;
        }
        ret_match->n_args = n_args;
        return true;
}

static void add_method(struct strbuf *allow, const char *method)
{
        const char *at = allow->s;
        size_t len = strlen(method);

        while (at && (at = strstr(at, method))) {
                if ((at == allow->s || at[-1] == ' ') && (at[len] == '\0' || at[len] == ','))
                        return;
                at += len;
        }
        strbuf_addf(allow, "%s%s", allow->len > 0 ? ", " : "", method);
}

enum http_match_result http_route_match(
        const struct http_route routes[], const char *method, const struct http_target *t, struct http_match *ret_match, struct strbuf *allow)
{
        enum http_match_result result = HTTP_MATCH_NO_PATH;

        for (const struct http_route *route = routes; route->method; route++) {
                if (!path_matches(route->pattern, t, ret_match))
                        continue;
                if (strcmp(method, route->method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0)) {
                        ret_match->route = route;
                        return HTTP_MATCH;
                }
                result = HTTP_MATCH_NO_METHOD;
                add_method(allow, route->method);
                if (strcmp(route->method, "GET") == 0)
                        add_method(allow, "HEAD");
        }
        return result;
}

bool http_token_char(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

bool http_idempotency_key_valid(const char *key)
{
        size_t len = strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

        return len > 0 && len <= 128 && key[len] == '\0';
}
