/* GET /events/stream: the tail of the event store, told live to whoever listens.
 *
 * Invariant: a stream stands behind one event in the order of readers, and what it is given next is what the store has behind that place: nothing is
 * missed and nothing comes twice, whatever happens in between. The place travels as the id of each event, so a crash here, or a reader that was cut
 * because it did not read, costs a reconnect. Streams that stand at the same place share a page, and who has caught up stands at the same place as
 * all others: the store is asked once a look, however many listen, and not at all while nobody does. */
#include "board.h"
#include "board_store.h"
#include "board_stream_core.h"
#include "http/sse.h"
#include "services/intake/job_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAMS_MAX 64
#define LOOK_MS     100
#define AWAY_MS     1000
#define PAGES_ROUND 8 /* so that catching up does not hold up requests */

struct board_stream {
        struct sse sse;
        struct board_cursor at;
        struct board_filter filter;
        enum job_view_form form;
        uint64_t looked; /* in which pass */
};

struct board_streams {
        struct board_stream *v[STREAMS_MAX];
        size_t n;
        uint64_t pass;
        int64_t look_at_ms;
};

static void cursor_format(const struct board_cursor *c, char ret_text[64])
{
        snprintf(ret_text, 64, "%lld.%lld.%lld", (long long)c->generation, (long long)c->xid, (long long)c->id);
}

void board_stream_events(void *ctx, struct http_request *r)
{
        struct service *s = ctx;
        struct board_state *state = s->state;
        const char *last = sse_last_id(r);
        struct board_stream stream = {0};
        char id[64];
        int e = 0;

        if ((last && !board_cursor_parse(last, &stream.at)) ||
                !board_filter_parse(http_query_arg(r, "type"), http_query_arg(r, "client"), http_query_arg(r, "chain"), &stream.filter) ||
                !job_view_form_parse(http_query_arg(r, "format"), &stream.form)) {
                http_answer_problem(r, 422, "invalid-query",
                        "Last-Event-ID or after is the id of an event of this stream, or 0.0.0; type is names of events with commas, chain the id of "
                        "one; format is event or cloudevents",
                        NULL);
                return;
        }
        if (!last)
                e = board_tail_end(s->db, &stream.at);
        if (e < 0) {
                board_fail(s, r, e);
                return;
        }
        if (!state->streams)
                state->streams = xcalloc(1, sizeof(*state->streams));
        if (state->streams->n == STREAMS_MAX) {
                http_set_header(r, "Retry-After", "10");
                http_answer_problem(r, 503, "too-many-streams", "as many streams are open as there may be", NULL);
                return;
        }
        cursor_format(&stream.at, id);
        stream.sse = sse_open(r, id);
        state->streams->v[state->streams->n] = xmalloc(sizeof(stream));
        *state->streams->v[state->streams->n++] = stream;
        state->streams->look_at_ms = 0;
}

/* Gives a page to a stream that stands before it. */
static void give(struct board_stream *stream, const PGresult *page, int64_t now)
{
        int n = PQntuples(page);
        char id[64];

        for (int row = 0; row < n; row++) {
                _cleanup_(strbuf_done) struct strbuf b = {0};

                stream->at = board_tail_cursor(page, row);
                if (!board_filter_wants(&stream->filter, PQgetvalue(page, row, 1), board_tail_client(page, row), PQgetvalue(page, row, 2)))
                        continue;
                job_view_add_event(&b, page, row, 0, stream->form);
                cursor_format(&stream->at, id);
                sse_send(&stream->sse, id, b.s, b.len);
        }
        cursor_format(&stream->at, id);
        sse_keep(&stream->sse, id, now);
}

/* One page for all that stand where `first` does. 1: there is more behind it; 0; or a negative errno. */
static int serve_place(struct service *s, struct board_streams *streams, const struct board_stream *first, int64_t now)
{
        struct board_cursor place = first->at;
        _cleanup_(PQclearp) PGresult *page = NULL;
        bool full;
        int e = board_tail(s->db, &place, &page, &full);

        if (e < 0)
                return e;
        for (size_t i = 0; i < streams->n; i++) {
                struct board_stream *stream = streams->v[i];

                if (stream->looked == streams->pass || !sse_wants(&stream->sse) || memcmp(&stream->at, &place, sizeof(place)) != 0)
                        continue;
                stream->looked = streams->pass;
                give(stream, page, now);
        }
        return full;
}

static void drop_gone(struct board_streams *streams)
{
        for (size_t i = 0; i < streams->n;) {
                if (!http_stream_gone(streams->v[i]->sse.stream)) {
                        i++;
                        continue;
                }
                http_stream_end(streams->v[i]->sse.stream);
                free(streams->v[i]);
                streams->v[i] = streams->v[--streams->n];
        }
}

/* Ms until the next look. */
static int64_t look(struct service *s, struct board_streams *streams, int64_t now)
{
        bool more = false;
        int pages = 0;

        streams->pass++;
        drop_gone(streams);
        for (size_t i = 0; i < streams->n; i++) {
                struct board_stream *stream = streams->v[i];
                int e;

                if (stream->looked == streams->pass || !sse_wants(&stream->sse))
                        continue;
                if (pages++ == PAGES_ROUND) {
                        /* The others first, next time. */
                        streams->v[i] = streams->v[0];
                        streams->v[0] = stream;
                        return 0;
                }
                e = serve_place(s, streams, stream, now);
                if (e < 0)
                        return AWAY_MS;
                more |= e > 0;
        }
        return more ? 0 : LOOK_MS;
}

void board_streams_round(struct service *s)
{
        struct board_state *state = s->state;
        struct board_streams *streams = state->streams;
        int64_t now = now_mono_ms();

        if (!streams || streams->n == 0)
                return;
        if (now >= streams->look_at_ms)
                streams->look_at_ms = now + look(s, streams, now);
        service_wake_in(s, streams->look_at_ms - now);
}

struct board_streams *board_streams_free(struct board_streams *streams)
{
        for (size_t i = 0; streams && i < streams->n; i++) {
                http_stream_end(streams->v[i]->sse.stream);
                free(streams->v[i]);
        }
        free(streams);
        return NULL;
}
