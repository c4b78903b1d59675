/* What backup and restore agree on. A backup is a directory:
 *
 *      database.dump   pg_dump, custom format: one snapshot of the whole database      roles.sql   the services' roles and their settings
 *      secrets/        only when asked for                                             SHA256SUMS  of every file, as sha256sum -c reads it */
#ifndef AETHELOS_CLI_BACKUP_H
#define AETHELOS_CLI_BACKUP_H

#include "base/hash.h"

#define BACKUP_DUMP  "database.dump"
#define BACKUP_ROLES "roles.sql"
#define BACKUP_SUMS  "SHA256SUMS"

int file_sha256(const char *path, char ret_hex[2 * SHA256_SIZE + 1]); /* 0 or a negative errno */

#endif
