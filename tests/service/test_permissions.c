/* Who may do what on the bus: every user tries every subject that anybody may use, and some that nobody may. What is not in the table here must be
 * refused by the server as proto/nats-permissions.conf configures it, or, of what feed says in its own account, must be heard by nobody. In verbose
 * mode the server answers each command with +OK or -ERR, so there is nothing to wait for. */
#include "base/strbuf.h"
#include "base/util.h"
#include "cli/nats_users.h"
#include "proto/subjects.h"
#include "tests/support/nats_fixture.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const users[] = {
        "intake", "pricing", "payments", "execution", "ledger", "payouts", "meta-repair", "feed", "webhooks", "board", "worker-x", "default"};

/* What each user may do; {user, P, S or Q, subject}; Q: to listen in the queue group x (who may
 * listen, may do it in a group). One that ends in '.' or '_' stands for all that begin so. */
static const struct {
        const char *user, verb, *subject;
} allowed[] = {
        {"intake", 'P', "aethelos.receipt."},
        {"intake", 'P', "_INBOX."},
        {"intake", 'P', "aethelos.hop.pricing."},
        {"intake", 'S', "aethelos.query.receipt."},
        {"intake", 'S', "aethelos.hop.intake."},
        {"pricing", 'P', "aethelos.receipt."},
        {"pricing", 'P', "aethelos.hop.payments."},
        {"pricing", 'P', "aethelos.hop.pricing."},
        {"payments", 'P', "aethelos.hop.execution."},
        {"payments", 'P', "aethelos.hop.payments."},
        {"payments", 'P', "aethelos.hop.meta-repair."},
        {"payments", 'P', "aethelos.hop.intake."},
        {"execution", 'P', "aethelos.hop.ledger."},
        {"execution", 'P', "aethelos.hop.execution."},
        {"execution", 'P', "aethelos.hop.meta-repair."},
        {"execution", 'P', "aethelos.operator.x"},
        {"execution", 'P', "aethelos.operator.x.status"},
        {"execution", 'S', "aethelos.operator.x.beat"},
        {"execution", 'S', "aethelos.operator.x.result"},
        {"ledger", 'P', "aethelos.hop.payouts."},
        {"ledger", 'P', "aethelos.hop.ledger."},
        {"payouts", 'P', "aethelos.hop.payouts."},
        {"meta-repair", 'P', "aethelos.hop."},
        {"meta-repair", 'P', "$JS.API.CONSUMER.INFO.HOP_"},
        {"feed", 'P', "aethelos.event."},
        {"feed", 'S', "aethelos.hop.intake."},
        {"board", 'P', "aethelos.hop.payments."},
        {"board", 'P', "aethelos.hop.payouts."},
        {"board", 'P', "aethelos.hop.meta-repair."},
        {"worker-x", 'P', "aethelos.operator.x.beat"},
        {"worker-x", 'P', "aethelos.operator.x.result"},
        {"worker-x", 'S', "aethelos.operator.x.status"},
        {"worker-x", 'Q', "aethelos.operator.x"},
        {"default", 'P', "aethelos.job.submit.default"},
        {"default", 'P', "aethelos.query.receipt.default"},
        {"default", 'S', "aethelos.receipt.default."},
        {"default", 'S', "aethelos.event.default."},
        {"default", 'S', "_INBOX."},
};

static const char *const streams[] = {"SUBMIT", "HOP_PRICING", "HOP_PAYMENTS", "HOP_EXECUTION", "HOP_LEDGER", "HOP_PAYOUTS", "HOP_META_REPAIR"};
static const char *const stream_users[] = {"intake", "pricing", "payments", "execution", "ledger", "payouts", "meta-repair"};

static bool begins(const char *s, const char *with)
{
        return strncmp(s, with, strlen(with)) == 0;
}

