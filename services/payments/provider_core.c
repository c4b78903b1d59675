/* Invariant kept here: money moves only on a provider's own clear word. What is unclear is asked about, and sent again only under the same key, when
 * the contract makes that harmless (an intent) or when it certainly never arrived (a refund). */
#include "provider_core.h"

#include "base/json.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

static const char *const whats[PROVIDER_WHATS] = {[PROVIDER_CREATE] = "create", [PROVIDER_QUERY] = "query", [PROVIDER_REFUND] = "refund"};

const char *provider_what_name(enum provider_what what)
{
        return whats[what];
}

bool provider_what_parse(const char *s, enum provider_what *ret_what)
{
        for (int i = 0; i < PROVIDER_WHATS; i++)
                if (strcmp(whats[i], s) == 0) {
                        *ret_what = (enum provider_what)i;
                        return true;
                }
        return false;
}

/* Cut between characters: the database takes UTF-8 only. Control characters become blanks. */
static void keep(char to[PROVIDER_TEXT_MAX + 1], const char *s, size_t len)
{
        size_t n = len < PROVIDER_TEXT_MAX ? len : PROVIDER_TEXT_MAX;

        while (n > 0 && n < len && ((unsigned char)s[n] & 0xc0) == 0x80)
                n--;
        memcpy(to, s, n);
        to[n] = '\0';
        for (size_t i = 0; i < n; i++)
                if ((unsigned char)to[i] < ' ' || to[i] == 0x7f)
                        to[i] = ' ';
}

static void unknown(struct provider_answer *a, const char *why)
{
        a->status = PROVIDER_UNKNOWN;
        keep(a->error, why, strlen(why));
}

static void keep_member(const struct json_doc *doc, const char *name, char to[PROVIDER_TEXT_MAX + 1])
{
        size_t len;
        _cleanup_(freep) char *s = json_string(doc, json_get(doc, json_root(doc), name), &len);

        if (s)
                keep(to, s, len);
}

static bool read_amount(const struct json_doc *doc, struct provider_answer *a)
{
        json_value v = json_get(doc, json_root(doc), "amount");
        _cleanup_(freep) char *currency = json_string(doc, json_get(doc, v, "currency"), NULL);

        if (!v)
                return true;
        if (!currency || strlen(currency) != 3 || json_int64(doc, json_get(doc, v, "minor"), &a->amount.minor) < 0)
                return false;
        memcpy(a->amount.currency, currency, sizeof(a->amount.currency));
        a->has_amount = true;
        return true;
}

static void read_status(const struct json_doc *doc, bool call_over, struct provider_answer *a)
{
        static const struct {
                const char *name;
                enum provider_status status;
        } known[] = {{"pending", PROVIDER_PENDING}, {"confirmed", PROVIDER_CONFIRMED}, {"expired", PROVIDER_EXPIRED}, {"done", PROVIDER_DONE},
                {"failed", PROVIDER_FAILED}, {"unknown", PROVIDER_NOT_KNOWN}};
        json_value status = json_get(doc, json_root(doc), "status");

        for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
                if (!json_string_is(doc, status, known[i].name))
                        continue;
                a->status = known[i].status;
                if (a->status == PROVIDER_NOT_KNOWN && !call_over)
                        unknown(a, "the provider does not know it yet");
                /* Evidence needs a reference. */
                else if ((a->status == PROVIDER_CONFIRMED || a->status == PROVIDER_DONE) && !a->reference[0])
                        unknown(a, "the provider names no reference");
                return;
        }
        unknown(a, "the provider's answer has no usable status");
}

static bool reads_as_mark(const char *error)
{
        return strcmp(error, "send") == 0 || strncmp(error, "refused: ", 9) == 0 || strncmp(error, "open: ", 6) == 0;
}

const char *provider_row_error(enum provider_says says, const char *error, char buffer[PROVIDER_ROW_ERROR_MAX])
{
        static const char *const marks[] = {[PROVIDER_SAYS_ERROR] = "said", [PROVIDER_SAYS_REFUSED] = "refused", [PROVIDER_SAYS_OPEN] = "open"};

        if (says == PROVIDER_SAYS_SEND)
                return "send";
        if (says == PROVIDER_SAYS_ERROR && (!error || !reads_as_mark(error)))
                return error;
        snprintf(buffer, PROVIDER_ROW_ERROR_MAX, "%s: %s", marks[says], error ? error : "");
        return buffer;
}

static bool about_call(int http)
{
        static const int statuses[] = {401, 403, 407, 408, 409, 425, 429};

        for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
                if (statuses[i] == http)
                        return true;
        return false;
}

void provider_read(int http, struct slice body, const char *why, bool asked, bool call_over, struct provider_answer *ret_answer)
{
        struct json_error error;
        _cleanup_(json_done) struct json_doc doc = {0};
        char text[64];

        *ret_answer = (struct provider_answer){.reached = http > 0 && http < 500};
        if (http == 0) {
                unknown(ret_answer, why ? why : "no answer");
                return;
        }
        if (json_parse(body.s ? body.s : "", body.len, &doc, &error) < 0)
                doc = (struct json_doc){0};
        if (doc.n_tokens > 0) {
                keep_member(&doc, "reference", ret_answer->reference);
                keep_member(&doc, "error", ret_answer->error);
        }
        if (http == 200) {
                if (doc.n_tokens == 0 || !read_amount(&doc, ret_answer))
                        unknown(ret_answer, "the provider's answer cannot be read");
                else
                        read_status(&doc, call_over, ret_answer);
                return;
        }
        snprintf(text, sizeof(text), "answered HTTP %d", http);
        ret_answer->status = http >= 400 && http < 500 && !asked ? PROVIDER_FAILED : PROVIDER_UNKNOWN;
        ret_answer->about_call = about_call(http);
        if (!ret_answer->error[0])
                keep(ret_answer->error, text, strlen(text));
}

