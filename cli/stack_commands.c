/* up, down, status: starting the supervisor in the background, asking it to end, showing what it says.
 *
 * Invariant: `up` submits nothing; it ends only when the public /readyz says 200, or with a reason. A crash or Ctrl-C here leaves the supervisor to
 * go on by itself; the same command again finds it. */
#include "cli.h"
#include "client_args.h"
#include "client_http.h"
#include "stack.h"

#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define READY_MS 60000
#define DOWN_MS  120000

static const char UP_HELP[] =
        "usage: aethelos up [--state DIR] [--port N] [--instances N] [--json]\n"
        "\n"
        "Starts PostgreSQL, nats-server and the services in the background, waits until they are ready, and prints the two addresses and where\n"
        "the admin token lies. No job is created. If a stack runs already, that one is shown. With AETHELOS_DATABASE_URL and AETHELOS_NATS_URL set,\n"
        "those engines are used (AETHELOS_NATS_PASSWORDS names a directory with one password file a bus user).\n"
        "\n"
        "  --state DIR     where the state is; default AETHELOS_STATE, else var/ in the checkout, for root " STACK_ROOT_STATE "\n"
        "  --port N        first public port tried, the admin port is the next one; default 3000\n"
        "  --instances N   processes of each service; default 1\n"
        "  --json          prints what `status --json` prints\n";
static const char DOWN_HELP[] = "usage: aethelos down [--state DIR] [--json]\n"
                                "\n"
                                "Ends the services, nats-server and PostgreSQL, in this order. Nothing is lost; `up` goes on.\n";
static const char STATUS_HELP[] = "usage: aethelos status [--state DIR] [--json]\n"
                                  "\n"
                                  "Shows the running stack. Exit status 1 when none runs, or when a process of it does not.\n";

static void sleep_ms(int64_t ms)
{
        struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
        nanosleep(&t, NULL);
}

struct view { /* the state file, understood */
        char *text;
        struct json_doc doc;
        json_value root;
};

static void view_done(struct view *w)
{
        json_done(&w->doc);
        free(w->text);
        *w = (struct view){0};
}

static int view_read(const struct stack *s, struct view *ret_view)
{
        struct view w = {0};
        struct json_error why;

        int r = stack_running(s) ? stack_state_file(s, &w.text) : -ENOENT;
        if (r == 0 && json_parse(w.text, strlen(w.text), &w.doc, &why) < 0)
                r = -EINVAL;
        if (r < 0) {
                free(w.text);
                return r;
        }
        w.root = json_root(&w.doc);
        *ret_view = w;
        return 0;
}

static char *text_of(const struct view *w, json_value object, const char *name)
{
        return json_string(&w->doc, json_get(&w->doc, object, name), NULL);
}

/* Whether every process of the list is in this state. */
static bool all_are(const struct view *w, const char *list_name, const char *state)
{
        json_value list = json_get(&w->doc, w->root, list_name);

        for (json_value v = list ? json_first(&w->doc, list) : NULL; v; v = json_after(&w->doc, list, v))
                if (!json_string_is(&w->doc, json_get(&w->doc, v, "state"), state))
                        return false;
        return true;
}

/* --- up --- */

static bool answers_ready(const char *base)
{
        _cleanup_(strbuf_done) struct strbuf url = {0};
        _cleanup_(http_reply_done) struct http_reply reply = {0};

        strbuf_addf(&url, "%s/readyz", base);
        return http_do(&(struct http_call){.method = "GET", .url = url.s, .timeout_ms = 2000}, &reply) == 0 && reply.status == 200;
}

static void say_waiting(const struct stack *s)
{
        _cleanup_(view_done) struct view w = {0};

        if (view_read(s, &w) < 0)
                return;
        json_value services = json_get(&w.doc, w.root, "services");
        for (json_value v = services ? json_first(&w.doc, services) : NULL; v; v = json_after(&w.doc, services, v)) {
                _cleanup_(freep) char *name = text_of(&w, v, "name"), *state = text_of(&w, v, "state");
                int64_t restarts = 0;
                (void)json_int64(&w.doc, json_get(&w.doc, v, "restarts"), &restarts);
                if (state && (strcmp(state, "running") != 0 || restarts > 0))
                        fprintf(stderr, "aethelos:   %s is %s, started again %d times; see %s/log/%s.log\n", name, state, (int)restarts, s->state,
                                name);
        }
}

