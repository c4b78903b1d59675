/* An HTTP operator for tests: libmicrohttpd with a thread per connection, so that a slow answer holds up no other, and one lock over the truth. */
#include "tests/support/fake_operator.h"

#include "base/json.h"
#include "base/strbuf.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RUNS_MAX 65536

#define CUT_STATUS 0 /* the connection is cut instead of an answer */
#define BAD_STATUS 299

struct fake_operator {
        struct MHD_Daemon *daemon;
        char name[32], url[64], status_url[64];
        pthread_mutex_t lock;
        pthread_cond_t more; /* calls at once than ever before */
        struct fake_run *runs;
        size_t n;
        struct fake_truth truth;
        size_t now;
        bool down, tells;
};

/* What one request leaves until its answer is out. */
struct request {
        struct strbuf body;
        char *second; /* bytes that follow the answer */
};

static enum MHD_Result say(struct MHD_Connection *connection, unsigned status, const char *body)
{
        struct MHD_Response *response = MHD_create_response_from_buffer(strlen(body), (void *)body, MHD_RESPMEM_MUST_COPY);
        enum MHD_Result r;

        MHD_add_response_header(response, "Content-Type", "application/json");
        r = MHD_queue_response(connection, status, response);
        MHD_destroy_response(response);
        return r;
}

static struct fake_run *find(struct fake_operator *f, const char *id)
{
        for (size_t i = 0; i < f->n; i++)
                if (strcmp(f->runs[i].id, id) == 0)
                        return &f->runs[i];
        return NULL;
}

static void output(const struct fake_operator *f, const struct fake_run *run, char *to, size_t size, const char *before)
{
        snprintf(to, size, "{%s\"output\":{\"text\":\"done by %s\",\"job\":\"%s\"}}", before, f->name, run->job);
}

static enum MHD_Result cut(struct MHD_Connection *connection)
{
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

        shutdown(info->connect_fd, SHUT_RDWR);
        return MHD_NO;
}

static enum MHD_Result status_query(struct fake_operator *f, struct MHD_Connection *connection)
{
        const char *id = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "run_id");
        char body[256] = "{\"status\":\"unknown\"}";
        struct fake_run *run;
        bool silent;

        pthread_mutex_lock(&f->lock);
        f->truth.queries++;
        if (f->down) {
                pthread_mutex_unlock(&f->lock);
                return say(connection, 503, "{}");
        }
        run = id ? find(f, id) : NULL;
        silent = run && run->withheld && !f->tells;
        if (run && run->accepted && ++run->queries >= 2)
                run->done = true;
        if (run && run->done)
                output(f, run, body, sizeof(body), "\"status\":\"done\",");
        else if (run && run->failed)
                snprintf(body, sizeof(body), "{\"status\":\"failed\",\"error\":\"refused\",\"refused\":true}");
        else if (run && run->accepted)
                snprintf(body, sizeof(body), "{\"status\":\"running\"}");
        pthread_mutex_unlock(&f->lock);
        return silent ? cut(connection) : say(connection, 200, body);
}

static bool fails(const struct fake_operator *f, const char *mode)
{
        return strcmp(mode, "failed") == 0 || (strncmp(mode, "failed@", 7) == 0 && strcmp(mode + 7, f->name) == 0);
}

/* What a call leads to, decided under the lock. */
static unsigned perform(const struct fake_operator *f, struct fake_run *run, const char *mode)
{
        static const struct {
                const char *mode;
                unsigned status;
        } after[] = {{"error", 500}, {"lost", CUT_STATUS}, {"withheld", CUT_STATUS}};

        run->again += run->done || run->failed || run->accepted;
        if (fails(f, mode)) {
                run->failed = true;
                return 422;
        }
        if (strcmp(mode, "busy") == 0 && run->calls == 1)
                return 429;
        if (strcmp(mode, "denied") == 0)
                return 401;
        if (strcmp(mode, "bad") == 0)
                return BAD_STATUS;
        if (strcmp(mode, "accept") == 0) {
                run->accepted = true;
                return 202;
        }
        if (strcmp(mode, "never") == 0 && run->calls == 1)
                return CUT_STATUS;
        run->done = true;
        run->withheld = strcmp(mode, "withheld") == 0;
        if (strcmp(mode, "lost once") == 0 && run->calls == 1)
                return CUT_STATUS;
        for (size_t i = 0; i < ARRAY_SIZE(after); i++)
                if (strcmp(mode, after[i].mode) == 0)
                        return after[i].status;
        return 200;
}

