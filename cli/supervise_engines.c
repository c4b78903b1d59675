/* PostgreSQL, nats-server, migrations: what must answer before the services start.
 *
 * Invariant: readiness is asked for, never waited out; a port that somebody took in between is replaced by the next. A crash here leaves a cluster
 * that recovers at the next start; a directory in which initdb was cut off has no PG_VERSION and is made anew. */
#include "nats_users.h"
#include "supervise.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define POSTGRES_PORT   5432
#define NATS_PORT       4222
#define ENGINE_START_MS 60000
#define SOCKET_PATH_MAX 80 /* of the 107 bytes of a socket address, the file name takes some */

static int fail(struct supervisor *v, const char *what, const char *log)
{
        _cleanup_(strbuf_done) struct strbuf last = {0};

        process_log_tail(v, log, &last);
        say(v, "fail", "%s: %s (see %s/log/%s.log)", what, last.len ? last.s : "no reason was logged", v->stack->state, log);
        return -1;
}

/* Runs a task to its end. */
static int task(struct supervisor *v, const char *name)
{
        struct process *p = process_add(v, name, PROCESS_TASK, 1);

        process_spawn(v, p);
        while (p->pid > 0)
                if (!pump(v, 1000)) {
                        if (p->pid > 0)
                                kill(p->pid, SIGTERM);
                        return -1;
                }
        v->n--; /* it was the last that was added */
        return p->state == PROCESS_STOPPED && p->status == 0 ? 0 : -1;
}

int migrate_run(struct supervisor *v)
{
        if (task(v, "migrate") == 0)
                return 0;
        return v->stopping ? -1 : fail(v, "the database cannot be brought to this version", "migrate");
}

static int postgres_configure(struct supervisor *v)
{
        struct stack *s = v->stack;
        _cleanup_(freep) char *conf = stack_path(s, "postgresql/aethelos.conf"), *run = stack_path(s, "run");
        _cleanup_(strbuf_done) struct strbuf b = {0}, url = {0};
        bool socket = strlen(run) < SOCKET_PATH_MAX && !strpbrk(run, "',\\ \"");

        strbuf_addf(&b,
                "# Written anew at every start; put settings of your own into postgresql.conf, below the line that includes this file.\n"
                "listen_addresses = '127.0.0.1'\nport = %d\nunix_socket_directories = '%s'\nunix_socket_permissions = 0770\n"
                "max_connections = 100\npassword_encryption = 'scram-sha-256'\n"
                "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\n"
                "shared_buffers = '256MB'\nmax_wal_size = '4GB'\nmin_wal_size = '512MB'\nwal_compression = on\ncheckpoint_timeout = '15min'\n"
                "jit = off\ntimezone = 'UTC'\nlog_timezone = 'UTC'\nlog_destination = 'stderr'\nlogging_collector = off\n"
                "log_line_prefix = '%%m [%%p] %%u '\nlog_checkpoints = off\n",
                s->postgres_port, socket ? run : "");
        int r = write_file_atomic(conf, 0600, b.s, b.len);
        if (r < 0) {
                say(v, "fail", "%s: %s", conf, strerror(-r));
                return -1;
        }
        strbuf_addf(&url, "host=%s port=%d dbname=" STACK_USER, socket ? run : "127.0.0.1", s->postgres_port);
        free(s->service_database_url);
        s->service_database_url = xstrdup(url.s);
        strbuf_adds(&url, " user=" STACK_USER);
        free(s->database_url);
        s->database_url = strbuf_take(&url);
        return 0;
}

