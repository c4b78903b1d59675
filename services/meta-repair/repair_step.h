/* One step of a command: what repair_commands.c and repair_wishes.c share. */
#ifndef AETHELOS_META_REPAIR_STEP_H
#define AETHELOS_META_REPAIR_STEP_H

#include "base/json.h"
#include "repair.h"
#include "repair_progress.h"

/* Made anew when the transaction is tried again. */
struct repair_step {
        struct service *s;
        struct repair_command command;
        struct json_doc args;
        struct repair_progress progress;
        bool done;
        struct repair_work work; /* of auto_repair */
        struct advance moves;
        struct transition *decided; /* moves that went with evidence, each won */
        size_t n_decided;
        bool rules_changed;
        struct repair_task task; /* that was opened or found, to be rung on task_lane; hearer "": none */
        enum lane task_lane;
};

/* Members of its arguments; NULL when absent. */
json_value repair_arg(const struct repair_step *st, const char *name);
char *repair_text_arg(const struct repair_step *st, const char *name); /* malloc'ed */
bool repair_uuid_arg(const struct repair_step *st, const char *name, struct uuid *ret_id);
/* The command is done: it cannot be carried out. 0. */
int repair_unusable(struct repair_step *st, const char *why);

int repair_do_redrive(struct repair_step *st);
int repair_do_reopen(struct repair_step *st);
int repair_do_refund(struct repair_step *st);
int repair_do_close(struct repair_step *st);
int repair_do_task(struct repair_step *st);

#endif
