/* All SQL of provider_call. */
#ifndef AETHELOS_PAYMENTS_PROVIDER_STORE_H
#define AETHELOS_PAYMENTS_PROVIDER_STORE_H

#include "provider_core.h"
#include "store/chain.h"

/* An intention, to be committed with the move that it belongs to; due at once. */
struct provider_intention {
        struct uuid id, chain_id;
        int version;
        enum provider_what what;
};
int provider_store_intend(struct db *db, const struct provider_intention intentions[], size_t n);

/* A call that this instance has taken: epoch is its fence. */
struct provider_call {
        struct uuid id, chain_id;
        int version, epoch, probes;
        enum provider_what what;
        bool send;      /* POST; else ask */
        bool call_over; /* see provider_read */
        bool clean;     /* of create: no call before this one can have been taken */
        struct amount amount;
        char expires_at[40];
        struct provider_answer answer;
        struct provider_call *next;
        struct service *service;
};
/* Takes at most `limit` due calls for lease_ms; *ret_calls is a list of malloc'ed calls. */
int provider_store_take(struct db *db, const char *owner, int limit, int64_t lease_ms, struct provider_call **ret_calls);

/* What came of one: state calling, pending, unknown, done or failed. */
struct provider_outcome {
        const struct provider_call *call;
        enum provider_what what; /* from now on */
        const char *state, *error;
        int64_t next_ms;
        int probes;
        enum provider_says says; /* what the row's error says */
};
/* ret_in[i]: the fence held and it was written. */
int provider_store_write(struct db *db, const struct provider_outcome outcomes[], size_t n, bool ret_in[]);

/* Evidence of the provider; fills verdict (text, static). */
struct provider_evidence {
        struct uuid chain_id;
        const char *event, *reference;
        int64_t minor;
        char verdict[16];
};
int provider_store_evidence(struct db *db, struct provider_evidence evidence[], size_t n);

#endif
