/* One page a tick: under the lock of the checkpoint, read, count, move the checkpoint, commit; then tell. The figures are therefore exact at the
 * checkpoint. A crash after the commit leaves a page that was not told live; who needs every event catches up over HTTP. */
#include "base/crashpoint.h"
#include "base/util.h"
#include "feed.h"
#include "feed_store.h"
#include "proto/subjects.h"

#include <errno.h>
#include <stdio.h>

#define IDLE_MS 20
#define AWAY_MS 1000

struct page {
        PGresult *events;
};

/* The horizon may rise between the two statements, so both must see one snapshot: the page is read and counted in a REPEATABLE READ transaction. */
static int read_page(struct db *db, void *arg)
{
        struct page *page = arg;
        int e = db_run(db, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", NULL, NULL);

        PQclear(page->events);
        page->events = NULL;
        if (e == 0)
                e = feed_take_checkpoint(db);
        if (e == 0)
                e = feed_page(db, &page->events);
        if (e == 0 && PQntuples(page->events) > 0)
                e = feed_count(db);
        return e == -EBUSY ? 0 : e; /* a row made by the first call must be committed */
}

static int tell(struct service *s, const PGresult *events, int row)
{
        _cleanup_(strbuf_done) struct strbuf body = {0};
        struct bus_header header = {"Content-Type", "application/json"};
        char subject[256];

        snprintf(subject, sizeof(subject), SUBJECT_EVENT, PQgetvalue(events, row, 5), PQgetvalue(events, row, 1), PQgetvalue(events, row, 2));
        strbuf_addf(&body, "{\"id\":%s,\"type\":\"%s\",\"chain_id\":\"%s\",\"version\":%s,\"time\":\"%s\",\"data\":", PQgetvalue(events, row, 0),
                PQgetvalue(events, row, 1), PQgetvalue(events, row, 2), PQgetvalue(events, row, 3), PQgetvalue(events, row, 4));
        strbuf_add(&body, PQgetvalue(events, row, 6), (size_t)PQgetlength(events, row, 6));
        strbuf_addc(&body, '}');
        return bus_publish(s->bus, subject, NULL, &header, 1, body.s, body.len);
}

int64_t feed_on_tick(struct service *s)
{
        struct page page = {0};
        int n = 0;
        int e = db_transaction(s->db, read_page, &page);

        if (e == 0 && page.events) {
                n = PQntuples(page.events);
                CRASH_POINT("feed: before publish");
                /* A broker that takes nothing must not hold up the figures once for each event. */
                for (int row = 0; row < n; row++)
                        if (tell(s, page.events, row) == -ENOTCONN)
                                break;
                CRASH_POINT("feed: after publish");
                if (n > 0)
                        (void)bus_flush(s->bus);
        } else if (e < 0 && e != -ENOTCONN) {
                log_error("cannot read the tail", LOG_S("error", db_error(s->db)));
        }
        PQclear(page.events);
        return e < 0 ? AWAY_MS : n == FEED_PAGE ? 0 : IDLE_MS;
}
