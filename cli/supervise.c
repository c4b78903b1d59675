/* The small process in the background that keeps a stack up: starts the engines and the services, starts what dies again, and ends all in order.
 *
 * Invariant: one supervisor a state directory (it holds the lock as long as it lives), and nothing of the stack outlives it. It owns no truth: a
 * crash here ends all its children by the kernel's hand, and the next `up` finds PostgreSQL's. */
#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BACKOFF_FIRST_MS 200
#define BACKOFF_MAX_MS   5000
#define HEALTHY_MS       10000 /* after so long a life the backoff begins anew */
#define STOP_SERVICE_MS  10000
#define STOP_ENGINE_MS   60000
#define TICK_MS          1000
#define PORT_TICK_MS     20

void say(struct supervisor *v, const char *word, const char *fmt, ...)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        char stamp[32];
        time_t now = time(NULL);
        struct tm tm;
        va_list ap;

        strbuf_addf(&b, "%s ", word);
        va_start(ap, fmt);
        strbuf_vaddf(&b, fmt, ap);
        va_end(ap);
        strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
        fprintf(stderr, "%s %s\n", stamp, b.s);
        strbuf_addc(&b, '\n');
        if (v->say_fd >= 0 && write(v->say_fd, b.s, b.len) < 0) /* `up` was interrupted: the start goes on */
                v->say_fd = -1;
}

struct process *process_add(struct supervisor *v, const char *name, enum process_kind kind, int number)
{
        if (v->n == PROCESSES_MAX)
                die("too many processes for one supervisor");
        struct process *p = &v->processes[v->n++];
        *p = (struct process){.kind = kind, .number = number, .pid = -1};
        snprintf(p->name, sizeof(p->name), "%s", name);
        return p;
}

static void ended(struct supervisor *v, struct process *p, int status)
{
        int64_t now = now_mono_ms();

        p->pid = -1;
        p->status = status;
        p->state = PROCESS_STOPPED;
        if (p->kind == PROCESS_TASK || p->backoff_ms < 0 || v->stopping)
                return;
        if (p->backoff_ms == 0 || now - p->started_ms >= HEALTHY_MS)
                p->backoff_ms = BACKOFF_FIRST_MS;
        else
                p->backoff_ms = p->backoff_ms * 2 < BACKOFF_MAX_MS ? p->backoff_ms * 2 : BACKOFF_MAX_MS;
        p->restart_at = now + p->backoff_ms;
        p->state = PROCESS_WAITING;
        p->restarts++;
        if (WIFSIGNALED(status))
                say(v, "say", "%s was ended by signal %d, starting it again in %d ms", p->name, WTERMSIG(status), (int)p->backoff_ms);
        else
                say(v, "say", "%s ended with status %d, starting it again in %d ms (see %s/log/%s.log)", p->name, WEXITSTATUS(status),
                        (int)p->backoff_ms, v->stack->state, p->name);
}

static void reap(struct supervisor *v)
{
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
                for (size_t i = 0; i < v->n; i++)
                        if (v->processes[i].pid == pid)
                                ended(v, &v->processes[i], status);
}

/* One wait of at most ms, ended early by a signal. */
static void wait_signal(struct supervisor *v, int64_t ms)
{
        struct pollfd p = {.fd = v->signal_fd, .events = POLLIN};
        struct signalfd_siginfo info;

        if (poll(&p, 1, (int)(ms < 0 ? 0 : ms)) > 0)
                while (read(v->signal_fd, &info, sizeof(info)) == sizeof(info)) {
                        v->users_changed |= info.ssi_signo == SIGUSR1;
                        v->stopping |= info.ssi_signo != SIGUSR1 && info.ssi_signo != SIGCHLD;
                }
        reap(v);
}

bool pump(struct supervisor *v, int64_t ms)
{
        if (!v->stopping)
                wait_signal(v, ms);
        return !v->stopping;
}

/* --- the loop --- */

static int64_t revive(struct supervisor *v, bool *ret_changed)
{
        int64_t now = now_mono_ms(), wait = TICK_MS;

        for (size_t i = 0; i < v->n; i++) {
                struct process *p = &v->processes[i];
                if (p->state == PROCESS_WAITING && p->restart_at <= now) {
                        process_spawn(v, p);
                        *ret_changed = true;
                } else if (p->state == PROCESS_WAITING && p->restart_at - now < wait) {
                        wait = p->restart_at - now;
                }
                if (p->state == PROCESS_STARTING && wait > PORT_TICK_MS)
                        wait = PORT_TICK_MS;
        }
        return wait;
}

