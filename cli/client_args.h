/* Options of a command: --name, --name VALUE or --name=VALUE in any order, `--` ends them, and what is left are its arguments. */
#ifndef AETHELOS_CLI_CLIENT_ARGS_H
#define AETHELOS_CLI_CLIENT_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#define ARGS_REST_MAX 4
#define ARGS_GO_ON    (-1)

struct args_option {
        const char *name;   /* "--json"; NULL ends the table */
        bool *flag;         /* set when given; or */
        const char **value; /* borrowed from argv */
};

struct args {
        const char *help; /* the whole text of --help; its first paragraph is the usage: "usage: aethelos ..." */
        const struct args_option *options;
        size_t least, most; /* how many arguments */
        const char *rest[ARGS_REST_MAX];
        size_t n_rest;
};

/* --state DIR, which a command need not have in its table, says which stack is meant, in place of AETHELOS_STATE and the addresses.
 * ARGS_GO_ON, or the exit status: 0 after --help, 2 after a wrong use, which was said on stderr. argv[0] is the command's name. */
int args_parse(struct args *a, int argc, char **argv);

/* Says `why` and the usage on stderr; yields 2. */
int args_usage(const struct args *a, const char *why, const char *what);

#endif
