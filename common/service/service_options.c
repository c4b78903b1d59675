/* Options and settings of every service: the skeleton's own table, the service's table, and the questions that are answered without starting. */
#include "proto/subjects.h"
#include "skeleton.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

#define FIELD(f) offsetof(struct skeleton_config, f)

static const struct setting common_settings[] = {
        {.name = "database_url",
                .kind = SETTING_STRING,
                .offset = FIELD(database_url),
                .required = true,
                .help = "PostgreSQL: where, as a libpq conninfo or URI"},
        {.name = "database_user", .kind = SETTING_STRING, .offset = FIELD(database_user), .help = "login role; default aethelos_<service>"},
        {.name = "database_passfile", .kind = SETTING_STRING, .offset = FIELD(database_passfile), .help = "libpq password file"},
        {.name = "database_password_file", .kind = SETTING_SECRET_FILE, .offset = FIELD(database_password), .help = "file with the role's password"},
        {.name = "nats_url",
                .kind = SETTING_STRING,
                .fallback = "nats://127.0.0.1:4222",
                .offset = FIELD(nats_url),
                .help = "NATS: where; several nodes of one broker with commas"},
        {.name = "nats_user", .kind = SETTING_STRING, .offset = FIELD(nats_user), .help = "bus user; default <service>"},
        {.name = "nats_password_file", .kind = SETTING_SECRET_FILE, .offset = FIELD(nats_password), .help = "file with the bus user's password"},
        {.name = "nats_replicas",
                .kind = SETTING_INT,
                .fallback = "1",
                .min = 1,
                .max = 5,
                .offset = FIELD(nats_replicas),
                .help = "nodes of the broker that keep each stream; 3 with a broker of three"},
        {.name = "instance", .kind = SETTING_STRING, .offset = FIELD(instance), .help = "name of this process; default <host>-<pid>"},
        {.name = "ready_file",
                .kind = SETTING_STRING,
                .offset = FIELD(ready_file),
                .help = "file that is there, renewed each second, while it can work"},
        {.name = "log_level", .kind = SETTING_STRING, .fallback = "info", .offset = FIELD(log_level), .help = "debug, info, warning or error"},
        {.name = "batch",
                .kind = SETTING_INT,
                .fallback = "256",
                .min = 1,
                .max = 1024,
                .offset = FIELD(batch),
                .help = "chains moved in one transaction at most"},
        {.name = "drain_ms",
                .kind = SETTING_INT,
                .fallback = "8000",
                .min = 0,
                .max = 600000,
                .offset = FIELD(drain_ms),
                .help = "ms that a drain may take"},
        {0},
};

static const struct setting http_settings[] = {
        {.name = "address", .kind = SETTING_STRING, .fallback = "127.0.0.1", .offset = FIELD(address), .help = "address to listen on"},
        {.name = "port",
                .kind = SETTING_INT,
                .fallback = "3000",
                .min = 0,
                .max = 65535,
                .offset = FIELD(port),
                .help = "first port tried; the next free one is taken"},
        {.name = "avoid_port",
                .kind = SETTING_INT,
                .fallback = "0",
                .min = 0,
                .max = 65535,
                .offset = FIELD(avoid_port),
                .help = "port never taken; 0 = none"},
        {.name = "port_file", .kind = SETTING_STRING, .offset = FIELD(port_file), .help = "file that the taken port is written to"},
        {.name = "token_file", .kind = SETTING_SECRET_FILE, .offset = FIELD(token), .help = "file with the bearer token of guarded routes"},
        {0},
};

static void print_subjects(const struct service_spec *spec)
{
        if (spec->hears_hops)
                printf("hears aethelos.hop.%s.* Envelope\n", spec->name);
        for (const struct service_subject *s = spec->subjects; s && s->direction; s++)
                printf("%s %s %s\n", s->direction, s->subject, s->message);
        printf("says aethelos.heartbeat.%s.* Heartbeat\n", spec->name);
}

static void print_routes(const struct service_spec *spec)
{
        for (const struct http_route *r = spec->routes; r && r->method; r++)
                printf("%s %s%s%s\n", r->method, r->pattern, r->flags & HTTP_TOKEN ? " token" : "", r->flags & HTTP_IDEMPOTENCY_KEY ? " key" : "");
}

