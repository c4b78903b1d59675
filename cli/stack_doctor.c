/* doctor: looks at everything a stack needs on this machine, and says of each thing that is not well what to do.
 *
 * Invariant: it only looks. A crash here leaves nothing behind. */
#include "cli.h"
#include "client_args.h"
#include "stack.h"

#include "base/json.h"

#include <errno.h>
#include <libpq-fe.h>
#include <nats/nats.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define DISK_LOW     (2LL << 30)
#define DISK_FULL    (300LL << 20)
#define CLOCK_OFF_MS 5000
#define BUILT_AFTER  1735689600 /* 2025-01-01: a clock before it is wrong */

enum verdict { WELL, WARNING, REFUSAL };

struct doctor {
        bool json;
        bool refused;
        struct strbuf out;
};

static const char DOCTOR_HELP[] =
        "usage: aethelos doctor [--state DIR] [--json]\n"
        "\n"
        "Checks tools and versions, ports, disk, connections and clock, and says what to do about what is not well. Exit status 1 when something\n"
        "keeps a stack from running.\n";

static void note(struct doctor *d, enum verdict verdict, const char *name, const char *fmt, ...) _printf_(4, 5);

static void note(struct doctor *d, enum verdict verdict, const char *name, const char *fmt, ...)
{
        static const char *const words[] = {[WELL] = "ok", [WARNING] = "warning", [REFUSAL] = "refused"};
        _cleanup_(strbuf_done) struct strbuf text = {0};
        va_list ap;

        va_start(ap, fmt);
        strbuf_vaddf(&text, fmt, ap);
        va_end(ap);
        d->refused = d->refused || verdict == REFUSAL;
        if (!d->json) {
                printf("%-8s %-14s %s\n", words[verdict], name, text.s);
                return;
        }
        strbuf_addf(&d->out, "%s{\"check\":\"%s\",\"verdict\":\"%s\",\"detail\":", d->out.len ? "," : "", name, words[verdict]);
        strbuf_add_json(&d->out, text.s, text.len);
        strbuf_addc(&d->out, '}');
}

/* First line of what a program prints. malloc'ed; NULL when it cannot be run. */
static char *first_line(const char *command)
{
        char line[256] = "";
        FILE *f = popen(command, "re");

        if (!f)
                return NULL;
        if (!fgets(line, sizeof(line), f))
                line[0] = '\0';
        line[strcspn(line, "\n")] = '\0';
        return pclose(f) == 0 && line[0] ? xstrdup(line) : NULL;
}

static void check_tools(struct doctor *d, const struct stack *s)
{
        _cleanup_(freep) char *nats = first_line("nats-server --version 2>/dev/null"), *bin = NULL, *postgres = NULL,
                              *data = stack_path(s, "postgresql");
        _cleanup_(strbuf_done) struct strbuf command = {0};
        int major = 0, minor = 0;

        if (!nats || sscanf(nats, "nats-server: v%d.%d", &major, &minor) != 2)
                note(d, REFUSAL, "nats-server", "not found. Install it: apt-get install nats-server");
        else if (major < 2 || (major == 2 && minor < 9))
                note(d, REFUSAL, "nats-server", "%s is too old, 2.9 or later is needed", nats);
        else
                note(d, WELL, "nats-server", "%s", nats);
        if (postgres_find(data, &bin) < 0) {
                note(d, REFUSAL, "PostgreSQL", "no fitting server. Install it: apt-get install postgresql");
        } else {
                strbuf_addf(&command, "'%s/postgres' --version 2>/dev/null", bin);
                postgres = first_line(command.s);
                if (postgres && sscanf(postgres, "postgres (PostgreSQL) %d", &major) == 1 && major >= 15)
                        note(d, WELL, "PostgreSQL", "%s", postgres);
                else
                        note(d, REFUSAL, "PostgreSQL", "%s: 15 or later is needed", postgres ? postgres : bin);
        }
        note(d, nats_GetVersionNumber() >= 0x030400 ? WELL : REFUSAL, "libnats", "%s (3.4 or later is needed)", nats_GetVersion());
        note(d, PQlibVersion() >= 150000 ? WELL : WARNING, "libpq", "%d.%d", PQlibVersion() / 10000, PQlibVersion() % 10000);
        for (size_t i = 0; i < STACK_SERVICES; i++) {
                char path[4096];
                snprintf(path, sizeof(path), "%s/aethelos-%s", s->bin, stack_services[i]);
                if (access(path, X_OK) < 0)
                        note(d, REFUSAL, "programs", "%s is not there. Build: ./aethelos does it before every command", path);
        }
}

