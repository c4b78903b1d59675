/* The loop. Invariants: a message is acknowledged after the commit that used it, and never before; bells are published after the commit; no
 * transaction stays open across a round. A crash anywhere leaves messages that come again and chains that stand, which the next delivery or the
 * ringer finds. */
#include "service/service.h"

#include "base/crashpoint.h"
#include "proto/subjects.h"
#include "skeleton.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define HEARTBEAT_MS   5000
#define REQUESTS_ROUND 512 /* taken per round, so that bells are not starved by requests */
#define RETRY_MS       500 /* a batch that met an unreachable database comes again after this */
#define CROWD_MAX      256 /* messages of a stream in one round that are a crowd, however many a round may take */
#define DELIVERED_MAX  3   /* an envelope delivered more often is taken apart */
/* Rounds that moved something do not follow each other closer than this: under load batches grow, for a batch costs more than a chain in it. Who
 * comes after a pause does not wait. */
#define PACE_US 2000

struct service_state {
        struct skeleton_config config;
        struct outbox outbox;
        int wake_fd;
        int64_t wake_at_ms, tick_at_ms, beat_at_ms, drain_until_ms, database_retry_ms, rest_until_ms;
        int64_t moved_us; /* when the last round began that moved something */
        uint64_t rounds;
        bool more;  /* something was left for the next round */
        bool dirty; /* something was published or acknowledged */
        bool paused;
        char stream_name[32], stream_subject[48], durables[LANE_COUNT][24], filters[LANE_COUNT][48];
        struct bus_stream stream;
        struct bus_lane lanes[LANE_COUNT + 1];
};

static volatile sig_atomic_t stop_requested;
static int stop_fd = -1;

static void on_stop_signal(int signal_number)
{
        uint64_t one = 1;
        int saved = errno;

        (void)signal_number;
        stop_requested = 1;
        (void)!write(stop_fd, &one, sizeof(one));
        errno = saved;
}

static void catch_signals(int wake_fd)
{
        struct sigaction stop = {.sa_handler = on_stop_signal}, ignore = {.sa_handler = SIG_IGN};

        stop_fd = wake_fd;
        sigaction(SIGTERM, &stop, NULL);
        sigaction(SIGINT, &stop, NULL);
        sigaction(SIGPIPE, &ignore, NULL);
}

void service_ring_one(struct service *s, const char *hearer, enum lane lane, const struct uuid *id, int version)
{
        outbox_add(&s->skeleton->outbox, hearer, lane, id, version);
}

void service_ring(struct service *s, const struct advance *a)
{
        for (size_t i = 0; i < a->n; i++) {
                const struct transition *t = &a->t[i];

                if (t->verdict == ADVANCE_WON)
                        outbox_add(&s->skeleton->outbox, t->hearer, t->lane, &t->id, t->version);
                else if (t->verdict == ADVANCE_REFUSED)
                        log_warning("the database refused a move", LOG_S("step", t->step), LOG_I("version", t->version));
        }
}

void service_tick(struct service *s)
{
        s->skeleton->tick_at_ms = 0;
}

void service_rest(struct service *s, int64_t ms)
{
        s->skeleton->rest_until_ms = now_mono_ms() + ms;
}

bool service_rests(const struct service *s)
{
        return now_mono_ms() < s->skeleton->rest_until_ms && !stop_requested;
}

size_t service_crowd(const struct service *s)
{
        int64_t batch = s->skeleton->config.batch;

        return (size_t)(batch < CROWD_MAX ? batch : CROWD_MAX);
}

bool service_stopping(void)
{
        return stop_requested;
}

void service_wake_in(struct service *s, int64_t ms)
{
        int64_t at = now_mono_ms() + (ms > 0 ? ms : 0);

        if (at < s->skeleton->wake_at_ms)
                s->skeleton->wake_at_ms = at;
}