static bool may(const char *user, char verb, const char *subject)
{
        char own[96];

        for (size_t i = 0; i < ARRAY_SIZE(allowed); i++) {
                const char *s = allowed[i].subject;
                bool all = strchr("._", s[strlen(s) - 1]) != NULL;

                if (strcmp(allowed[i].user, user) == 0 && (allowed[i].verb == verb || (verb == 'Q' && allowed[i].verb == 'S')) &&
                        (all ? begins(subject, s) : strcmp(subject, s) == 0))
                        return true;
        }
        if (strcmp(user, "default") == 0)
                return false;
        snprintf(own, sizeof(own), "aethelos.heartbeat.%s.", user);
        if (verb == 'P' && strcmp(user, "worker-x") != 0 && begins(subject, own))
                return true;
        snprintf(own, sizeof(own), "_INBOX_%s.", user);
        if (verb != 'P' && begins(subject, own))
                return true;
        for (size_t i = 0; verb == 'P' && i < ARRAY_SIZE(streams); i++) {
                static const char *const calls[] = {"$JS.API.STREAM.CREATE.%s", "$JS.API.STREAM.UPDATE.%s", "$JS.API.STREAM.INFO.%s",
                        "$JS.API.CONSUMER.DURABLE.CREATE.%s.", "$JS.API.CONSUMER.CREATE.%s.", "$JS.API.CONSUMER.INFO.%s.",
                        "$JS.API.CONSUMER.DELETE.%s.", "$JS.API.CONSUMER.MSG.NEXT.%s.", "$JS.ACK.%s."};

                if (strcmp(stream_users[i], user) != 0)
                        continue;
                for (size_t c = 0; c < ARRAY_SIZE(calls); c++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                        snprintf(own, sizeof(own), calls[c], streams[i]);
#pragma GCC diagnostic pop
                        if (begins(subject, own))
                                return true;
                }
        }
        return false;
}

/* Nothing is refused to it; see below who hears it. */
static bool unlimited(const char *user, char verb)
{
        return verb == 'P' && strcmp(user, "feed") == 0;
}

