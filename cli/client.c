/* Finds the running stack and asks it.
 *
 * Invariant: only requests that may be repeated are repeated (GET, and POST under an Idempotency-Key). A POST whose answer was lost is reported as
 * unknown, never as failed. A crash here leaves at most a request under way, which the stack finishes. */
#include "client.h"

#include "cli.h"

#include "base/util.h"
#include "base/uuid.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CLIENT_TIMEOUT_MS  30000
#define CLIENT_PATIENCE_MS 10000 /* how long a 503 is waited out */
#define TOKEN_FILE_MAX     4096

void client_done(struct client *c)
{
        free(c->public_url);
        free(c->admin_url);
        free(c->token_file);
        if (c->token)
                explicit_bzero(c->token, strlen(c->token));
        free(c->token);
        *c = (struct client){0};
}

static char *env_copy(const char *name)
{
        const char *s = getenv(name);
        return s && *s ? xstrdup(s) : NULL;
}

int client_find(struct client *ret_client)
{
        struct client c = {.public_url = env_copy("AETHELOS_PUBLIC_URL"), .admin_url = env_copy("AETHELOS_ADMIN_URL")};
        if (c.public_url || c.admin_url) {
                c.token_file = env_copy("AETHELOS_ADMIN_TOKEN_FILE");
                *ret_client = c;
                return 0;
        }
        _cleanup_(stack_state_done) struct stack_state state = {0};
        if (cli_state_read(&state) < 0) {
                fprintf(stderr,
                        "aethelos: no stack is running here. Start it with `./aethelos up`, or say where one runs: with --state or AETHELOS_STATE "
                        "(its directory), or with AETHELOS_PUBLIC_URL, AETHELOS_ADMIN_URL and AETHELOS_ADMIN_TOKEN_FILE.\n");
                return -1;
        }
        c.public_url = TAKE_PTR(state.public_url);
        c.admin_url = TAKE_PTR(state.admin_url);
        c.token_file = TAKE_PTR(state.admin_token_file);
        *ret_client = c;
        return 0;
}

bool client_elsewhere(void)
{
        const char *public_url = getenv("AETHELOS_PUBLIC_URL"), *admin_url = getenv("AETHELOS_ADMIN_URL");
        return (public_url && *public_url) || (admin_url && *admin_url);
}

bool client_has_admin(const struct client *c)
{
        return c->admin_url && c->token_file;
}

bool client_may_admin(const struct client *c)
{
        return client_has_admin(c) && access(c->token_file, R_OK) == 0;
}

void answer_done(struct answer *a)
{
        json_done(&a->doc);
        strbuf_done(&a->body);
        *a = (struct answer){0};
}

static int token_read(struct client *c)
{
        if (c->token)
                return 0;
        if (!c->token_file) {
                fprintf(stderr, "aethelos: the admin token is not known. Set AETHELOS_ADMIN_TOKEN_FILE to the file that holds it.\n");
                return -1;
        }
        int r = read_file(c->token_file, TOKEN_FILE_MAX, &c->token);
        if (r == -EACCES)
                fprintf(stderr, "aethelos: the admin token in %s may not be read by this user. Run the command as the user who started the stack.\n",
                        c->token_file);
        else if (r < 0)
                fprintf(stderr, "aethelos: the admin token in %s cannot be read: %s. Is the stack up (`./aethelos status`)?\n", c->token_file,
                        strerror(-r));
        else if (strpbrk(c->token, "\r\n")) {
                fprintf(stderr, "aethelos: %s holds more than one line, so it is no admin token.\n", c->token_file);
                r = -EINVAL;
        }
        return r < 0 ? -1 : 0;
}

/* Problem documents say what is wrong; this adds what to do about it. */
static const char *advice(enum client_side side, int status, const char *type)
{
        if (strcmp(type, "/problems/unknown-type") == 0)
                return " `./aethelos flows` lists the job types.";
        if (strcmp(type, "/problems/unknown-offer") == 0)
                return " `./aethelos offers` lists them.";
        if (strcmp(type, "/problems/idempotency-key-reused") == 0)
                return " Submit it under another key.";
        switch (status) {
        case 400:
        case 422:
                return " Correct it and try again.";
        case 409:
                return " Nothing was changed; `./aethelos show JOB` tells where it stands.";
        case 413:
                return " A job is at most 1 MiB.";
        case 401:
        case 403:
                return " Was the stack started anew? AETHELOS_ADMIN_TOKEN_FILE must name the token file of this stack (`./aethelos status`).";
        case 404:
                return side == CLIENT_PUBLIC ? " Check the id; `./aethelos events` shows the latest ones." : " Check the id.";
        case 503:
                return " The stack cannot reach its database; nothing is lost. Look at `./aethelos doctor`, then try again.";
        default:
                return "";
        }
}

static void say_problem(enum client_side side, const char *url, const struct answer *a)
{
        _cleanup_(freep) char *title = answer_text(&a->doc, a->root, "title");
        _cleanup_(freep) char *detail = answer_text(&a->doc, a->root, "detail");
        _cleanup_(freep) char *field = answer_text(&a->doc, a->root, "field");
        _cleanup_(freep) char *type = answer_text(&a->doc, a->root, "type");
        if (!*title) {
                fprintf(stderr, "aethelos: %s answered with status %d.%s\n", url, a->status, advice(side, a->status, type));
                return;
        }
        fprintf(stderr, "aethelos: %s%s%s", title, *detail ? ": " : "", detail);
        if (*field)
                fprintf(stderr, " (at %s)", field);
        const char *last = *detail ? detail : title;
        fprintf(stderr, "%s%s\n", last[strlen(last) - 1] == '.' ? "" : ".", advice(side, a->status, type));
}