static void check_disk(struct doctor *d, const struct stack *s)
{
        struct statvfs v;
        const char *where = access(s->state, F_OK) == 0 ? s->state : s->home;

        if (statvfs(where, &v) < 0) {
                note(d, WARNING, "disk", "%s: %s", where, strerror(errno));
                return;
        }
        long long left = (long long)v.f_bavail * (long long)v.f_frsize;
        enum verdict verdict = left < DISK_FULL ? REFUSAL : left < DISK_LOW ? WARNING : WELL;
        note(d, verdict, "disk", "%lld MB free for %s%s", left >> 20, where, verdict == WELL ? "" : ": make room, or move the state with --state");
}

static void check_clock(struct doctor *d)
{
        struct timex t = {0};
        time_t now = time(NULL);

        if (now < BUILT_AFTER)
                note(d, REFUSAL, "clock", "it is wrong: %s before 2025. Set it", "the time is");
        else if (adjtimex(&t) == TIME_ERROR)
                note(d, WARNING, "clock",
                        "not synchronised by the kernel's account. Run an NTP client (apt-get install systemd-timesyncd, or chrony) unless the host "
                        "keeps the time");
        else
                note(d, WELL, "clock", "synchronised");
}

static void check_ports(struct doctor *d)
{
        int public_port = port_free_from(STACK_PUBLIC_PORT, 0), admin_port = public_port < 0 ? -1 : port_free_from(public_port + 1, 0);

        if (admin_port < 0)
                note(d, REFUSAL, "ports", "no free port from %d on. End what occupies them, or choose with `up --port`", STACK_PUBLIC_PORT);
        else if (public_port != STACK_PUBLIC_PORT)
                note(d, WARNING, "ports", "%d is occupied; `up` would take %d and %d", STACK_PUBLIC_PORT, public_port, admin_port);
        else
                note(d, WELL, "ports", "%d and %d would be taken", public_port, admin_port);
}

static void check_database(struct doctor *d, const char *url, const char *passfile)
{
        const char *keys[] = {"dbname", "connect_timeout", passfile ? "passfile" : NULL, NULL}, *values[] = {url, "3", passfile, NULL};
        PGconn *c = PQconnectdbParams(keys, values, 1);

        if (PQstatus(c) != CONNECTION_OK) {
                note(d, REFUSAL, "database", "%.*s. Is it running, and may this user read %s?", (int)strcspn(PQerrorMessage(c), "\n"),
                        PQerrorMessage(c), passfile ? passfile : "its password");
                PQfinish(c);
                return;
        }
        PGresult *r = PQexec(c,
                "SELECT current_setting('server_version'), (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
                " current_setting('max_connections')::int, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, current_setting('fsync')");
        if (PQresultStatus(r) == PGRES_TUPLES_OK) {
                int used = atoi(PQgetvalue(r, 0, 1)), most = atoi(PQgetvalue(r, 0, 2));
                long long off = atoll(PQgetvalue(r, 0, 3)) - now_wall_ms();
                bool full = used > most * 9 / 10;
                note(d, full ? WARNING : WELL, "database", "PostgreSQL %s, %d of %d connections used%s", PQgetvalue(r, 0, 0), used, most,
                        full ? ": raise max_connections" : "");
                if (strcmp(PQgetvalue(r, 0, 4), "on") != 0)
                        note(d, REFUSAL, "durability", "fsync is off: a power cut would lose what was receipted. Turn it on in postgresql.conf");
                if (llabs(off) > CLOCK_OFF_MS)
                        note(d, WARNING, "database clock", "it is off by %lld ms from this machine's. Synchronise both", off);
        } else {
                note(d, REFUSAL, "database", "%s", PQerrorMessage(c));
        }
        PQclear(r);
        PQfinish(c);
}