/* Further instances that serve HTTP have their ports, too. */
static bool none_starts(const struct view *w)
{
        json_value list = json_get(&w->doc, w->root, "services");

        for (json_value v = list ? json_first(&w->doc, list) : NULL; v; v = json_after(&w->doc, list, v))
                if (json_string_is(&w->doc, json_get(&w->doc, v, "state"), "starting"))
                        return false;
        return true;
}

/* Asks until both sides are ready. */
static int wait_ready(const struct stack *s)
{
        int64_t until = now_mono_ms() + READY_MS;

        while (now_mono_ms() < until) {
                _cleanup_(view_done) struct view w = {0};
                if (!stack_running(s)) {
                        fprintf(stderr, "aethelos: the stack has ended again; see %s/log/supervisor.log\n", s->state);
                        return -1;
                }
                if (view_read(s, &w) == 0) {
                        _cleanup_(freep) char *public_url = text_of(&w, w.root, "public_url"), *admin_url = text_of(&w, w.root, "admin_url");
                        if (public_url && admin_url && none_starts(&w) && answers_ready(public_url) && answers_ready(admin_url))
                                return 0;
                }
                sleep_ms(25);
        }
        fprintf(stderr,
                "aethelos: the stack runs, but it is not ready after %d s. `./aethelos doctor` looks for the reason; the logs are in %s/log.\n",
                READY_MS / 1000, s->state);
        say_waiting(s);
        return -1;
}

/* In the child: everything of the caller's that a process in the background must not keep. */
static _Noreturn void background(struct stack *s, int fd)
{
        _cleanup_(freep) char *log = stack_path(s, "log/supervisor.log");
        const struct passwd *user = getpwuid(s->uid);
        int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

        setsid();
        if (geteuid() == 0 && s->uid != 0) {
                if ((user ? initgroups(user->pw_name, s->gid) : setgroups(0, NULL)) < 0 || setgid(s->gid) < 0 || setuid(s->uid) < 0) {
                        dprintf(fd, "fail the servers' user cannot be taken on: %s\n", strerror(errno));
                        _exit(1);
                }
                setenv("HOME", s->state, 1);
                setenv("USER", user ? user->pw_name : STACK_USER, 1);
                setenv("LOGNAME", user ? user->pw_name : STACK_USER, 1);
        }
        int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (chdir(s->state) < 0 || out < 0) {
                dprintf(fd,
                        "fail %s: %s. The user with id %d, whom the servers run as, must be able to enter the directories above it; choose another "
                        "with --state\n",
                        log, strerror(errno), (int)geteuid());
                _exit(1);
        }
        dup2(nothing, STDIN_FILENO);
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
        int kept = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        for (int i = 3; i < 1024; i++) /* whatever the caller had open */
                if (i != kept)
                        close(i);
        umask(022);
        supervise(s, kept);
}

/* Reads what the supervisor says until it is up. */
static int listen_to(FILE *from, FILE *progress)
{
        _cleanup_(freep) char *line = NULL;
        size_t size = 0;
        ssize_t n;

        while ((n = getline(&line, &size, from)) > 0) {
                if (line[n - 1] == '\n')
                        line[n - 1] = '\0';
                if (strncmp(line, "up ", 3) == 0)
                        return 0;
                if (strncmp(line, "fail ", 5) == 0) {
                        fprintf(stderr, "aethelos: %s\n", line + 5);
                        while (getline(&line, &size, from) > 0) /* until it has ended what it had started */
                                ;
                        return -1;
                }
                if (strncmp(line, "say ", 4) == 0) {
                        fprintf(progress, "%s\n", line + 4);
                        fflush(progress);
                }
        }
        fprintf(stderr, "aethelos: the supervisor ended without a word; see its log\n");
        return -1;
}

