/* Parses the options of a command. The help text is the one place that describes a command; its usage is shown again after a wrong use. */
#include "client_args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int args_usage(const struct args *a, const char *why, const char *what)
{
        const char *end = strstr(a->help, "\n\n");
        int usage = end ? (int)(end - a->help) : (int)strlen(a->help);
        fprintf(stderr, "aethelos: %s%s%s\n%.*s\nSee also --help.\n", why, what ? ": " : "", what ? what : "", usage, a->help);
        return 2;
}

/* The nth of the arguments that the usage names in upper case: "usage: aethelos pay JOB --reference TEXT" has JOB. */
static void argument_name(const struct args *a, size_t nth, char ret_name[32])
{
        const char *p = a->help, *end = p + strcspn(p, "\n");
        strcpy(ret_name, "an argument");
        while (p < end) {
                size_t len = strcspn(p, " \n");
                if (*p == '-')
                        return;
                if (*p >= 'A' && *p <= 'Z' && nth-- == 0) {
                        snprintf(ret_name, 32, "%.*s", (int)len, p);
                        return;
                }
                p += len + strspn(p + len, " ");
        }
}

static const struct args_option *option_find(const struct args *a, const char *arg, size_t len)
{
        for (const struct args_option *o = a->options; o && o->name; o++)
                if (strlen(o->name) == len && strncmp(o->name, arg, len) == 0)
                        return o;
        return NULL;
}

/* Which stack is meant can be said to every command; those that have no use of their own for it find it where they look anyway. */
static const char *stack_meant;
static const struct args_option stack_option = {"--state", .value = &stack_meant};

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
                if (!o && len == strlen(stack_option.name) && strncmp(arg, stack_option.name, len) == 0)
                        o = &stack_option;
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
                if (o == &stack_option && !**o->value)
                        return args_usage(a, "this option needs a directory", arg);
        }
        if (a->n_rest < a->least) {
                char name[32];
                argument_name(a, a->n_rest, name);
                return args_usage(a, "this is missing", name);
        }
        if (stack_meant) {
                setenv("AETHELOS_STATE", stack_meant, 1);
                unsetenv("AETHELOS_PUBLIC_URL"); /* of another one */
                unsetenv("AETHELOS_ADMIN_URL");
        }
        return ARGS_GO_ON;
}
