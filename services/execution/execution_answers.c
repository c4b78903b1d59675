/* What operators say, pure: answers to calls and questions, and what workers on the bus say of their own accord.
 *
 * Invariant kept here: an answer counts as "not done" only when it says so, or when nothing can have reached the operator; whatever cannot be read is
 * an open outcome. A crash leaves nothing. */
#include "services/execution/execution_core.h"

#include "proto/aethelos.pb-c.h"
#include "proto/pbjson.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void execution_answer_done(struct execution_answer *a)
{
        free(a->output);
        free(a->error);
        free(a->worker);
        *a = (struct execution_answer){0};
}

/* Cut between characters: the database takes UTF-8 only. */
static char *cut_text(const char *s, size_t len, size_t max)
{
        if (len > max) {
                len = max;
                while (len > 0 && ((unsigned char)s[len] & 0xc0) == 0x80)
                        len--;
        }
        return xstrndup(s, len);
}

static void answer(struct execution_answer *a, enum execution_verdict verdict, const char *error, size_t len)
{
        /* An open outcome must never look like a run that may be sent again, whatever the other side says. */
        if (verdict == EXECUTION_UNKNOWN && len >= strlen(EXECUTION_RESEND) && strncmp(error, EXECUTION_RESEND, strlen(EXECUTION_RESEND)) == 0) {
                error += strlen(EXECUTION_RESEND);
                len -= strlen(EXECUTION_RESEND);
        }
        a->verdict = verdict;
        a->error = cut_text(error, len, EXECUTION_ERROR_MAX);
}

static void answer_text(struct execution_answer *a, enum execution_verdict verdict, const char *error)
{
        answer(a, verdict, error, strlen(error));
}

static void answer_status(struct execution_answer *a, enum execution_verdict verdict, const char *what, int status)
{
        char text[64];

        snprintf(text, sizeof(text), "%s %d", what, status);
        answer_text(a, verdict, text);
}

/* The member `error`: a string as its text, anything else as JSON. */
static bool answer_error(struct execution_answer *a, enum execution_verdict verdict, const struct json_doc *doc)
{
        json_value error = json_get(doc, json_root(doc), "error");
        size_t len;
        _cleanup_(freep) char *text = json_string(doc, error, &len);

        if (!error)
                return false;
        if (text && len > 0) {
                answer(a, verdict, text, len);
        } else {
                struct slice raw = json_raw(doc, error);
                answer(a, verdict, raw.s, raw.len);
        }
        return true;
}

/* Answers that are about the request. All other 4xx are about who calls, how often, or where the operator is (its URL is the same for all jobs): they
 * are the operator's, as a failure of any other kind. */
static bool refusal(int status)
{
        static const int about_the_request[] = {400, 409, 413, 422};

        for (size_t i = 0; i < ARRAY_SIZE(about_the_request); i++)
                if (about_the_request[i] == status)
                        return true;
        return false;
}

static void answer_output(struct execution_answer *a, const struct json_doc *doc)
{
        json_value output = json_get(doc, json_root(doc), "output");

        if (!output) {
                answer_text(a, EXECUTION_FAILED, EXECUTION_BAD_OUTPUT);
                return;
        }
        struct slice raw = json_raw(doc, output);
        a->verdict = EXECUTION_DONE;
        a->output = xstrndup(raw.s, raw.len);
}

/* There was no answer to a call. */
static void answer_missing(const struct execution_reply *reply, bool clean, struct execution_answer *a)
{
        /* That this call did not leave says nothing about an earlier one. */
        if (reply->kind == EXECUTION_REPLY_NOT_SENT)
                answer_text(a, clean ? EXECUTION_NOT_SENT : EXECUTION_UNKNOWN, reply->why ? reply->why : "not reached");
        else
                answer_text(a, EXECUTION_UNKNOWN, reply->why ? reply->why : "no answer");
}

