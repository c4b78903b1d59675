/* Outside calls: libcurl's multi interface driven by an epoll descriptor.
 *
 * Invariant: a call is sent at most once, and HTTP_NOT_SENT is said only when no byte of the request was written. libcurl by itself breaks the first
 * half: when a kept connection dies before the first byte of the answer, it sends the request again over a new one, a POST too. So the pre-request
 * hook, which libcurl calls each time just before it writes a request, allows one pass per call: a second pass is aborted, and the call ends as
 * HTTP_UNKNOWN. The same hook decides the second half: as long as it was not called, nothing was written, whatever the error code says afterwards
 * ("connection refused" may also come from such a second attempt). The time-out of a call is kept here and not by libcurl: 7.88 forgets its own when
 * another event comes in the last millisecond before it. "Expect: 100-continue" is switched off because libcurl resends after 417; HTTP/2 because it
 * resends refused streams. */
#include "http/httpc.h"

#include "base/strbuf.h"
#include "http/http_address.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS           64
#define EASY_KEPT        64          /* handles kept for the next call */
#define CONNECTIONS_KEPT 256L        /* idle ones */
#define ANSWER_HEADERS   (64 * 1024) /* bytes of header fields taken from the other side */

struct call {
        struct call *prev, *next;
        struct httpc *client;
        CURL *easy; /* NULL: refused before libcurl saw it */
        struct curl_slist *headers;
        void (*done)(void *arg, const struct http_reply *reply);
        void *arg;
        struct strbuf answer;
        size_t answer_max, header_bytes;
        bool answer_cut, cut; /* a longer answer may be cut; it was */
        int64_t started_ms, deadline_ms;
        bool passed;        /* the request may have been written */
        bool head_complete; /* of the answer's last header, its empty line has come */
        const char *why;    /* set where libcurl's own text would say less */
        char error[CURL_ERROR_SIZE];
};

struct call_list {
        struct call *first, *last;
};

struct httpc {
        CURLM *multi;
        int epoll_fd;
        int64_t timer_ms;    /* when libcurl wants to be called; INT64_MAX = never */
        int64_t deadline_ms; /* no running call ends before it; INT64_MAX = there is none */
        struct call_list running, refused;
        size_t in_flight;
        CURL *kept[EASY_KEPT];
        size_t n_kept;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_setup(void)
{
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                die("libcurl cannot be initialised");
}

/* --- what is refused --- */

static bool method_valid(const char *method)
{
        size_t len = method ? strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") : 0;

        return len > 0 && len <= 16 && method[len] == '\0';
}

/* libcurl sends header lines as they are. */
static bool header_valid(const char *line)
{
        size_t name = strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~");

        if (name == 0 || line[name] != ':')
                return false;
        for (const char *c = line; *c; c++)
                if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
                        return false;
        return true;
}

static void add_header(struct call *call, const char *line)
{
        struct curl_slist *longer = curl_slist_append(call->headers, line);

        if (!longer)
                die("out of memory: header");
        call->headers = longer;
}

static const char *call_fault(const struct http_call *call)
{
        if (http_url_check(call->url) < 0)
                return "the URL is refused";
        if (!method_valid(call->method))
                return "the method is refused";
        if (strcmp(call->method, "HEAD") == 0 && call->body.len > 0)
                return "HEAD with a body is refused";
        for (size_t i = 0; call->headers && call->headers[i]; i++)
                if (!header_valid(call->headers[i]))
                        return "a header line is refused";
        return NULL;
}

/* --- what libcurl calls --- */

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
        struct httpc *c = arg;
        struct epoll_event event = {.data.fd = fd};