static void check_bus(struct doctor *d, const char *url, const char *user, const char *password_file)
{
        _cleanup_(freep) char *password = NULL;
        natsOptions *options = NULL;
        natsConnection *c = NULL;

        int r = password_file ? read_file(password_file, 4096, &password) : 0;
        if (r == -EACCES) {
                note(d, WARNING, "bus", "%s cannot be read by this user: not looked at", password_file);
                return;
        }
        if (r < 0) {
                note(d, REFUSAL, "bus", "%s: %s", password_file, strerror(-r));
                return;
        }
        natsStatus st = natsOptions_Create(&options);
        if (st == NATS_OK)
                st = natsOptions_SetURL(options, url);
        if (st == NATS_OK && user)
                st = natsOptions_SetUserInfo(options, user, password);
        if (st == NATS_OK)
                st = natsOptions_SetTimeout(options, 3000);
        if (st == NATS_OK)
                st = natsConnection_Connect(&c, options);
        int64_t rtt = 0;
        if (st == NATS_OK)
                st = natsConnection_GetRTT(c, &rtt);
        if (st == NATS_OK)
                note(d, WELL, "bus", "answers in %.1f ms at %s", (double)rtt / 1e6, url);
        else
                note(d, REFUSAL, "bus", "%s: %s. Is nats-server running, and are its users those of proto/nats-permissions.conf?", url,
                        natsStatus_GetText(st));
        natsConnection_Destroy(c);
        natsOptions_Destroy(options);
}

/* Each node of a broker of several. */
static void check_nodes(struct doctor *d, const char *urls, const char *user, const char *password_file)
{
        _cleanup_(freep) char *copy = xstrdup(urls);
        char *save = NULL;

        for (const char *url = strtok_r(copy, ", ", &save); url; url = strtok_r(NULL, ", ", &save))
                check_bus(d, url, user, password_file);
        nats_Close();
}

static void check_stack(struct doctor *d, const struct stack *s)
{
        _cleanup_(freep) char *text = NULL;
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error why;

        if (!stack_running(s)) {
                const char *database_url = getenv("AETHELOS_DATABASE_URL"), *nats_url = getenv("AETHELOS_NATS_URL");
                if (access(s->state, F_OK) == 0 && access(s->state, W_OK) < 0)
                        note(d, REFUSAL, "stack", "%s cannot be written by this user: run as its owner, or name another directory with --state",
                                s->state);
                else
                        note(d, WELL, "stack", "not running; `./aethelos up` starts it");
                check_ports(d);
                if (database_url && *database_url)
                        check_database(d, database_url, getenv("AETHELOS_DATABASE_PASSFILE"));
                if (nats_url && *nats_url)
                        check_nodes(d, nats_url, NULL, NULL);
                return;
        }
        if (stack_state_file(s, &text) < 0 || json_parse(text, strlen(text), &doc, &why) < 0) {
                note(d, REFUSAL, "stack", "its state file cannot be read; end it with `./aethelos down`, start it again");
                return;
        }
        static const char *const names[] = {"database_url", "database_passfile", "nats_url", "nats_user", "nats_password_file", "public_url"};
        char *v[ARRAY_SIZE(names)];
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                v[i] = json_string(&doc, json_get(&doc, json_root(&doc), names[i]), NULL);
        note(d, v[5] ? WELL : WARNING, "stack", "running in %s, %s", s->state, v[5] ? v[5] : "still starting");
        if (v[1] && access(v[1], R_OK) < 0)
                note(d, WARNING, "database", "%s cannot be read by this user: not looked at", v[1]);
        else if (v[0] && v[1])
                check_database(d, v[0], v[1]);
        if (v[2])
                check_nodes(d, v[2], v[3], v[4]);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                free(v[i]);
        const char *const lists[] = {"engines", "services"};
        for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
                json_value list = json_get(&doc, json_root(&doc), lists[l]);
                for (json_value p = list ? json_first(&doc, list) : NULL; p; p = json_after(&doc, list, p)) {
                        _cleanup_(freep) char *name = json_string(&doc, json_get(&doc, p, "name"), NULL);
                        int64_t restarts = 0;
                        (void)json_int64(&doc, json_get(&doc, p, "restarts"), &restarts);
                        if (!json_string_is(&doc, json_get(&doc, p, "state"), "running"))
                                note(d, REFUSAL, name, "does not run; see %s/log/%s.log", s->state, name);
                        else if (restarts > 0)
                                note(d, WARNING, name, "was started again %d times; see %s/log/%s.log", (int)restarts, s->state, name);
                }
        }
}

int cmd_doctor(int argc, char **argv)
{
        _cleanup_(stack_done) struct stack s = {0};
        struct doctor d = {0};
        const char *state = NULL;
        const struct args_option options[] = {{"--state", .value = &state}, {"--json", .flag = &d.json}, {0}};
        struct args a = {.help = DOCTOR_HELP, .options = options};

        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        if (stack_locate(&s, state) < 0)
                return 1;
        check_tools(&d, &s);
        check_disk(&d, &s);
        check_clock(&d);
        check_stack(&d, &s);
        if (d.json)
                printf("[%s]\n", d.out.s);
        strbuf_done(&d.out);
        return d.refused ? 1 : 0;
}
