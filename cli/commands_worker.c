/* operators worker: the bus user of an operator's workers.
 *
 * Invariant: a password is made once and lies 0600 beside those of the other bus users, whom the stack reads at every start. A crash between the file
 * and the signal leaves a user whom the broker knows from its next start on, or when the command is repeated. */
#include "cli.h"
#include "client.h"
#include "client_args.h"
#include "nats_users.h"
#include "stack.h"

#include "base/util.h"

#include <errno.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KNOWN_MS 10000

static const char WORKER_HELP[] =
        "usage: aethelos operators worker OPERATOR [--json]\n"
        "\n"
        "Makes the bus user of the workers of OPERATOR (of kind bus), and prints how they log in. Repeating it shows the same user.\n"
        "The user may serve the subjects of that operator and nothing else; its inbox prefix is _INBOX_ and its name.\n"
        "With a broker that is not the stack's own, prints the entry for the broker's list of users instead.\n"
        "\n"
        "  --json  prints nats_url, nats_user, nats_password_file and inbox_prefix as JSON\n";

/* Made by root it belongs to whom the servers run as, as the directory does; so does one that an earlier call left to root. */
static int password_file(const char *directory, const char *path, char **ret_password)
{
        struct stat st, own;

        if (secret_file(path, ret_password) < 0)
                return -1;
        if (stat(directory, &st) < 0 || lstat(path, &own) < 0 || (own.st_uid != st.st_uid && lchown(path, st.st_uid, st.st_gid) < 0)) {
                say_errno(path, errno);
                return -1;
        }
        return 0;
}

static bool logs_in(const char *url, const char *user, const char *password)
{
        natsOptions *options = NULL;
        natsConnection *c = NULL;
        natsStatus st = natsOptions_Create(&options);

        if (st == NATS_OK)
                st = natsOptions_SetURL(options, url);
        if (st == NATS_OK)
                st = natsOptions_SetUserInfo(options, user, password);
        if (st == NATS_OK)
                st = natsConnection_Connect(&c, options);
        natsConnection_Destroy(c);
        natsOptions_Destroy(options);
        return st == NATS_OK;
}

/* The supervisor reads the users again, and has the broker do it. */
static int make_known(const struct stack *s, const char *url, const char *user, const char *password)
{
        _cleanup_(freep) char *lock = stack_path(s, "run/lock"), *pid = NULL;
        int r;

        if (logs_in(url, user, password))
                return 0;
        r = read_file(lock, 32, &pid);
        if (r == 0 && (atoi(pid) <= 1 || kill(atoi(pid), SIGUSR1) < 0))
                r = atoi(pid) <= 1 ? -EINVAL : -errno;
        for (int64_t until = now_mono_ms() + KNOWN_MS; r == 0 && !logs_in(url, user, password); usleep(50000))
                if (now_mono_ms() > until)
                        r = -ETIMEDOUT;
        return r;
}

/* The user may be made before its operator is registered; a name that is mistyped should not pass for that. */
static void say_unknown(const char *name)
{
        _cleanup_(client_done) struct client c = {0};

        if (client_find(&c) == 0 && client_may_admin(&c) && client_operator(&c, name, "bus") == 0)
                fprintf(stderr, "aethelos: no operator %s of kind bus is registered; `./aethelos operators add FILE` does it.\n", name);
}

int cmd_worker(int argc, char **argv)
{
        _cleanup_(stack_done) struct stack s = {0};
        _cleanup_(stack_state_done) struct stack_state running = {0};
        _cleanup_(strbuf_done) struct strbuf user = {0}, path = {0}, entry = {0};
        _cleanup_(freep) char *conf = NULL, *directory = NULL, *password = NULL;
        bool json = false;
        struct args a = {.help = WORKER_HELP, .options = (struct args_option[]){{"--json", .flag = &json}, {0}}, .most = 1};
        int r = args_parse(&a, argc, argv);

        if (r != ARGS_GO_ON)
                return r;
        if (a.n_rest != 1 || !nats_operator_ok(a.rest[0]))
                return args_usage(&a, "name the operator: 1 to 64 characters a-z 0-9 _", a.n_rest ? a.rest[0] : NULL);
        if (stack_locate(&s, NULL) < 0)
                return 1;
        if (cli_state_read(&running) < 0) {
                fprintf(stderr, "aethelos: no stack is running here. Start it with `./aethelos up`, or name its directory with --state.\n");
                return 1;
        }
        conf = stack_path(&s, "nats/nats-server.conf");
        directory = stack_path(&s, "secrets/nats");
        if (running.nats_user && access(conf, F_OK) < 0 && errno == EACCES) {
                fprintf(stderr, "aethelos: %s may not be read by this user. Run the command as the user who started the stack.\n", conf);
                return 1;
        }
        if (!running.nats_user || access(conf, F_OK) < 0) {
                char text[SECRET_SIZE];

                secret_random(text);
                nats_worker_user(&entry, a.rest[0], text);
                printf("%s", entry.s + 1);
                return 0;
        }
        strbuf_addf(&user, NATS_WORKER "%s", a.rest[0]);
        strbuf_addf(&path, "%s/%s", directory, user.s);
        if (password_file(directory, path.s, &password) < 0)
                return 1;
        r = make_known(&s, running.nats_url, user.s, password);
        nats_Close();
        if (r < 0) {
                say_errno(path.s, r);
                return 1;
        }
        say_unknown(a.rest[0]);
        if (json)
                printf("{\"nats_url\":\"%s\",\"nats_user\":\"%s\",\"nats_password_file\":\"%s\",\"inbox_prefix\":\"_INBOX_%s\"}\n", running.nats_url,
                        user.s, path.s, user.s);
        else
                printf("  url            %s\n  user           %s\n  password file  %s\n  inbox prefix   _INBOX_%s\n", running.nats_url, user.s,
                        path.s, user.s);
        return 0;
}
