/* JetStream's JSON API as text: subjects and bodies of requests, and what we need out of the answers. Pure functions; who sends and when is in
 * bus_source.c and bus.c.
 *
 * The bodies name every property that matters and leave the rest to the server's defaults, so that the same declaration repeated by any number of
 * instances is the same configuration for servers 2.9 and 2.10, and creating becomes idempotent. Durations are nanoseconds. */
#include "bus_private.h"

#include "base/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS      1000000
#define ACK_WAIT_MS    30000
#define DUPLICATES_MS  100 /* the least the server allows: keys are compared in PostgreSQL, a repeat must get through to be answered */
#define ACK_TOKENS_MAX 16

void api_subject(struct strbuf *s, enum api_kind kind, const char *stream, const char *durable)
{
        static const char *const verbs[] = {
                [API_STREAM_CREATE] = "STREAM.CREATE",
                [API_STREAM_UPDATE] = "STREAM.UPDATE",
                [API_STREAM_INFO] = "STREAM.INFO",
                [API_CONSUMER_CREATE] = "CONSUMER.DURABLE.CREATE",
                [API_CONSUMER_INFO] = "CONSUMER.INFO",
                [API_CONSUMER_DELETE] = "CONSUMER.DELETE",
        };

        strbuf_reset(s);
        strbuf_addf(s, "$JS.API.%s.%s", verbs[kind], stream);
        if (durable)
                strbuf_addf(s, ".%s", durable);
}

static void add_string(struct strbuf *s, const char *text)
{
        strbuf_add_json(s, text, strlen(text));
}

void api_stream_body(struct strbuf *s, const struct bus_stream *stream, unsigned replicas)
{
        int64_t duplicates_ms = stream->max_age_ms > 0 && stream->max_age_ms < DUPLICATES_MS ? stream->max_age_ms : DUPLICATES_MS;

        strbuf_reset(s);
        strbuf_adds(s, "{\"name\":");
        add_string(s, stream->name);
        strbuf_adds(s, ",\"subjects\":[");
        for (size_t i = 0; i < ARRAY_SIZE(stream->subjects) && stream->subjects[i]; i++) {
                strbuf_adds(s, i ? "," : "");
                add_string(s, stream->subjects[i]);
        }
        strbuf_addf(s, "],\"retention\":\"limits\",\"discard\":\"old\",\"storage\":\"%s\"", stream->memory ? "memory" : "file");
        strbuf_addf(s, ",\"max_consumers\":-1,\"max_msgs\":-1,\"max_msg_size\":-1,\"max_msgs_per_subject\":-1,\"num_replicas\":%u", replicas);
        strbuf_addf(s, ",\"max_bytes\":%" PRId64, stream->max_bytes > 0 ? stream->max_bytes : -1);
        strbuf_addf(s, ",\"max_age\":%" PRId64, stream->max_age_ms > 0 ? stream->max_age_ms * NS_PER_MS : 0);
        strbuf_addf(s, ",\"duplicate_window\":%" PRId64 "}", duplicates_ms * NS_PER_MS);
}

void api_consumer_body(struct strbuf *s, const struct bus_stream *stream, const struct bus_lane *lane)
{
        int64_t ack_wait_ms = stream->ack_wait_ms > 0 ? stream->ack_wait_ms : ACK_WAIT_MS;

        strbuf_reset(s);
        strbuf_adds(s, "{\"stream_name\":");
        add_string(s, stream->name);
        strbuf_adds(s, ",\"config\":{\"durable_name\":");
        add_string(s, lane->durable);
        strbuf_adds(s, ",\"filter_subject\":");
        add_string(s, lane->filter);
        strbuf_adds(s, ",\"deliver_policy\":\"all\",\"ack_policy\":\"explicit\",\"replay_policy\":\"instant\",\"max_deliver\":-1");
        strbuf_addf(s, ",\"ack_wait\":%" PRId64 ",\"max_ack_pending\":%d}}", ack_wait_ms * NS_PER_MS, API_ACK_PENDING_MAX);
}

static uint64_t number(const struct json_doc *doc, json_value object, const char *name)
{
        int64_t n = 0;

        return json_int64(doc, json_get(doc, object, name), &n) == 0 && n > 0 ? (uint64_t)n : 0;
}

static void copy_string(const struct json_doc *doc, json_value v, char *ret, size_t size)
{
        _cleanup_(freep) char *s = v && json_is(v, JSON_STRING) ? json_string(doc, v, NULL) : NULL;

        if (s)
                snprintf(ret, size, "%s", s);
}

void api_parse(struct message *m, struct api_answer *ret_answer)
{
        struct api_answer a = {.code = -1};
        struct json_doc doc;
        struct json_error why;
        json_value root, error;

        if (json_parse(m->m.data, m->m.len, &doc, &why) < 0) {
                snprintf(a.text, sizeof(a.text), "not JSON: %s", why.why);
                *ret_answer = a;
                return;
        }
        root = json_root(&doc);
        error = json_get(&doc, root, "error");
        if (error) {
                if (json_int64(&doc, json_get(&doc, error, "err_code"), &a.code) < 0)
                        a.code = -1;
                copy_string(&doc, json_get(&doc, error, "description"), a.text, sizeof(a.text));
        } else if (json_is(root, JSON_OBJECT)) {
                a.ok = true;
                a.code = 0;
                copy_string(&doc, json_get(&doc, root, "created"), a.created, sizeof(a.created));
                a.replicas = (unsigned)number(&doc, json_get(&doc, root, "config"), "num_replicas");
                a.last_seq = number(&doc, json_get(&doc, root, "state"), "last_seq");
                a.delivered = number(&doc, json_get(&doc, root, "delivered"), "stream_seq");
                a.ack_floor = number(&doc, json_get(&doc, root, "ack_floor"), "stream_seq");
                a.pending = number(&doc, root, "num_pending");
                a.ack_pending = number(&doc, root, "num_ack_pending");
                a.waiting = number(&doc, root, "num_waiting");
        }
        json_done(&doc);
        *ret_answer = a;
}

/* $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>; newer servers may put <domain>.<account hash> behind ACK
 * and one more token at the end. */
int api_parse_ack(const char *reply, struct slice *ret_stream, struct slice *ret_durable, unsigned *ret_delivered)
{
        struct slice tokens[ACK_TOKENS_MAX];
        size_t n = 0, first;
        unsigned long delivered;
        char *end;

        if (!reply || strncmp(reply, "$JS.ACK.", 8) != 0)
                return -EINVAL;
        for (const char *at = reply;; n++) {
                size_t len = strcspn(at, ".");

                if (n == ARRAY_SIZE(tokens))
                        return -EINVAL;
                tokens[n] = (struct slice){at, len};
                if (at[len] == '\0')
                        break;
                at += len + 1;
        }
        n++;
        if (n == 9)
                first = 2;
        else if (n >= 11)
                first = 4;
        else
                return -EINVAL;
        delivered = strtoul(tokens[first + 2].s, &end, 10);
        if (*tokens[first + 2].s == '-' || end != tokens[first + 2].s + tokens[first + 2].len || delivered == 0)
                return -EINVAL;
        *ret_stream = tokens[first];
        *ret_durable = tokens[first + 1];
        *ret_delivered = delivered > UINT32_MAX ? UINT32_MAX : (unsigned)delivered;
        return 0;
}
