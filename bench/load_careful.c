/* The careful client, for a stack that is hurt while it works: says a submission again until its receipt is there, pays again what is still owed, and
 * at the end compares every receipt it got with what is in the store. */
#include "base/json.h"
#include "base/util.h"
#include "load.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS      500
#define REPEAT_MS    2000 /* without a receipt for so long, it is said again */
#define REPEATS_MAX  2000 /* in one look */
#define OWED_SINCE_S "3 seconds"

void load_careful_hear(struct load *l, const struct bus_message *m)
{
        const char *key = m->subject + strlen(LOAD_RECEIPTS);
        size_t run = strlen(l->run);
        _cleanup_(json_done) struct json_doc doc = {0};
        _cleanup_(freep) char *id = NULL;
        struct json_error error;
        size_t i;

        if (strncmp(key, l->run, run) != 0 || key[run] != '-')
                return;
        i = strtoul(key + run + 1, NULL, 10);
        if (i >= l->n || json_parse(m->data, m->len, &doc, &error) < 0)
                return;
        id = json_string(&doc, json_get(&doc, json_root(&doc), "job_id"), NULL);
        if (!id) {
                l->wrong++;
                return;
        }
        if (!l->jobs[i].id[0])
                l->receipted++;
        else if (strcmp(l->jobs[i].id, id) != 0)
                l->wrong++; /* another job under the same key */
        snprintf(l->jobs[i].id, sizeof(l->jobs[i].id), "%s", id);
}

/* The event that said so may have been lost with a node of the broker; GET /jobs/{id} would say the same as this. */
static void pay_what_is_owed(struct load *l, struct db *db)
{
        static const char sql[] = "SELECT c.id::text FROM submission s JOIN chain c ON c.id = s.job_id WHERE s.client = 'default'"
                                  " AND s.key >= $1 || '-' AND s.key < $1 || '.' AND c.status = 'open' AND c.step = 'PAYMENT_INITIATED'"
                                  " AND c.updated_at < now() - interval '" OWED_SINCE_S "'"
                                  " AND NOT EXISTS (SELECT 1 FROM evidence_inbox i WHERE i.chain_id = c.id) LIMIT 1000";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;

        db_arg_text(&args, l->run);
        if (db_run(db, sql, &args, &r) < 0)
                return;
        for (int row = 0; row < PQntuples(r); row++)
                load_owe(l, PQgetvalue(r, row, 0));
}

void load_careful_round(struct load *l, struct db *db)
{
        int64_t now = now_mono_ms(), patience_us = REPEAT_MS * INT64_C(1000), at = wall_us();
        size_t said = 0;

        if (now < l->look_at)
                return;
        l->look_at = now + LOOK_MS;
        while (l->first_open < l->n && l->jobs[l->first_open].id[0])
                l->first_open++;
        for (size_t i = l->first_open; i < l->n && said < REPEATS_MAX; i++) {
                struct load_job *j = &l->jobs[i];

                if (j->id[0] || at - (j->said_us ? j->said_us : j->sent_us) < patience_us)
                        continue;
                j->said_us = at;
                load_repeat(l, i);
                said++;
        }
        l->repeated += said;
        if (l->next_intent == l->n_intents && l->confirming == 0)
                pay_what_is_owed(l, db);
}

/* How many receipts say what the store does not. */
size_t load_careful_lost(struct load *l, struct db *db)
{
        static const char sql[] =
                "SELECT substr(s.key, length($1) + 2)::bigint, s.job_id::text FROM submission s JOIN chain c ON c.id = s.job_id"
                " JOIN event e ON e.chain_id = c.id AND e.version = 1 WHERE s.client = 'default' AND s.key >= $1 || '-' AND s.key < $1 || '.'";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        size_t found = 0;

        db_arg_text(&args, l->run);
        if (db_run(db, sql, &args, &r) < 0) {
                fprintf(stderr, "load: %s\n", db_error(db));
                return l->receipted;
        }
        for (int row = 0; row < PQntuples(r); row++) {
                int64_t i = db_int(r, row, 0);

                found += i >= 0 && (size_t)i < l->n && strcmp(l->jobs[i].id, PQgetvalue(r, row, 1)) == 0;
        }
        return l->receipted - found;
}
