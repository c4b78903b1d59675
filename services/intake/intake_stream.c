/* GET /jobs/{id}/events/stream: the events of one job as they happen, as the public may see them.
 *
 * Invariant: a stream stands at a version of its job, and what it is given next is the next version: the events of a chain have no gaps, so nothing
 * is missed and nothing comes twice, also over a reconnect with the id of the last event. One statement a look asks which jobs have moved. A stream
 * ends with the last event of a job that is over, and who comes again at that place is told that there is no more (204), or browsers would for ever.
 */
#include "base/util.h"
#include "http/sse.h"
#include "services/intake/intake.h"
#include "services/intake/intake_store.h"
#include "services/intake/job_view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAMS_MAX 256
#define OF_ONE_JOB  8 /* the id of a job must not be enough to take all places */
#define LOOK_MS     100
#define AWAY_MS     1000
#define PAGE        16

struct intake_stream {
        struct sse sse;
        struct uuid job;
        int64_t after;
        enum job_view_form form;
};

struct intake_streams {
        struct intake_stream v[STREAMS_MAX];
        size_t n;
        int64_t look_at_ms;
};

void intake_stream_job(
        struct service *s, struct http_request *r, const struct uuid *job, int64_t after, enum job_view_form form, const struct intake_stand *stand)
{
        struct intake_state *state = s->state;
        struct intake_stream stream = {.job = *job, .after = after, .form = form};
        size_t same = 0;
        char id[24];

        if (!state->streams)
                state->streams = xcalloc(1, sizeof(*state->streams));
        for (size_t i = 0; i < state->streams->n; i++)
                same += uuid_equal(&state->streams->v[i].job, job);
        if (stand->over && after >= stand->version) {
                http_answer(r, 204, NULL, NULL, 0);
                return;
        }
        if (same == OF_ONE_JOB || state->streams->n == STREAMS_MAX) {
                http_set_header(r, "Retry-After", "10");
                http_answer_problem(r, 503, "too-many-streams", "as many streams are open as there may be", NULL);
                return;
        }
        snprintf(id, sizeof(id), "%" PRId64, after);
        stream.sse = sse_open(r, id);
        state->streams->v[state->streams->n++] = stream;
        state->streams->look_at_ms = 0;
}

/* Gives the next events of a job that has moved. 0, or a negative errno. */
static int give(struct db *db, struct intake_stream *stream)
{
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = job_view_event_rows(db, &stream->job, "job", stream->after, PAGE, &r);

        for (int row = 0; e == 0 && row < PQntuples(r); row++) {
                _cleanup_(strbuf_done) struct strbuf b = {0};
                char id[24];

                job_view_add_public_event(&b, r, row, 0, stream->form);
                stream->after = db_int(r, row, 3);
                snprintf(id, sizeof(id), "%" PRId64, stream->after);
                sse_send(&stream->sse, id, b.s, b.len);
        }
        return e;
}

static void drop(struct intake_streams *streams, size_t i)
{
        http_stream_end(streams->v[i].sse.stream);
        streams->v[i] = streams->v[--streams->n];
}

static int look(struct service *s, struct intake_streams *streams)
{
        struct intake_stand stands[STREAMS_MAX] = {0};
        struct uuid jobs[STREAMS_MAX];
        int64_t now = now_mono_ms();
        int e;

        for (size_t i = streams->n; i-- > 0;)
                if (http_stream_gone(streams->v[i].sse.stream))
                        drop(streams, i);
        for (size_t i = 0; i < streams->n; i++)
                jobs[i] = streams->v[i].job;
        e = intake_stands(s->db, jobs, streams->n, stands);
        /* Backwards: a stream that ends leaves its place to one that has been seen. */
        for (size_t i = streams->n; e == 0 && i-- > 0;) {
                struct intake_stream *stream = &streams->v[i];
                char id[24];

                if (stands[i].version > stream->after && sse_wants(&stream->sse))
                        e = give(s->db, stream);
                snprintf(id, sizeof(id), "%" PRId64, stream->after);
                sse_keep(&stream->sse, id, now);
                if (stands[i].over && stream->after >= stands[i].version)
                        drop(streams, i);
        }
        return e;
}

void intake_streams_round(struct service *s)
{
        struct intake_state *state = s->state;
        struct intake_streams *streams = state->streams;
        int64_t now = now_mono_ms();

        if (!streams || streams->n == 0)
                return;
        if (now >= streams->look_at_ms)
                streams->look_at_ms = now + (look(s, streams) < 0 ? AWAY_MS : LOOK_MS);
        service_wake_in(s, streams->look_at_ms - now);
}

struct intake_streams *intake_streams_free(struct intake_streams *streams)
{
        while (streams && streams->n > 0)
                drop(streams, streams->n - 1);
        free(streams);
        return NULL;
}
