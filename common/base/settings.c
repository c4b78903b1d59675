/* Settings from a table: default, then environment, then command line. Invariants: a field is only ever set from a value that was checked, and no
 * message or listing shows what a secret file holds.
 * A secret is kept as "content NUL path NUL" in one block, so that the field is a plain string and settings_print still knows the path. */
#include "settings.h"

#include "util.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_MAX_BYTES 65536

static void *field_of(const struct setting *s, void *config)
{
        return (char *)config + s->offset;
}

static const void *const_field_of(const struct setting *s, const void *config)
{
        return (const char *)config + s->offset;
}

static void add_env_name(struct strbuf *b, const struct setting *s)
{
        strbuf_adds(b, "AETHELOS_");
        for (const char *p = s->name; *p; p++)
                strbuf_addc(b, (char)toupper((unsigned char)*p));
}

/* The value of "<name>=<value>" if `text` is that, else NULL. */
static const char *value_behind(const char *text, const char *name, size_t name_len)
{
        return strncmp(text, name, name_len) == 0 && text[name_len] == '=' ? text + name_len + 1 : NULL;
}

static const char *from_env(const struct setting *s, char *const env[])
{
        _cleanup_(strbuf_done) struct strbuf name = {0};
        add_env_name(&name, s);
        for (char *const *e = env; e && *e; e++) {
                const char *value = value_behind(*e, name.s, name.len);
                if (value)
                        return *value ? value : NULL;
        }
        return NULL;
}

/* The last one wins, as with every tool that takes options. */
static const char *from_args(const struct setting *s, int argc, char *const argv[])
{
        for (int i = argc - 1; argv && i > 0; i--) {
                const char *value = strncmp(argv[i], "--", 2) == 0 ? value_behind(argv[i] + 2, s->name, strlen(s->name)) : NULL;
                if (value)
                        return value;
        }
        return NULL;
}

static int set_int(const struct setting *s, const char *value, int64_t *field, struct strbuf *ret_error)
{
        /* strtoll alone would take " 7" and "+7". */
        char *end = NULL;
        bool digits = isdigit((unsigned char)value[0]) || (value[0] == '-' && isdigit((unsigned char)value[1]));
        errno = 0;
        long long n = digits ? strtoll(value, &end, 10) : 0;
        if (!digits || *end) {
                strbuf_addf(ret_error, "\"%s\" is not a whole number", value);
                return -EINVAL;
        }
        if (errno == ERANGE || n < s->min || n > s->max) {
                strbuf_addf(ret_error, "%s is not between %" PRId64 " and %" PRId64, value, s->min, s->max);
                return -EINVAL;
        }
        *field = n;
        return 0;
}

static int set_bool(const char *value, bool *field, struct strbuf *ret_error)
{
        static const char *const words[] = {"false", "true", "no", "yes", "0", "1"};
        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                if (strcmp(value, words[i]) == 0) {
                        *field = i % 2;
                        return 0;
                }
        }
        strbuf_addf(ret_error, "\"%s\" is not true, false, yes, no, 1 or 0", value);
        return -EINVAL;
}

static void wipe_and_free(char *secret)
{
        if (secret)
                explicit_bzero(secret, strlen(secret));
        free(secret);
}

static int set_secret(const char *path, char **field, struct strbuf *ret_error)
{
        char *content = NULL;
        int r = read_file(path, SECRET_MAX_BYTES, &content);
        if (r == 0 && !*content) {
                free(content);
                strbuf_addf(ret_error, "the file %s is empty", path);
                return -EINVAL;
        }
        if (r != 0) {
                /* Somebody may have put the secret where its path belongs: only what looks like a path is repeated. */
                strbuf_addf(ret_error, "cannot read %s: %s", path[0] == '/' || path[0] == '.' ? path : "the file it names", strerror(-r));
                return -EINVAL;
        }
        size_t len = strlen(content), path_len = strlen(path);
        *field = xmalloc(len + 1 + path_len + 1);
        memcpy(*field, content, len + 1);
        memcpy(*field + len + 1, path, path_len + 1);
        wipe_and_free(content);
        return 0;
}

static int set_field(const struct setting *s, const char *value, void *field, struct strbuf *ret_error)
{
        switch (s->kind) {
        case SETTING_STRING:
                *(char **)field = xstrdup(value);
                return 0;
        case SETTING_INT:
                return set_int(s, value, field, ret_error);
        case SETTING_BOOL:
                return set_bool(value, field, ret_error);
        case SETTING_SECRET_FILE:
                return set_secret(value, field, ret_error);
        }
        die("a setting of no known kind");
}

