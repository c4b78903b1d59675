/* What the files of the load share. */
#ifndef AETHELOS_BENCH_LOAD_H
#define AETHELOS_BENCH_LOAD_H

#include "base/strbuf.h"
#include "bus/bus.h"
#include "http/httpc.h"
#include "store/db.h"

struct load {
        /* what is asked for */
        const char *public_url, *admin_url, *nats_url, *nats_user, *nats_password, *token, *database_url, *database_user, *database_passfile;
        bool by_bus;
        int64_t rate;   /* submissions a second; 0: as many as `window` allows */
        int64_t window; /* chains under way at most */
        int64_t seconds;
        int64_t drain_s; /* what is under way may take so long to its end */
        bool unpaid;     /* pays nothing */
        bool careful;    /* the stack is hurt meanwhile: see load_careful.c */
        /* the state */
        struct bus *bus;
        struct httpc *http;
        char run[24]; /* prefix of the keys of this run */
        struct load_job {
                int64_t sent_us; /* wall clock, as the database's */
                int64_t said_us; /* careful: when it was said again; 0: never */
                char id[37];     /* careful: by its receipt */
        } * jobs;
        size_t n, cap, paid, refused;
        char (*intents)[40];                                    /* to be confirmed, in order */
        size_t next_intent, n_intents, cap_intents, confirming; /* requests under way */
        int64_t look_at;
        size_t first_open, receipted, repeated, failed, wrong; /* careful: failed calls are made again, wrong receipts should not be */
};

#define LOAD_RECEIPTS "aethelos.receipt.default."

void load_submit(struct load *l);           /* one more */
void load_repeat(struct load *l, size_t i); /* the i-th again, under its key */
void load_hear(struct load *l);             /* events on the bus: an intent that stands is owed */
void load_confirm(struct load *l);          /* pays what is owed */
void load_owe(struct load *l, const char *intent);
int64_t wall_us(void);

/* --- load_careful.c --- */
void load_careful_hear(struct load *l, const struct bus_message *m); /* a receipt */
void load_careful_round(struct load *l, struct db *db);              /* says and pays again what is due */
size_t load_careful_lost(struct load *l, struct db *db);             /* receipted, and not in the store */

/* Bare batched inserts of the same events into a table like event, over two connections: rows a second. */
int ceiling_probe(const struct db_config *database, int64_t seconds, double *ret_rows_per_s);

#endif
