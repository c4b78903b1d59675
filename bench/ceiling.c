/* What this PostgreSQL could do if it only had to store the events: batched inserts of twelve rows a chain into a copy of the event table with the
 * same indexes, by two connections, nothing decided, nothing read. The chain's rate is given as a ratio to it. */
#include "base/util.h"
#include "base/uuid.h"
#include "load.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CHAINS_BATCH 256
#define EVENTS_CHAIN 12

struct prober {
        const struct db_config *database;
        int64_t until_ms, rows;
        int error;
        pthread_t thread;
};

static void *probe(void *arg)
{
        static const char sql[] = "INSERT INTO bench_event (generation, xid, chain_id, version, type, at, data)"
                                  " SELECT 1, pg_current_xact_id()::text::bigint, c, v, t, now(), d FROM unnest($1, $2, $3, $4) u(c, v, t, d)";
        static const char data[] =
                "{\"amount\":{\"minor\":2272,\"currency\":\"EUR\"},\"derivation\":{\"base\":\"20.00\",\"per_unit\":\"0.05\",\"size\":54}}";
        struct prober *p = arg;
        struct db *db = db_new(p->database);

        while (p->error == 0 && now_mono_ms() < p->until_ms) {
                _cleanup_(db_args_done) struct db_args args = {0};
                struct uuid ids[CHAINS_BATCH];

                for (int i = 0; i < CHAINS_BATCH; i++)
                        ids[i] = uuid_v7();
                db_array_begin(&args, DB_ARRAY_UUID);
                for (int i = 0; i < CHAINS_BATCH * EVENTS_CHAIN; i++)
                        db_array_uuid(&args, &ids[i / EVENTS_CHAIN]);
                db_array_begin(&args, DB_ARRAY_INT);
                for (int i = 0; i < CHAINS_BATCH * EVENTS_CHAIN; i++)
                        db_array_int(&args, i % EVENTS_CHAIN + 1);
                db_array_begin(&args, DB_ARRAY_TEXT);
                for (int i = 0; i < CHAINS_BATCH * EVENTS_CHAIN; i++)
                        db_array_text(&args, "PAYMENT_INITIATED", strlen("PAYMENT_INITIATED"));
                db_array_begin(&args, DB_ARRAY_TEXT);
                for (int i = 0; i < CHAINS_BATCH * EVENTS_CHAIN; i++)
                        db_array_text(&args, data, strlen(data));
                p->error = db_run(db, sql, &args, NULL);
                if (p->error < 0)
                        fprintf(stderr, "ceiling probe: %s\n", db_error(db));
                else
                        p->rows += CHAINS_BATCH * EVENTS_CHAIN;
        }
        db_free(db);
        return NULL;
}

int ceiling_probe(const struct db_config *database, int64_t seconds, double *ret_rows_per_s)
{
        static const char drop[] = "DROP TABLE IF EXISTS bench_event";
        static const char create[] = "DO $$BEGIN EXECUTE (SELECT 'CREATE TABLE bench_event (LIKE event INCLUDING ALL) WITH ('"
                                     " || array_to_string(reloptions, ', ') || ')' FROM pg_class WHERE oid = 'event'::regclass); END$$";
        struct prober probers[2];
        struct db *db = db_new(database);
        int64_t rows = 0;
        int e = db_run(db, drop, NULL, NULL);

        if (e == 0)
                e = db_run(db, create, NULL, NULL);
        if (e < 0)
                fprintf(stderr, "ceiling probe: %s\n", db_error(db));
        for (size_t i = 0; e == 0 && i < ARRAY_SIZE(probers); i++) {
                probers[i] = (struct prober){.database = database, .until_ms = now_mono_ms() + seconds * 1000};
                if (pthread_create(&probers[i].thread, NULL, probe, &probers[i]) != 0)
                        die("no thread");
        }
        for (size_t i = 0; e == 0 && i < ARRAY_SIZE(probers); i++) {
                pthread_join(probers[i].thread, NULL);
                rows += probers[i].rows;
        }
        (void)db_run(db, drop, NULL, NULL);
        db_free(db);
        if (e == 0)
                *ret_rows_per_s = (double)rows / (double)seconds;
        return e;
}