static int start(struct stack *s, FILE *progress)
{
        int pipes[2];

        int r = stack_prepare_outside(s);
        if (r != 0)
                return r > 0 && !s->database_only ? wait_ready(s) : -1;
        if (pipe2(pipes, O_CLOEXEC) < 0) {
                say_errno("pipe", errno);
                return -1;
        }
        fflush(NULL);
        pid_t pid = fork();
        if (pid < 0) {
                say_errno("fork", errno);
                return -1;
        }
        if (pid == 0) {
                close(pipes[0]);
                background(s, pipes[1]);
        }
        close(pipes[1]);
        FILE *from = fdopen(pipes[0], "r");
        r = from ? listen_to(from, progress) : -1;
        if (from)
                fclose(from);
        return r < 0 || s->database_only ? r : wait_ready(s);
}

int stack_start_database(struct stack *s, FILE *progress)
{
        s->database_only = true;
        return start(s, progress);
}

static int up(struct stack *s, int first_port, FILE *progress)
{
        if (stack_running(s))
                return wait_ready(s);
        s->public_port = first_port == 0 ? 0 : port_free_from(first_port, 0);
        s->admin_port = first_port == 0 ? 0 : port_free_from(s->public_port + 1, 0);
        if (s->public_port < 0 || s->admin_port < 0) {
                fprintf(stderr, "aethelos: no port from %d on is free. Choose another with --port.\n", first_port);
                return -1;
        }
        if (s->public_port != first_port)
                fprintf(progress, "port %d is occupied, %d is taken\n", first_port, s->public_port);
        if (first_port != 0 && s->admin_port != s->public_port + 1)
                fprintf(progress, "port %d is occupied, %d is taken\n", s->public_port + 1, s->admin_port);
        fprintf(progress, "starting the stack in %s\n", s->state);
        return start(s, progress);
}

int cli_ensure_up(FILE *progress)
{
        _cleanup_(stack_done) struct stack s = {0};

        if (stack_locate(&s, NULL) < 0)
                return -1;
        s.instances = 1;
        return up(&s, STACK_PUBLIC_PORT, progress);
}

static int number(const char *what, const char *text, long least, long most, long *ret_n)
{
        char *end;

        errno = 0;
        *ret_n = strtol(text, &end, 10);
        if (errno == 0 && end != text && !*end && *ret_n >= least && *ret_n <= most)
                return 0;
        fprintf(stderr, "aethelos: %s takes a number from %ld to %ld, not %s\n", what, least, most, text);
        return -1;
}

static void print_addresses(const struct view *w)
{
        _cleanup_(freep) char *public_url = text_of(w, w->root, "public_url"), *admin_url = text_of(w, w->root, "admin_url"),
                              *token = text_of(w, w->root, "admin_token_file");
        _cleanup_(freep) char *nats_url = text_of(w, w->root, "nats_url");

        printf("public  %s\nadmin   %s   (token in %s)\nbus     %s\n", public_url ? public_url : "not yet", admin_url ? admin_url : "not yet",
                token ? token : "?", nats_url ? nats_url : "?");
}

static int print_view(const struct stack *s, bool json)
{
        _cleanup_(view_done) struct view w = {0};

        int r = view_read(s, &w);
        if (r < 0) {
                say_errno("the state of the stack cannot be read", r);
                return 1;
        }
        if (json)
                printf("%s\n", w.text);
        else
                print_addresses(&w);
        return 0;
}

int cmd_up(int argc, char **argv)
{
        _cleanup_(stack_done) struct stack s = {0};
        const char *state = NULL, *port = "3000", *instances = "1";
        bool json = false;
        const struct args_option options[] = {
                {"--state", .value = &state}, {"--port", .value = &port}, {"--instances", .value = &instances}, {"--json", .flag = &json}, {0}};
        struct args a = {.help = UP_HELP, .options = options};
        long first_port, n;

        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        if (number("--port", port, 0, 65000, &first_port) < 0 || number("--instances", instances, 1, 20, &n) < 0)
                return 2;
        if (stack_locate(&s, state) < 0)
                return 1;
        s.instances = n;
        if (up(&s, (int)first_port, json ? stderr : stdout) < 0)
                return 1;
        return print_view(&s, json);
}

