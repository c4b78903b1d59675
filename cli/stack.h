/* A stack on this machine: where its state is, how it is prepared, started, watched and found again. What the files stack*.c and supervise*.c share.
 *
 *      STATE/bin, share    copies of the programs, migrations and permissions that the stack was started with
 *      STATE/secrets       0700: passwords, the password file of libpq, the admin token; each 0600
 *      STATE/postgresql    the cluster        STATE/nats   configuration and storage of the broker
 *      STATE/run           lock, state.json, sockets, ports        STATE/log   one file a process */
#ifndef AETHELOS_CLI_STACK_H
#define AETHELOS_CLI_STACK_H

#include "base/strbuf.h"
#include "base/util.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define STACK_USER        "aethelos"          /* runs the servers when root starts them */
#define STACK_ROOT_STATE  "/var/lib/aethelos" /* their state then */
#define STACK_PUBLIC_PORT 3000
#define STACK_SERVICES    10

extern const char *const stack_services[STACK_SERVICES]; /* in the order in which they start */

struct stack {
        char *home;  /* the checkout */
        char *bin;   /* the programs as they were built */
        char *state; /* absolute */
        char *postgres_bin;
        bool external;              /* PostgreSQL and NATS are somebody else's */
        bool database_only;         /* PostgreSQL alone: for a restore */
        const char *secrets_from;   /* borrowed: a directory of secrets to take over; NULL: make them */
        char *database_url;         /* as the owner */
        char *database_passfile;    /* NULL: what the URL says */
        char *service_database_url; /* without user and password */
        char *service_passfile;
        char *nats_url;
        char *nats_passwords; /* directory, one file a user; NULL: the URL says all */
        int public_port, admin_port, nats_port, postgres_port;
        int64_t instances; /* of each service */
        uid_t uid;         /* whom the servers run as */
        gid_t gid;
};

/* --- stack.c: finding --- */
void stack_done(struct stack *s);
int stack_locate(struct stack *ret_stack, const char *state);                       /* home, bin, state; state may be NULL. 0 or -1, said */
char *stack_path(const struct stack *s, const char *tail);                          /* STATE/tail, malloc'ed */
char *path_absolute(const char *path);                                              /* malloc'ed, without slashes at its end */
bool stack_running(const struct stack *s);                                          /* somebody holds the lock */
int stack_state_file(const struct stack *s, char **ret_json);                       /* text of state.json; 0 or a negative errno */
int write_file_atomic(const char *path, mode_t mode, const void *data, size_t len); /* 0 or a negative errno */
int port_free_from(int first, int avoid);                                           /* first free port of 127.0.0.1, or -1 */
void say_errno(const char *what, int r);                                            /* "aethelos: what: why" on stderr */

/* --- stack_prepare.c: everything that must exist before a process starts --- */
int stack_prepare_outside(struct stack *s); /* as who called: user, directories, copies. 0; 1: it runs already; or -1, said */
int make_directory(const char *path, mode_t mode, const struct stack *owner); /* owner NULL: who called. 0, also when it is there; or -1, said */
int copy_file(const char *from, const char *to, mode_t mode);                 /* whole or not at all, with its time. 0 or -1, said */
int postgres_find(const char *data, char **ret_bin);                          /* newest, or the version of the cluster in `data`. 0 or -1, said */

/* --- secrets.c --- */
#define SECRET_SIZE 49                              /* its text, with the NUL */
void secret_random(char ret_text[SECRET_SIZE]);     /* one that is kept nowhere */
int secret_file(const char *path, char **ret_text); /* the secret in a file, made when there is none. 0 or -1, said */
int stack_prepare_inside(struct stack *s);          /* as whom the servers run: makes what is missing. 0 or -1, said */
int secrets_copy(
        const char *from, const struct stack *to); /* a directory of secrets into STATE/secrets, what is there already stays. 0 or -1, said */

/* --- stack_commands.c --- */
int stack_start_database(struct stack *s, FILE *progress); /* PostgreSQL alone, in the background. 0 or -1, said */
int stack_stop(const struct stack *s);                     /* ends what runs, and waits for it. 0 or -1, said */

/* --- supervise.c: the process in the background --- */
/* Never returns; says on `fd`, line by line: "say <text>", "fail <text>", "up". */
_Noreturn void supervise(struct stack *s, int fd);

#endif