void service_quarantine(struct service *s, const char *subject, const struct uuid *chain, const char *reason, const void *bytes, size_t len)
{
        /* A chain that is rung again and again is put aside once. */
        static const char sql[] =
                "INSERT INTO quarantine (service, subject, chain_id, reason, bytes) SELECT $1, $2, $3, $4, $5"
                " WHERE $3 IS NULL OR NOT EXISTS (SELECT 1 FROM quarantine q WHERE q.chain_id = $3 AND q.service = $1 AND q.reason = $4)";
        _cleanup_(db_args_done) struct db_args args = {0};

        db_arg_text(&args, s->spec->name);
        db_arg_text(&args, subject);
        db_arg_uuid(&args, chain);
        db_arg_text(&args, reason);
        db_arg_bytes(&args, bytes, len > 65536 ? 65536 : len);
        if (db_run(s->db, sql, &args, NULL) < 0)
                log_error("could not put a message into quarantine", LOG_S("why", reason), LOG_S("error", db_error(s->db)));
        else
                log_warning("put into quarantine", LOG_S("why", reason), LOG_S("subject", subject));
}

static int compare_ids(const void *a, const void *b)
{
        return uuid_compare(a, b);
}

static size_t distinct(struct uuid ids[], size_t n)
{
        size_t kept = 0;

        if (n == 0)
                return 0;
        qsort(ids, n, sizeof(*ids), compare_ids);
        for (size_t i = 1; i < n; i++)
                if (!uuid_equal(&ids[i], &ids[kept]))
                        ids[++kept] = ids[i];
        return kept + 1;
}

/* A batch that failed as a whole, one chain at a time: who fails alone is put aside, the others go on. 0, or -ENOTCONN/-EAGAIN. */
static int one_by_one(struct service *s, const struct uuid ids[], size_t n)
{
        for (size_t i = 0; i < n; i++) {
                int e = s->spec->on_bells(s, &ids[i], 1);

                if (e == -ENOTCONN || e == -EAGAIN)
                        return e;
                if (e < 0)
                        service_quarantine(s, NULL, &ids[i], db_error(s->db)[0] ? db_error(s->db) : strerror(-e), NULL, 0);
        }
        return 0;
}

static void hear_bells(struct service *s)
{
        struct service_state *k = s->skeleton;
        struct bus_message *taken[64];
        _cleanup_(freep) struct uuid *ids = NULL;
        size_t n_taken = 0, n = 0, cap = 0;
        bool singly = false;
        int e = 0;

        while (n_taken < ARRAY_SIZE(taken) && n < (size_t)k->config.batch) {
                struct bus_message *m = bus_next(s->bus);

                if (!m)
                        break;
                if (envelope_ids(m->data, m->len, &ids, &n, &cap) < 0) {
                        service_quarantine(s, m->subject, NULL, "not an envelope", m->data, m->len);
                        bus_ack(s->bus, m);
                        k->dirty = true;
                        continue;
                }
                singly |= m->delivered > DELIVERED_MAX;
                taken[n_taken++] = m;
        }
        if (n_taken == 0)
                return;
        k->more = true;
        n = distinct(ids, n);
        for (size_t at = 0; at < n && e == 0; at += (size_t)k->config.batch) {
                size_t part = n - at < (size_t)k->config.batch ? n - at : (size_t)k->config.batch;

                e = singly ? one_by_one(s, ids + at, part) : s->spec->on_bells(s, ids + at, part);
                if (e < 0 && e != -ENOTCONN && e != -EAGAIN) {
                        log_warning("a batch failed and is tried one by one", LOG_I("chains", (int64_t)part), LOG_S("error", db_error(s->db)));
                        e = one_by_one(s, ids + at, part);
                }
        }
        outbox_publish(&k->outbox, s->bus);
        for (size_t i = 0; i < n_taken; i++) {
                if (e == 0) {
                        CRASH_POINT("before ack");
                        bus_ack(s->bus, taken[i]);
                        CRASH_POINT("after ack");
                } else {
                        bus_nak(s->bus, taken[i], RETRY_MS);
                }
        }
        k->dirty = true;
}