        (void)easy;
        if (what == CURL_POLL_REMOVE) {
                epoll_ctl(c->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
                return 0;
        }
        if (what & CURL_POLL_IN)
                event.events |= EPOLLIN;
        if (what & CURL_POLL_OUT)
                event.events |= EPOLLOUT;
        if (epoll_ctl(c->epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0 &&
                epoll_ctl(c->epoll_fd, errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
                return -1;
        curl_multi_assign(c->multi, fd, c);
        return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
        struct httpc *c = arg;

        (void)multi;
        c->timer_ms = timeout_ms < 0 ? INT64_MAX : now_mono_ms() + timeout_ms;
        return 0;
}

static int on_request(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
        struct call *call = arg;

        (void)remote_ip;
        (void)local_ip;
        (void)remote_port;
        (void)local_port;
        if (call->passed) {
                call->why = "the kept connection was lost before the answer began";
                return CURL_PREREQFUNC_ABORT;
        }
        call->passed = true;
        return CURL_PREREQFUNC_OK;
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
        struct call *call = arg;

        (void)purpose;
        if (!http_address_public(&address->addr)) {
                call->why = "the address is not a public one";
                return CURL_SOCKET_BAD;
        }
        call->why = NULL; /* of an address that was refused before this one */
        return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t on_answer(char *data, size_t size, size_t n, void *arg)
{
        struct call *call = arg;
        size_t len = size * n;

        if (len > call->answer_max - call->answer.len) {
                if (call->answer_cut) {
                        strbuf_add(&call->answer, data, call->answer_max - call->answer.len);
                        call->cut = true;
                        return 0;
                }
                call->why = "the answer is too long";
                return 0;
        }
        strbuf_add(&call->answer, data, len);
        return len;
}

static size_t on_answer_header(char *data, size_t size, size_t n, void *arg)
{
        struct call *call = arg;
        size_t len = size * n;

        /* libcurl takes a header that ends in mid-line for a whole answer without a body. */
        if (len >= 5 && memcmp(data, "HTTP/", 5) == 0)
                call->head_complete = false;
        else if ((len == 2 && memcmp(data, "\r\n", 2) == 0) || (len == 1 && *data == '\n'))
                call->head_complete = true;
        call->header_bytes += len;
        if (call->header_bytes > ANSWER_HEADERS) {
                call->why = "the header of the answer is too long";
                return 0;
        }
        return len;
}

/* --- the life of a call --- */

static void list_add(struct call_list *list, struct call *call)
{
        call->next = NULL;
        call->prev = list->last;
        if (list->last)
                list->last->next = call;
        else
                list->first = call;
        list->last = call;
}

static void list_remove(struct call_list *list, struct call *call)
{
        if (call->prev)
                call->prev->next = call->next;
        else
                list->first = call->next;
        if (call->next)
                call->next->prev = call->prev;
        else
                list->last = call->prev;
}

static void set_method(struct call *call, const struct http_call *from)
{
        CURL *e = call->easy;
        bool typed = false;

        if (from->body.len == 0 && strcmp(from->method, "GET") == 0) {
                curl_easy_setopt(e, CURLOPT_HTTPGET, 1L);
        } else if (from->body.len == 0 && strcmp(from->method, "HEAD") == 0) {
                curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
        } else {
                curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)from->body.len);
                if (curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, from->body.len > 0 ? from->body.s : "") != CURLE_OK)
                        die("out of memory: request body");
                if (strcmp(from->method, "POST") != 0)
                        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, from->method);
        }
        for (size_t i = 0; from->headers && from->headers[i]; i++) {
                typed = typed || strncasecmp(from->headers[i], "Content-Type:", 13) == 0;
                add_header(call, from->headers[i]);
        }
        if (!typed)
                add_header(call, "Content-Type:"); /* none, instead of libcurl's form type */
        add_header(call, "Expect:");
        curl_easy_setopt(e, CURLOPT_HTTPHEADER, call->headers);
}

static void set_up(struct call *call, const struct http_call *from)
{
        struct httpc *c = call->client;
        CURL *e = c->n_kept > 0 ? c->kept[--c->n_kept] : curl_easy_init();

        if (!e)
                die("out of memory: call");
        call->easy = e;
        curl_easy_setopt(e, CURLOPT_PRIVATE, call);
        curl_easy_setopt(e, CURLOPT_ERRORBUFFER, call->error);
        curl_easy_setopt(e, CURLOPT_URL, from->url);
        curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(e, CURLOPT_PROXY, "");
        curl_easy_setopt(e, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
        curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
        curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(e, CURLOPT_HTTP09_ALLOWED, 0L);
        curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
        curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
        curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
        /* A time-out while a name is being resolved must not wait for the resolver. */
        curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
        curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, (long)!from->reuse);
        curl_easy_setopt(e, CURLOPT_FORBID_REUSE, (long)!from->reuse);
        if (from->public_only) {
                curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_open);
                curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, call);
        }
        curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_request);
        curl_easy_setopt(e, CURLOPT_PREREQDATA, call);
        curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_answer);
        curl_easy_setopt(e, CURLOPT_WRITEDATA, call);
        curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_answer_header);
        curl_easy_setopt(e, CURLOPT_HEADERDATA, call);
        set_method(call, from);
}

