/* Where the stack is: state directory, state file, lock. Everything here only looks.
 *
 * Invariant: a stack runs exactly while its supervisor holds the lock of its state directory; pid numbers alone are never believed. A crash here
 * leaves at most a temporary file beside the one that was to be replaced. */
#include "stack.h"

#include "cli.h"

#include "base/json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const stack_services[STACK_SERVICES] = {
        "pricing", "payments", "execution", "ledger", "payouts", "meta-repair", "feed", "webhooks", "intake", "board"};

void say_errno(const char *what, int r)
{
        fprintf(stderr, "aethelos: %s: %s\n", what, strerror(r < 0 ? -r : r));
}

void stack_done(struct stack *s)
{
        char **const owned[] = {&s->home, &s->bin, &s->state, &s->postgres_bin, &s->database_url, &s->database_passfile, &s->service_database_url,
                &s->service_passfile, &s->nats_url, &s->nats_passwords};

        for (size_t i = 0; i < ARRAY_SIZE(owned); i++) {
                free(*owned[i]);
                *owned[i] = NULL;
        }
}

static const char *environment(const char *name)
{
        const char *s = getenv(name);
        return s && *s ? s : NULL;
}

char *path_absolute(const char *path)
{
        _cleanup_(freep) char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);
        struct strbuf b = {0};

        strbuf_addf(&b, "%s%s%s", here ? here : "", path[0] == '/' ? "" : "/", path);
        while (b.len > 1 && b.s[b.len - 1] == '/')
                b.s[--b.len] = '\0';
        return strbuf_take(&b);
}

static void cut_last(char *path)
{
        char *slash = strrchr(path, '/');
        if (slash && slash != path)
                *slash = '\0';
}

/* As root the servers run as a user of their own, who must reach the state: /root is closed. A directory `var` that somebody else made is his. */
static char *state_default(const char *home)
{
        struct strbuf var = {0};
        struct stat st;

        strbuf_addf(&var, "%s/var", home);
        if (geteuid() != 0 || (lstat(var.s, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid != 0))
                return strbuf_take(&var);
        strbuf_done(&var);
        return xstrdup(STACK_ROOT_STATE);
}

int stack_locate(struct stack *ret_stack, const char *state)
{
        struct stack s = {0};
        char self[4096];
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

        if (n < 0) {
                say_errno("/proc/self/exe cannot be read; is /proc mounted?", errno);
                return -1;
        }
        self[n] = '\0';
        cut_last(self);
        s.bin = xstrdup(self);
        const char *home = environment("AETHELOS_HOME");
        if (home) {
                s.home = path_absolute(home);
        } else {
                for (int i = 0; i < 3; i++) /* build/<preset>/bin */
                        cut_last(self);
                s.home = xstrdup(self);
        }
        if (!state)
                state = environment("AETHELOS_STATE");
        s.state = state ? path_absolute(state) : state_default(s.home);
        *ret_stack = s;
        return 0;
}

char *stack_path(const struct stack *s, const char *tail)
{
        struct strbuf b = {0};
        strbuf_addf(&b, "%s/%s", s->state, tail);
        return strbuf_take(&b);
}

bool stack_running(const struct stack *s)
{
        _cleanup_(freep) char *path = stack_path(s, "run/lock");
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

int stack_state_file(const struct stack *s, char **ret_json)
{
        _cleanup_(freep) char *path = stack_path(s, "run/state.json");
        return read_file(path, 1 << 20, ret_json);
}

int write_file_atomic(const char *path, mode_t mode, const void *data, size_t len)
{
        _cleanup_(strbuf_done) struct strbuf temporary = {0};
        const char *p = data;

        strbuf_addf(&temporary, "%s.new", path);
        if (unlink(temporary.s) < 0 && errno != ENOENT)
                return -errno;
        int fd = open(temporary.s, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd < 0)
                return -errno;
        int r = fchmod(fd, mode) < 0 ? -errno : 0;
        while (r == 0 && len > 0) {
                ssize_t n = write(fd, p, len);
                if (n < 0 && errno != EINTR)
                        r = -errno;
                else if (n > 0)
                        p += n, len -= (size_t)n;
        }
        if (close(fd) < 0 && r == 0)
                r = -errno;
        if (r == 0 && rename(temporary.s, path) < 0)
                r = -errno;
        if (r < 0)
                unlink(temporary.s);
        return r;
}

int port_free_from(int first, int avoid)
{
        for (int port = first; port < first + 200 && port < 65536; port++) {
                struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
                _cleanup_(closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                int one = 1;

                if (port == avoid || fd < 0)
                        continue;
                (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
                if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 1) == 0)
                        return port;
        }
        return -1;
}

/* --- for the commands that talk to a running stack --- */

static char *member(const struct json_doc *doc, const char *name)
{
        return json_string(doc, json_get(doc, json_root(doc), name), NULL);
}

void stack_state_done(struct stack_state *state)
{
        free(state->public_url);
        free(state->admin_url);
        free(state->admin_token_file);
        free(state->nats_url);
        free(state->nats_user);
        free(state->nats_password_file);
        *state = (struct stack_state){0};
}

int cli_state_read(struct stack_state *ret_state)
{
        _cleanup_(stack_done) struct stack s = {0};
        _cleanup_(freep) char *text = NULL;
        struct json_doc doc;
        struct json_error why;

        if (stack_locate(&s, NULL) < 0 || !stack_running(&s) || stack_state_file(&s, &text) < 0 || json_parse(text, strlen(text), &doc, &why) < 0)
                return -ENOENT;
        *ret_state = (struct stack_state){
                .public_url = member(&doc, "public_url"),
                .admin_url = member(&doc, "admin_url"),
                .admin_token_file = member(&doc, "admin_token_file"),
                .nats_url = member(&doc, "nats_url"),
                .nats_user = member(&doc, "nats_user"),
                .nats_password_file = member(&doc, "nats_password_file"),
        };
        json_done(&doc);
        if (!ret_state->public_url) { /* still starting */
                stack_state_done(ret_state);
                return -ENOENT;
        }
        return 0;
}
