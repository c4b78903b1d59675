/* All SQL of meta-repair: repair_store.c (leases and what stands past its bell), repair_store_standing.c (what is late or broken),
 * repair_store_issues.c (opening, taking and closing issues), repair_store_commands.c (what people ask), repair_store_tasks.c (system tasks). */
#ifndef AETHELOS_META_REPAIR_STORE_H
#define AETHELOS_META_REPAIR_STORE_H

#include "repair_antibodies.h"
#include "store/chain.h"

/* --- leases and bells --- */

struct repair_standing {
        struct uuid id;
        int version;
        enum lane lane;
        char hearer[16];
        int64_t since_ms; /* database clock, Unix time */
};

/* The database's clock. */
int repair_now(struct db *db, int64_t *ret_now_ms);
/* Takes or keeps the lease `name` for ms. *ret_epoch is its fencing number, 0: another holds it. */
int repair_lease(struct db *db, const char *name, const char *owner, int64_t ms, int64_t *ret_epoch);

/* One page of what stands, by id behind *after: chains that must move by themselves, or (evidence) chains whose evidence was not heard. `each` is
 * called for those that have stood since `until_ms` or longer. *after moves on; *ret_more is false behind the last page. */
int repair_page(struct db *db, bool evidence, int64_t until_ms, struct uuid *after, void (*each)(void *arg, const struct repair_standing *s),
        void *arg, bool *ret_more);

/* --- what is late, broken or contradictory --- */

struct repair_rules {
        struct repair_rule *v;
        size_t n;
};
int repair_rules_read(struct db *db, struct repair_rules *ret_rules); /* the newest version of each, for jobs also as each hasty label has it */
void repair_rules_done(struct repair_rules *rules);
/* label "": none; one that there is no haste for counts as none. NULL: there is no rule. */
const struct repair_rule *repair_rule_of(const struct repair_rules *rules, const char *kind, const char *step, const char *label);

/* Something for which there is no open issue yet. */
struct repair_candidate {
        const struct repair_rule *rule;
        enum repair_grade grade;
        struct uuid chain_id; /* unless it is an operator or a webhook */
        char operator[65];
        bool of_webhook;
        struct uuid webhook_id;
        int version; /* the chain's; -1: at any */
        char chain_kind[16], step[32];
        char *client;            /* malloc'ed */
        int64_t age_ms, next_ms; /* stands for so long; is looked at in so long */
};
struct repair_candidates {
        struct repair_candidate *v;
        size_t n, cap;
};
void repair_candidates_done(struct repair_candidates *c); /* also for _cleanup_ */

/* What stands at one step, as a sweep has found it. */
struct repair_gauge {
        char kind[16], step[32];
        int64_t standing, past_bell, past_deadline, waiting, oldest_ms;
};
struct repair_gauges {
        struct repair_gauge v[64];
        size_t n;
};

enum repair_walk { REPAIR_WALK_STANDING, REPAIR_WALK_WAITING, REPAIR_WALKS };
#define REPAIR_PAGE 2000
/* One page of open chains behind *after by id: what is late and has no issue, and chains that stand at REFUND_CONFIRMED (*ret_refunded, malloc'ed),
 * which meta-repair ends itself. With gauges, which may be NULL, waits that have become long are set aside as well. */
int repair_sweep_chains(struct db *db, enum repair_walk walk, const struct repair_rules *rules, struct uuid *after, struct repair_gauges *gauges,
        struct repair_candidates *found, struct uuid **ret_refunded, size_t *ret_n_refunded, bool *ret_more);