static void clear_field(const struct setting *s, void *field)
{
        switch (s->kind) {
        case SETTING_STRING:
        case SETTING_SECRET_FILE:
                *(char **)field = NULL;
                break;
        case SETTING_INT:
                *(int64_t *)field = 0;
                break;
        case SETTING_BOOL:
                *(bool *)field = false;
                break;
        }
}

static int load_one(const struct setting *s, char *const env[], int argc, char *const argv[], void *config, struct strbuf *ret_error)
{
        const char *value = from_args(s, argc, argv);
        _cleanup_(strbuf_done) struct strbuf source = {0};
        if (value) {
                strbuf_addf(&source, "--%s", s->name);
        } else if ((value = from_env(s, env))) {
                add_env_name(&source, s);
        } else {
                value = s->fallback;
                strbuf_addf(&source, "default of %s", s->name);
        }

        if (!value || (s->required && !*value)) {
                if (!s->required)
                        return 0;
                strbuf_addf(ret_error, "%s is needed: set ", s->name);
                add_env_name(ret_error, s);
                strbuf_addf(ret_error, " or --%s=... (%s)", s->name, s->help ? s->help : "");
                return -EINVAL;
        }
        _cleanup_(strbuf_done) struct strbuf why = {0};
        int r = set_field(s, value, field_of(s, config), &why);
        if (r != 0)
                strbuf_addf(ret_error, "%s: %s", source.s, why.s);
        return r;
}

int settings_load(const struct setting table[], char *const env[], int argc, char *const argv[], void *config, struct strbuf *ret_error)
{
        for (const struct setting *s = table; s->name; s++)
                clear_field(s, field_of(s, config));
        for (const struct setting *s = table; s->name; s++) {
                int r = load_one(s, env, argc, argv, config, ret_error);
                if (r != 0) {
                        settings_done(table, config);
                        return r;
                }
        }
        return 0;
}

const char *settings_unknown(const struct setting *const tables[], size_t n, int argc, char *const argv[])
{
        for (int i = 1; i < argc; i++) {
                if (strncmp(argv[i], "--", 2) != 0 || !strchr(argv[i], '='))
                        continue;
                bool known = false;
                for (size_t t = 0; t < n && !known; t++) {
                        for (const struct setting *s = tables[t]; s && s->name && !known; s++)
                                known = value_behind(argv[i] + 2, s->name, strlen(s->name));
                }
                if (!known)
                        return argv[i];
        }
        return NULL;
}

void settings_done(const struct setting table[], void *config)
{
        for (const struct setting *s = table; s->name; s++) {
                char **field = field_of(s, config);
                switch (s->kind) {
                case SETTING_STRING:
                        free(TAKE_PTR(*field));
                        break;
                case SETTING_SECRET_FILE:
                        wipe_and_free(TAKE_PTR(*field));
                        break;
                case SETTING_INT:
                case SETTING_BOOL:
                        break;
                }
        }
}

/* scheme://user:password@host: the password becomes ***. */
static void add_without_password(struct strbuf *b, const char *value)
{
        const char *authority = strstr(value, "://");
        const char *user = authority ? authority + 3 : NULL;
        size_t authority_len = user ? strcspn(user, "/?#") : 0;
        const char *at = user ? memrchr(user, '@', authority_len) : NULL;
        const char *colon = at ? memchr(user, ':', (size_t)(at - user)) : NULL;
        if (!colon) {
                strbuf_adds(b, value);
                return;
        }
        strbuf_add(b, value, (size_t)(colon + 1 - value));
        strbuf_adds(b, "***");
        strbuf_adds(b, at);
}

void settings_print(const struct setting table[], const void *config, struct strbuf *b)
{
        for (const struct setting *s = table; s->name; s++) {
                const void *field = const_field_of(s, config);
                strbuf_addf(b, "%s = ", s->name);
                switch (s->kind) {
                case SETTING_STRING: {
                        const char *value = *(char *const *)field;
                        if (value)
                                add_without_password(b, value);
                        else
                                strbuf_adds(b, "(none)");
                        break;
                }
                case SETTING_SECRET_FILE: {
                        const char *secret = *(char *const *)field;
                        if (secret)
                                strbuf_addf(b, "(from %s)", secret + strlen(secret) + 1);
                        else
                                strbuf_adds(b, "(none)");
                        break;
                }
                case SETTING_INT:
                        strbuf_addi(b, *(const int64_t *)field);
                        break;
                case SETTING_BOOL:
                        strbuf_adds(b, *(const bool *)field ? "true" : "false");
                        break;
                }
                if (s->help)
                        strbuf_addf(b, "   # %s", s->help);
                strbuf_addc(b, '\n');
        }
}