static void read_line(int fd, char *line, size_t size)
{
        size_t n = 0;

        while (n < size - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
                n++;
        line[n] = '\0';
}

static int log_in(const struct nats_fixture *nats, const char *user)
{
        struct sockaddr_in a = {
                .sin_family = AF_INET, .sin_port = htons((uint16_t)nats_fixture_port(nats)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char line[4096], greeting[256];

        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
        read_line(fd, line, sizeof(line));
        snprintf(greeting, sizeof(greeting),
                "CONNECT {\"verbose\":true,\"pedantic\":false,\"user\":\"%s\",\"pass\":\"secret-%s\",\"protocol\":1}\r\n", user, user);
        assert_int_equal(write(fd, greeting, strlen(greeting)), (ssize_t)strlen(greeting));
        read_line(fd, line, sizeof(line));
        if (!begins(line, "+OK"))
                fail_msg("%s cannot log in: %s", user, line);
        return fd;
}

static bool try_it(int fd, char verb, const char *subject)
{
        static int sid;
        char command[256], line[4096];

        if (verb == 'P')
                snprintf(command, sizeof(command), "PUB %s 0\r\n\r\n", subject);
        else
                snprintf(command, sizeof(command), "SUB %s %s%d\r\n", subject, verb == 'Q' ? "x " : "", ++sid);
        assert_int_equal(write(fd, command, strlen(command)), (ssize_t)strlen(command));
        for (;;) {
                read_line(fd, line, sizeof(line));
                if (begins(line, "+OK"))
                        return true;
                if (begins(line, "-ERR"))
                        return false;
                if (begins(line, "PING"))
                        assert_int_equal(write(fd, "PONG\r\n", 6), 6);
                else if (!line[0])
                        fail_msg("the server closed the connection at %s", subject);
        }
}

static size_t subjects(char **ret_list)
{
        static const char *const plain[] = {"aethelos.job.submit.default", "aethelos.job.submit.other", "aethelos.query.receipt.default",
                "aethelos.query.receipt.other", "aethelos.receipt.default.k", "aethelos.receipt.other.k", "aethelos.event.default.PRICED.1",
                "aethelos.event.other.PRICED.1", "aethelos.operator.x", "aethelos.operator.x.status", "aethelos.operator.x.beat",
                "aethelos.operator.x.result", "aethelos.operator.x.other", "aethelos.control.intake.1", "_INBOX.x", "$JS.API.INFO",
                "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.ACCOUNT.PURGE.X", "$SYS.REQ.SERVER.PING", "$KV.x.y", "anything", "aethelos"};
        static const char *const calls[] = {"$JS.API.STREAM.CREATE.%s", "$JS.API.STREAM.UPDATE.%s", "$JS.API.STREAM.DELETE.%s",
                "$JS.API.STREAM.PURGE.%s", "$JS.API.STREAM.INFO.%s", "$JS.API.STREAM.MSG.GET.%s", "$JS.API.STREAM.MSG.DELETE.%s",
                "$JS.API.STREAM.RESTORE.%s", "$JS.API.STREAM.SNAPSHOT.%s", "$JS.API.CONSUMER.DURABLE.CREATE.%s.high", "$JS.API.CONSUMER.INFO.%s.high",
                "$JS.API.CONSUMER.DELETE.%s.high", "$JS.API.CONSUMER.MSG.NEXT.%s.high", "$JS.ACK.%s.high.1.1.1.1.1"};
        size_t n = 0;
        char text[128];

        for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
                ret_list[n++] = xstrdup(plain[i]);
        for (size_t u = 0; u < ARRAY_SIZE(users) - 1; u++) {
                snprintf(text, sizeof(text), "aethelos.heartbeat.%s.1", users[u]);
                ret_list[n++] = xstrdup(text);
                snprintf(text, sizeof(text), "_INBOX_%s.x", users[u]);
                ret_list[n++] = xstrdup(text);
                snprintf(text, sizeof(text), "aethelos.hop.%s.high", users[u]);
                ret_list[n++] = xstrdup(text);
        }
        for (size_t s = 0; s < ARRAY_SIZE(streams); s++)
                for (size_t c = 0; c < ARRAY_SIZE(calls); c++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                        snprintf(text, sizeof(text), calls[c], streams[s]);
#pragma GCC diagnostic pop
                        ret_list[n++] = xstrdup(text);
                }
        return n;
}

/* The server as it is configured, with a worker x and, beside the table, a user `all` among everybody but feed, who may do everything. */
static struct nats_fixture *start(char *dir)
{
        static const char all[] = "\n    { user: all, password: secret-all }\n  ]\n";
        _cleanup_(freep) char *table = NULL;
        _cleanup_(strbuf_done) struct strbuf with_worker = {0};
        char path[128], config[160], *users_end;
        FILE *f;

        assert_non_null(mkdtemp(dir));
        assert_int_equal(read_file(AETHELOS_SOURCE_DIR "/proto/nats-permissions.conf", 1 << 20, &table), 0);
        snprintf(path, sizeof(path), "%s/nats-permissions.conf", dir);
        f = fopen(path, "w");
        assert_non_null(f);
        strbuf_adds(&with_worker, table);
        assert_int_equal(nats_users_add(&with_worker, "x", "secret-worker-x"), 0);
        users_end = strstr(with_worker.s, "\n  ]\n  }\n}");
        assert_non_null(users_end);
        fprintf(f, "%.*s%s  }\n}\n", (int)(users_end - with_worker.s), with_worker.s, all);
        fclose(f);
        snprintf(path, sizeof(path), "%s/nats-passwords.conf", dir);
        f = fopen(path, "w");
        assert_non_null(f);
        for (size_t u = 0; u < ARRAY_SIZE(users); u++) {
                char name[32];

                if (begins(users[u], NATS_WORKER))
                        continue; /* its entry has it */
                snprintf(name, sizeof(name), "%s", users[u]);
                for (char *c = name; *c; c++)
                        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
                fprintf(f, "PASSWORD_%s: \"secret-%s\"\n", name, users[u]);
        }
        fclose(f);
        snprintf(config, sizeof(config), "include \"..%s/nats-permissions.conf\"\n",
                dir + strlen("/tmp")); /* paths are relative to the including file */
        return nats_fixture_start(config);
}

static void stop(const char *dir, struct nats_fixture *nats)
{
        char command[64];

        nats_fixture_free(nats);
        snprintf(command, sizeof(command), "rm -rf %s", dir);
        assert_int_equal(system(command), 0);
}

static void every_user_every_subject(void **state)
{
        char dir[] = "/tmp/aethelos-permissions-XXXXXX";
        struct nats_fixture *nats = start(dir);
        char *list[256];
        size_t n = subjects(list), refused = 0, granted = 0;

        (void)state;
        for (size_t u = 0; u < ARRAY_SIZE(users); u++) {
                int fd = log_in(nats, users[u]);

                for (size_t i = 0; i < n; i++)
                        for (int v = 0; v < 3; v++) {
                                char verb = "PSQ"[v];
                                bool is = try_it(fd, verb, list[i]), should = unlimited(users[u], verb) || may(users[u], verb, list[i]);

                                if (is != should)
                                        fail_msg("%s %s %s %s", users[u], is ? "may" : "may not", verb == 'P' ? "publish" : "subscribe to", list[i]);
                                is ? granted++ : refused++;
                        }
                close(fd);
        }
        print_message("%zu granted, %zu refused\n", granted, refused);
        for (size_t i = 0; i < n; i++)
                free(list[i]);
        stop(dir, nats);
}

/* Messages that have been delivered to a listener by now, counted by the subject of one of them. */
static size_t heard(int fd, const char *subject)
{
        char line[4096], *at;
        size_t n = 0;

        assert_int_equal(write(fd, "PING\r\n", 6), 6);
        for (;;) {
                read_line(fd, line, sizeof(line));
                if (begins(line, "PONG"))
                        return n;
                if (!begins(line, "MSG "))
                        continue;
                at = strchr(line + 4, ' ');
                assert_non_null(at);
                *at = '\0';
                if (strcmp(line + 4, subject) != 0)
                        fail_msg("%s was heard as %s", subject, line + 4);
                n++;
        }
}

/* From feed's account to the others ('P'), or from them to feed ('S'), crosses what feed may say or hear, `granted` of all subjects, and nothing
 * else. An answer to what is published comes when it has been handed to whoever hears it. */
static void assert_crossing(char verb, const char *listened, size_t granted)
{
        char dir[] = "/tmp/aethelos-permissions-XXXXXX";
        struct nats_fixture *nats = start(dir);
        int feed = log_in(nats, "feed"), all = log_in(nats, "all"), speaker = verb == 'P' ? feed : all, listener = verb == 'P' ? all : feed;
        char *list[256];
        size_t n = subjects(list), crossed = 0;

        assert_true(try_it(listener, 'S', listened));
        for (size_t i = 0; i < n; i++) {
                bool should = begins(list[i], "aethelos.") && may("feed", verb, list[i]);

                assert_true(try_it(speaker, 'P', list[i]));
                if ((heard(listener, list[i]) == 1) != should)
                        fail_msg("%s is %sheard", list[i], should ? "not " : "");
                crossed += should;
                free(list[i]);
        }
        assert_int_equal(crossed, granted);
        close(feed);
        close(all);
        stop(dir, nats);
}

static void feed_is_heard_only_with_its_own(void **state)
{
        (void)state;
        assert_crossing('P', ">", 3); /* events of two clients, and its heartbeat */
}

static void feed_hears_the_bells_of_intake(void **state)
{
        (void)state;
        assert_crossing('S', SUBJECT_INTENTS, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_user_every_subject),
                cmocka_unit_test(feed_is_heard_only_with_its_own),
                cmocka_unit_test(feed_hears_the_bells_of_intake),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
