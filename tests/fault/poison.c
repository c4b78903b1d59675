/* Poison goes in by the doors that everybody has: the bus, and the public port. None of it may be admitted, and nothing behind it may stop. */
#include "poison.h"

#include "base/util.h"
#include "proto/aethelos.pb-c.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SUBMIT_SUBJECT "aethelos.job.submit.default"
#define ITEMS_MAX      200
#define BIG            ((size_t)1 << 20)

static void random_bytes_into(struct world *w, char *to, size_t n)
{
        for (size_t i = 0; i < n; i++)
                to[i] = (char)fault_random_next(&w->random);
}

static void hop_subject(struct world *w, char *to, size_t size)
{
        static const char *const hearers[] = {"pricing", "payments", "execution", "ledger", "payouts"}, *const lanes[] = {"high", "normal", "low"};

        snprintf(to, size, "aethelos.hop.%s.%s", hearers[fault_random_between(&w->random, 0, 4)], lanes[fault_random_between(&w->random, 0, 2)]);
}

static void noise(struct world *w)
{
        char subject[64], bytes[300];
        size_t n = (size_t)fault_random_between(&w->random, 0, sizeof(bytes));

        hop_subject(w, subject, sizeof(subject));
        random_bytes_into(w, bytes, n);
        (void)bus_publish(w->bus, subject, NULL, NULL, 0, bytes, n);
}

/* Bells of jobs that stand somewhere else, twice in one envelope, with versions that never were, among chains that nobody knows and ids that are
 * none. */
static void false_bells(struct world *w)
{
        Aethelos__Envelope envelope = AETHELOS__ENVELOPE__INIT;
        Aethelos__Envelope__Item items[ITEMS_MAX], *pointers[ITEMS_MAX];
        struct uuid unknown = uuid_v7();
        uint8_t packed[ITEMS_MAX * 32];
        char subject[64];

        for (size_t i = 0; i < ITEMS_MAX; i++) {
                struct load_job *j = w->load.n > 0 ? &w->load.jobs[fault_random_between(&w->random, 0, (int64_t)w->load.n - 1)] : NULL;

                aethelos__envelope__item__init(&items[i]);
                items[i].chain_id.data = j && j->receipted ? j->id.b : unknown.b;
                items[i].chain_id.len = fault_random_chance(&w->random, 2) ? 15 : sizeof(struct uuid);
                items[i].version = (uint32_t)fault_random_between(&w->random, 0, 12);
                pointers[i] = &items[i];
        }
        envelope.n_items = ITEMS_MAX;
        envelope.items = pointers;
        hop_subject(w, subject, sizeof(subject));
        (void)bus_publish(w->bus, subject, NULL, NULL, 0, packed, aethelos__envelope__pack(&envelope, packed));
}

static void bad_submissions(struct world *w)
{
        static const struct {
                const char *key, *body;
        } cases[] = {
                {"poison-1", "{"},
                {"poison-2", "not JSON"},
                {"poison-3", "{\"type\":\"no such type\",\"payload\":{}}"},
                {"poison-4", "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":5}}"},
                {"poison-5", "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\",\"complexity\":-1}}"},
                {"poison-6", "\xff\xfe"},
                {"poison-7", ""},
                {"a key that is none", "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\"}}"},
                {NULL, "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"a\"}}"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                (void)bus_publish(w->bus, SUBMIT_SUBJECT, NULL, &(struct bus_header){"Idempotency-Key", cases[i].key}, cases[i].key ? 1 : 0,
                        cases[i].body, strlen(cases[i].body));
}

static void big_submission(struct world *w)
{
        _cleanup_(freep) char *bytes = xmalloc(BIG + 100);

        memset(bytes, '[', BIG + 100);
        (void)bus_publish(w->bus, SUBMIT_SUBJECT, NULL, &(struct bus_header){"Idempotency-Key", "poison-big"}, 1, bytes, BIG + 100);
}

/* A client that sends half a request, or noise, and goes. */
static void rude_client(struct world *w)
{
        static const char half[] = "POST /jobs HTTP/1.1\r\nHost: x\r\nIdempotency-Key: poison-http\r\nContent-Type: "
                                   "application/json\r\nContent-Length: 500\r\n\r\n{\"type\":";
        struct sockaddr_in a = {
                .sin_family = AF_INET, .sin_port = htons((uint16_t)stack_port(w->stack, false)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        _cleanup_(closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        char bytes[200];

        if (fd < 0)
                return;
        (void)connect(fd, (struct sockaddr *)&a, sizeof(a)); /* on loopback it stands at once, or not at all */
        random_bytes_into(w, bytes, sizeof(bytes));
        if (fault_random_chance(&w->random, 50))
                (void)!send(fd, half, strlen(half), MSG_NOSIGNAL);
        else
                (void)!send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
}

void poison(struct world *w)
{
        static void (*const doses[])(struct world *) = {noise, false_bells, bad_submissions, big_submission, rude_client};

        for (size_t i = 0; i < ARRAY_SIZE(doses); i++)
                if (fault_random_chance(&w->random, i < 2 ? 90 : 50))
                        doses[i](w);
}