void execution_read_call(const struct execution_reply *reply, bool clean, struct execution_answer *ret_answer)
{
        struct json_error error;
        _cleanup_(json_done) struct json_doc doc = {0};
        bool json;

        *ret_answer = (struct execution_answer){0};
        if (reply->kind != EXECUTION_REPLY_ANSWERED) {
                answer_missing(reply, clean, ret_answer);
                return;
        }
        if (reply->status == 202) {
                ret_answer->verdict = EXECUTION_ACCEPTED;
                return;
        }
        json = json_parse(reply->body.s ? reply->body.s : "", reply->body.len, &doc, &error) == 0;
        if (!json)
                doc = (struct json_doc){0};
        if (reply->status == 200) {
                if (json)
                        answer_output(ret_answer, &doc);
                else
                        answer_text(ret_answer, EXECUTION_FAILED, EXECUTION_BAD_OUTPUT);
                return;
        }

        enum execution_verdict verdict = reply->status >= 400 && reply->status < 500 ? EXECUTION_FAILED : EXECUTION_UNKNOWN;
        /* Too many at once: it will be done, and was not, as far as this call goes. */
        if (reply->status == 429)
                verdict = clean ? EXECUTION_NOT_SENT : EXECUTION_UNKNOWN;
        if (!json || !answer_error(ret_answer, verdict, &doc))
                answer_status(ret_answer, verdict, "answered HTTP", reply->status);
        ret_answer->refused = refusal(reply->status);
}

/* A string for people; NULL when there is none. */
static char *name_member(const struct json_doc *doc, const char *member, size_t max)
{
        size_t len;
        _cleanup_(freep) char *text = json_string(doc, json_get(doc, json_root(doc), member), &len);

        return text && len > 0 ? cut_text(text, len, max) : NULL;
}

/* {"status": ...}, as operators answer questions and workers on the bus everything. */
static void read_word(const struct json_doc *doc, bool call_over, struct execution_answer *ret_answer)
{
        json_value status = json_get(doc, json_root(doc), "status");

        if (json_string_is(doc, status, "done")) {
                answer_output(ret_answer, doc);
        } else if (json_string_is(doc, status, "failed")) {
                if (!answer_error(ret_answer, EXECUTION_FAILED, doc))
                        answer_text(ret_answer, EXECUTION_FAILED, "failed");
                ret_answer->refused = json_is(json_get(doc, json_root(doc), "refused"), JSON_TRUE);
        } else if (json_string_is(doc, status, "running") || json_string_is(doc, status, "accepted")) {
                ret_answer->verdict = EXECUTION_ACCEPTED;
        } else if (json_string_is(doc, status, "unknown")) {
                answer_text(ret_answer, call_over ? EXECUTION_NOT_KNOWN : EXECUTION_UNKNOWN, "the operator does not know the run");
                ret_answer->answered = true;
        } else {
                answer_text(ret_answer, EXECUTION_UNKNOWN, "the answer has no usable status");
        }
        ret_answer->worker = name_member(doc, "worker", EXECUTION_WORKER_MAX);
}

/* NULL, or why there is nothing to read (static). What is protobuf is read in its JSON form, in which the JSON texts that it holds lie one deeper. */
static const char *parse(struct slice body, bool protobuf, const ProtobufCMessageDescriptor *d, struct json_doc *ret_doc)
{
        _cleanup_(strbuf_done) struct strbuf json = {0};
        struct json_error error;
        const char *why = protobuf ? pbjson_unpack(&json, d, body.s, body.len) : NULL;
        int e = 0;

        if (!why)
                e = protobuf ? json_parse_own(json.s, json.len, ret_doc, &error) : json_parse(body.s ? body.s : "", body.len, ret_doc, &error);
        if (!why && e == 0)
                return NULL;
        *ret_doc = (struct json_doc){0};
        return why ? why : "not JSON";
}

static void read_body(const struct execution_reply *reply, const ProtobufCMessageDescriptor *d, bool call_over, struct execution_answer *ret_answer)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        const char *why = parse(reply->body, reply->protobuf, d, &doc);
        char text[128];

        if (!why) {
                read_word(&doc, call_over, ret_answer);
                return;
        }
        snprintf(text, sizeof(text), "the answer is unusable: %s", why);
        answer_text(ret_answer, EXECUTION_UNKNOWN, text);
}