static void release_easy(struct call *call)
{
        struct httpc *c = call->client;

        if (!call->easy)
                return;
        curl_multi_remove_handle(c->multi, call->easy);
        curl_easy_reset(call->easy);
        if (c->n_kept < EASY_KEPT)
                c->kept[c->n_kept++] = call->easy;
        else
                curl_easy_cleanup(call->easy);
        call->easy = NULL;
}

static void finish(struct call *call, struct call_list *list, struct http_reply *reply)
{
        struct httpc *c = call->client;

        list_remove(list, call);
        if (--c->in_flight == 0)
                c->deadline_ms = INT64_MAX;
        reply->took_ms = now_mono_ms() - call->started_ms;
        /* Before `done`, which may start the next call and wants this connection for it. */
        release_easy(call);
        call->done(call->arg, reply);
        curl_slist_free_all(call->headers);
        strbuf_done(&call->answer);
        free(call);
}

static void finish_transfer(struct call *call, CURLcode code)
{
        struct http_reply reply = {0};
        long status = 0;

        curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        if ((code == CURLE_OK || call->cut) && status >= 200 && call->head_complete) {
                reply.outcome = HTTP_ANSWERED;
                reply.status = (int)status;
                reply.body = (struct slice){.s = call->answer.s ? call->answer.s : "", .len = call->answer.len};
        } else {
                reply.outcome = call->passed ? HTTP_UNKNOWN : HTTP_NOT_SENT;
                reply.why = call->why          ? call->why
                            : *call->error     ? call->error
                            : code == CURLE_OK ? "the answer was cut off"
                                               : curl_easy_strerror(code);
        }
        finish(call, &call->client->running, &reply);
}

void httpc_start(struct httpc *c, const struct http_call *from)
{
        struct call *call = xcalloc(1, sizeof *call);

        call->client = c;
        call->done = from->done;
        call->arg = from->arg;
        call->answer_max = from->answer_max;
        call->answer_cut = from->answer_cut;
        call->started_ms = now_mono_ms();
        call->deadline_ms = call->started_ms + (from->timeout_ms > 0 ? from->timeout_ms : 0);
        call->why = call_fault(from);
        c->in_flight++;
        if (call->why) {
                list_add(&c->refused, call);
                return;
        }
        set_up(call, from);
        list_add(&c->running, call);
        if (call->deadline_ms < c->deadline_ms)
                c->deadline_ms = call->deadline_ms;
        if (curl_multi_add_handle(c->multi, call->easy) != CURLM_OK)
                die("libcurl takes no call");
}

/* --- the loop's side --- */

static void end_refused(struct httpc *c)
{
        /* Only those of now: a callback that starts a refused call again must not keep us here. */
        struct call *last = c->refused.last, *call;
        bool more = last != NULL;

        while (more && (call = c->refused.first)) {
                /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): finish() has taken the one before off the list */
                struct http_reply reply = {.outcome = HTTP_NOT_SENT, .why = call->why};

                more = call != last;
                finish(call, &c->refused, &reply);
        }
}

static void end_finished(struct httpc *c)
{
        CURLMsg *message;
        int left;

        while ((message = curl_multi_info_read(c->multi, &left))) {
                struct call *call = NULL;

                if (message->msg != CURLMSG_DONE)
                        continue;
                curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
                finish_transfer(call, message->data.result);
        }
}

