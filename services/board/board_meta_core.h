/* What the routes about repair decide without a database: whether a body is the command that its route wants, and what an answer of meta-repair means
 * for who asked. Pure. */
#ifndef AETHELOS_BOARD_META_CORE_H
#define AETHELOS_BOARD_META_CORE_H

#include "board_core.h"

enum board_command {
        BOARD_DO_AUTO_REPAIR,
        BOARD_DO_REPAIR_ISSUE,
        BOARD_DO_CLOSE_ISSUE,
        BOARD_DO_REDRIVE,
        BOARD_DO_REFUND,
        BOARD_DO_CLOSE,
        BOARD_DO_RULE,
        BOARD_DO_HASTE,
        BOARD_DO_TASK,
        BOARD_DO_RUN_TASK
};

const char *board_command_what(enum board_command command); /* its name in table repair_command */

/* Reads a body: the arguments as JSON text without who asks, and who asks (malloc'ed). `id` is what the path names: an issue of
 * BOARD_DO_REPAIR_ISSUE and BOARD_DO_CLOSE_ISSUE, a chain of BOARD_DO_REFUND and BOARD_DO_CLOSE, a task of BOARD_DO_RUN_TASK; NULL for the others.
 * False with the problem; then nothing is left to free. */
bool board_read_command(enum board_command command, const char *body, size_t len, const struct uuid *id, struct strbuf *ret_args, char **ret_by,
        struct board_problem *ret_problem);

/* The id of a command under an idempotency key: the same key and route yield the same id (UUID version 8). */
struct uuid board_command_id(enum board_command command, const struct uuid *id, const char *key);

/* What a result says. Of a command about one chain that was refused: the refusal (404 or 409). Of one that cannot be carried out at all: 422, and
 * *ret_detail (malloc'ed) has meta-repair's words. Else status 0. */
struct board_problem board_command_problem(enum board_command command, const char *args, const char *result, char **ret_detail);

/* "0.<id>" or "1.<id>", the cursor of the list of issues: the open ones come first. */
bool board_issue_cursor_parse(const char *s, bool *ret_closed, struct uuid *ret_id);

#endif