static void hear_messages(struct service *s)
{
        struct bus_message *m;
        int n = 0;

        while (n++ < s->skeleton->config.batch && (m = bus_next_plain(s->bus)) != NULL) {
                s->skeleton->dirty = true;
                if (s->spec->on_message)
                        s->spec->on_message(s, m);
                else
                        bus_drop(s->bus, m);
        }
        s->skeleton->more |= n > s->skeleton->config.batch;
        if (s->spec->on_bells) {
                hear_bells(s);
                return;
        }
        if (!s->spec->stream || !s->spec->on_message)
                return;
        for (int i = 0; i < s->skeleton->config.batch && !service_rests(s) && (m = bus_next(s->bus)) != NULL; i++) {
                s->skeleton->dirty = s->skeleton->more = true;
                s->spec->on_message(s, m);
        }
}

static void hear_requests(struct service *s)
{
        const struct http_route *route;
        struct http_request *r;
        int n = 0;

        if (!s->httpd)
                return;
        while (n++ < REQUESTS_ROUND && (r = httpd_take(s->httpd, &route)) != NULL)
                route->handle(s, r);
        s->skeleton->more |= n > REQUESTS_ROUND;
}

/* Pulls nothing while the store cannot be reached: what is not pulled is not lost. */
static void follow_database(struct service *s, int64_t now)
{
        struct service_state *k = s->skeleton;
        bool ready;

        if (db_connected(s->db) && !k->paused)
                return;
        if (now < k->database_retry_ms)
                return;
        ready = db_ready(s->db) == 0;
        k->database_retry_ms = now + 250;
        if (ready == !k->paused)
                return;
        k->paused = !ready;
        if (ready) {
                log_info("the database is there");
                bus_source_resume(s->bus);
        } else {
                log_warning("the database is away", LOG_S("error", db_error(s->db)));
                bus_source_pause(s->bus);
        }
}

static void beat(struct service *s, int64_t now)
{
        struct service_state *k = s->skeleton;
        char subject[128], body[256];
        int n;

        if (now < k->beat_at_ms)
                return;
        k->beat_at_ms = now + HEARTBEAT_MS;
        snprintf(subject, sizeof(subject), SUBJECT_HEARTBEAT, s->spec->name, s->instance);
        n = snprintf(body, sizeof(body), "{\"service\":\"%s\",\"instance\":\"%s\",\"pid\":%d,\"rounds\":%" PRIu64 "}", s->spec->name, s->instance,
                (int)getpid(), k->rounds);
        (void)bus_publish(s->bus, subject, NULL, &(struct bus_header){"Content-Type", "application/json"}, 1, body, (size_t)n);
}

static void wait_for_work(struct service *s, int64_t maintain_ms)
{
        struct service_state *k = s->skeleton;
        struct pollfd fds[3] = {{.fd = k->wake_fd, .events = POLLIN}, {.fd = bus_fd(s->bus), .events = POLLIN}, {.fd = -1, .events = POLLIN}};
        int64_t now = now_mono_ms(), until = now + maintain_ms;
        uint64_t count;

        if (s->spec->fd)
                fds[2].fd = s->spec->fd(s);
        if (k->wake_at_ms < until)
                until = k->wake_at_ms;
        if (s->spec->on_tick && k->tick_at_ms < until)
                until = k->tick_at_ms;
        if (k->beat_at_ms < until)
                until = k->beat_at_ms;
        if ((k->paused || !db_connected(s->db)) && k->database_retry_ms < until)
                until = k->database_retry_ms;
        if (k->rest_until_ms < until && service_rests(s))
                until = k->rest_until_ms;
        if (k->more || (bus_queued(s->bus) > 0 && !service_rests(s)) || until < now)
                until = now;
        (void)poll(fds, 3, (int)(until - now));
        if (fds[0].revents)
                (void)!read(k->wake_fd, &count, sizeof(count));
        if (now_mono_ms() >= k->wake_at_ms)
                k->wake_at_ms = INT64_MAX;
        k->more = false;
}

static int64_t keep_pace(const struct service *s)
{
        int64_t now = now_mono_us(), next = s->skeleton->moved_us + (s->spec->pace_us ? s->spec->pace_us : PACE_US);

        if (now < next && !stop_requested) {
                (void)usleep((useconds_t)(next - now));
                now = now_mono_us();
        }
        return now;
}