enum provider_next provider_decide(enum provider_what what, enum provider_status status)
{
        static const enum provider_next table[PROVIDER_WHATS][PROVIDER_STATUSES] = {
                /* An intent may be sent again at any time: the contract keeps one for each key. */
                [PROVIDER_CREATE] = {[PROVIDER_PENDING] = PROVIDER_INITIATED,
                        [PROVIDER_CONFIRMED] = PROVIDER_INITIATED,
                        [PROVIDER_EXPIRED] = PROVIDER_INITIATED,
                        [PROVIDER_DONE] = PROVIDER_SEND_AGAIN,
                        [PROVIDER_FAILED] = PROVIDER_SEND_AGAIN,
                        [PROVIDER_NOT_KNOWN] = PROVIDER_SEND_AGAIN,
                        [PROVIDER_UNKNOWN] = PROVIDER_SEND_AGAIN},
                [PROVIDER_QUERY] = {[PROVIDER_PENDING] = PROVIDER_ASK_LATER,
                        [PROVIDER_CONFIRMED] = PROVIDER_PAID,
                        [PROVIDER_EXPIRED] = PROVIDER_RAN_OUT,
                        [PROVIDER_DONE] = PROVIDER_ASK_LATER,
                        [PROVIDER_FAILED] = PROVIDER_ASK_LATER,
                        [PROVIDER_NOT_KNOWN] = PROVIDER_SEND_AGAIN,
                        [PROVIDER_UNKNOWN] = PROVIDER_ASK_LATER},
                [PROVIDER_REFUND] = {[PROVIDER_PENDING] = PROVIDER_ASK_LATER,
                        [PROVIDER_CONFIRMED] = PROVIDER_ASK_LATER,
                        [PROVIDER_EXPIRED] = PROVIDER_ASK_LATER,
                        [PROVIDER_DONE] = PROVIDER_REFUNDED,
                        [PROVIDER_FAILED] = PROVIDER_GIVE_UP,
                        [PROVIDER_NOT_KNOWN] = PROVIDER_SEND_AGAIN,
                        [PROVIDER_UNKNOWN] = PROVIDER_ASK_LATER},
        };

        return table[what][status];
}

int64_t provider_backoff_ms(int probes, double jitter)
{
        int64_t ms = probes < 0 ? 1000 : probes >= 6 ? 60000 : (int64_t)1000 << probes;

        return ms - (int64_t)((double)ms * 0.25 * jitter);
}

int provider_window_room(const struct provider_window *w, int64_t now_ms, size_t in_flight)
{
        if (now_ms < w->until_ms || in_flight >= (size_t)w->size)
                return 0;
        return w->size - (int)in_flight;
}

void provider_window_answer(struct provider_window *w, bool reached, int64_t now_ms, double jitter)
{
        if (reached) {
                w->failures = 0;
                w->until_ms = 0;
                w->size = w->size * 2 < PROVIDER_WINDOW_MAX ? w->size * 2 : PROVIDER_WINDOW_MAX;
                return;
        }
        w->failures++;
        if (w->failures < 3)
                return;
        w->size = 1;
        /* Answers of calls that were under way together count as one pause. */
        if (now_ms >= w->until_ms)
                w->until_ms = now_ms + provider_backoff_ms(w->failures - 3, jitter);
}

static void add_id(struct strbuf *b, const char *name, const struct uuid *id)
{
        char text[UUID_TEXT_SIZE];

        uuid_format(id, text);
        strbuf_addf(b, "\"%s\":\"%s\",", name, text);
}

void provider_create_body(struct strbuf *b, const struct uuid *intent, struct amount amount, const char *expires_at)
{
        strbuf_addc(b, '{');
        add_id(b, "intent_id", intent);
        add_id(b, "job_id", intent); /* one job, one charge: the intent has the id of its job */
        strbuf_adds(b, "\"amount\":");
        amount_add_json(b, amount);
        strbuf_addf(b, ",\"expires_at\":\"%s\"}", expires_at);
}

void provider_refund_body(struct strbuf *b, const struct uuid *refund, const struct uuid *intent, struct amount amount)
{
        strbuf_addc(b, '{');
        add_id(b, "refund_id", refund);
        add_id(b, "intent_id", intent);
        strbuf_adds(b, "\"amount\":");
        amount_add_json(b, amount);
        strbuf_addc(b, '}');
}

void provider_query_url(struct strbuf *b, const char *url, enum provider_what what, const struct uuid *id)
{
        char text[UUID_TEXT_SIZE];

        uuid_format(id, text);
        strbuf_addf(b, "%s/%s=%s", url, what == PROVIDER_REFUND ? "refunds?refund_id" : "intents?intent_id", text);
}
