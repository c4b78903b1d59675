/* The secrets of a stack: passwords of the database's roles and of the bus users, the admin token.
 *
 * Invariant: a secret is made once, by the user who runs the servers, 0600 under a 0700 directory, and never travels through arguments or the log;
 * one that is there is never replaced. A crash here leaves a part of them; the next run completes them. */
#include "cli.h"
#include "client_args.h"
#include "stack.h"

#include "base/hash.h"

#include <ctype.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void secret_random(char ret_text[SECRET_SIZE])
{
        uint8_t bytes[(SECRET_SIZE - 1) / 2];

        if (random_bytes(bytes, sizeof(bytes)) < 0)
                die("no random bytes");
        hex_format(bytes, sizeof(bytes), ret_text);
}

/* *ret_text is wiped by the caller's end of process, nothing else keeps it. */
int secret_file(const char *path, char **ret_text)
{
        char text[SECRET_SIZE + 1];
        int r = read_file(path, 4096, ret_text);

        if (r == 0 && **ret_text)
                return 0;
        if (r == 0)
                freep(ret_text);
        if (r == 0 || r == -ENOENT) { /* one that cannot be read is none that may be replaced */
                secret_random(text);
                strcat(text, "\n");
                r = write_file_atomic(path, 0600, text, strlen(text));
        }
        if (r < 0) {
                say_errno(path, r);
                return -1;
        }
        text[SECRET_SIZE - 1] = '\0';
        *ret_text = xstrdup(text);
        return 0;
}

static char *role_of(const char *service)
{
        struct strbuf b = {0};
        strbuf_addf(&b, "aethelos_%s", service);
        for (char *c = b.s; *c; c++)
                if (*c == '-')
                        *c = '_';
        return strbuf_take(&b);
}

int stack_prepare_inside(struct stack *s)
{
        _cleanup_(strbuf_done) struct strbuf pgpass = {0}, nats = {0};
        _cleanup_(freep) char *roles = stack_path(s, "secrets/roles"), *users = stack_path(s, "secrets/nats"),
                              *token_file = stack_path(s, "secrets/admin-token");
        _cleanup_(freep) char *owner_file = stack_path(s, "secrets/owner"), *pgpass_file = stack_path(s, "secrets/pgpass"),
                              *nats_file = stack_path(s, "nats/nats-passwords.conf");
        _cleanup_(freep) char *owner = NULL, *token = NULL;
        int r;

        if (make_directory(roles, 0700, NULL) < 0 || make_directory(users, 0700, NULL) < 0 || secret_file(owner_file, &owner) < 0 ||
                secret_file(token_file, &token) < 0)
                return -1;
        strbuf_addf(&pgpass, "*:*:*:" STACK_USER ":%s\n", owner);
        for (int i = -1; i < STACK_SERVICES; i++) {
                const char *name = i < 0 ? "default" : stack_services[i];
                _cleanup_(freep) char *role = role_of(name), *password = NULL, *bus_password = NULL;
                char path[4096];

                snprintf(path, sizeof(path), "%s/%s", users, name);
                if (secret_file(path, &bus_password) < 0)
                        return -1;
                strbuf_adds(&nats, "PASSWORD_");
                for (const char *c = name; *c; c++)
                        strbuf_addc(&nats, *c == '-' ? '_' : (char)toupper((unsigned char)*c));
                strbuf_addf(&nats, ": \"%s\"\n", bus_password);
                if (i < 0)
                        continue;
                snprintf(path, sizeof(path), "%s/%s", roles, role);
                if (secret_file(path, &password) < 0)
                        return -1;
                strbuf_addf(&pgpass, "*:*:*:%s:%s\n", role, password);
        }
        r = write_file_atomic(pgpass_file, 0600, pgpass.s, pgpass.len);
        if (r == 0)
                r = write_file_atomic(nats_file, 0600, nats.s, nats.len);
        explicit_bzero(pgpass.s, pgpass.len);
        explicit_bzero(nats.s, nats.len);
        if (r < 0) {
                say_errno("secrets", r);
                return -1;
        }
        s->service_passfile = TAKE_PTR(pgpass_file);
        if (!s->external) {
                s->database_passfile = xstrdup(s->service_passfile);
                s->nats_passwords = TAKE_PTR(users);
        }
        return 0;
}