/* --- down --- */

int stack_stop(const struct stack *s)
{
        _cleanup_(freep) char *pid_text = NULL, *lock = stack_path(s, "run/lock");
        int64_t until = now_mono_ms() + DOWN_MS;

        int r = read_file(lock, 32, &pid_text);
        if (r < 0 || atoi(pid_text) <= 1) {
                say_errno(lock, r < 0 ? r : EINVAL);
                return -1;
        }
        if (kill(atoi(pid_text), SIGTERM) < 0 && errno != ESRCH) {
                fprintf(stderr, "aethelos: the supervisor (pid %s) cannot be told to stop: %s. Run the command as the user who started it.\n",
                        pid_text, strerror(errno));
                return -1;
        }
        while (stack_running(s)) {
                if (now_mono_ms() > until) {
                        fprintf(stderr, "aethelos: the stack has not ended after %d s; see %s/log/supervisor.log\n", DOWN_MS / 1000, s->state);
                        return -1;
                }
                sleep_ms(20);
        }
        return 0;
}

int cmd_down(int argc, char **argv)
{
        _cleanup_(stack_done) struct stack s = {0};
        const char *state = NULL;
        bool json = false;
        const struct args_option options[] = {{"--state", .value = &state}, {"--json", .flag = &json}, {0}};
        struct args a = {.help = DOWN_HELP, .options = options};

        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        if (stack_locate(&s, state) < 0)
                return 1;
        if (!stack_running(&s)) {
                printf("%s\n", json ? "{\"stopped\":false}" : "no stack is running");
                return 0;
        }
        if (stack_stop(&s) < 0)
                return 1;
        printf("%s\n", json ? "{\"stopped\":true}" : "stopped");
        return 0;
}

/* --- status --- */

static bool print_processes(const struct view *w, const char *list_name)
{
        json_value list = json_get(&w->doc, w->root, list_name);
        bool well = true;

        for (json_value v = list ? json_first(&w->doc, list) : NULL; v; v = json_after(&w->doc, list, v)) {
                _cleanup_(freep) char *name = text_of(w, v, "name"), *state = text_of(w, v, "state");
                int64_t pid = 0, restarts = 0;
                (void)json_int64(&w->doc, json_get(&w->doc, v, "pid"), &pid);
                (void)json_int64(&w->doc, json_get(&w->doc, v, "restarts"), &restarts);
                printf("%-12s %-9s %7d", name, state, (int)pid);
                printf(restarts ? "   started again %d times\n" : "\n", (int)restarts);
                well = well && state && strcmp(state, "running") == 0;
        }
        return well;
}

int cmd_status(int argc, char **argv)
{
        _cleanup_(stack_done) struct stack s = {0};
        _cleanup_(view_done) struct view w = {0};
        const char *state = NULL;
        bool json = false;
        const struct args_option options[] = {{"--state", .value = &state}, {"--json", .flag = &json}, {0}};
        struct args a = {.help = STATUS_HELP, .options = options};

        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        if (stack_locate(&s, state) < 0)
                return 1;
        if (view_read(&s, &w) < 0) {
                if (json)
                        printf("{\"public_url\":null,\"admin_url\":null,\"admin_token_file\":null,\"nats_url\":null,\"nats_user\":null,\"nats_"
                               "password_file\":null,\"services\":[]}\n");
                else
                        printf("no stack is running; `./aethelos up` starts one\n");
                return 1;
        }
        if (json) {
                printf("%s\n", w.text);
                return all_are(&w, "engines", "running") && all_are(&w, "services", "running") ? 0 : 1;
        }
        print_addresses(&w);
        bool well = print_processes(&w, "engines");
        return print_processes(&w, "services") && well ? 0 : 1;
}
