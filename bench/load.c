/* The load: submits text analyses at a rate, or as many as a window allows, pays each, and counts a chain when its PAYOUT_EARNED is committed, by the
 * commit time that PostgreSQL kept (track_commit_timestamp). Prints one line of JSON.
 *
 * usage: aethelos-load --public=URL --admin=URL --token=TOKEN --nats=URL --nats-user=U --nats-password=P --database=CONNINFO --mode=bus|http
 *        [--rate=N] [--window=N] [--seconds=N]      or      aethelos-load --database=CONNINFO --ceiling=SECONDS
 * With --careful=1 it says and pays again what was lost, compares its receipts with the store at the end, and ends its submitting at SIGTERM.
 * With --fill=N it submits N jobs, pays them unless --unpaid=1, and leaves them where they stand. */
#include "load.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *argument(int argc, char *argv[], const char *name, const char *fallback)
{
        for (int i = 1; i < argc; i++)
                if (strncmp(argv[i], "--", 2) == 0 && strncmp(argv[i] + 2, name, strlen(name)) == 0 && argv[i][2 + strlen(name)] == '=')
                        return argv[i] + 3 + strlen(name);
        return fallback;
}

static int64_t done_since(struct db *db, int64_t from_us)
{
        static const char sql[] =
                "SELECT count(*) FROM event WHERE type = 'PAYOUT_EARNED' AND (generation, xid, id) > ((SELECT max(n) FROM generation), 0, 0)"
                " AND at > to_timestamp($1 / 1000000.0)";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;

        db_arg_int(&args, from_us);
        return db_run(db, sql, &args, &r) == 0 ? db_int(r, 0, 0) : -1;
}

/* For the window: how many are done, from the figures that the feed keeps (cheap, and a little behind). */
static int64_t count_done(struct db *db)
{
        static const char sql[] = "SELECT coalesce((SELECT sum(count) FROM figure WHERE name = 'PAYOUT_EARNED'), 0)";
        _cleanup_(PQclearp) PGresult *r = NULL;

        return db_run(db, sql, NULL, &r) == 0 ? db_int(r, 0, 0) : -1;
}

static void round_trip(struct load *l, int ms)
{
        struct pollfd fds[2] = {{.fd = bus_fd(l->bus), .events = POLLIN}, {.fd = httpc_fd(l->http), .events = POLLIN}};
        int64_t limit = httpc_timeout_ms(l->http);

        (void)poll(fds, 2, limit >= 0 && limit < ms ? (int)limit : ms);
        (void)bus_maintain(l->bus);
        httpc_run(l->http);
        load_hear(l);
        load_confirm(l);
}

