/* On the thread of the world: requests are taken once a round. One that is answered late stands in a list until then. */
#include "hooks.h"

#include "fault_random.h"
#include "http/httpd.h"
#include "tests/support/signature.h"
#include "tests/support/stack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LATE_MS  2500 /* beyond the sender's patience */
#define LATE_MAX 64

struct hooks {
        struct httpd *httpd;
        struct fault_random random;
        char secret[100];
        struct hooks_told *told;
        size_t n, cap, wrong, n_late;
        struct {
                struct http_request *request;
                char *text;
                int64_t at_ms;
        } late[LATE_MAX];
        bool behaves;
};

static void on_hook(void *ctx, struct http_request *r);

static const struct http_route routes[] = {{.method = "POST", .pattern = "/hook", .handle = on_hook}, {0}};

struct hooks *hooks_start(int wake_fd, uint64_t seed)
{
        struct hooks *h = xcalloc(1, sizeof(*h));
        struct httpd_config config = {.address = "127.0.0.1", .body_max = 1 << 20, .routes = routes, .wake_fd = wake_fd};

        h->random = (struct fault_random){seed};
        if (httpd_open(&config, &h->httpd) < 0)
                die("hooks: no HTTP server");
        return h;
}

struct hooks *hooks_free(struct hooks *h)
{
        if (h) {
                for (size_t i = 0; i < h->n_late; i++)
                        free(h->late[i].text);
                httpd_free(h->httpd);
                free(h->told);
                free(h);
        }
        return NULL;
}

int64_t hooks_port(const struct hooks *h)
{
        return httpd_port(h->httpd);
}

void hooks_secret(struct hooks *h, const char *secret)
{
        snprintf(h->secret, sizeof(h->secret), "%s", secret);
}

/* What is no event counts as wrong. */
static void remember(struct hooks *h, const char *text)
{
        _cleanup_(freep) char *chain = json_at(text, "chain_id"), *version = json_at(text, "version"), *type = json_at(text, "type");

        if (!chain || !version || !type) {
                h->wrong++;
                return;
        }
        if (h->n == h->cap) {
                h->cap = h->cap ? 2 * h->cap : 4096;
                h->told = xrealloc(h->told, h->cap * sizeof(*h->told));
        }
        h->told[h->n] = (struct hooks_told){.version = strtoll(version, NULL, 10)};
        snprintf(h->told[h->n].chain, sizeof(h->told->chain), "%s", chain);
        snprintf(h->told[h->n++].type, sizeof(h->told->type), "%s", type);
}

static void on_hook(void *ctx, struct http_request *r)
{
        struct hooks *h = ctx;
        struct slice body = http_body(r);
        _cleanup_(freep) char *text = xstrndup(body.s ? body.s : "", body.len);
        int64_t dice = h->behaves ? 99 : fault_random_between(&h->random, 0, 99);

        if (!signature_holds(h->secret, http_header(r, "webhook-id"), http_header(r, "webhook-timestamp"), http_header(r, "webhook-signature"), body))
                h->wrong++;
        if (dice < 6) {
                http_answer_json(r, 500, "{}", 2);
                return;
        }
        if (dice < 10 && h->n_late < LATE_MAX) {
                h->late[h->n_late].request = r;
                h->late[h->n_late].text = TAKE_PTR(text);
                h->late[h->n_late++].at_ms = now_mono_ms() + LATE_MS;
                return;
        }
        remember(h, text);
        http_answer(r, 204, NULL, NULL, 0);
}

void hooks_round(struct hooks *h)
{
        const struct http_route *route;
        struct http_request *r;
        int64_t now = now_mono_ms();

        while ((r = httpd_take(h->httpd, &route)))
                route->handle(h, r);
        for (size_t i = 0; i < h->n_late;)
                if (h->late[i].at_ms <= now) {
                        remember(h, h->late[i].text);
                        free(h->late[i].text);
                        http_answer(h->late[i].request, 204, NULL, NULL, 0);
                        h->late[i] = h->late[--h->n_late];
                } else {
                        i++;
                }
}

void hooks_behave(struct hooks *h)
{
        h->behaves = true;
}

const struct hooks_told *hooks_told(const struct hooks *h, size_t *ret_n)
{
        *ret_n = h->n;
        return h->told;
}

size_t hooks_wrong(const struct hooks *h)
{
        return h->wrong;
}
