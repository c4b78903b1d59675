/* Small things every file needs. The invariant kept here: an allocation either succeeds or ends the process, so no caller has a path for "out of
 * memory" that is never run. */
#include "util.h"

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct slice slice_of(const char *s)
{
        return (struct slice){s, s ? strlen(s) : 0};
}

int slice_equal(struct slice a, const char *b)
{
        return b && a.s && strlen(b) == a.len && memcmp(a.s, b, a.len) == 0;
}

_Noreturn void die(const char *what)
{
        log_error(what); /* allocates nothing, so it works when memory is out */
        abort();
}

void *xmalloc(size_t size)
{
        void *p = malloc(size ? size : 1);
        if (!p)
                die("out of memory");
        return p;
}

void *xcalloc(size_t n, size_t size)
{
        void *p = calloc(n ? n : 1, size ? size : 1); /* calloc checks the product */
        if (!p)
                die("out of memory");
        return p;
}

void *xrealloc(void *p, size_t size)
{
        void *q = realloc(p, size ? size : 1);
        if (!q)
                die("out of memory");
        return q;
}

char *xstrdup(const char *s)
{
        return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t len)
{
        char *copy = xmalloc(len + 1);
        if (len)
                memcpy(copy, s, len);
        copy[len] = '\0';
        return copy;
}

void copy_text(char *to, size_t size, const char *s)
{
        size_t len = strnlen(s, size - 1);

        memcpy(to, s, len);
        to[len] = '\0';
}

void freep(void *p)
{
        free(*(void **)p);
}

void closep(int *fd)
{
        if (*fd >= 0) {
                int saved = errno; /* clean-up must not hide the error that led to it */
                close(*fd);
                errno = saved;
        }
}

static int64_t now_us(clockid_t clock)
{
        struct timespec t;
        if (clock_gettime(clock, &t) != 0)
                die("clock_gettime failed");
        return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t now_mono_us(void)
{
        return now_us(CLOCK_MONOTONIC);
}

int64_t now_mono_ms(void)
{
        return now_mono_us() / 1000;
}

int64_t now_wall_ms(void)
{
        return now_us(CLOCK_REALTIME) / 1000;
}

int read_file(const char *path, size_t max, char **ret_text)
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        /* st_size is only the first guess: files in /proc and pipes have none. One byte more than it, so that the end is seen without growing. */
        struct stat st;
        if (fstat(fd, &st) != 0)
                return -errno;
        size_t cap = st.st_size > 0 && (uintmax_t)st.st_size <= max ? (size_t)st.st_size + 1 : 512;
        size_t len = 0;
        _cleanup_(freep) char *text = xmalloc(cap + 1);
        for (;;) {
                ssize_t got = read(fd, text + len, cap - len);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                if (got == 0)
                        break;
                len += (size_t)got;
                if (len > max)
                        return -EFBIG;
                if (len == cap) {
                        cap *= 2;
                        text = xrealloc(text, cap + 1);
                }
        }
        if (memchr(text, '\0', len))
                return -EINVAL; /* the caller gets a string: half a secret must not pass for the whole */
        while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
                len--;
        text[len] = '\0';
        *ret_text = TAKE_PTR(text);
        return 0;
}
