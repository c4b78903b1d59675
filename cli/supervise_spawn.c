/* Starts one process: its arguments, its environment, its log.
 *
 * Invariant: a child dies with the supervisor (PR_SET_PDEATHSIG), so that nothing of a stack runs on unwatched; secrets travel as names of files. A
 * crash between fork and exec leaves nothing. */
#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_KEPT  (16 << 20) /* a larger log is put aside at a start */
#define ARGS_MAX  16
#define ENTRY_MAX 512

extern char **environ;

struct environment {
        char *entries[ENTRY_MAX];
        size_t n;
};

static void set(struct environment *e, const char *name, const char *fmt, ...) _printf_(3, 4);

/* Sets or, with an empty text, takes away. */
static void set(struct environment *e, const char *name, const char *fmt, ...)
{
        struct strbuf b = {0};
        size_t len = strlen(name);
        va_list ap;

        for (size_t i = 0; i < e->n; i++)
                if (strncmp(e->entries[i], name, len) == 0 && e->entries[i][len] == '=') {
                        e->entries[i] = e->entries[--e->n];
                        break;
                }
        strbuf_addf(&b, "%s=", name);
        va_start(ap, fmt);
        strbuf_vaddf(&b, fmt, ap);
        va_end(ap);
        if (b.len > len + 1 && e->n + 1 < ENTRY_MAX)
                e->entries[e->n++] = b.s;
        e->entries[e->n] = NULL;
}

static void service_environment(const struct supervisor *v, const struct process *p, struct environment *e)
{
        const struct stack *s = v->stack;
        const char *passfile = getenv("AETHELOS_DATABASE_PASSFILE");

        set(e, "AETHELOS_DATABASE_URL", "%s", s->service_database_url);
        set(e, "AETHELOS_DATABASE_USER", "%s", "");
        set(e, "AETHELOS_DATABASE_PASSFILE", "%s", s->external && passfile && *passfile ? passfile : s->service_passfile);
        set(e, "AETHELOS_NATS_URL", "%s", s->nats_url);
        set(e, "AETHELOS_NATS_USER", "%s", s->nats_passwords ? p->name : "");
        if (s->nats_passwords)
                set(e, "AETHELOS_NATS_PASSWORD_FILE", "%s/%s", s->nats_passwords, p->name);
        set(e, "AETHELOS_INSTANCE", "%s-%d", v->host, (int)getpid());
        if (!serves_http(p->name))
                return;
        bool admin = strcmp(p->name, "board") == 0;
        int port = admin ? s->admin_port : s->public_port, known = admin ? v->admin_port : v->public_port;
        set(e, "AETHELOS_PORT", "%d", p->number > 1 ? 0 : known ? known : port);
        set(e, "AETHELOS_AVOID_PORT", "%d", admin ? s->public_port : s->admin_port);
        if (admin)
                set(e, "AETHELOS_ADDRESS", "%s", "127.0.0.1");
        set(e, "AETHELOS_PORT_FILE", "%s/run/%s-%d.port", s->state, p->name, p->number);
        set(e, "AETHELOS_TOKEN_FILE", "%s/secrets/admin-token", s->state);
}

static void task_environment(const struct supervisor *v, struct environment *e)
{
        set(e, "AETHELOS_DATABASE_URL", "%s", v->stack->database_url);
        if (v->stack->database_passfile)
                set(e, "AETHELOS_DATABASE_PASSFILE", "%s", v->stack->database_passfile);
}

