/* Frames of the NATS client protocol: a line, and behind MSG, HMSG, PUB and HPUB a payload whose size is the line's last number. */
#include "nats_frames.h"

#include "base/util.h"

#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 8192

static const struct kind {
        const char *verb;
        bool headers;
} kinds[] = {{"MSG ", false}, {"PUB ", false}, {"HMSG ", true}, {"HPUB ", true}};

static const struct kind *kind_of(const char *line, size_t n)
{
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (n > strlen(kinds[i].verb) && memcmp(line, kinds[i].verb, strlen(kinds[i].verb)) == 0)
                        return &kinds[i];
        return NULL;
}

/* Sizes are the line's last token, and with headers the one before it. */
static bool read_sizes(const char *line, size_t n, bool headers, size_t *ret_headers, size_t *ret_total)
{
        char text[LINE_MAX_BYTES + 1], *last, *before;

        memcpy(text, line, n);
        text[n] = '\0';
        last = strrchr(text, ' ');
        if (!last)
                return false;
        *ret_total = strtoul(last + 1, NULL, 10);
        *last = '\0';
        before = headers ? strrchr(text, ' ') : NULL;
        if (headers && !before)
                return false;
        *ret_headers = headers ? strtoul(before + 1, NULL, 10) : 0;
        return *ret_headers <= *ret_total;
}

bool nats_frame_read(const char *bytes, size_t n, struct nats_frame *ret_frame)
{
        static const char ours[] = "aethelos.";
        const char *end = memchr(bytes, '\n', n);
        size_t line, headers = 0, total = 0;
        const struct kind *kind;

        *ret_frame = (struct nats_frame){0};
        if (!end)
                return false;
        line = (size_t)(end - bytes) + 1;
        ret_frame->len = line;
        kind = line <= LINE_MAX_BYTES ? kind_of(bytes, line) : NULL;
        if (!kind || !read_sizes(bytes, line, kind->headers, &headers, &total))
                return true;
        ret_frame->len = line + total + 2;
        ret_frame->body = line + headers;
        ret_frame->n_body = total - headers;
        ret_frame->message = strncmp(bytes + strlen(kind->verb), ours, sizeof(ours) - 1) == 0;
        return ret_frame->len <= n;
}

/* JSON, or the key that a receipt is asked for by. An Envelope has a control character in every item: the length of the chain's id. */
static bool is_text(const char *body, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if ((unsigned char)body[i] < ' ' && !strchr("\t\n\r", body[i]))
                        return false;
        return true;
}

void nats_frame_garble(char *frame, const struct nats_frame *f, struct fault_random *r)
{
        char *body = frame + f->body;

        if (f->n_body == 0)
                return;
        if (is_text(body, f->n_body)) {
                body[fault_random_between(r, 0, (int64_t)f->n_body - 1)] = (char)0xff;
                return;
        }
        for (int64_t i = fault_random_between(r, 1, 8); i > 0; i--) {
                int64_t at = fault_random_between(r, 0, (int64_t)f->n_body - 1);

                body[at] ^= (char)fault_random_between(r, 1, 255);
        }
}
