/* Settings as a table: each row names a field of a configuration struct, its kind, default and range. Filled once at start, then const.
 * Sources, later wins: the default, the environment (AETHELOS_<NAME IN UPPER CASE>), the command line (--name=value). */
#ifndef AETHELOS_BASE_SETTINGS_H
#define AETHELOS_BASE_SETTINGS_H

#include "strbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum setting_kind {
        SETTING_STRING,      /* char *; malloc'ed; NULL when neither set nor defaulted */
        SETTING_INT,         /* int64_t within [min, max] */
        SETTING_BOOL,        /* bool: true/false/yes/no/1/0 */
        SETTING_SECRET_FILE, /* char *: path of a file; the FILE is read by settings_load and the field holds its content; shown as "(from PATH)" */
};

struct setting {
        const char *name; /* lower case with underscores: database_url; NULL ends a table */
        enum setting_kind kind;
        const char *fallback; /* default as text; NULL = none */
        int64_t min, max;     /* for SETTING_INT */
        size_t offset;        /* of the field in the struct */
        bool required;        /* no value is an error */
        const char *help;     /* one line, with the unit */
};

/* Fills `config` from one table. An empty environment variable counts as not set (compose files pass those for what is left out); `--name=` is a
 * value: the empty string. On failure nothing is left to free. env and argv may be NULL; an argument this table does not know is left alone (the
 * caller checks leftovers with settings_unknown). 0, or -EINVAL with a message for people in ret_error ("AETHELOS_PORT: 70000 is not between 1 and
 * 65535"). */
int settings_load(const struct setting table[], char *const env[], int argc, char *const argv[], void *config, struct strbuf *ret_error);
/* The first --name=value argument that none of the n tables (NULL: an empty one) knows, or NULL. */
const char *settings_unknown(const struct setting *const tables[], size_t n, int argc, char *const argv[]);
void settings_done(const struct setting table[], void *config); /* frees strings; secrets are wiped first */
/* Adds "name = value   # help" lines, secrets not shown; of a URL with a password (scheme://user:password@host) the password is not shown either. */
void settings_print(const struct setting table[], const void *config, struct strbuf *b);

#endif