static void arguments(const struct supervisor *v, const struct process *p, const char *args[ARGS_MAX])
{
        const struct stack *s = v->stack;
        static char text[3][4096]; /* in the child */
        size_t n = 0;

        if (strcmp(p->name, "postgresql") == 0) {
                snprintf(text[0], sizeof(text[0]), "%s/postgres", s->postgres_bin);
                snprintf(text[1], sizeof(text[1]), "%s/postgresql", s->state);
                args[n++] = text[0], args[n++] = "-D", args[n++] = text[1];
        } else if (strcmp(p->name, "initdb") == 0) {
                snprintf(text[0], sizeof(text[0]), "%s/initdb", s->postgres_bin);
                snprintf(text[1], sizeof(text[1]), "%s/postgresql", s->state);
                snprintf(text[2], sizeof(text[2]), "--pwfile=%s/secrets/owner", s->state);
                args[n++] = text[0], args[n++] = "-D", args[n++] = text[1], args[n++] = text[2];
                args[n++] = "--data-checksums", args[n++] = "--auth=scram-sha-256", args[n++] = "--username=" STACK_USER;
                args[n++] = "--encoding=UTF8", args[n++] = "--locale=C.UTF-8";
        } else if (strcmp(p->name, "nats-server") == 0) {
                snprintf(text[0], sizeof(text[0]), "%s/nats/nats-server.conf", s->state);
                args[n++] = "nats-server", args[n++] = "-c", args[n++] = text[0];
        } else if (strcmp(p->name, "migrate") == 0) {
                snprintf(text[0], sizeof(text[0]), "%s/bin/aethelos-migrate", s->state);
                snprintf(text[1], sizeof(text[1]), "--directory=%s/share/migrations", s->state);
                snprintf(text[2], sizeof(text[2]), "--passwords=%s/secrets/roles", s->state);
                args[n++] = text[0], args[n++] = text[1];
                if (!s->external || !getenv("AETHELOS_DATABASE_PASSFILE"))
                        args[n++] = text[2];
        } else {
                snprintf(text[0], sizeof(text[0]), "%s/bin/aethelos-%s", s->state, p->name);
                args[n++] = text[0];
        }
        args[n] = NULL;
}

static int log_open(const struct supervisor *v, const char *name)
{
        _cleanup_(strbuf_done) struct strbuf path = {0}, old = {0};
        struct stat st;

        strbuf_addf(&path, "%s/log/%s.log", v->stack->state, name);
        strbuf_addf(&old, "%s.1", path.s);
        if (stat(path.s, &st) == 0 && st.st_size > LOG_KEPT)
                rename(path.s, old.s);
        return open(path.s, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

static _Noreturn void child(const struct supervisor *v, const struct process *p, pid_t parent)
{
        static struct environment e;
        const char *args[ARGS_MAX];
        sigset_t none;
        int log = log_open(v, p->name), nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        /* Who is woken does not interrupt who is at work: batches stay whole, and processors' caches warm. The broker is woken for each message. */
        if (sched_getscheduler(0) == SCHED_OTHER) /* and nobody has chosen another */
                (void)sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
        prctl(PR_SET_PDEATHSIG, strcmp(p->name, "postgresql") == 0 ? SIGINT : SIGTERM);
        if (getppid() != parent || log < 0 || nothing < 0)
                _exit(126);
        dup2(nothing, STDIN_FILENO);
        dup2(log, STDOUT_FILENO);
        dup2(log, STDERR_FILENO);
        for (char **x = environ; *x && e.n + 1 < ENTRY_MAX; x++)
                e.entries[e.n++] = *x;
        if (p->kind == PROCESS_SERVICE)
                service_environment(v, p, &e);
        else if (p->kind == PROCESS_TASK)
                task_environment(v, &e);
        arguments(v, p, args);
        environ = e.entries;
        execvp(args[0], (char *const *)args);
        fprintf(stderr, "%s: %s\n", args[0], strerror(errno));
        _exit(127);
}

void process_spawn(struct supervisor *v, struct process *p)
{
        pid_t parent = getpid();

        if (serves_http(p->name)) {
                char path[4096];
                snprintf(path, sizeof(path), "%s/run/%s-%d.port", v->stack->state, p->name, p->number);
                unlink(path);
        }
        p->started_ms = now_mono_ms();
        p->pid = fork();
        if (p->pid == 0)
                child(v, p, parent);
        if (p->pid < 0) { /* tried again like a process that ended at once */
                p->state = PROCESS_WAITING;
                p->restart_at = now_mono_ms() + 1000;
                return;
        }
        snprintf(p->instance, sizeof(p->instance), "%s-%d", v->host, (int)p->pid);
        p->state = serves_http(p->name) ? PROCESS_STARTING : PROCESS_RUNNING;
}

void process_log_tail(struct supervisor *v, const char *name, struct strbuf *b)
{
        char path[4096], text[2048];

        snprintf(path, sizeof(path), "%s/log/%s.log", v->stack->state, name);
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0)
                return;
        ssize_t n = pread(fd, text, sizeof(text) - 1, st.st_size > (off_t)sizeof(text) - 1 ? st.st_size - (off_t)sizeof(text) + 1 : 0);
        while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
                n--;
        if (n <= 0)
                return;
        text[n] = '\0';
        char *line = strrchr(text, '\n');
        while (line && (line[1] == '\t' || line[1] == ' ')) { /* libpq goes on with hints: the line they belong to says what it is */
                *line = '\0';
                line = strrchr(text, '\n');
        }
        strbuf_adds(b, line ? line + 1 : text);
}
