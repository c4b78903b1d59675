/* What the files of the server share. Two threads meet here: libmicrohttpd's, which reads and writes sockets, and the service's, which answers. */
#ifndef AETHELOS_HTTP_HTTPD_PRIVATE_H
#define AETHELOS_HTTP_HTTPD_PRIVATE_H

#include "http/http_route.h"
#include "http/httpd.h"

#include <microhttpd.h>
#include <pthread.h>

#define HTTPD_RECEIVE_MS   10000
#define HTTPD_IDLE_MS      30000
#define HTTPD_BYTES_PER_MS 10 /* the slowest allowed sender or reader: 10 kB/s */
#define HTTPD_NEVER        INT64_MAX
/* A refused request with at most so much body is read to its end, because a close with unread bytes makes the kernel send a reset that may overtake
 * the answer. */
#define HTTPD_DRAIN_MAX (1024 * 1024)

/* A connection; made and freed by libmicrohttpd's thread; deadline_ms and the links under httpd.lock. */
struct http_conn {
        struct http_conn *prev, *next;
        int fd;
        int64_t deadline_ms; /* when the watch thread shuts the socket down */
        bool used;           /* has brought a request before */
};

/* READING: only libmicrohttpd's thread touches it. QUEUED and HELD: suspended, the service's thread owns it. ANSWERED: libmicrohttpd's thread again.
 */
enum http_stage { HTTP_FRESH, HTTP_READING, HTTP_REFUSED, HTTP_QUEUED, HTTP_HELD, HTTP_ANSWERED };

struct http_request {
        struct http_request *prev, *next; /* in the list of its stage, under httpd.lock */
        struct httpd *httpd;
        struct http_conn *conn;
        struct MHD_Connection *mhd;
        enum http_stage stage;
        struct http_target target;
        bool target_broken;
        struct http_match match;
        struct strbuf body;
        uint64_t seen; /* body bytes, also those thrown away */
        int64_t start_ms, received_ms;
        struct strbuf headers; /* of the answer: name NUL value NUL ... */
        struct MHD_Response *response;
        struct http_stream *stream; /* NULL: the answer has an end */
        unsigned status;
        size_t response_len;
};

struct http_request_list {
        struct http_request *first, *last;
};

struct httpd {
        struct httpd_config config; /* token and address are own copies */
        int64_t port;
        int listen_fd;
        bool quiesced;
        struct MHD_Daemon *mhd;
        pthread_t watch;

        pthread_mutex_t lock;   /* guards everything below; never held while libmicrohttpd is called */
        pthread_cond_t changed; /* first connection, last connection gone, last answer written, stop */
        struct http_request_list queued, held;
        size_t n_open;   /* queued + held */
        size_t n_unsent; /* answered, not yet written out */
        struct http_conn *conns;
        bool closing; /* new requests are answered with 503 */
        bool closed;  /* new connections are shut down */
        bool stop;    /* the watch thread ends */
};

/* httpd_request.c: libmicrohttpd's callbacks */
void httpd_on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context, enum MHD_ConnectionNotificationCode code);
void *httpd_on_target(void *cls, const char *target, struct MHD_Connection *mhd);
enum MHD_Result httpd_on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version, const char *data,
        size_t *size, void **request_context);
void httpd_on_completed(void *cls, struct MHD_Connection *mhd, void **request_context, enum MHD_RequestTerminationCode code);

/* httpd_answer.c: builds r->response; does not send it */
void http_finish_response(struct http_request *r, const char *type); /* its header fields */
void http_make_response(struct http_request *r, int status, const char *type, const void *data, size_t len);
void http_make_problem(struct http_request *r, int status, const char *slug, const char *detail, const char *field);
void http_make_stopping(struct http_request *r); /* 503 */
bool http_conn_gone(const struct http_conn *c);

/* httpd.c */
void http_list_add(struct http_request_list *list, struct http_request *r);
void http_list_remove(struct http_request_list *list, struct http_request *r);
void httpd_answered(struct http_request *r); /* hands r with its response back to libmicrohttpd's thread */
int64_t httpd_allowance_ms(uint64_t bytes);  /* time allowed for so many bytes on top of receive_ms */

/* httpd_stream.c */
void httpd_stream_gone(struct http_stream *s); /* its request is over; frees it when the service has let go of it */

#endif
