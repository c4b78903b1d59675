/* Settings: which source wins, what is refused and with which words, and that secrets stay secret. */
#include "base/settings.h"
#include "base/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct config {
        char *url;
        char *note;
        int64_t port;
        bool tls;
        char *key;
};

static const struct setting table[] = {
        {.name = "database_url", .kind = SETTING_STRING, .offset = offsetof(struct config, url), .required = true, .help = "where PostgreSQL is"},
        {.name = "note", .kind = SETTING_STRING, .offset = offsetof(struct config, note)},
        {.name = "port",
                .kind = SETTING_INT,
                .fallback = "8080",
                .min = 1,
                .max = 65535,
                .offset = offsetof(struct config, port),
                .help = "TCP port"},
        {.name = "tls", .kind = SETTING_BOOL, .fallback = "no", .offset = offsetof(struct config, tls)},
        {.name = "key_file", .kind = SETTING_SECRET_FILE, .offset = offsetof(struct config, key)},
        {0},
};

#define MAX_TEXTS 8

/* Loads; on failure checks the message, on success the listing (both may be NULL). */
static int load(struct config *c, char *const env[], char *const args[], const char *error)
{
        char *argv[MAX_TEXTS + 1] = {"program"};
        int argc = 1;
        for (; args && args[argc - 1]; argc++)
                argv[argc] = args[argc - 1];
        _cleanup_(strbuf_done) struct strbuf why = {0};
        memset(c, 0xa5, sizeof *c); /* the loader must not trust what was there */
        int r = settings_load(table, env, argc, argv, c, &why);
        if (error) {
                assert_int_equal(r, -EINVAL);
                assert_string_equal(why.s, error);
                assert_null(c->url);
                assert_null(c->key);
        } else {
                assert_int_equal(r, 0);
                assert_int_equal(why.len, 0);
        }
        return r;
}

#define TEXTS(...) ((char *const[]){__VA_ARGS__, NULL})

static void later_source_wins(void **state)
{
        (void)state;
        struct config c;
        load(&c, TEXTS("AETHELOS_DATABASE_URL=env"), NULL, NULL);
        assert_string_equal(c.url, "env");
        assert_null(c.note);
        assert_null(c.key);
        assert_int_equal(c.port, 8080);
        assert_false(c.tls);
        settings_done(table, &c);
        assert_null(c.url);
        settings_done(table, &c); /* twice is harmless */

        load(&c, TEXTS("PORT=1", "AETHELOS_PORT=2", "AETHELOS_PORTS=3", "AETHELOS_DATABASE_URL=env", "AETHELOS_TLS=yes"),
                TEXTS("--database_url=a=b", "positional", "--tls=false", "--tls=1"), NULL);
        assert_string_equal(c.url, "a=b");
        assert_int_equal(c.port, 2);
        assert_true(c.tls); /* of two arguments the last */
        settings_done(table, &c);
}

static void empty_values(void **state)
{
        (void)state;
        struct config c;
        load(&c, TEXTS("AETHELOS_PORT=", "AETHELOS_NOTE="), TEXTS("--database_url=x"), NULL);
        assert_int_equal(c.port, 8080);
        assert_null(c.note);
        settings_done(table, &c);
        load(&c, TEXTS("AETHELOS_NOTE=env"), TEXTS("--database_url=x", "--note="), NULL);
        assert_string_equal(c.note, "");
        settings_done(table, &c);
        load(&c, NULL, TEXTS("--database_url="), "database_url is needed: set AETHELOS_DATABASE_URL or --database_url=... (where PostgreSQL is)");
        load(&c, NULL, TEXTS("--database_url=x", "--port="), "--port: \"\" is not a whole number");
}

static void numbers(void **state)
{
        (void)state;
        struct config c;
        load(&c, TEXTS("AETHELOS_PORT=70000"), TEXTS("--database_url=x"), "AETHELOS_PORT: 70000 is not between 1 and 65535");
        load(&c, NULL, TEXTS("--database_url=x", "--port=0"), "--port: 0 is not between 1 and 65535");
        load(&c, NULL, TEXTS("--database_url=x", "--port=-5"), "--port: -5 is not between 1 and 65535");
        load(&c, NULL, TEXTS("--database_url=x", "--port=99999999999999999999"), "--port: 99999999999999999999 is not between 1 and 65535");
        static char *const bad[] = {"--port=+7", "--port= 7", "--port=7 ", "--port=7k", "--port=0x10", "--port=-", "--port=1.5"};
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                char message[80];
                snprintf(message, sizeof message, "--port: \"%s\" is not a whole number", bad[i] + 7);
                load(&c, NULL, TEXTS("--database_url=x", bad[i]), message);
        }
        load(&c, NULL, TEXTS("--database_url=x", "--port=65535"), NULL);
        assert_int_equal(c.port, 65535);
        settings_done(table, &c);
}

