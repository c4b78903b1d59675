/* Readiness, as whoever started the process asks for it: a file whose time is renewed, and systemd's socket. It is renewed from the loop, so that it
 * goes stale when the loop stands still. A crash leaves a file that nobody renews. */
#include "skeleton.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define RENEW_MS 1000

static void tell_systemd(bool ready)
{
        static const char up[] = "READY=1\nSTATUS=ready\nWATCHDOG=1", waiting[] = "STATUS=the database or the bus is away\nWATCHDOG=1";
        const char *path = getenv("NOTIFY_SOCKET"), *text = ready ? up : waiting;
        struct sockaddr_un a = {.sun_family = AF_UNIX};

        if (!path || strlen(path) >= sizeof(a.sun_path))
                return;
        memcpy(a.sun_path, path, strlen(path));
        if (path[0] == '@')
                a.sun_path[0] = '\0'; /* the abstract name space */
        _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd >= 0)
                (void)!sendto(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&a,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
}

static void renew(const char *path, bool ready)
{
        if (!ready) {
                (void)unlink(path);
                return;
        }
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0 || futimens(fd, NULL) < 0)
                log_warning("cannot tell that it is ready", LOG_S("file", path), LOG_S("error", strerror(errno)));
}

void ready_tell(const char *file, bool ready)
{
        static bool told;
        static int64_t renew_at_ms;
        int64_t now = now_mono_ms();

        if (ready == told && now < renew_at_ms)
                return;
        told = ready;
        renew_at_ms = now + RENEW_MS;
        tell_systemd(ready);
        if (file)
                renew(file, ready);
}
