/* The HTTP server of a test, turned by the test, and raw clients of it. What fails fails the test. */
#ifndef AETHELOS_TESTS_HTTPD_SITE_H
#define AETHELOS_TESTS_HTTPD_SITE_H

#include "http/httpd.h"

#define BODY_MAX 5000
#define PATIENCE 20000 /* ms; a test that waits so long has failed */
#define TOKEN    "s3cret"
#define LARGE    (1024 * 1024) /* bytes of the answer to GET /large */
#define HELD_MAX 256

struct site {
        struct httpd *httpd;
        int wake_fd;
        struct http_request *held[HELD_MAX]; /* of GET /hold */
        size_t n_held, n_handled;
};
extern struct site *site; /* of the running test; handlers get it as ctx too */
extern const struct http_route site_routes[];

int site_set_up(void **state);
int site_tear_down(void **state);
void site_open(struct httpd_config config);
bool site_pump_for(int fd, int ms); /* serves until fd has something to read; false after ms */
void site_pump(int fd);
void site_pump_until_held(size_t n);

/* --- clients --- */

struct peer_answer {
        int status; /* 0: the connection was closed or reset without one */
        struct strbuf head, body;
};
void peer_answer_done(struct peer_answer *a);

int peer_dial_port(int64_t port); /* a descriptor, or a negative errno */
int peer_dial(void);
void peer_put_bytes(int fd, const char *s, size_t len);
void peer_put(int fd, const char *s);
int peer_get_byte(int fd, bool serving); /* of the answer; -1 at the end of the connection */
void peer_read_answer(int fd, struct peer_answer *ret_a, bool serving, bool has_body);
struct peer_answer peer_answer_of(int fd);
struct peer_answer peer_exchange(int fd, const char *request);
int peer_status_of(const char *request); /* on a fresh connection */
bool peer_has_header(const struct peer_answer *a, const char *line);
const char *peer_body_text(const struct peer_answer *a);
void peer_assert_closed(int fd);
void peer_assert_closes(int fd); /* the same, whatever else comes before */
void peer_assert_kept(int fd);

#endif
