/* Outside calls over HTTP, hundreds at once, on the caller's own thread (curl multi over epoll). A call ends exactly once, by its callback.
 * Redirects, proxies from the environment, user names in URLs and other protocols than http and https are refused. */
#ifndef AETHELOS_HTTP_HTTPC_H
#define AETHELOS_HTTP_HTTPC_H

#include "base/util.h"

#include <stdbool.h>
#include <stdint.h>

struct httpc;

enum http_outcome {
        HTTP_ANSWERED, /* a complete answer with a status */
        HTTP_NOT_SENT, /* certainly nothing reached the other side: bad URL, name not found, connection refused or not made in time, TLS refused */
        HTTP_UNKNOWN,  /* time-out, lost connection, cut or oversized answer: it may have been done. Never sent twice. */
};

struct http_reply {
        enum http_outcome outcome;
        int status;        /* of HTTP_ANSWERED */
        struct slice body; /* borrowed until the callback returns; not NUL-terminated */
        const char *why;   /* for people; NULL when answered */
        int64_t took_ms;
};

struct http_call {
        const char *method, *url;
        const char *const *headers; /* "Name: value" lines, NULL-terminated; NULL = none; lines with CR or LF are refused (HTTP_NOT_SENT) */
        struct slice body;          /* copied */
        int64_t timeout_ms;         /* of the whole call */
        size_t answer_max;          /* bytes; a longer answer is HTTP_UNKNOWN */
        bool answer_cut;            /* but this is cut there, and HTTP_ANSWERED: its status is what is wanted */
        bool reuse;                 /* over a kept connection, and its own is kept. Only where one request has one answer: an answer too many would
                                       be taken for that of the next call */
        bool public_only;           /* connects to addresses of the public internet only (http_address.h); another: HTTP_NOT_SENT. Not with reuse */
        void (*done)(void *arg, const struct http_reply *reply);
        void *arg;
};

int httpc_open(struct httpc **ret_client);
struct httpc *httpc_free(struct httpc *c);                       /* calls under way end as HTTP_UNKNOWN; returns NULL */
void httpc_start(struct httpc *c, const struct http_call *call); /* `done` runs inside httpc_run or httpc_free, never inside httpc_start */
int httpc_fd(const struct httpc *c);                             /* readable when httpc_run has something to do */
int64_t httpc_timeout_ms(const struct httpc *c);                 /* call httpc_run after at most this long; -1 = no limit */
void httpc_run(struct httpc *c);
size_t httpc_in_flight(const struct httpc *c);

/* 0 if `url` is http or https with a host, no user name, no control characters; else -EINVAL. */
int http_url_check(const char *url);

#endif
