/* What the event stream decides without a database: which events a reader wants. Pure. */
#ifndef AETHELOS_BOARD_STREAM_CORE_H
#define AETHELOS_BOARD_STREAM_CORE_H

#include "base/uuid.h"

#include <stdbool.h>
#include <stddef.h>

#define BOARD_TYPES_MAX  32
#define BOARD_CLIENT_MAX 128

/* {0} wants everything. */
struct board_filter {
        char types[BOARD_TYPES_MAX][32];
        size_t n_types; /* 0: of every type */
        char client[BOARD_CLIENT_MAX + 1];
        bool has_chain;
        struct uuid chain;
};

/* From the query: "PAYOUT_DONE,FINAL_FAIL", a client, the id of a chain; NULL: all. False: one of them cannot be. */
bool board_filter_parse(const char *types, const char *client, const char *chain, struct board_filter *ret_filter);
bool board_filter_wants(const struct board_filter *f, const char *type, const char *client, const char *chain);

#endif