int secrets_copy(const char *from, const struct stack *to)
{
        static const char *const parts[] = {"", "roles/", "nats/"};

        for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
                char path[4096];
                glob_t files;
                int r = 0;

                snprintf(path, sizeof(path), "%s/secrets/%s", to->state, parts[i]);
                if (make_directory(path, 0700, to) < 0)
                        return -1;
                snprintf(path, sizeof(path), "%s/%s*", from, parts[i]);
                if (glob(path, 0, NULL, &files) != 0) {
                        if (i > 0)
                                continue;
                        say_errno(path, -ENOENT); /* the directory itself always holds some */
                        return -1;
                }
                for (size_t k = 0; r == 0 && k < files.gl_pathc; k++) {
                        struct stat st;

                        snprintf(path, sizeof(path), "%s/secrets/%s%s", to->state, parts[i], strrchr(files.gl_pathv[k], '/') + 1);
                        if (stat(files.gl_pathv[k], &st) < 0 || !S_ISREG(st.st_mode) || access(path, F_OK) == 0)
                                continue;
                        r = copy_file(files.gl_pathv[k], path, 0600);
                        if (r == 0 && geteuid() == 0 && lchown(path, to->uid, to->gid) < 0) {
                                say_errno(path, errno);
                                r = -1;
                        }
                }
                globfree(&files);
                if (r < 0)
                        return r;
        }
        return 0;
}

static const char HELP[] =
        "usage: aethelos secrets DIR [--json]\n"
        "\n"
        "Makes the secrets of a stack that something else than `up` starts (containers, systemd), as `up` makes its own. What is there stays.\n"
        "\n"
        "  DIR/secrets/owner        password of the database's owner\n"
        "  DIR/secrets/roles/*      of each service's role, for aethelos-migrate --passwords\n"
        "  DIR/secrets/nats/*       of each bus user\n"
        "  DIR/secrets/admin-token  of the admin address\n"
        "  DIR/nats/*               users and permissions, for nats-server to include\n";

int cmd_secrets(int argc, char **argv)
{
        _cleanup_(stack_done) struct stack s = {0};
        _cleanup_(strbuf_done) struct strbuf permissions = {0};
        bool json = false;
        struct args a = {.help = HELP, .options = (struct args_option[]){{"--json", .flag = &json}, {0}}, .least = 1, .most = 1};

        int r = args_parse(&a, argc, argv);
        if (r != ARGS_GO_ON)
                return r;
        if (stack_locate(&s, a.rest[0]) < 0)
                return 1;
        _cleanup_(freep) char *secrets = stack_path(&s, "secrets"), *nats = stack_path(&s, "nats"),
                              *to = stack_path(&s, "nats/nats-permissions.conf");
        strbuf_addf(&permissions, "%s/proto/nats-permissions.conf", s.home);
        if (mkdir(s.state, 0700) < 0 && errno != EEXIST) { /* one that is there keeps its mode: others may have to pass through it */
                say_errno(s.state, errno);
                return 1;
        }
        if (make_directory(secrets, 0700, NULL) < 0 || make_directory(nats, 0700, NULL) < 0 || stack_prepare_inside(&s) < 0 ||
                copy_file(permissions.s, to, 0600) < 0)
                return 1;
        if (json) {
                strbuf_reset(&permissions);
                strbuf_add_json(&permissions, s.state, strlen(s.state));
                printf("{\"directory\":%s}\n", permissions.s);
        } else {
                printf("secrets  %s/secrets\nnats     %s/nats\n", s.state, s.state);
        }
        return 0;
}