static bool drained(struct service *s)
{
        if (now_mono_ms() >= s->skeleton->drain_until_ms)
                return true;
        return !s->skeleton->more && bus_queued(s->bus) == 0 && (!s->httpd || httpd_open_requests(s->httpd) == 0) &&
               (!s->spec->busy || s->spec->busy(s) == 0);
}

static bool can_work(const struct service *s)
{
        bool has_source = s->spec->hears_hops || s->spec->stream;

        return !stop_requested && !s->skeleton->paused && db_connected(s->db) && bus_connected(s->bus) && (!has_source || bus_source_ready(s->bus));
}

static void run_loop(struct service *s)
{
        struct service_state *k = s->skeleton;

        for (int64_t maintain_ms = 0;;) {
                int64_t now, began_us;

                wait_for_work(s, maintain_ms >= 0 && maintain_ms < 1000 ? maintain_ms : 1000);
                began_us = keep_pace(s);
                maintain_ms = bus_maintain(s->bus);
                now = now_mono_ms();
                k->rounds++;
                k->dirty = false;
                if (stop_requested && k->drain_until_ms == INT64_MAX) {
                        log_info("draining");
                        k->drain_until_ms = now + k->config.drain_ms;
                        bus_source_pause(s->bus);
                        if (s->httpd)
                                httpd_quiesce(s->httpd);
                }
                if (!stop_requested)
                        follow_database(s, now);
                hear_requests(s);
                hear_messages(s);
                if (s->spec->on_round)
                        s->spec->on_round(s);
                if (s->spec->on_tick && now >= k->tick_at_ms)
                        k->tick_at_ms = now + s->spec->on_tick(s);
                beat(s, now);
                ready_tell(k->config.ready_file, can_work(s));
                if (k->outbox.n > 0) {
                        outbox_publish(&k->outbox, s->bus);
                        k->dirty = true;
                }
                if (k->dirty)
                        k->moved_us = began_us;
                (void)bus_flush(s->bus);
                /* Not in a round that began without knowing that it may be the last. */
                if (k->drain_until_ms < INT64_MAX && drained(s))
                        return;
        }
}

/* HOP_<NAME> in memory with its three lanes, weighted 8:3:1. */
static void hop_source(struct service *s)
{
        static const unsigned weights[LANE_COUNT] = {[LANE_HIGH] = 8, [LANE_NORMAL] = 3, [LANE_LOW] = 1};
        struct service_state *k = s->skeleton;

        snprintf(k->stream_name, sizeof(k->stream_name), STREAM_HOP "%s", s->spec->name);
        for (char *c = k->stream_name; *c; c++)
                *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        snprintf(k->stream_subject, sizeof(k->stream_subject), SUBJECT_HOP, s->spec->name, "*");
        k->stream = (struct bus_stream){.name = k->stream_name,
                .subjects = {k->stream_subject},
                .memory = true,
                .max_bytes = 32 << 20,
                .max_age_ms = 600000,
                .window = 4,
                .replicas = (unsigned)k->config.nats_replicas};
        for (int i = 0; i < LANE_COUNT; i++) {
                copy_text(k->durables[i], sizeof(k->durables[i]), lane_name((enum lane)i));
                snprintf(k->filters[i], sizeof(k->filters[i]), SUBJECT_HOP, s->spec->name, lane_name((enum lane)i));
                k->lanes[i] = (struct bus_lane){.durable = k->durables[i], .filter = k->filters[i], .weight = weights[i]};
        }
}

static int open_bus(struct service *s)
{
        struct service_state *k = s->skeleton;
        char name[128], inbox[64];
        struct bus_config config = {
                .url = k->config.nats_url, .user = k->config.nats_user, .password = k->config.nats_password, .name = name, .inbox_prefix = inbox};
        int e;

        snprintf(name, sizeof(name), "aethelos-%s/%s", s->spec->name, s->instance);
        snprintf(inbox, sizeof(inbox), "_INBOX_%s", s->spec->name);
        e = bus_open(&config, &s->bus);
        if (e < 0) {
                log_error("cannot use the bus", LOG_S("url", k->config.nats_url), LOG_S("error", strerror(-e)));
                return e;
        }
        if (s->spec->hears_hops) {
                hop_source(s);
                return bus_source(s->bus, &k->stream, k->lanes);
        }
        if (!s->spec->stream)
                return 0;
        k->stream = *s->spec->stream;
        k->stream.replicas = (unsigned)k->config.nats_replicas;
        return bus_source(s->bus, &k->stream, s->spec->lanes);
}