static void watch(struct supervisor *v)
{
        int64_t wait = 0;
        unsigned seen = 0;

        while (pump(v, wait)) {
                bool changed = ports_read(v);
                unsigned restarts = 0;

                if (v->users_changed && !v->stack->external)
                        engines_read_users(v);
                v->users_changed = false;
                wait = revive(v, &changed);
                for (size_t i = 0; i < v->n; i++)
                        restarts += v->processes[i].restarts;
                if (changed || restarts != seen)
                        state_write(v);
                seen = restarts;
        }
}

static bool any_left(const struct supervisor *v, enum process_kind kind, const char *name)
{
        for (size_t i = 0; i < v->n; i++)
                if (v->processes[i].kind == kind && v->processes[i].pid > 0 && (!name || strcmp(v->processes[i].name, name) == 0))
                        return true;
        return false;
}

static void stop(struct supervisor *v, enum process_kind kind, const char *name, int gently, int hard, int64_t ms)
{
        for (int round = 0; round < 2 && any_left(v, kind, name); round++) {
                int64_t until = now_mono_ms() + ms;
                for (size_t i = 0; i < v->n; i++) {
                        const struct process *p = &v->processes[i];
                        if (p->kind == kind && p->pid > 0 && (!name || strcmp(p->name, name) == 0)) {
                                if (round == 1)
                                        say(v, "say", "%s did not end within %d s", p->name, (int)(ms / 1000));
                                kill(p->pid, round == 0 ? gently : hard);
                        }
                }
                while (any_left(v, kind, name) && now_mono_ms() < until)
                        wait_signal(v, 200);
        }
}

/* Services first: they drain into engines that still answer. */
static _Noreturn void end(struct supervisor *v, int status)
{
        v->stopping = true;
        say(v, "say", "stopping");
        stop(v, PROCESS_TASK, NULL, SIGTERM, SIGKILL, STOP_SERVICE_MS);
        stop(v, PROCESS_SERVICE, NULL, SIGTERM, SIGKILL, STOP_SERVICE_MS);
        stop(v, PROCESS_ENGINE, "nats-server", SIGTERM, SIGKILL, STOP_SERVICE_MS);
        stop(v, PROCESS_ENGINE, "postgresql", SIGINT, SIGQUIT, STOP_ENGINE_MS);
        state_remove(v);
        say(v, "say", "stopped");
        exit(status);
}

static int lock(struct supervisor *v)
{
        _cleanup_(freep) char *path = stack_path(v->stack, "run/lock");
        char pid[16];
        int tries = 20; /* somebody who looks whether it is held holds it for a moment */

        v->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (v->lock_fd < 0) {
                say(v, "fail",
                        "%s: %s. The user with id %d, whom the servers run as, must be able to enter the directories above it; choose another with "
                        "--state",
                        path, strerror(errno), (int)geteuid());
                return -1;
        }
        while (flock(v->lock_fd, LOCK_EX | LOCK_NB) < 0) {
                if (--tries == 0) {
                        say(v, "up", "another supervisor keeps this stack already"); /* two `up` at once: both show the same stack */
                        return -1;
                }
                usleep(50000);
        }
        snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
        return ftruncate(v->lock_fd, 0) < 0 || write(v->lock_fd, pid, strlen(pid)) < 0 ? -1 : 0;
}

static void signals(struct supervisor *v)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_SETMASK, &set, NULL);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        v->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
        if (v->signal_fd < 0)
                die("signalfd");
}

void supervise(struct stack *s, int fd)
{
        static struct supervisor v;

        v = (struct supervisor){.stack = s, .say_fd = fd};
        signals(&v);
        snprintf(v.host, sizeof(v.host), "localhost");
        (void)gethostname(v.host, sizeof(v.host) - 1);
        for (char *c = v.host; *c; c++) /* one token of a subject */
                if (strchr(".*> \t", *c))
                        *c = '-';
        if (lock(&v) < 0)
                exit(1);
        if (stack_prepare_inside(s) < 0) {
                say(&v, "fail", "the secrets cannot be made (see %s/log/supervisor.log)", s->state);
                exit(1);
        }
        state_write(&v);
        if ((!s->external && engines_start(&v) < 0) || (!s->database_only && migrate_run(&v) < 0))
                end(&v, 1);
        for (int n = 1; n <= s->instances && !s->database_only; n++)
                for (size_t i = 0; i < STACK_SERVICES; i++)
                        process_spawn(&v, process_add(&v, stack_services[i], PROCESS_SERVICE, n));
        state_write(&v);
        say(&v, "up", "services started");
        close(fd);
        v.say_fd = -1;
        watch(&v);
        end(&v, 0);
}