void execution_read_bus_call(const struct execution_reply *reply, bool clean, struct execution_answer *ret_answer)
{
        *ret_answer = (struct execution_answer){0};
        if (reply->kind == EXECUTION_REPLY_ANSWERED)
                read_body(reply, &aethelos__reply__descriptor, false, ret_answer);
        else
                answer_missing(reply, clean, ret_answer);
}

void execution_read_status(const struct execution_reply *reply, bool call_over, struct execution_answer *ret_answer)
{
        *ret_answer = (struct execution_answer){0};
        if (reply->kind != EXECUTION_REPLY_ANSWERED)
                answer_text(ret_answer, EXECUTION_UNKNOWN, reply->why ? reply->why : "status query: no answer");
        else if (reply->status != 200)
                answer_status(ret_answer, EXECUTION_UNKNOWN, "status query: HTTP", reply->status);
        else
                read_body(reply, &aethelos__answer__descriptor, call_over, ret_answer);
}

bool execution_fault(const struct execution_answer *a)
{
        return (a->verdict == EXECUTION_FAILED && !a->refused) || a->verdict == EXECUTION_NOT_SENT ||
               (a->verdict == EXECUTION_UNKNOWN && !a->answered);
}

void execution_read_decision(bool done, struct slice output, struct execution_answer *ret_answer)
{
        *ret_answer = (struct execution_answer){0};
        if (done) {
                ret_answer->verdict = EXECUTION_DONE;
                ret_answer->output = xstrndup(output.s, output.len);
                return;
        }
        /* The client of the job reads this: who said so, and how he knows, stays in run_decision. */
        answer_text(ret_answer, EXECUTION_FAILED, "failed, on a person's word");
}

/* --- what workers say of their own accord --- */

static const char *read_run(const struct json_doc *doc, struct execution_word *w)
{
        size_t len;
        _cleanup_(freep) char *id = json_string(doc, json_get(doc, json_root(doc), "run_id"), &len);
        int64_t token;

        if (!id || !uuid_parse(id, len, &w->run_id))
                return "run_id: the id of the run as the call named it";
        if (json_int64(doc, json_get(doc, json_root(doc), "token"), &token) < 0 || token < 1 || token > INT32_MAX)
                return "token: the number that came with the call";
        w->token = (int)token;
        return NULL;
}

static const char *read_beat(const struct json_doc *doc, struct execution_word *w)
{
        json_value percent = json_get(doc, json_root(doc), "percent");
        int64_t n = -1;

        if (percent && (json_int64(doc, percent, &n) < 0 || n < 0 || n > 100))
                return "percent: an integer from 0 to 100";
        w->percent = (int)n;
        w->progress = name_member(doc, "progress", EXECUTION_PROGRESS_MAX);
        w->answer.worker = name_member(doc, "worker", EXECUTION_WORKER_MAX);
        return NULL;
}

static const char *read_result(const struct json_doc *doc, struct execution_word *w)
{
        read_word(doc, false, &w->answer);
        return w->answer.verdict == EXECUTION_DONE || w->answer.verdict == EXECUTION_FAILED ? NULL : "status: done or failed";
}

const char *execution_read_worker(struct slice body, bool protobuf, bool result, struct execution_word *ret_word)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct execution_word w = {.percent = -1};
        const char *why = parse(body, protobuf, result ? &aethelos__result__descriptor : &aethelos__beat__descriptor, &doc);

        if (why)
                return why;
        why = read_run(&doc, &w);
        if (!why)
                why = result ? read_result(&doc, &w) : read_beat(&doc, &w);
        if (why)
                execution_word_done(&w);
        else
                *ret_word = w;
        return why;
}

void execution_word_done(struct execution_word *w)
{
        execution_answer_done(&w->answer);
        free(w->progress);
        *w = (struct execution_word){0};
}

enum execution_claim execution_judge_result(const struct execution_word *w, const struct execution_held *run)
{
        if (!run || !run->same_operator || run->token != w->token)
                return EXECUTION_CLAIM_OVER;
        if (!run->ended)
                return EXECUTION_CLAIM_TAKE;
        return run->done == (w->answer.verdict == EXECUTION_DONE) ? EXECUTION_CLAIM_REPEATED : EXECUTION_CLAIM_OVER;
}
