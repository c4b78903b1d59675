/* A proxy of the suite's own between two ends of a stack, in a thread of its own: it cuts, resets, stalls and truncates connections, and on the bus
 * it drops, repeats, delays, reorders and spoils messages. Without orders it passes everything on. */
#ifndef AETHELOS_TESTS_FAULT_PROXY_H
#define AETHELOS_TESTS_FAULT_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct proxy;

struct proxy_config {
        const char *name;
        const char *listen_path; /* unix socket to listen on; NULL: a free port of loopback */
        const char *to_path;     /* unix socket to connect to; NULL: to_port of loopback */
        int to_port;
        bool nats; /* knows the frames of NATS */
        uint64_t seed;
};

struct proxy *proxy_start(const struct proxy_config *config);
struct proxy *proxy_free(struct proxy *p); /* returns NULL */
int proxy_port(const struct proxy *p);

enum proxy_order {
        PROXY_CUT,      /* every connection ends in order */
        PROXY_RESET,    /* every connection is reset */
        PROXY_TRUNCATE, /* every connection is reset after a few more bytes: in the middle of a message, a reply, a statement */
        PROXY_STALL,    /* nothing passes for ms, new connections wait */
        PROXY_REFUSE,   /* for ms every new connection is reset once it stands */
        PROXY_MISCHIEF, /* for ms messages suffer (nats only) */
        PROXY_HEAL,     /* everything passes again */
};
void proxy_order(struct proxy *p, enum proxy_order order, int64_t ms);

/* What became of messages so far. */
struct proxy_counts {
        uint64_t connections, ended, passed, dropped, repeated, held, garbled;
};
struct proxy_counts proxy_counts(struct proxy *p);

#endif