static char *whole_answer(const char *body)
{
        struct strbuf b = {0};

        strbuf_addf(&b, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
        return strbuf_take(&b);
}

static enum MHD_Result call(struct fake_operator *f, struct MHD_Connection *connection, struct request *request)
{
        const char *key = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Idempotency-Key");
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;
        char body[256];
        unsigned status;
        int64_t step = 0, ms = 0, n = 0;

        if (json_parse_own(request->body.s ? request->body.s : "", request->body.len, &doc, &error) < 0) {
                pthread_mutex_lock(&f->lock);
                f->truth.wrong++;
                pthread_mutex_unlock(&f->lock);
                doc = (struct json_doc){0};
                return say(connection, 400, "{\"error\":\"not JSON\"}");
        }
        json_value root = json_root(&doc), input = json_get(&doc, root, "input");
        _cleanup_(freep) char *id = json_string(&doc, json_get(&doc, root, "run_id"), NULL);
        _cleanup_(freep) char *job = json_string(&doc, json_get(&doc, root, "job_id"), NULL);
        _cleanup_(freep) char *mode = json_string(&doc, json_get(&doc, input, "mode"), NULL);
        const char *always = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "mode");
        if (always) {
                free(mode);
                mode = xstrdup(always);
        }
        json_int64(&doc, json_get(&doc, root, "step"), &step);
        json_int64(&doc, json_get(&doc, input, "ms"), &ms);
        json_int64(&doc, json_get(&doc, input, "n"), &n);

        pthread_mutex_lock(&f->lock);
        if (!id || !job || !key || strcmp(key, id) != 0)
                f->truth.wrong++;
        struct fake_run *run = find(f, id ? id : "");
        if (!run) {
                if (f->n == RUNS_MAX)
                        abort();
                run = &f->runs[f->n++];
                snprintf(run->id, sizeof(run->id), "%s", id ? id : "");
                snprintf(run->job, sizeof(run->job), "%s", job ? job : "");
                run->step = step;
        }
        run->calls++;
        f->truth.calls++;
        if (++f->now > f->truth.most_at_once) {
                f->truth.most_at_once = f->now;
                pthread_cond_broadcast(&f->more);
        }
        status = f->down ? 503 : perform(f, run, mode ? mode : "done");
        output(f, run, body, sizeof(body), "");
        while (mode && strcmp(mode, "meet") == 0 && f->truth.most_at_once < (size_t)n)
                pthread_cond_wait(&f->more, &f->lock);
        pthread_mutex_unlock(&f->lock);

        if (mode && strcmp(mode, "late") == 0)
                usleep((useconds_t)ms * 1000);
        pthread_mutex_lock(&f->lock);
        f->now--;
        pthread_mutex_unlock(&f->lock);

        if (status == CUT_STATUS)
                return cut(connection);
        if (status == BAD_STATUS)
                return say(connection, 200, "{\"result\":1}");
        if (status == 200 && mode && strcmp(mode, "twice") == 0)
                request->second = whole_answer(body);
        if (status == 200)
                return say(connection, 200, body);
        return say(connection, status, status == 422 ? "{\"error\":\"refused\"}" : status == 500 ? "{\"error\":\"boom\"}" : "{}");
}

