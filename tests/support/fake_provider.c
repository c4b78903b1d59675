/* A payment provider for tests: libmicrohttpd with a thread per connection and one lock over the truth. */
#include "tests/support/fake_provider.h"

#include "base/json.h"
#include "base/util.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ENTRIES_MAX 65536

struct entry {
        char id[64], currency[4];
        long long minor;
        bool refund, paid, expired, done;
};

struct fake_provider {
        struct MHD_Daemon *daemon;
        char url[64], mode[16];
        pthread_mutex_t lock;
        struct entry *entries;
        size_t n;
        bool hold, deny_queries;
        struct fake_provider_truth truth;
};

static struct entry *find(struct fake_provider *p, const char *id, bool refund)
{
        for (size_t i = 0; id && i < p->n; i++)
                if (p->entries[i].refund == refund && strcmp(p->entries[i].id, id) == 0)
                        return &p->entries[i];
        return NULL;
}

static enum MHD_Result say(struct MHD_Connection *connection, unsigned status, const char *body)
{
        struct MHD_Response *response;
        enum MHD_Result r;

        if (status == 0) {
                shutdown(MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd, SHUT_RDWR);
                return MHD_NO;
        }
        response = MHD_create_response_from_buffer(strlen(body), (void *)body, MHD_RESPMEM_MUST_COPY);
        MHD_add_response_header(response, "Content-Type", "application/json");
        r = MHD_queue_response(connection, status, response);
        MHD_destroy_response(response);
        return r;
}

static void describe(const struct entry *e, char *body, size_t size)
{
        if (!e)
                snprintf(body, size, "{\"status\":\"unknown\"}");
        else if (e->refund)
                snprintf(body, size, "{\"status\":\"%s\",\"reference\":\"rf_%s\"}", e->done ? "done" : "pending", e->id);
        else
                snprintf(body, size, "{\"status\":\"%s\",\"reference\":\"py_%s\",\"amount\":{\"minor\":%lld,\"currency\":\"%s\"}}",
                        e->paid      ? "confirmed"
                        : e->expired ? "expired"
                                     : "pending",
                        e->id, e->minor, e->currency);
}

static enum MHD_Result query(struct fake_provider *p, struct MHD_Connection *connection, bool refund)
{
        const char *id = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, refund ? "refund_id" : "intent_id");
        char body[256];
        unsigned status;

        pthread_mutex_lock(&p->lock);
        p->truth.queries++;
        p->truth.wrong += !id;
        status = strcmp(p->mode, "down") == 0 ? 503 : p->deny_queries || strcmp(p->mode, "deny") == 0 ? 401 : 200;
        describe(find(p, id, refund), body, sizeof(body));
        pthread_mutex_unlock(&p->lock);
        return say(connection, status, body);
}

/* One entry for each key; the same key again finds it. */
static struct entry *keep(struct fake_provider *p, const struct json_doc *doc, const char *id, bool refund)
{
        json_value amount = json_get(doc, json_root(doc), "amount");
        _cleanup_(freep) char *currency = json_string(doc, json_get(doc, amount, "currency"), NULL);
        struct entry *e = find(p, id, refund);
        int64_t minor = -1;

        if (json_int64(doc, json_get(doc, amount, "minor"), &minor) < 0 || !currency || strlen(currency) != 3)
                p->truth.wrong++;
        if (e)
                return e;
        if (p->n == ENTRIES_MAX)
                abort();
        e = &p->entries[p->n++];
        *e = (struct entry){.refund = refund, .minor = minor, .done = refund && !p->hold};
        snprintf(e->id, sizeof(e->id), "%s", id);
        snprintf(e->currency, sizeof(e->currency), "%s", currency ? currency : "");
        return e;
}

static enum MHD_Result post(struct fake_provider *p, struct MHD_Connection *connection, bool refund, const struct strbuf *text)
{
        const char *key = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Idempotency-Key");
        _cleanup_(json_done) struct json_doc doc = {0};
        _cleanup_(freep) char *id = NULL;
        struct json_error error;
        unsigned status = 200;
        char body[256] = "{\"error\":\"refused\"}";

