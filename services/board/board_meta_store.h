/* The SQL of the routes about repair. Results are 0 or a negative errno of db_run unless said otherwise. */
#ifndef AETHELOS_BOARD_META_STORE_H
#define AETHELOS_BOARD_META_STORE_H

#include "board_meta_core.h"
#include "store/db.h"

/* Stores a command, committed. -EEXIST: the id stands for another command. */
int board_command_store(struct db *db, const struct uuid *id, const char *what, const char *args, const char *by);
/* Those of the commands that are done: rows of id, result. */
int board_commands_done(struct db *db, const struct uuid ids[], size_t n, PGresult **ret_result);
int board_command_document(struct db *db, const struct uuid *id, struct strbuf *b); /* -ENOENT */

struct board_issue_filter {
        const char *kind, *state, *grade; /* NULL: any */
        const struct uuid *chain;         /* NULL: any */
        const struct uuid *after;         /* behind this one; NULL: from the beginning */
        bool after_closed;                /* which is a closed one */
        int64_t limit;
};
int board_issues(struct db *db, const struct board_issue_filter *f, struct strbuf *b);
int board_issue(struct db *db, const struct uuid *id, struct strbuf *b); /* -ENOENT */
int board_rules(struct db *db, struct strbuf *b);
int board_haste(struct db *db, struct strbuf *b); /* the newest version of each hasty label */

#endif