/* CPU time of this process so far, us. */
static int64_t own_cpu_us(void)
{
        struct rusage used;

        getrusage(RUSAGE_SELF, &used);
        return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * INT64_C(1000000) + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

static volatile sig_atomic_t stopped;

static void on_stop(int signal_number)
{
        (void)signal_number;
        stopped = 1;
}

static int by_number(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

/* Latencies in ms from the sending of each submission to the commit of its PAYOUT_EARNED, for the jobs of this run. */
static size_t latencies(struct load *l, struct db *db, int64_t from_us, double **ret_ms, int64_t *ret_last_us)
{
        static const char sql[] = "SELECT substr(s.key, length($1) + 2)::bigint, (extract(epoch FROM pg_xact_commit_timestamp((e.xid % "
                                  "4294967296)::text::xid)) * 1000000)::bigint"
                                  " FROM event e JOIN chain p ON p.id = e.chain_id JOIN submission s ON s.job_id = p.parent"
                                  " WHERE e.type = 'PAYOUT_EARNED' AND e.at > to_timestamp($2 / 1000000.0) AND s.key LIKE $1 || '-%'";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        size_t n = 0;

        db_arg_text(&args, l->run);
        db_arg_int(&args, from_us);
        if (db_run(db, sql, &args, &r) < 0) {
                fprintf(stderr, "load: %s\n", db_error(db));
                return 0;
        }
        *ret_ms = xcalloc((size_t)PQntuples(r) + 1, sizeof(**ret_ms));
        *ret_last_us = from_us;
        for (int row = 0; row < PQntuples(r); row++) {
                int64_t i = db_int(r, row, 0), at = db_int(r, row, 1);

                if (i < 0 || (size_t)i >= l->n)
                        continue;
                (*ret_ms)[n++] = (double)(at - l->jobs[i].sent_us) / 1000.0;
                if (at > *ret_last_us)
                        *ret_last_us = at;
        }
        qsort(*ret_ms, n, sizeof(**ret_ms), by_number);
        return n;
}

static int run(struct load *l, struct db *db)
{
        int64_t from_us = wall_us(), start = now_mono_ms(), until = start + l->seconds * 1000, asked = 0, done = 0, last_us = 0, in_time = 0;
        int64_t before = count_done(db), cpu_us = own_cpu_us();
        _cleanup_(freep) double *ms = NULL;
        size_t n;

        for (int64_t now = start; now < until && !stopped; now = now_mono_ms()) {
                int64_t wanted = l->rate > 0 ? (now - start) * l->rate / 1000 : INT64_MAX;
                int burst = 0;

                if (l->rate == 0 && now - asked >= 20) {
                        done = count_done(db) - before;
                        asked = now;
                }
                while ((int64_t)l->n < wanted && (l->rate > 0 || (int64_t)l->n - done < l->window) && burst++ < 512)
                        load_submit(l);
                if (l->careful)
                        load_careful_round(l, db);
                (void)bus_flush(l->bus);
                round_trip(l, burst > 0 && l->rate == 0 ? 0 : 1);
        }
        in_time = done_since(db, from_us);
        /* What is under way is driven to its end, so that the next run begins with an empty stack. */
        for (until = now_mono_ms() + l->drain_s * 1000; now_mono_ms() < until && count_done(db) - before + (int64_t)l->refused < (int64_t)l->n;) {
                if (l->careful)
                        load_careful_round(l, db);
                round_trip(l, 5);
        }
        cpu_us = own_cpu_us() - cpu_us;
        n = latencies(l, db, from_us, &ms, &last_us);
        printf("{\"mode\":\"%s\",\"rate\":%" PRId64 ",\"window\":%" PRId64 ",\"seconds\":%" PRId64
               ",\"submitted\":%zu,\"done\":%zu,\"refused\":%zu,\"chains_per_s\":%.0f,"
               "\"p50_ms\":%.1f,\"p99_ms\":%.1f,\"max_ms\":%.1f,\"load_us_per_chain\":%.0f}\n",
                l->by_bus ? "bus" : "http", l->rate, l->window, l->seconds, l->n, n, l->refused, (double)in_time / (double)l->seconds,
                n ? ms[n / 2] : 0, n ? ms[n * 99 / 100] : 0, n ? ms[n - 1] : 0, n ? (double)cpu_us / (double)n : 0);
        if (l->careful) {
                size_t lost = load_careful_lost(l, db);

                printf("{\"receipted\":%zu,\"lost\":%zu,\"wrong\":%zu,\"said_again\":%zu,\"failed_calls\":%zu}\n", l->receipted, lost, l->wrong,
                        l->repeated, l->failed);
                if (lost + l->wrong > 0 || l->receipted < l->n)
                        return 1;
        }
        return n + l->refused >= l->n ? 0 : 1;
}

static int64_t admitted(struct load *l, struct db *db)
{
        static const char sql[] = "SELECT count(*) FROM submission WHERE client = 'default' AND key >= $1 || '-' AND key < $1 || '.'";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;

        db_arg_text(&args, l->run);
        return db_run(db, sql, &args, &r) == 0 ? db_int(r, 0, 0) : 0;
}

/* Until all are admitted, and paid if they are to be; a publisher repeats what was not. */
static int fill(struct load *l, struct db *db, int64_t n)
{
        int64_t stored = 0, asked = 0, moved = now_mono_ms();
        size_t paid = 0;

        while (stored < n || (!l->unpaid && (int64_t)l->paid < n)) {
                int64_t now = now_mono_ms();

                for (int burst = 0; burst < 512 && (int64_t)l->n < n && (int64_t)l->n - stored < 8192; burst++)
                        load_submit(l);
                if (now - asked >= 200) {
                        int64_t s = admitted(l, db);

                        if (s != stored || l->paid != paid)
                                moved = now;
                        stored = s;
                        paid = l->paid;
                        asked = now;
                }
                if (now - moved > 30000) {
                        fprintf(stderr, "load: nothing moves: %" PRId64 " admitted, %zu paid of %" PRId64 "\n", stored, l->paid, n);
                        return 1;
                }
                if (now - moved > 5000 && (int64_t)l->n == n && stored < n)
                        for (size_t i = 0; i < l->n; i++)
                                load_repeat(l, i);
                (void)bus_flush(l->bus);
                round_trip(l, 1);
        }
        printf("{\"mode\":\"fill\",\"admitted\":%" PRId64 ",\"paid\":%zu}\n", stored, l->paid);
        return 0;
}

int main(int argc, char *argv[])
{
        struct load l = {.public_url = argument(argc, argv, "public", ""),
                .admin_url = argument(argc, argv, "admin", ""),
                .nats_url = argument(argc, argv, "nats", ""),
                .nats_user = argument(argc, argv, "nats-user", NULL),
                .nats_password = argument(argc, argv, "nats-password", NULL),
                .token = argument(argc, argv, "token", ""),
                .by_bus = strcmp(argument(argc, argv, "mode", "bus"), "bus") == 0,
                .rate = atoll(argument(argc, argv, "rate", "0")),
                .window = atoll(argument(argc, argv, "window", "4000")),
                .seconds = atoll(argument(argc, argv, "seconds", "20")),
                .drain_s = atoll(argument(argc, argv, "drain", "60")),
                .careful = atoll(argument(argc, argv, "careful", "0")) != 0,
                .unpaid = atoll(argument(argc, argv, "unpaid", "0")) != 0};
        struct db_config database = {.url = argument(argc, argv, "database", ""), .application_name = "aethelos-load"};
        struct bus_config bus = {
                .url = l.nats_url, .user = l.nats_user, .password = l.nats_password, .name = "aethelos-load", .inbox_prefix = "_INBOX"};
        struct db *db;
        int e = 1;

        log_setup("load", "1", LOG_WARNING);
        if (argument(argc, argv, "ceiling", NULL)) {
                double rows = 0;
                int64_t seconds = atoll(argument(argc, argv, "ceiling", "10"));

                if (ceiling_probe(&database, seconds, &rows) < 0)
                        return 1;
                printf("{\"mode\":\"ceiling\",\"seconds\":%" PRId64 ",\"rows_per_s\":%.0f,\"chains_per_s\":%.0f}\n", seconds, rows, rows / 12);
                return 0;
        }
        if (l.careful)
                signal(SIGTERM, on_stop);
        snprintf(l.run, sizeof(l.run), "b%" PRIx64, (uint64_t)wall_us());
        db = db_new(&database);
        if (db_ready(db) < 0) {
                fprintf(stderr, "load: %s\n", db_error(db));
        } else if (bus_open(&bus, &l.bus) < 0 || httpc_open(&l.http) < 0) {
                fprintf(stderr, "load: cannot reach the stack\n");
        } else {
                for (int64_t until = now_mono_ms() + 5000; !bus_connected(l.bus) && now_mono_ms() < until;)
                        round_trip(&l, 10);
                if (l.by_bus && !l.unpaid) /* over HTTP the answer names the intent */
                        (void)bus_subscribe(l.bus, "aethelos.event.default.PAYMENT_INITIATED.*", NULL);
                if (l.careful)
                        (void)bus_subscribe(l.bus, LOAD_RECEIPTS ">", NULL);
                e = argument(argc, argv, "fill", NULL) ? fill(&l, db, atoll(argument(argc, argv, "fill", "0"))) : run(&l, db);
                l.http = httpc_free(l.http);
                l.bus = bus_free(l.bus);
        }
        db_free(db);
        free(l.jobs);
        free(l.intents);
        return e;
}
