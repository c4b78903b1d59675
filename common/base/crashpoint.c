/* Crash points: kill or freeze the process at a named place, for tests of what a crash leaves behind. SIGKILL, because nothing may be cleaned up,
 * flushed or answered on the way out; SIGSTOP, because a frozen process wakes up later and believes that nothing has happened. Without
 * AETHELOS_CRASH_POINTS this file is empty. */
#include "crashpoint.h"

#ifdef AETHELOS_CRASH_POINTS

#include "util.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POINTS_MAX 512

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool ready;
static char *target;     /* the point to die or freeze at; NULL = none */
static long passes_left; /* until then */
static int blow = SIGKILL;
static int log_fd = -1;
static const char *seen[POINTS_MAX]; /* names are literals */
static size_t n_seen;

static void read_environment(void)
{
        const char *freeze = getenv("AETHELOS_FREEZE_AT"), *at = freeze ? freeze : getenv("AETHELOS_CRASH_AT");
        const char *colon = at ? strrchr(at, ':') : NULL;
        if (at && (!colon || (passes_left = atol(colon + 1)) < 1))
                die("AETHELOS_CRASH_AT or AETHELOS_FREEZE_AT is not <name>:<n>"); /* a crash test that crashes nothing would look like success */
        if (at)
                target = xstrndup(at, (size_t)(colon - at));
        if (freeze)
                blow = SIGSTOP;
        const char *log = getenv("AETHELOS_CRASH_LOG");
        if (log && (log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) < 0)
                die("cannot open AETHELOS_CRASH_LOG");
        ready = true;
}

static bool is_new(const char *name)
{
        for (size_t i = 0; i < n_seen; i++) {
                if (strcmp(seen[i], name) == 0)
                        return false;
        }
        if (n_seen == POINTS_MAX)
                die("too many crash points");
        seen[n_seen++] = name;
        return true;
}

static void log_name(const char *name)
{
        _cleanup_(freep) char *text = xmalloc(strlen(name) + 2);
        strcpy(stpcpy(text, name), "\n");
        if (write(log_fd, text, strlen(text)) < 0)
                die("cannot write AETHELOS_CRASH_LOG");
}

void crash_point(const char *name)
{
        pthread_mutex_lock(&lock);
        if (!ready)
                read_environment();
        if (log_fd >= 0 && is_new(name))
                log_name(name);
        if (target && strcmp(target, name) == 0 && --passes_left == 0) {
                kill(getpid(), blow);
                while (blow == SIGKILL)
                        pause(); /* the signal may arrive a moment later; nothing further may happen */
        }
        pthread_mutex_unlock(&lock);
}

#endif