static void say_silence(const struct http_call *call, const struct http_reply *r)
{
        if (!r->connected)
                fprintf(stderr, "aethelos: nothing answers at %s (%s). Is the stack up? `./aethelos status` tells, `./aethelos up` starts it.\n",
                        call->url, r->error);
        else if (call->idempotency_key)
                fprintf(stderr, "aethelos: the answer of %s was lost (%s). Repeat with --key %s: the same key never makes a second job.\n", call->url,
                        r->error, call->idempotency_key);
        else if (strcmp(call->method, "POST") == 0)
                fprintf(stderr, "aethelos: the answer of %s was lost (%s). Repeat the command: the same reference is booked once.\n", call->url,
                        r->error);
        else
                fprintf(stderr, "aethelos: the answer of %s was lost (%s). Try again.\n", call->url, r->error);
}

static void sleep_ms(int64_t ms)
{
        struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
        nanosleep(&t, NULL);
}

static int client_call(struct client *c, enum client_side side, struct http_call *call, const char *path, struct answer *ret_answer)
{
        *ret_answer = (struct answer){0};
        const char *base = side == CLIENT_ADMIN ? c->admin_url : c->public_url;
        if (!base) {
                fprintf(stderr, "aethelos: the %s address is not known. Set %s to it.\n", side == CLIENT_ADMIN ? "admin" : "public",
                        side == CLIENT_ADMIN ? "AETHELOS_ADMIN_URL" : "AETHELOS_PUBLIC_URL");
                return -1;
        }
        if (side == CLIENT_ADMIN) {
                if (token_read(c) < 0)
                        return -1;
                call->token = c->token;
        }
        _cleanup_(strbuf_done) struct strbuf url = {0};
        size_t len = strlen(base);
        strbuf_add(&url, base, len > 0 && base[len - 1] == '/' ? len - 1 : len);
        strbuf_adds(&url, path);
        call->url = url.s;
        call->timeout_ms = CLIENT_TIMEOUT_MS;

        bool repeatable = strcmp(call->method, "GET") == 0 || call->idempotency_key;
        int64_t until = now_mono_ms() + CLIENT_PATIENCE_MS;
        for (;;) {
                _cleanup_(http_reply_done) struct http_reply reply;
                int r = http_do(call, &reply);
                if (repeatable && reply.connected && (r < 0 || reply.status == 503) && now_mono_ms() < until) {
                        sleep_ms(500);
                        continue;
                }
                if (r < 0) {
                        say_silence(call, &reply);
                        return -1;
                }
                ret_answer->status = reply.status;
                ret_answer->body = reply.body;
                reply.body = (struct strbuf){0};
                break;
        }
        struct json_error why = {0};
        if (ret_answer->body.len > 0 && json_parse_own(ret_answer->body.s, ret_answer->body.len, &ret_answer->doc, &why) == 0)
                ret_answer->root = json_root(&ret_answer->doc);
        if (ret_answer->status < 200 || ret_answer->status > 299) {
                say_problem(side, call->url, ret_answer);
                return -1;
        }
        if (!ret_answer->root && !c->json) {
                fprintf(stderr, "aethelos: what %s answered cannot be shown: %s. Is it an Aethelos stack? --json prints the answer as it came.\n",
                        call->url, ret_answer->body.len > 0 ? why.why : "it is empty");
                return -1;
        }
        return 0;
}

int client_get(struct client *c, enum client_side side, const char *path, struct answer *ret_answer)
{
        struct http_call call = {.method = "GET"};
        return client_call(c, side, &call, path, ret_answer);
}

int client_post(struct client *c, enum client_side side, const char *path, const char *key, const char *body, size_t len, struct answer *ret_answer)
{
        struct http_call call = {.method = "POST", .idempotency_key = key, .body = body, .body_len = len};
        return client_call(c, side, &call, path, ret_answer);
}

int client_do(struct client *c, enum client_side side, const char *method, const char *path, const char *body, size_t len, struct answer *ret_answer)
{
        struct http_call call = {.method = method, .body = body, .body_len = len};
        return client_call(c, side, &call, path, ret_answer);
}

bool client_id_ok(const char *what, const char *s)
{
        struct uuid id;
        if (uuid_parse(s, strlen(s), &id))
                return true;
        fprintf(stderr, "aethelos: \"%s\" is no id of %s %s: it looks like 01890a5d-ac96-774b-bcce-b302099a8057.\n", s,
                strchr("aeiou", *what) ? "an" : "a", what);
        return false;
}

const char *client_by(const char *by)
{
        if (by)
                return by;
        const struct passwd *p = getpwuid(geteuid());
        return p && p->pw_name[0] ? p->pw_name : "aethelos command";
}

int client_operator(struct client *c, const char *name, const char *kind)
{
        _cleanup_(answer_done) struct answer answer = {0};
        json_value items;

        if (client_get(c, CLIENT_ADMIN, "/operators", &answer) < 0)
                return -1;
        items = answer_list(&answer, "operators");
        for (json_value v = items ? json_first(&answer.doc, items) : NULL; v; v = json_after(&answer.doc, items, v))
                if (json_string_is(&answer.doc, json_get(&answer.doc, v, "name"), name) &&
                        (!kind || json_string_is(&answer.doc, json_get(&answer.doc, v, "kind"), kind)))
                        return 1;
        return 0;
}