/* At most `limit` open chains behind *after, compared with the fold of their events. */
int repair_sweep_broken(struct db *db, enum repair_walk walk, int64_t limit, struct uuid *after, struct repair_candidates *found, bool *ret_more);
int repair_sweep_operators(struct db *db, struct repair_candidates *found);
int repair_sweep_webhooks(struct db *db, struct repair_candidates *found);
int repair_sweep_mismatches(struct db *db, struct uuid *after, struct repair_candidates *found, bool *ret_more);
/* One page of open issues behind *after: those whose chain has moved, and late ones that are beyond their deadline, become due. */
int repair_sweep_issues(struct db *db, const struct repair_rules *rules, struct uuid *after, bool *ret_more);
/* Candidates for chains whose bell rang, with the rule of their step; as of now. */
int repair_candidates_of(struct db *db, const struct repair_rules *rules, const struct uuid ids[], size_t n, struct repair_candidates *found);

void repair_gauges_add(struct repair_gauges *to, const struct repair_gauges *from);
int repair_gauges_write(struct db *db, const struct repair_gauges *gauges);

/* --- issues --- */

struct repair_issue {
        struct uuid id;
        int epoch, chain_version; /* of its lease; of the issue chain */
        char kind[32], antibody[24], outcome[32], step[32];
        int attempts, version; /* of the subject when it was opened */
        bool of_chain, of_webhook, early;
        struct uuid chain_id, webhook_id;
        char operator[65];
        /* the subject as it stands */
        struct subject {
                char kind[16], step[32], status[16], hearer[16], driver[16], run_operator[65], label[32], webhook[16];
                int version;
                enum lane lane;
                struct amount amount;
                char *error; /* malloc'ed JSON text of the failure at EXECUTION_FAILED, or NULL */
                bool operator_ready, avoided, listed;
                int retries;
                int64_t calls, failures, streak, age_ms, created_ms;
        } subject;
        struct repair_plan plan;
        const struct repair_rule *rule;
};
struct repair_issues {
        struct repair_issue *v;
        size_t n;
};
void repair_issues_done(struct repair_issues *issues); /* also for _cleanup_ */

/* Inserts the rows of candidates; ret_ids[i] is candidate i's issue, zeros when there is one already or the chain has moved. */
int repair_issues_insert(struct db *db, const struct repair_candidates *found, struct uuid ret_ids[]);

/* Where the fair walk over (client, kind) goes on. */
struct repair_turn {
        char *client, kind[32]; /* NULL: at the beginning */
};
#define REPAIR_PAIRS 32  /* of client and kind in one turn */
#define REPAIR_TURN  256 /* issues in one turn, shared equally among its pairs */
/* Takes what is due of the next pairs, with a lease under a new epoch. */
int repair_issues_take(struct db *db, const char *owner, int64_t lease_ms, struct repair_turn *turn, struct repair_issues *ret_issues);
/* A page of all open issues behind *after for a command, due or not; `lock`: taken from whoever holds them, inside the caller's transaction. */
int repair_issues_page(struct db *db, const char *owner, const char *kind, const struct uuid *only, bool lock, struct uuid *after, int64_t limit,
        struct repair_issues *ret_issues);
int repair_subjects_read(struct db *db, struct repair_issues *issues);
/* ret_held[i]: the lease of issue i still stands; its row is locked until the end of the transaction. */
int repair_issues_fence(struct db *db, const char *owner, const struct repair_issues *issues, bool ret_held[]);
int repair_refold(struct db *db, const struct uuid *chain, char ret_answer[16]);
int repair_probe_operators(struct db *db, const struct uuid chains[], size_t n); /* their live runs are due now */
int repair_probe_providers(struct db *db, const struct uuid chains[], size_t n);

struct repair_result {
        const struct repair_issue *issue;
        int64_t next_ms; /* -1: as it was */
};
int repair_issues_update(struct db *db, const struct repair_result results[], size_t n);
/* One that the store itself will not have handled waits for a person, and is tried again each hour. */
#define REPAIR_UNHANDLED "cannot_be_handled"
int repair_issue_aside(struct db *db, const char *owner, const struct repair_issue *issue);
int repair_count(struct db *db, const struct repair_result results[], size_t n); /* the counters of repairs */

