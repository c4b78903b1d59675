/* The database of a stack, for the commands that work on it directly: backup, restore, migrate. Passwords travel by environment or file, never as
 * arguments. */
#ifndef AETHELOS_CLI_DATABASE_H
#define AETHELOS_CLI_DATABASE_H

#include "stack.h"

#include <libpq-fe.h>

struct database {
        char *url;      /* conninfo without a password */
        char *password; /* NULL: in the passfile, or none is needed */
        char *passfile;
};

void database_done(struct database *d); /* {0} is allowed; also for _cleanup_(database_done) */

bool database_external(void); /* AETHELOS_DATABASE_URL is set */
/* AETHELOS_DATABASE_URL (with _USER, _PASSFILE, _PASSWORD_FILE), else the database of the stack that runs in this state directory. 0 or -1, said. */
int database_find(const struct stack *s, struct database *ret_database);
PGconn *database_open(const struct database *d);                      /* NULL after saying why */
int database_execute(PGconn *c, const char *sql, const char *what);   /* 0 or -1, said */
char *database_ask(PGconn *c, const char *sql, const char *what);     /* first column of the first row, "" when there is none; NULL, said */
bool database_holds_aethelos(PGconn *c, bool *ret_failed);            /* its schema is there */
int database_run(const struct database *d, const char *const argv[]); /* a program with the way in as its environment: 0, or -1, said */
_Noreturn void database_exec(const struct database *d, const char *const argv[]); /* the same, in this process */
/* pg_dump, pg_restore as old as the server where they are there (an archive of a newer one it could not read), else the newest; malloc'ed. */
char *postgres_tool(const char *name, PGconn *c);

/* The conninfo or URI as a conninfo, without the options named (NULL-terminated). *ret_password (may be NULL): the password in it, or NULL. NULL
 * after saying why. */
char *conninfo_without(const char *url, const char *const left_out[], char **ret_password);

#endif
