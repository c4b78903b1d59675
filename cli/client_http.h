/* One HTTP exchange, waited for: enough for a command that a person types. Services use http/httpc.h instead. */
#ifndef AETHELOS_CLI_CLIENT_HTTP_H
#define AETHELOS_CLI_CLIENT_HTTP_H

#include "base/strbuf.h"

#include <stdint.h>

struct http_call {
        const char *method; /* "GET", "POST" or "DELETE" */
        const char *url;
        const char *token;           /* bearer token, or NULL */
        const char *idempotency_key; /* or NULL */
        const char *body;            /* JSON text of a POST */
        size_t body_len;
        int64_t timeout_ms;
};

struct http_reply {
        int status; /* 0: no answer came, see `error` */
        struct strbuf body;
        int64_t retry_after_s; /* 0: not said */
        int connected;         /* 0: the request certainly did not arrive */
        char error[256];       /* libcurl's sentence when there was no answer */
};

void http_reply_done(struct http_reply *r); /* {0} is allowed; also for _cleanup_(http_reply_done) */

/* Fills *ret_reply in any case. 0 when an answer came, whatever its status; -EIO when none came. */
int http_do(const struct http_call *call, struct http_reply *ret_reply);

#endif
