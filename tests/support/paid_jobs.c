/* Paid jobs, and envelopes made by hand. */
#include "tests/support/paid_jobs.h"

#include <stdlib.h>
#include <unistd.h>

#define BELLS "aethelos.hop.execution.normal"

struct bus *paid_jobs_bus(struct stack *s)
{
        struct bus_config config = {.url = nats_fixture_url(s->nats), .name = "test", .inbox_prefix = "_INBOX_test"};
        struct bus *bus;

        if (bus_open(&config, &bus) < 0)
                die("the bus cannot be opened");
        for (int i = 0; i < 200 && !bus_connected(bus); i++) {
                bus_maintain(bus);
                usleep(20000);
        }
        return bus;
}

/* It hears when it puts nonsense aside. */
void paid_jobs_await_execution(struct stack *s, struct bus *bus)
{
        for (int i = 0; i < 200; i++) {
                _cleanup_(freep) char *heard = pg_fixture_ask(s->pg, "SELECT count(*) FROM aethelos.quarantine");

                if (strtol(heard, NULL, 10) > 0)
                        return;
                bus_publish(bus, BELLS, NULL, NULL, 0, "x", 1);
                bus_flush(bus);
                usleep(50000);
        }
}

/* Until the stream has it: after a broker was away, connection and stream come back a little later. */
static void publish(struct bus *bus, const char *hex)
{
        _cleanup_(strbuf_done) struct strbuf envelope = {0};
        struct bus_message *stored = NULL;

        for (const char *p = hex; *p; p += 2) {
                char two[3] = {p[0], p[1], 0};
                strbuf_addc(&envelope, (char)strtol(two, NULL, 16));
        }
        for (int i = 0; i < 200; i++) {
                bus_maintain(bus);
                if (bus_request(bus, BELLS, envelope.s, envelope.len, 1000, &stored) == 0) {
                        bus_drop(bus, stored);
                        return;
                }
                usleep(50000);
        }
        die("no bell can be rung");
}

void paid_jobs_ring(struct stack *s, struct bus *bus, const char *which)
{
        _cleanup_(strbuf_done) struct strbuf sql = {0};
        _cleanup_(freep) char *hex = NULL;

        strbuf_addf(&sql,
                "SELECT string_agg('0a14' || '0a10' || replace(id::text, '-', '') || '1006', '' ORDER BY random()) FROM aethelos.chain WHERE %s",
                which);
        hex = pg_fixture_ask(s->pg, sql.s);
        if (hex[0])
                publish(bus, hex);
}

void paid_jobs(struct stack *s, struct bus *bus, int n, const char *steps, const char *payload)
{
        _cleanup_(strbuf_done) struct strbuf sql = {0};
        _cleanup_(freep) char *hex = NULL;

        strbuf_addf(&sql,
                "WITH c AS (INSERT INTO aethelos.chain (id, kind, step, version, status, lane, client, amount, currency, created_at, updated_at)"
                " SELECT gen_random_uuid(), 'job', 'PAYMENT_CONFIRMED', 6, 'open', 'normal', 'default', 100, 'EUR', now(), now()"
                " FROM generate_series(1, %d) RETURNING id),"
                " e AS (INSERT INTO aethelos.event (generation, xid, chain_id, version, type, at, data)"
                "  SELECT 1, 1, c.id, v.version, v.type, now(), CASE v.version WHEN 1 THEN "
                "$${\"payload\":%s,\"context\":{},\"flow\":{\"steps\":%s}}$$ ELSE"
                "   $${\"amount\":{\"minor\":100,\"currency\":\"EUR\"}}$$ END"
                "  FROM c, (VALUES (1, 'JOB_CREATED'), (2, 'FLOW_CHOSEN'), (3, 'PRICED'), (4, 'PAYMENT_REQUIRED'), (5, 'PAYMENT_INITIATED'),"
                "   (6, 'PAYMENT_CONFIRMED')) AS v (version, type)),"
                " s AS (INSERT INTO aethelos.submission (client, key, hash, job_id) SELECT 'default', c.id::text, sha256(''), c.id FROM c),"
                " j AS (INSERT INTO aethelos.journal (chain_id, version, debit, credit, amount, currency, at)"
                "  SELECT c.id, 6, 'cash', 'customer_prepayment', 100, 'EUR', now() FROM c),"
                " v AS (INSERT INTO aethelos.evidence (chain_id, version, event, kind, who, reference, amount, currency, hash)"
                "  SELECT c.id, 5, 'PAYMENT_CONFIRMED', 'person', 'test', 'test', 100, 'EUR', sha256('') FROM c)"
                " SELECT string_agg('0a14' || '0a10' || replace(id::text, '-', '') || '1006', '') FROM c",
                n, payload, steps);
        hex = pg_fixture_ask(s->pg, sql.s);
        if (bus)
                publish(bus, hex);
}