static int write_port_file(const char *path, int64_t port)
{
        char temporary[512];
        FILE *f;

        snprintf(temporary, sizeof(temporary), "%s.%d.new", path, (int)getpid()); /* two instances may be told one file */
        f = fopen(temporary, "we");
        if (!f)
                return -errno;
        fprintf(f, "%" PRId64 "\n", port);
        if (fclose(f) != 0 || rename(temporary, path) != 0)
                return -errno;
        return 0;
}

static int open_httpd(struct service *s)
{
        struct skeleton_config *c = &s->skeleton->config;
        struct httpd_config config = {.address = c->address,
                .port = c->port,
                .avoid_port = c->avoid_port,
                .token = c->token,
                .body_max = 1 << 20,
                .routes = s->spec->routes,
                .wake_fd = s->skeleton->wake_fd,
                .connections_max = 2048};
        int e = httpd_open(&config, &s->httpd);

        if (e == 0 && c->port_file)
                e = write_port_file(c->port_file, httpd_port(s->httpd));
        if (e < 0)
                log_error("cannot listen", LOG_S("address", c->address), LOG_I("port", c->port), LOG_S("error", strerror(-e)));
        else
                log_info("listening", LOG_S("address", c->address), LOG_I("port", httpd_port(s->httpd)));
        return e;
}

static int start(struct service *s)
{
        struct service_state *k = s->skeleton;
        struct db_config database = {.url = k->config.database_url,
                .user = k->config.database_user,
                .passfile = k->config.database_passfile,
                .password = k->config.database_password,
                .generic_plans = s->spec->generic_plans};
        char name[128];
        int e;

        snprintf(name, sizeof(name), "aethelos-%s/%s", s->spec->name, s->instance);
        database.application_name = name;
        k->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (k->wake_fd < 0)
                return -errno;
        catch_signals(k->wake_fd);
        s->db = db_new(&database);
        k->paused = db_ready(s->db) < 0;
        if (k->paused)
                log_warning("the database is away", LOG_S("error", db_error(s->db)));
        e = open_bus(s);
        if (e < 0)
                return e;
        if (k->paused)
                bus_source_pause(s->bus);
        e = s->spec->init ? s->spec->init(s) : 0;
        if (e < 0) {
                log_error("cannot start", LOG_S("error", strerror(-e)));
                return e;
        }
        return s->spec->routes ? open_httpd(s) : 0;
}

/* What a round needs the next one needs again: given back to the kernel in between, it is faulted in anew each time. */
static void keep_memory(void)
{
        mallopt(M_MMAP_THRESHOLD, 16 << 20);
        mallopt(M_TRIM_THRESHOLD, 16 << 20);
        mallopt(M_TOP_PAD, 1 << 20);
}

int service_run(int argc, char *argv[], const struct service_spec *spec)
{
        struct service_state k = {.wake_fd = -1, .wake_at_ms = INT64_MAX, .drain_until_ms = INT64_MAX};
        struct service s = {.spec = spec, .skeleton = &k};
        int e = skeleton_options(argc, argv, spec, &k.config, &s.config);

        keep_memory();
        if (e == 0) {
                s.instance = k.config.instance;
                e = start(&s);
                if (e == 0) {
                        log_info("ready", LOG_S("version", AETHELOS_VERSION));
                        run_loop(&s);
                        log_info("drained");
                }
                if (spec->fini)
                        spec->fini(&s);
                s.httpd = httpd_free(s.httpd);
                s.bus = s.bus ? bus_free(s.bus) : NULL;
                s.db = db_free(s.db);
                closep(&k.wake_fd);
                outbox_done(&k.outbox);
                e = e < 0 ? 1 : 0;
        } else {
                e = e < 0 ? 2 : 0;
        }
        skeleton_options_done(spec, &k.config, s.config);
        return e;
}
