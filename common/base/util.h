/* Small things every file needs: cleanup attributes, hand-over of ownership, allocation that cannot fail.
 * Out of memory and broken invariants end the process (the supervisor restarts it and the event store makes that safe). */
#ifndef AETHELOS_BASE_UTIL_H
#define AETHELOS_BASE_UTIL_H

#include <stddef.h>
#include <stdint.h>

#define _cleanup_(f)        __attribute__((cleanup(f)))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define ARRAY_SIZE(a)       (sizeof(a) / sizeof((a)[0]))

/* Hands the pointer over to somebody else: yields it and leaves NULL behind. */
#define TAKE_PTR(p)                                                                                                                                  \
        ({                                                                                                                                           \
                __typeof__(p) *_taken_from = &(p);                                                                                                   \
                __typeof__(p) _taken = *_taken_from;                                                                                                 \
                *_taken_from = NULL;                                                                                                                 \
                _taken;                                                                                                                              \
        })

/* Defines `void func##p(type *)` for _cleanup_. */
#define DEFINE_CLEANUP(type, func)                                                                                                                   \
        static inline void func##p(type *p)                                                                                                          \
        {                                                                                                                                            \
                if (*p)                                                                                                                              \
                        func(*p);                                                                                                                    \
        }

/* A borrowed run of bytes; not NUL-terminated. */
struct slice {
        const char *s;
        size_t len;
};

struct slice slice_of(const char *s); /* strlen; NULL gives {NULL, 0} */
int slice_equal(struct slice a, const char *b);

void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size); /* overflow of n * size ends the process */
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t len);

/* As much of s as fits into `size` > 0 bytes with its NUL. */
void copy_text(char *to, size_t size, const char *s);

/* Ends the process with a line on stderr: for out of memory and for invariants that do not hold. */
_Noreturn void die(const char *what);

void freep(void *p);  /* for _cleanup_(freep) on any malloc'ed pointer */
void closep(int *fd); /* for _cleanup_(closep); ignores -1 */

int64_t now_mono_ms(void); /* CLOCK_MONOTONIC, for durations */
int64_t now_mono_us(void); /* the same, finer */
int64_t now_wall_ms(void); /* CLOCK_REALTIME, for stamps only */

/* Reads a whole file of at most max bytes; *ret_text is NUL-terminated and malloc'ed, trailing newlines are cut off.
 * 0, -ENOENT, -EACCES, -EFBIG, -EINVAL (it holds a NUL) or another negative errno. */
int read_file(const char *path, size_t max, char **ret_text);

#endif
