/* The commands of `aethelos`, and what they share. A command is one row in main.c's table and one function; argv[0] is its name, and what it returns
 * is the exit status: 0 done, 1 failed, 2 used wrongly. Each parses its own options (client_args.h), --help among them. */
#ifndef AETHELOS_CLI_CLI_H
#define AETHELOS_CLI_CLI_H

#include <stdio.h>

int cmd_up(int argc, char **argv);
int cmd_down(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

int cmd_run(int argc, char **argv);
int cmd_submit(int argc, char **argv);
int cmd_pay(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_flows(int argc, char **argv);
int cmd_flows_add(int argc, char **argv);
int cmd_operators(int argc, char **argv);
int cmd_operators_add(int argc, char **argv);
int cmd_runs(int argc, char **argv);
int cmd_tasks(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_worker(int argc, char **argv);
int cmd_overview(int argc, char **argv);
int cmd_quarantine(int argc, char **argv);
int cmd_offers(int argc, char **argv);
int cmd_payouts(int argc, char **argv);
int cmd_refunds(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_issues(int argc, char **argv);
int cmd_repair(int argc, char **argv);
int cmd_redrive(int argc, char **argv);
int cmd_refund(int argc, char **argv);
int cmd_close(int argc, char **argv);
int cmd_rules(int argc, char **argv);
int cmd_webhooks(int argc, char **argv);
int cmd_backup(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_secrets(int argc, char **argv);
int cmd_migrate(int argc, char **argv);
int cmd_bench(int argc, char **argv); /* runs the program aethelos-bench beside this one */

/* Where the running stack is: state directory of AETHELOS_STATE, else `var` in the checkout. */
struct stack_state {
        char *public_url, *admin_url;
        char *admin_token_file;
        char *nats_url, *nats_user, *nats_password_file;
};
int cli_state_read(struct stack_state *ret_state); /* 0, or -ENOENT: no stack runs here */
void stack_state_done(struct stack_state *state);  /* {0} is allowed; also for _cleanup_(stack_state_done) */

/* Starts the stack unless it runs; returns when it is ready. Progress goes to `progress`. 0, or -1 after saying why on stderr. */
int cli_ensure_up(FILE *progress);

#endif
