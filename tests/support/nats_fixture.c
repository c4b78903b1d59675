/* Starts, hurts and ends a nats-server for a test.
 *
 * Invariant: the server never outlives the test. The kernel kills it when the thread that started it ends (PR_SET_PDEATHSIG), which covers crashes,
 * aborts and SIGKILL; an ordinary exit kills it through atexit and deletes the directory. Only a killed test leaves its directory in /tmp behind.
 *
 * Readiness is asked for: the server greets a client with INFO, and says there whether JetStream is on. */
#include "tests/support/nats_fixture.h"

#include "base/strbuf.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 10000
#define STOP_MS  5000
#define ASK_MS   10

struct nats_fixture {
        char *dir, *config;
        char url[64];
        int port;
        pid_t pid, owner;
        struct nats_fixture *next;
};

static struct nats_fixture *fixtures;

static _Noreturn void fail(const struct nats_fixture *f, const char *what)
{
        fprintf(stderr, "nats fixture: %s: %s\n", what, strerror(errno));
        nats_fixture_print_log(f);
        abort();
}

static char *path(const struct nats_fixture *f, const char *name)
{
        struct strbuf b = {0};

        strbuf_addf(&b, "%s/%s", f->dir, name);
        return strbuf_take(&b);
}

static int unlink_entry(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st;
        (void)type;
        (void)ftw;
        remove(name); /* a running server may be faster */
        return 0;
}