static void print_help(const struct service_spec *spec, const struct setting *const tables[], size_t n)
{
        printf("Usage: aethelos-%s [--check-config] [--subjects] [--routes] [--version] [--<setting>=<value> ...]\n\n"
               "Settings (also as environment AETHELOS_<NAME>):\n",
                spec->name);
        for (size_t i = 0; i < n; i++)
                for (const struct setting *s = tables[i]; s && s->name; s++)
                        printf("  %-20s %s%s%s%s\n", s->name, s->help, s->fallback ? " [" : "", s->fallback ? s->fallback : "",
                                s->fallback ? "]" : "");
}

static char *default_instance(void)
{
        char host[64] = "localhost", text[96];

        (void)gethostname(host, sizeof(host) - 1);
        for (char *c = host; *c; c++) /* one subject token */
                if (strchr(".*> \t", *c))
                        *c = '-';
        snprintf(text, sizeof(text), "%s-%d", host, (int)getpid());
        return xstrdup(text);
}

static char *default_user(const char *prefix, const char *name, bool role)
{
        char text[64];

        snprintf(text, sizeof(text), "%s%s", prefix, name);
        for (char *c = text; role && *c; c++)
                if (*c == '-')
                        *c = '_';
        return xstrdup(text);
}

int skeleton_options(int argc, char *argv[], const struct service_spec *spec, struct skeleton_config *ret_config, void **ret_own)
{
        const struct setting *const tables[] = {common_settings, spec->settings, spec->routes ? http_settings : NULL};
        _cleanup_(strbuf_done) struct strbuf text = {0};
        bool check = false;
        const char *unknown;
        enum log_level level;

        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--help") == 0) {
                        print_help(spec, tables, ARRAY_SIZE(tables));
                        return 1;
                }
                if (strcmp(argv[i], "--version") == 0) {
                        printf("aethelos-%s %s\n", spec->name, AETHELOS_VERSION);
                        return 1;
                }
                if (strcmp(argv[i], "--subjects") == 0) {
                        print_subjects(spec);
                        return 1;
                }
                if (strcmp(argv[i], "--routes") == 0) {
                        print_routes(spec);
                        return 1;
                }
                if (strcmp(argv[i], "--check-config") == 0) {
                        check = true;
                        argv[i] = argv[--argc];
                        i--;
                }
        }
        unknown = settings_unknown(tables, ARRAY_SIZE(tables), argc, argv);
        for (int i = 1; i < argc && !unknown; i++)
                if (strncmp(argv[i], "--", 2) != 0 || !strchr(argv[i], '='))
                        unknown = argv[i];
        if (unknown) {
                fprintf(stderr, "aethelos-%s: unknown argument %s (try --help)\n", spec->name, unknown);
                return -EINVAL;
        }
        *ret_own = xcalloc(1, spec->config_size ? spec->config_size : 1);
        for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
                if (tables[i] && settings_load(tables[i], environ, argc, argv, i == 1 ? *ret_own : (void *)ret_config, &text) < 0) {
                        fprintf(stderr, "aethelos-%s: %s\n", spec->name, text.s);
                        return -EINVAL;
                }
        if (!log_level_parse(ret_config->log_level, &level)) {
                fprintf(stderr, "aethelos-%s: log_level: %s is none of debug, info, warning, error\n", spec->name, ret_config->log_level);
                return -EINVAL;
        }
        if (!ret_config->instance)
                ret_config->instance = default_instance();
        if (!ret_config->database_user)
                ret_config->database_user = default_user("aethelos_", spec->name, true);
        if (!ret_config->nats_user && ret_config->nats_password)
                ret_config->nats_user = default_user("", spec->name, false);
        if (check) {
                for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
                        if (tables[i])
                                settings_print(tables[i], i == 1 ? *ret_own : (const void *)ret_config, &text);
                fputs(text.s ? text.s : "", stdout);
                return 1;
        }
        log_setup(spec->name, ret_config->instance, level);
        return 0;
}

void skeleton_options_done(const struct service_spec *spec, struct skeleton_config *config, void *own)
{
        settings_done(common_settings, config);
        if (spec->routes)
                settings_done(http_settings, config);
        if (spec->settings && own)
                settings_done(spec->settings, own);
        free(own);
}