static void end_overdue(struct httpc *c)
{
        int64_t now = now_mono_ms();
        struct call_list overdue = {0};
        struct call *call, *next;

        if (now < c->deadline_ms)
                return;
        c->deadline_ms = INT64_MAX;
        for (call = c->running.first; call; call = next) {
                next = call->next;
                if (call->deadline_ms <= now) {
                        list_remove(&c->running, call);
                        list_add(&overdue, call);
                } else if (call->deadline_ms < c->deadline_ms) {
                        c->deadline_ms = call->deadline_ms;
                }
        }
        /* Apart from the list, to which their callbacks may add. */
        while ((call = overdue.first)) {
                struct http_reply reply = {.outcome = call->passed ? HTTP_UNKNOWN : HTTP_NOT_SENT};

                reply.why = call->passed ? "no answer in time" : "no connection in time";
                finish(call, &overdue, &reply);
        }
}

static void act_on_sockets(struct httpc *c)
{
        struct epoll_event events[EVENTS];
        int running, n = EVENTS;

        /* All that is ready, so that an answer which is here is not taken for late. */
        for (size_t round = 0; round <= c->in_flight / EVENTS && n == EVENTS; round++) {
                n = epoll_wait(c->epoll_fd, events, EVENTS, 0);
                for (int i = 0; i < n; i++) {
                        int what = 0;

                        if (events[i].events & EPOLLIN)
                                what |= CURL_CSELECT_IN;
                        if (events[i].events & EPOLLOUT)
                                what |= CURL_CSELECT_OUT;
                        if (events[i].events & (EPOLLERR | EPOLLHUP))
                                what |= CURL_CSELECT_IN | CURL_CSELECT_OUT | CURL_CSELECT_ERR;
                        curl_multi_socket_action(c->multi, events[i].data.fd, what, &running);
                }
        }
}

void httpc_run(struct httpc *c)
{
        int running;

        end_refused(c);
        act_on_sockets(c);
        if (now_mono_ms() >= c->timer_ms) {
                c->timer_ms = INT64_MAX;
                curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        end_finished(c);
        end_overdue(c);
}

int httpc_fd(const struct httpc *c)
{
        return c->epoll_fd;
}

int64_t httpc_timeout_ms(const struct httpc *c)
{
        int64_t next = c->timer_ms < c->deadline_ms ? c->timer_ms : c->deadline_ms;
        int64_t left;

        if (c->refused.first)
                return 0;
        if (next == INT64_MAX)
                return -1;
        left = next - now_mono_ms();
        return left > 0 ? left : 0;
}

size_t httpc_in_flight(const struct httpc *c)
{
        return c->in_flight;
}

int httpc_open(struct httpc **ret_client)
{
        struct httpc *c;
        int fd;

        pthread_once(&curl_once, curl_setup);
        fd = epoll_create1(EPOLL_CLOEXEC);
        if (fd < 0)
                return -errno;
        c = xcalloc(1, sizeof *c);
        c->epoll_fd = fd;
        c->timer_ms = c->deadline_ms = INT64_MAX;
        c->multi = curl_multi_init();
        if (!c->multi)
                die("out of memory: HTTP client");
        curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
        curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
        curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timer);
        curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
        curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
        curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
        *ret_client = c;
        return 0;
}

struct httpc *httpc_free(struct httpc *c)
{
        struct call *call;

        if (!c)
                return NULL;
        while ((call = c->running.first)) {
                struct http_reply reply = {.outcome = HTTP_UNKNOWN, .why = "the client was stopped"};

                finish(call, &c->running, &reply); /* NOLINT(clang-analyzer-unix.Malloc): finish() has taken the one before off the list */
        }
        while (c->refused.first)
                end_refused(c);
        while (c->n_kept > 0)
                curl_easy_cleanup(c->kept[--c->n_kept]);
        curl_multi_cleanup(c->multi);
        close(c->epoll_fd);
        free(c);
        return NULL;
}
