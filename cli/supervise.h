/* What the supervisor's files share: the processes under it. supervise.c is the loop, supervise_engines.c PostgreSQL, nats-server and the migrations,
 * supervise_spawn.c one process, supervise_state.c what `status` reads. */
#ifndef AETHELOS_CLI_SUPERVISE_H
#define AETHELOS_CLI_SUPERVISE_H

#include "stack.h"

enum process_kind { PROCESS_ENGINE, PROCESS_SERVICE, PROCESS_TASK };

/* STARTING: an HTTP service that has not said its port yet. WAITING: ended, comes back at restart_at. */
enum process_state { PROCESS_STOPPED, PROCESS_STARTING, PROCESS_RUNNING, PROCESS_WAITING };

struct process {
        char name[32];     /* "pricing", "postgresql" */
        char instance[96]; /* <host>-<pid> */
        enum process_kind kind;
        enum process_state state;
        int number; /* 1..instances */
        pid_t pid;
        int status; /* wait status of the last end */
        int64_t started_ms, restart_at, backoff_ms;
        unsigned restarts;
};

#define PROCESSES_MAX 256

struct supervisor {
        struct stack *stack;
        int say_fd;    /* to `up`; -1 once it has heard enough */
        int signal_fd; /* SIGCHLD, SIGTERM, SIGINT, SIGUSR1 */
        int lock_fd;
        bool stopping;
        bool users_changed; /* there may be new bus users */
        struct process processes[PROCESSES_MAX];
        size_t n;
        int public_port, admin_port; /* as the services said; 0: not yet */
        char host[64];
};

/* supervise.c */
bool pump(struct supervisor *v, int64_t ms);                                           /* waits, reaps; false when told to stop */
void say(struct supervisor *v, const char *word, const char *fmt, ...) _printf_(3, 4); /* one line to `up` and to the log */
struct process *process_add(struct supervisor *v, const char *name, enum process_kind kind, int number);

/* supervise_spawn.c */
void process_spawn(struct supervisor *v, struct process *p);
void process_log_tail(struct supervisor *v, const char *name, struct strbuf *b); /* last line of its log */

/* supervise_engines.c: 0, or -1, said */
int engines_start(struct supervisor *v);
int migrate_run(struct supervisor *v);
void engines_read_users(struct supervisor *v); /* has the broker know the users there are now */

/* supervise_state.c */
void state_write(struct supervisor *v);
void state_remove(struct supervisor *v);
bool ports_read(struct supervisor *v); /* true when something changed */
bool serves_http(const char *service);

#endif