static void remove_tree(const char *name)
{
        nftw(name, unlink_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* A child that the test has forked may come by here too; the servers are not its own. */
static void end_all(void)
{
        while (fixtures && fixtures->owner == getpid())
                nats_fixture_free(fixtures);
}

int nats_fixture_free_port(void)
{
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof(a);
        _cleanup_(closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || getsockname(fd, (struct sockaddr *)&a, &len) < 0)
                return -1;
        return ntohs(a.sin_port);
}

static void choose_port(struct nats_fixture *f)
{
        f->port = nats_fixture_free_port();
        if (f->port < 0)
                fail(f, "no free port");
        snprintf(f->url, sizeof(f->url), "nats://127.0.0.1:%d", f->port);
}

static void write_config(const struct nats_fixture *f)
{
        _cleanup_(freep) char *name = path(f, "server.conf");
        FILE *file = fopen(name, "w");

        if (!file)
                fail(f, "cannot write the configuration");
        fprintf(file, "listen: \"127.0.0.1:%d\"\nmax_payload: 2097152\nno_sublist_cache: true\n", f->port);
        fprintf(file, "jetstream { store_dir: \"%s/storage\", max_memory_store: 268435456, max_file_store: 1073741824 }\n", f->dir);
        fprintf(file, "%s\n", f->config ? f->config : "");
        if (fclose(file) != 0)
                fail(f, "cannot write the configuration");
}

static void spawn(struct nats_fixture *f)
{
        _cleanup_(freep) char *config = path(f, "server.conf");
        _cleanup_(freep) char *log = path(f, "server.log");
        pid_t parent = getpid();
        sigset_t none;

        write_config(f);
        f->pid = fork();
        if (f->pid < 0)
                fail(f, "fork");
        if (f->pid > 0)
                return;

        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || fd < 0)
                _exit(126);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        execlp("nats-server", "nats-server", "-c", config, (char *)NULL);
        execl("/usr/sbin/nats-server", "nats-server", "-c", config, (char *)NULL); /* not in every PATH */
        perror("nats-server");
        _exit(127);
}

/* True when the server greets with JetStream on. */
static bool answers(const struct nats_fixture *f)
{
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)f->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        _cleanup_(closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char info[4096] = "";
        size_t len = 0;
        struct pollfd p = {.fd = fd, .events = POLLIN};

        if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
                return false;
        while (len < sizeof(info) - 1 && !strchr(info, '\n') && poll(&p, 1, 1000) == 1) {
                ssize_t n = read(fd, info + len, sizeof(info) - 1 - len);

                if (n <= 0)
                        break;
                len += (size_t)n;
                info[len] = '\0';
        }
        return strstr(info, "\"jetstream\":true") != NULL;
}

static bool ended(struct nats_fixture *f, int options)
{
        pid_t r = f->pid > 0 ? waitpid(f->pid, NULL, options) : 0;

        if (r > 0 || (r < 0 && errno == ECHILD))
                f->pid = -1;
        return f->pid < 0;
}

/* False when the server ended instead of answering. */
static bool wait_ready(struct nats_fixture *f)
{
        int64_t until = now_mono_ms() + START_MS;

        while (!answers(f)) {
                if (ended(f, WNOHANG))
                        return false;
                if (now_mono_ms() > until)
                        fail(f, "the server does not answer");
                poll(NULL, 0, ASK_MS);
        }
        return true;
}

struct nats_fixture *nats_fixture_new(const char *config)
{
        struct nats_fixture *f = xcalloc(1, sizeof(*f));
        char dir[] = "/tmp/aethelos-nats-XXXXXX";
        static bool registered;

        if (!registered)
                atexit(end_all);
        registered = true;
        f->pid = -1;
        f->owner = getpid();
        if (!mkdtemp(dir))
                fail(f, "mkdtemp");
        f->dir = xstrdup(dir);
        f->next = fixtures;
        fixtures = f;
        nats_fixture_set_config(f, config);
        choose_port(f);
        return f;
}

struct nats_fixture *nats_fixture_start(const char *config)
{
        struct nats_fixture *f = nats_fixture_new(config);

        /* Between our look and the server's bind another process may take the port. */
        for (int i = 0; i < 5; i++) {
                spawn(f);
                if (wait_ready(f))
                        return f;
                choose_port(f);
        }
        fail(f, "the server does not start");
}

struct nats_fixture *nats_fixture_free(struct nats_fixture *f)
{
        if (!f)
                return NULL;
        nats_fixture_kill(f);
        for (struct nats_fixture **at = &fixtures; *at; at = &(*at)->next)
                if (*at == f) {
                        *at = f->next;
                        break;
                }
        remove_tree(f->dir);
        free(f->dir);
        free(f->config);
        free(f);
        return NULL;
}

void nats_fixture_stop(struct nats_fixture *f)
{
        int64_t until = now_mono_ms() + STOP_MS;

        if (f->pid > 0)
                kill(f->pid, SIGTERM);
        while (!ended(f, WNOHANG)) {
                if (now_mono_ms() > until)
                        nats_fixture_kill(f);
                else
                        poll(NULL, 0, ASK_MS);
        }
}

void nats_fixture_kill(struct nats_fixture *f)
{
        if (f->pid > 0)
                kill(f->pid, SIGKILL);
        while (!ended(f, 0))
                ;
}

void nats_fixture_restart(struct nats_fixture *f)
{
        nats_fixture_kill(f);
        spawn(f);
        if (!wait_ready(f))
                fail(f, "the server does not start");
}

void nats_fixture_remove(struct nats_fixture *f, const char *name)
{
        _cleanup_(freep) char *full = path(f, name);

        if (access(full, F_OK) < 0)
                fail(f, full);
        remove_tree(full);
}

void nats_fixture_wipe(struct nats_fixture *f)
{
        _cleanup_(freep) char *storage = path(f, "storage");

        remove_tree(storage);
}

void nats_fixture_pause(struct nats_fixture *f)
{
        if (f->pid > 0)
                kill(f->pid, SIGSTOP);
}

void nats_fixture_resume(struct nats_fixture *f)
{
        if (f->pid > 0)
                kill(f->pid, SIGCONT);
}

const char *nats_fixture_url(const struct nats_fixture *f)
{
        return f->url;
}

int nats_fixture_port(const struct nats_fixture *f)
{
        return f->port;
}

pid_t nats_fixture_pid(const struct nats_fixture *f)
{
        return f->pid;
}

void nats_fixture_set_config(struct nats_fixture *f, const char *config)
{
        free(f->config);
        f->config = config ? xstrdup(config) : NULL;
}

void nats_fixture_print_log(const struct nats_fixture *f)
{
        _cleanup_(freep) char *name = f->dir ? path(f, "server.log") : NULL;
        _cleanup_(freep) char *text = NULL;

        if (name && read_file(name, (size_t)16 << 20, &text) == 0)
                fprintf(stderr, "--- %s\n%s\n---\n", name, text);
}