/* What a chain at REFUND_CONFIRMED ends with. */
struct repair_refunded {
        struct uuid id;
        int version;
        char *error, *rule, *compensation, *issue_id, *by; /* malloc'ed JSON text, or NULL */
        int64_t retries;
};
int repair_refunded_read(struct db *db, const struct uuid ids[], size_t n, struct repair_refunded **ret_v, size_t *ret_n);
void repair_refunded_done(struct repair_refunded *v, size_t n);

/* --- system tasks --- */

struct repair_task {
        struct uuid id;
        bool opened; /* now; else it was active already */
        char hearer[16];
        int version;
        char refusal[80]; /* why there is none; "" otherwise */
};
/* open_task(). entity NULL: what the kind is always about; cause: JSON text. */
int repair_task_open(struct db *db, const char *kind, const char *entity, const char *cause, enum lane lane, struct repair_task *ret_task);
int repair_tasks_active(struct db *db, const char *kind, int64_t *ret_n); /* how many of the kind are open */
/* What a task is about; -ENOENT: there is no such task. */
int repair_task_read(struct db *db, const struct uuid *id, char ret_kind[32], char ret_entity[80]);
/* The evidence that the internal transfers of tasks are reversed: internal, by REPAIR_REVERSES, with the issue as its reference. -EAGAIN: one has
 * moved on from its version, and the transaction must not be committed, or evidence would stay behind of what did not happen. */
int repair_reversals_store(struct db *db, const struct uuid tasks[], const struct uuid issues[], const int versions[], size_t n);

/* --- commands --- */

struct repair_command {
        struct uuid id;
        char what[16];
        char *args, *by, *progress; /* malloc'ed; progress NULL at the beginning */
};
void repair_command_done(struct repair_command *c); /* also for _cleanup_ */
int repair_command_waits(struct db *db, bool *ret_waits);
/* The oldest open command that nobody else is at, locked until the end of the transaction. 0: *ret_command; -ENOENT: none. */
int repair_command_take(struct db *db, struct repair_command *ret_command);
int repair_command_write(struct db *db, const struct uuid *id, const char *result, bool done);

/* A chain that a command is about. */
struct repair_target {
        struct uuid id;
        char kind[16], step[32], status[16];
        int version, failed_step;
        bool paid;      /* something was ever booked */
        bool refunding; /* a refund may be under way at a provider */
        enum lane lane;
        struct amount amount;
};
struct repair_filter {
        char *reason, *type, *client, *step, *since, *until; /* NULL: any */
};
enum repair_redrive_walk { REPAIR_REDRIVE_STANDING, REPAIR_REDRIVE_WAITING, REPAIR_REDRIVE_FAILED, REPAIR_REDRIVE_WALKS };
int repair_targets_page(struct db *db, enum repair_redrive_walk walk, const struct repair_filter *filter, struct uuid *after,
        struct repair_target **ret_v, size_t *ret_n, bool *ret_more);
int repair_target_read(struct db *db, const struct uuid *id, struct repair_target *ret_target); /* -ENOENT */
/* Has payments ask no more for an intent that the provider has refused; of others nothing. */
int repair_drop_refused_intent(struct db *db, const struct uuid *chain);
/* Stores a person's decision for the event; *ret_stored false: the chain does not take it. */
int repair_decision_store(
        struct db *db, const struct repair_target *target, const char *event, const char *by, const char *reference, bool *ret_stored);
/* A new version of a rule. -EAGAIN: another one was faster. */
int repair_rule_write(struct db *db, const struct repair_rule *rule, const char *by, const char *why);

struct repair_haste {
        char label[32];
        int version; /* 0: there is none */
        bool removed;
        int64_t late_ms, deadline_ms, backoff_first_ms, backoff_max_ms;
};
int repair_haste_read(struct db *db, const char *label, struct repair_haste *ret_haste);
/* A new version of a hasty label. -EAGAIN: another one was faster. */
int repair_haste_write(struct db *db, const struct repair_haste *haste, const char *by, const char *why);

#endif