static int postgres_create(struct supervisor *v)
{
        _cleanup_(freep) char *version = stack_path(v->stack, "postgresql/PG_VERSION"), *conf = stack_path(v->stack, "postgresql/postgresql.conf");
        static const char line[] = "\ninclude = 'aethelos.conf'\n";

        if (access(version, F_OK) == 0)
                return 0;
        say(v, "say", "creating the PostgreSQL cluster");
        if (task(v, "initdb") < 0)
                return v->stopping ? -1 : fail(v, "the PostgreSQL cluster cannot be created", "initdb");
        _cleanup_(closep) int fd = open(conf, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (fd < 0 || write(fd, line, strlen(line)) != (ssize_t)strlen(line)) {
                say(v, "fail", "%s: %s", conf, strerror(errno));
                return -1;
        }
        return 0;
}

static PGconn *postgres_connect(const struct stack *s, const char *database)
{
        const char *keys[] = {"dbname", "dbname", "passfile", "connect_timeout", NULL},
                   *values[] = {s->database_url, database, s->database_passfile, "5", NULL};
        return PQconnectdbParams(keys, values, 1);
}

static int database_create(struct supervisor *v)
{
        PGconn *c = postgres_connect(v->stack, "postgres");

        if (PQstatus(c) != CONNECTION_OK) {
                say(v, "fail",
                        "the cluster in %s/postgresql does not let its owner in: %.*s. Its password is in %s/secrets/owner, and was set when the "
                        "cluster was made",
                        v->stack->state, (int)strcspn(PQerrorMessage(c), "\n"), PQerrorMessage(c), v->stack->state);
                PQfinish(c);
                return -1;
        }
        PGresult *r = PQexec(c, "SELECT 1 FROM pg_database WHERE datname = '" STACK_USER "'");
        bool ok = PQresultStatus(r) == PGRES_TUPLES_OK;

        if (ok && PQntuples(r) == 0) {
                PQclear(r);
                r = PQexec(c, "CREATE DATABASE " STACK_USER);
                ok = PQresultStatus(r) == PGRES_COMMAND_OK;
        }
        PQclear(r);
        if (!ok)
                say(v, "fail", "the database cannot be created: %.*s", (int)strcspn(PQerrorMessage(c), "\n"), PQerrorMessage(c));
        PQfinish(c);
        return ok ? 0 : -1;
}

static int postgres_start(struct supervisor *v)
{
        struct stack *s = v->stack;
        int64_t until = now_mono_ms() + ENGINE_START_MS;

        if (postgres_create(v) < 0)
                return -1;
        struct process *p = process_add(v, "postgresql", PROCESS_ENGINE, 1);
        p->backoff_ms = -1; /* not restarted by the loop yet */
        for (int first = POSTGRES_PORT; now_mono_ms() < until;) {
                if (p->pid <= 0) {
                        s->postgres_port = port_free_from(first, 0);
                        if (postgres_configure(v) < 0)
                                return -1;
                        process_spawn(v, p);
                }
                if (PQping(s->service_database_url) == PQPING_OK) {
                        p->backoff_ms = 0;
                        return database_create(v);
                }
                if (!pump(v, 20))
                        return -1;
                if (p->pid <= 0) { /* the port was taken in between, or the server of a killed supervisor is still going down */
                        first = s->postgres_port + 1 < POSTGRES_PORT + 100 ? s->postgres_port + 1 : POSTGRES_PORT;
                        if (!pump(v, 500))
                                return -1;
                }
        }
        return fail(v, "PostgreSQL does not start", "postgresql");
}

/* The name of our nats-server: another one may have taken the port since it was found free. */
static void nats_name(char ret_name[32])
{
        snprintf(ret_name, 32, "aethelos-%d", (int)getpid());
}

/* Its first line is "INFO {...}", and tells its name. */
static bool nats_answers(int port)
{
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        _cleanup_(closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const struct timeval patience = {.tv_sec = 1};
        char text[4096] = "", name[32], wanted[64];
        size_t len = 0;
        ssize_t n = 1;

        if (fd < 0)
                return false;
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
                return false;
        while (n > 0 && len + 1 < sizeof(text) && !strchr(text, '\n')) {
                n = recv(fd, text + len, sizeof(text) - 1 - len, 0);
                len += n > 0 ? (size_t)n : 0;
        }
        nats_name(name);
        snprintf(wanted, sizeof(wanted), "\"server_name\":\"%s\"", name);
        return strncmp(text, "INFO ", 5) == 0 && strstr(text, wanted);
}

/* Workers have a user for each operator; whoever has a password file is one. */
static int add_workers(const struct stack *s, struct strbuf *permissions)
{
        _cleanup_(freep) char *pattern = stack_path(s, "secrets/nats/" NATS_WORKER "*");
        glob_t files = {0};
        int r = 0;

        (void)glob(pattern, 0, NULL, &files);
        for (size_t i = 0; r == 0 && i < files.gl_pathc; i++) {
                const char *operator= strrchr(files.gl_pathv[i], '/') + 1 + strlen(NATS_WORKER);
                _cleanup_(freep) char *password = NULL;

                if (!nats_operator_ok(operator))
                        continue; /* half written */
                if (read_file(files.gl_pathv[i], 4096, &password) < 0)
                        continue;
                password[strcspn(password, "\n")] = '\0';
                r = nats_users_add(permissions, operator, password);
        }
        globfree(&files);
        return r;
}

static int nats_configure(struct supervisor *v)
{
        struct stack *s = v->stack;
        _cleanup_(freep) char *conf = stack_path(s, "nats/nats-server.conf"), *from = stack_path(s, "share/nats-permissions.conf"),
                              *to = stack_path(s, "nats/nats-permissions.conf");
        _cleanup_(freep) char *permissions = NULL;
        _cleanup_(strbuf_done) struct strbuf b = {0}, url = {0}, users = {0};
        char name[32];

        int r = read_file(from, 1 << 20, &permissions);
        if (r == 0) {
                strbuf_adds(&users, permissions);
                r = add_workers(s, &users);
        }
        if (r == 0)
                r = write_file_atomic(to, 0600, users.s, users.len);
        nats_name(name);
        strbuf_addf(&b,
                "# Written anew at every start.\n"
                "server_name: \"%s\"\nlisten: \"127.0.0.1:%d\"\n"
                "max_payload: 2MB # a body of 1 MiB and its headers\n"
                "no_sublist_cache: true # nearly every message has a new subject: a cache of who hears which would only be written\n"
                "jetstream { store_dir: \"%s/nats/storage\", max_memory_store: 512MB, max_file_store: 16GB }\n"
                "include \"nats-permissions.conf\"\n",
                name, s->nats_port, s->state);
        if (r == 0)
                r = write_file_atomic(conf, 0600, b.s, b.len);
        if (r < 0) {
                say(v, "fail", "%s: %s", conf, strerror(-r));
                return -1;
        }
        strbuf_addf(&url, "nats://127.0.0.1:%d", s->nats_port);
        free(s->nats_url);
        s->nats_url = strbuf_take(&url);
        return 0;
}

static int nats_start(struct supervisor *v)
{
        struct stack *s = v->stack;
        struct process *p = process_add(v, "nats-server", PROCESS_ENGINE, 1);
        int64_t until = now_mono_ms() + ENGINE_START_MS;

        p->backoff_ms = -1;
        for (int first = NATS_PORT, tries = 0; now_mono_ms() < until && tries < 10;) {
                if (p->pid <= 0) {
                        s->nats_port = port_free_from(first, 0);
                        if (nats_configure(v) < 0)
                                return -1;
                        process_spawn(v, p);
                        tries++;
                }
                if (nats_answers(s->nats_port) && p->pid > 0) {
                        p->backoff_ms = 0;
                        if (s->nats_port != NATS_PORT)
                                say(v, "say", "port %d is occupied, %d is taken for the bus", NATS_PORT, s->nats_port);
                        return 0;
                }
                if (!pump(v, 20))
                        return -1;
                if (p->pid <= 0) {
                        first = s->nats_port + 1;
                        if (!pump(v, 200))
                                return -1;
                }
        }
        return fail(v, "nats-server does not start", "nats-server");
}

void engines_read_users(struct supervisor *v)
{
        if (nats_configure(v) < 0)
                return;
        for (size_t i = 0; i < v->n; i++)
                if (strcmp(v->processes[i].name, "nats-server") == 0 && v->processes[i].pid > 0)
                        kill(v->processes[i].pid, SIGHUP);
}

int engines_start(struct supervisor *v)
{
        return postgres_start(v) < 0 || (!v->stack->database_only && nats_start(v) < 0) ? -1 : 0;
}