static void booleans(void **state)
{
        (void)state;
        struct config c;
        static char *const yes[] = {"--tls=true", "--tls=yes", "--tls=1"}, *const no[] = {"--tls=false", "--tls=no", "--tls=0"};
        for (int i = 0; i < 3; i++) {
                load(&c, NULL, TEXTS("--database_url=x", yes[i]), NULL);
                assert_true(c.tls);
                settings_done(table, &c);
                load(&c, TEXTS("AETHELOS_TLS=yes"), TEXTS("--database_url=x", no[i]), NULL);
                assert_false(c.tls);
                settings_done(table, &c);
        }
        load(&c, NULL, TEXTS("--database_url=x", "--tls=on"), "--tls: \"on\" is not true, false, yes, no, 1 or 0");
}

static void bad_default_is_told(void **state)
{
        (void)state;
        static const struct setting wrong[] = {{.name = "n", .kind = SETTING_INT, .fallback = "9", .max = 5}, {0}};
        int64_t n;
        _cleanup_(strbuf_done) struct strbuf why = {0};
        assert_int_equal(settings_load(wrong, NULL, 0, NULL, &n, &why), -EINVAL);
        assert_string_equal(why.s, "default of n: 9 is not between 0 and 5");
}

static void unknown_arguments(void **state)
{
        (void)state;
        static const struct setting second[] = {{.name = "extra", .kind = SETTING_STRING}, {0}};
        const struct setting *const both[] = {table, second};
        char *const argv[] = {"--bogus=program", "--port=1", "--extra=2", "--once", "file=x", "--ports=3", "--other=4"};
        assert_null(settings_unknown(both, 2, 5, argv));
        assert_ptr_equal(settings_unknown(both, 2, 7, argv), argv[5]);
        assert_ptr_equal(settings_unknown(both, 1, 5, argv), argv[2]);
        assert_ptr_equal(
                settings_unknown((const struct setting *const[]){both[0], NULL}, 2, 5, argv), argv[2]); /* a service without a table of its own */
}

static void secrets(void **state)
{
        (void)state;
        char path[] = "/tmp/test_settings.XXXXXX", arg[64], message[128];
        int fd = mkstemp(path);
        assert_int_equal(write(fd, "hunter2\n", 8), 8);
        snprintf(arg, sizeof arg, "--key_file=%s", path);
        struct config c;
        load(&c, NULL, TEXTS("--database_url=postgres://me:pw@host/db?x=a:b@c", arg, "--note=plain://host:80/"), NULL);
        assert_string_equal(c.key, "hunter2");
        _cleanup_(strbuf_done) struct strbuf b = {0}, expected = {0};
        settings_print(table, &c, &b);
        strbuf_addf(&expected,
                "database_url = postgres://me:***@host/db?x=a:b@c   # where PostgreSQL is\n"
                "note = plain://host:80/\n"
                "port = 8080   # TCP port\n"
                "tls = false\n"
                "key_file = (from %s)\n",
                path);
        assert_string_equal(b.s, expected.s);
        settings_done(table, &c);
        assert_null(c.key);

        strbuf_reset(&b);
        load(&c, NULL, TEXTS("--database_url=x"), NULL);
        settings_print(table, &c, &b);
        assert_non_null(strstr(b.s, "note = (none)\n"));
        assert_non_null(strstr(b.s, "key_file = (none)\n"));
        settings_done(table, &c);

        assert_int_equal(ftruncate(fd, 0), 0);
        snprintf(message, sizeof message, "--key_file: the file %s is empty", path);
        load(&c, NULL, TEXTS("--database_url=x", arg), message);
        close(fd);
        unlink(path);
        snprintf(message, sizeof message, "--key_file: cannot read %s: No such file or directory", path);
        load(&c, NULL, TEXTS("--database_url=x", arg), message);
        /* The secret in place of its path is not repeated. */
        load(&c, TEXTS("AETHELOS_KEY_FILE=hunter2"), TEXTS("--database_url=x"),
                "AETHELOS_KEY_FILE: cannot read the file it names: No such file or directory");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(later_source_wins),
                cmocka_unit_test(empty_values),
                cmocka_unit_test(numbers),
                cmocka_unit_test(booleans),
                cmocka_unit_test(bad_default_is_told),
                cmocka_unit_test(unknown_arguments),
                cmocka_unit_test(secrets),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
