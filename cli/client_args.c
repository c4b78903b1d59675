/* Parses the options of a command. The help text is the one place that describes a command; its first line is shown again after a wrong use. */
#include "client_args.h"

#include <stdio.h>
#include <string.h>

int args_usage(const struct args *a, const char *why, const char *what)
{
        int line = (int)strcspn(a->help, "\n");
        fprintf(stderr, "aethelos: %s%s%s\n%.*s\nSee also --help.\n", why, what ? ": " : "", what ? what : "", line, a->help);
        return 2;
}

static const struct args_option *option_find(const struct args *a, const char *arg, size_t len)
{
        for (const struct args_option *o = a->options; o && o->name; o++)
                if (strlen(o->name) == len && strncmp(o->name, arg, len) == 0)
                        return o;
        return NULL;
}

int args_parse(struct args *a, int argc, char **argv)
{
        bool options = true;
        for (int i = 1; i < argc; i++) {
                const char *arg = argv[i];
                if (!options || arg[0] != '-' || arg[1] == '\0') {
                        if (a->n_rest == a->most)
                                return args_usage(a, "one argument too many", arg);
                        a->rest[a->n_rest++] = arg;
                        continue;
                }
                if (strcmp(arg, "--") == 0) {
                        options = false;
                        continue;
                }
                if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
                        fputs(a->help, stdout);
                        return 0;
                }
                size_t len = strcspn(arg, "=");
                const struct args_option *o = option_find(a, arg, len);
                if (!o)
                        return args_usage(a, "there is no such option", arg);
                if (o->flag) {
                        if (arg[len] == '=')
                                return args_usage(a, "this option takes no value", arg);
                        *o->flag = true;
                } else if (arg[len] == '=') {
                        *o->value = arg + len + 1;
                } else if (i + 1 < argc) {
                        *o->value = argv[++i];
                } else {
                        return args_usage(a, "this option needs a value", arg);
                }
        }
        if (a->n_rest < a->least)
                return args_usage(a, "something is missing", NULL);
        return ARGS_GO_ON;
}