static enum MHD_Result handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
        const char *data, size_t *size, void **state)
{
        struct request *request = *state;

        (void)version;
        if (!request) {
                *state = xcalloc(1, sizeof(*request));
                return MHD_YES;
        }
        if (*size > 0) {
                strbuf_add(&request->body, data, *size);
                *size = 0;
                return MHD_YES;
        }
        if (strcmp(method, "GET") == 0 && strcmp(url, "/status") == 0)
                return status_query(cls, connection);
        return call(cls, connection, request);
}

static void completed(void *cls, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
        struct request *request = *state;

        (void)cls;
        if (!request)
                return;
        if (request->second && code == MHD_REQUEST_TERMINATED_COMPLETED_OK) {
                const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
                (void)!send(info->connect_fd, request->second, strlen(request->second), MSG_NOSIGNAL);
        }
        free(request->second);
        strbuf_done(&request->body);
        free(request);
        *state = NULL;
}

struct fake_operator *fake_operator_start(const char *name)
{
        struct fake_operator *f = xcalloc(1, sizeof(*f));
        const union MHD_DaemonInfo *info;

        snprintf(f->name, sizeof(f->name), "%s", name);
        f->runs = xcalloc(RUNS_MAX, sizeof(*f->runs));
        pthread_mutex_init(&f->lock, NULL);
        pthread_cond_init(&f->more, NULL);
        f->daemon = MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, handle, f,
                MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_CONNECTION_LIMIT, 2048U, MHD_OPTION_END);
        if (!f->daemon)
                abort();
        info = MHD_get_daemon_info(f->daemon, MHD_DAEMON_INFO_BIND_PORT);
        snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%u/run", (unsigned)info->port);
        snprintf(f->status_url, sizeof(f->status_url), "http://127.0.0.1:%u/status", (unsigned)info->port);
        return f;
}

void fake_operator_down(struct fake_operator *f, bool down)
{
        pthread_mutex_lock(&f->lock);
        f->down = down;
        pthread_mutex_unlock(&f->lock);
}

struct fake_operator *fake_operator_free(struct fake_operator *f)
{
        if (f) {
                pthread_mutex_lock(&f->lock);
                f->truth.most_at_once = RUNS_MAX; /* nobody waits for company any more */
                pthread_cond_broadcast(&f->more);
                pthread_mutex_unlock(&f->lock);
                MHD_stop_daemon(f->daemon);
                pthread_cond_destroy(&f->more);
                pthread_mutex_destroy(&f->lock);
                free(f->runs);
                free(f);
        }
        return NULL;
}

const char *fake_operator_url(const struct fake_operator *f)
{
        return f->url;
}

const char *fake_operator_status_url(const struct fake_operator *f)
{
        return f->status_url;
}

struct fake_truth fake_operator_truth(struct fake_operator *f)
{
        struct fake_truth truth;

        pthread_mutex_lock(&f->lock);
        truth = f->truth;
        truth.runs = f->n;
        for (size_t i = 0; i < f->n; i++) {
                size_t same = 0;
                truth.done += f->runs[i].done;
                for (size_t k = 0; f->runs[i].done && k < f->n; k++)
                        same += f->runs[k].done && f->runs[k].step == f->runs[i].step && strcmp(f->runs[k].job, f->runs[i].job) == 0;
                if (same > truth.most_per_step)
                        truth.most_per_step = same;
        }
        pthread_mutex_unlock(&f->lock);
        return truth;
}

struct fake_run *fake_operator_runs(struct fake_operator *f, size_t *ret_n)
{
        struct fake_run *runs;

        pthread_mutex_lock(&f->lock);
        runs = xmalloc((f->n + 1) * sizeof(*runs));
        memcpy(runs, f->runs, f->n * sizeof(*runs));
        *ret_n = f->n;
        pthread_mutex_unlock(&f->lock);
        return runs;
}

void fake_operator_tell(struct fake_operator *f)
{
        pthread_mutex_lock(&f->lock);
        f->tells = true;
        pthread_mutex_unlock(&f->lock);
}
