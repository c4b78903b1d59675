/* Debian has each major version of PostgreSQL in a directory of its own. */
#ifndef AETHELOS_CLI_POSTGRES_PROGRAM_H
#define AETHELOS_CLI_POSTGRES_PROGRAM_H

#define POSTGRES_ROOT "/usr/lib/postgresql"

char *postgres_program(const char *root, const char *name, int major); /* ROOT/<major>/bin/NAME, 0: of the newest; malloc'ed, or NULL */

#endif
