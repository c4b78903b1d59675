/* The decisions of dealing with a payment provider over HTTP: pure. The contract is proto/payments.md. */
#ifndef AETHELOS_PAYMENTS_PROVIDER_CORE_H
#define AETHELOS_PAYMENTS_PROVIDER_CORE_H

#include "base/amount.h"
#include "base/strbuf.h"
#include "base/uuid.h"

#include <stdbool.h>
#include <stdint.h>

#define PROVIDER_TEXT_MAX 200 /* bytes kept of a reference or an error */

enum provider_what { PROVIDER_CREATE, PROVIDER_QUERY, PROVIDER_REFUND, PROVIDER_WHATS };
const char *provider_what_name(enum provider_what what);
bool provider_what_parse(const char *s, enum provider_what *ret_what);

enum provider_status {
        PROVIDER_PENDING,   /* it has it, and nothing has come of it yet */
        PROVIDER_CONFIRMED, /* the payer has paid */
        PROVIDER_EXPIRED,   /* he has not, and cannot any more */
        PROVIDER_DONE,      /* the refund has gone */
        PROVIDER_FAILED,    /* the provider refuses, definitely */
        PROVIDER_NOT_KNOWN, /* it has never heard of it, and nothing of ours is still on the way */
        PROVIDER_UNKNOWN,   /* no usable answer: it may have it or not */
        PROVIDER_STATUSES,
};

struct provider_answer {
        enum provider_status status;
        bool reached;    /* there was an answer below 500: the provider is there */
        bool about_call; /* of FAILED: about who calls, how often or when. Whether it has taken an earlier call is not said */
        bool has_amount;
        struct amount amount;
        char reference[PROVIDER_TEXT_MAX + 1], error[PROVIDER_TEXT_MAX + 1];
};

/* What an answer means. http: its status, 0 = none came (`why` says why). asked: to a GET, whose refusal refuses nothing else. call_over: no POST of
 * this matter can still be under way. */
void provider_read(int http, struct slice body, const char *why, bool asked, bool call_over, struct provider_answer *ret_answer);

/* What the error of a row says. */
enum provider_says {
        PROVIDER_SAYS_ERROR,   /* the error as it is */
        PROVIDER_SAYS_SEND,    /* to be sent again, not asked about: it was certainly not taken */
        PROVIDER_SAYS_REFUSED, /* an intent: the provider's last word, and it has none; asked for again all the same */
        PROVIDER_SAYS_OPEN,    /* an intent: the provider may have it; asked for again */
};
#define PROVIDER_ROW_ERROR_MAX (PROVIDER_TEXT_MAX + 16)
/* As it stands in the row: "send", "refused: ...", "open: ..." or the error (NULL: none), which never reads as one of these marks, whatever the
 * provider says. Written to `buffer` or borrowed. */
const char *provider_row_error(enum provider_says says, const char *error, char buffer[PROVIDER_ROW_ERROR_MAX]);

enum provider_next {
        PROVIDER_INITIATED,  /* the intent stands at the provider: PAYMENT_INITIATED, and from now on it is asked about */
        PROVIDER_PAID,       /* evidence for PAYMENT_CONFIRMED */
        PROVIDER_RAN_OUT,    /* evidence for PAYMENT_EXPIRED */
        PROVIDER_REFUNDED,   /* evidence for REFUND_CONFIRMED */
        PROVIDER_SEND_AGAIN, /* the same call under the same key */
        PROVIDER_ASK_LATER,
        PROVIDER_GIVE_UP, /* a refund that is refused: a person must look */
};
enum provider_next provider_decide(enum provider_what what, enum provider_status status);

/* Pause before the next question, ms: 1 s doubling to 60 s, less up to a quarter. jitter: 0 to 1. */
int64_t provider_backoff_ms(int probes, double jitter);

/* The circuit breaker: how many calls may be under way. An unreachable provider closes it to a single probe after a growing pause; success opens it
 * by doubling, so that recovery is no stampede. */
struct provider_window {
        int size, failures; /* failures in a row */
        int64_t until_ms;   /* no call before this; monotonic */
};
#define PROVIDER_WINDOW_MAX 64
int provider_window_room(const struct provider_window *w, int64_t now_ms, size_t in_flight);
void provider_window_answer(struct provider_window *w, bool reached, int64_t now_ms, double jitter);

/* What is sent. */
void provider_create_body(struct strbuf *b, const struct uuid *intent, struct amount amount, const char *expires_at);
void provider_refund_body(struct strbuf *b, const struct uuid *refund, const struct uuid *intent, struct amount amount);
void provider_query_url(struct strbuf *b, const char *url, enum provider_what what, const struct uuid *id);

#endif