        if (json_parse(text->s ? text->s : "", text->len, &doc, &error) == 0)
                id = json_string(&doc, json_get(&doc, json_root(&doc), refund ? "refund_id" : "intent_id"), NULL);
        pthread_mutex_lock(&p->lock);
        p->truth.posts++;
        if (!id || !key || strcmp(id, key) != 0) {
                p->truth.wrong++;
                status = 400;
        } else if (strcmp(p->mode, "never") == 0) {
                status = 0;
        } else if (strcmp(p->mode, "down") == 0) {
                status = 503;
        } else if (strcmp(p->mode, "deny") == 0) {
                status = 401;
        } else if (strcmp(p->mode, "refuse") == 0 || (!refund && strcmp(p->mode, "refuse intents") == 0)) {
                status = 422;
        } else {
                describe(keep(p, &doc, id, refund), body, sizeof(body));
                status = strcmp(p->mode, "lost") == 0 ? 0 : strcmp(p->mode, "error") == 0 ? 500 : 200;
        }
        pthread_mutex_unlock(&p->lock);
        return say(connection, status, body);
}

static enum MHD_Result handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
        const char *data, size_t *size, void **state)
{
        struct strbuf *body = *state;
        bool refund = strcmp(url, "/refunds") == 0;

        (void)version;
        if (!body) {
                *state = xcalloc(1, sizeof(struct strbuf));
                return MHD_YES;
        }
        if (*size > 0) {
                strbuf_add(body, data, *size);
                *size = 0;
                return MHD_YES;
        }
        if (!refund && strcmp(url, "/intents") != 0)
                return say(connection, 404, "{}");
        return strcmp(method, "GET") == 0 ? query(cls, connection, refund) : post(cls, connection, refund, body);
}

static void completed(void *cls, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
        (void)cls, (void)connection, (void)code;
        if (*state)
                strbuf_done(*state);
        free(*state);
        *state = NULL;
}

struct fake_provider *fake_provider_start(void)
{
        struct fake_provider *p = xcalloc(1, sizeof(*p));

        p->entries = xcalloc(ENTRIES_MAX, sizeof(*p->entries));
        strcpy(p->mode, "ok");
        pthread_mutex_init(&p->lock, NULL);
        p->daemon = MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, handle, p,
                MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_END);
        if (!p->daemon)
                abort();
        snprintf(p->url, sizeof(p->url), "http://127.0.0.1:%u", (unsigned)MHD_get_daemon_info(p->daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
        return p;
}

struct fake_provider *fake_provider_free(struct fake_provider *p)
{
        if (p) {
                MHD_stop_daemon(p->daemon);
                pthread_mutex_destroy(&p->lock);
                free(p->entries);
                free(p);
        }
        return NULL;
}

const char *fake_provider_url(const struct fake_provider *p)
{
        return p->url;
}

void fake_provider_mode(struct fake_provider *p, const char *mode)
{
        pthread_mutex_lock(&p->lock);
        snprintf(p->mode, sizeof(p->mode), "%s", mode);
        pthread_mutex_unlock(&p->lock);
}

static int happen(struct fake_provider *p, const char *intent, bool paid, long long minor)
{
        struct entry *e;

        pthread_mutex_lock(&p->lock);
        e = find(p, intent, false);
        if (e && paid)
                e->paid = true;
        else if (e)
                e->expired = true;
        if (e && minor >= 0)
                e->minor = minor;
        pthread_mutex_unlock(&p->lock);
        return e != NULL;
}

int fake_provider_pay(struct fake_provider *p, const char *intent, long long minor)
{
        return happen(p, intent, true, minor);
}

int fake_provider_expire(struct fake_provider *p, const char *intent)
{
        return happen(p, intent, false, -1);
}

void fake_provider_deny_queries(struct fake_provider *p, int deny)
{
        pthread_mutex_lock(&p->lock);
        p->deny_queries = deny != 0;
        pthread_mutex_unlock(&p->lock);
}

void fake_provider_hold_refunds(struct fake_provider *p, int hold)
{
        pthread_mutex_lock(&p->lock);
        p->hold = hold != 0;
        for (size_t i = 0; !hold && i < p->n; i++)
                if (p->entries[i].refund)
                        p->entries[i].done = true;
        pthread_mutex_unlock(&p->lock);
}

struct fake_provider_truth fake_provider_truth(struct fake_provider *p)
{
        struct fake_provider_truth t;

        pthread_mutex_lock(&p->lock);
        t = p->truth;
        for (size_t i = 0; i < p->n; i++) {
                const struct entry *e = &p->entries[i];

                t.intents += !e->refund;
                t.paid += !e->refund && e->paid;
                t.refunds += e->refund;
                t.refunded += e->refund && e->done;
        }
        pthread_mutex_unlock(&p->lock);
        return t;
}
