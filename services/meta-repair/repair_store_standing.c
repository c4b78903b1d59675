/* What is late, broken or contradictory, found by bounded pages: of open chains over the partial indexes chain_standing and chain_waiting, of open
 * issues over issue_open. What is finished costs nothing. Pages are keyset pages, so nothing is skipped while chains come and go; what a page has
 * just missed the next sweep finds. The role has every plan but look-ups and index scans switched off, so that an empty or un-analysed table tempts
 * nobody into reading everything, and OFFSET 0 keeps look-ups of issues from becoming joins with all of them. Nothing is written but that issues
 * become due, figures, and that what stands with a short wait that has become a long one is set aside. */
#include "repair_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void copy(char *to, size_t size, struct slice s)
{
        snprintf(to, size, "%.*s", (int)s.len, s.s ? s.s : "");
}

/* --- rules --- */

int repair_rules_read(struct db *db, struct repair_rules *ret_rules)
{
        static const char sql[] = "SELECT kind, step, version, issue, antibody, basis = 'created', ms(late), ms(deadline), attempts, "
                                  "ms(backoff_first), ms(backoff_max),"
                                  " label FROM rule_in_force";
        _cleanup_(PQclearp) PGresult *r = NULL;
        struct repair_rules rules = {0};
        int e = db_run(db, sql, NULL, &r);

        if (e < 0)
                return e;
        rules.v = xcalloc((size_t)PQntuples(r) + 1, sizeof(*rules.v));
        for (int row = 0; row < PQntuples(r); row++) {
                struct repair_rule *rule = &rules.v[rules.n++];

                copy(rule->kind, sizeof(rule->kind), db_text(r, row, 0));
                copy(rule->step, sizeof(rule->step), db_text(r, row, 1));
                rule->version = (int)db_int(r, row, 2);
                copy(rule->issue, sizeof(rule->issue), db_text(r, row, 3));
                copy(rule->antibody, sizeof(rule->antibody), db_text(r, row, 4));
                rule->since_created = db_bool(r, row, 5);
                rule->late_ms = db_int(r, row, 6);
                rule->deadline_ms = db_int(r, row, 7);
                rule->attempts = (int)db_int(r, row, 8);
                rule->backoff_first_ms = db_int(r, row, 9);
                rule->backoff_max_ms = db_int(r, row, 10);
                copy(rule->label, sizeof(rule->label), db_text(r, row, 11));
        }
        *ret_rules = rules;
        return 0;
}

void repair_rules_done(struct repair_rules *rules)
{
        free(rules->v);
        *rules = (struct repair_rules){0};
}

const struct repair_rule *repair_rule_of(const struct repair_rules *rules, const char *kind, const char *step, const char *label)
{
        const struct repair_rule *plain = NULL;

        for (size_t i = 0; i < rules->n; i++) {
                const struct repair_rule *r = &rules->v[i];

                if (strcmp(r->step, step) != 0 || strcmp(r->kind, kind) != 0)
                        continue;
                if (strcmp(r->label, label) == 0)
                        return r;
                if (!r->label[0])
                        plain = r;
        }
        return plain;
}

/* $3 to $7: what the rules say, in their order; $8: the place of each in it, by what it is for. A page has thousands of chains,
 * there are tens of rules, and its chains stand at a handful of steps: what their rules say is looked up once for each of those. */
static void rule_args(struct db_args *args, const struct repair_rules *rules, struct strbuf *places)
{
        db_array_begin(args, DB_ARRAY_INT);
        for (size_t i = 0; i < rules->n; i++)
                db_array_int(args, rules->v[i].since_created);
        db_array_begin(args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < rules->n; i++)
                db_array_int(args, rules->v[i].late_ms);
        db_array_begin(args, DB_ARRAY_BIGINT);
        for (size_t i = 0; i < rules->n; i++)
                db_array_int(args, rules->v[i].deadline_ms);
        db_array_begin(args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < rules->n; i++)
                db_array_text(args, rules->v[i].issue, strlen(rules->v[i].issue));
        db_array_begin(args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < rules->n; i++)
                db_array_text(args, rules->v[i].label, strlen(rules->v[i].label));
        strbuf_addc(places, '{');
        for (size_t i = 0; i < rules->n; i++) {
                char key[ARRAY_SIZE(rules->v->kind) + ARRAY_SIZE(rules->v->step) + ARRAY_SIZE(rules->v->label)];

                snprintf(key, sizeof(key), "%s %s %s", rules->v[i].kind, rules->v[i].step, rules->v[i].label);
                if (i > 0)
                        strbuf_addc(places, ',');
                strbuf_add_json(places, key, strlen(key));
                strbuf_addf(places, ":%zu", i + 1);
        }
        strbuf_addc(places, '}');
        db_arg_text(args, places->s);
}
/* Of chain `c`; a label that there is no haste for counts as none. */
#define RULE "((SELECT $8::jsonb) ->> (c.kind || ' ' || c.step || ' ' || CASE WHEN c.label = ANY ($7) THEN c.label ELSE '' END))::integer AS rule"

/* --- candidates --- */

void repair_candidates_done(struct repair_candidates *c)
{
        for (size_t i = 0; i < c->n; i++)
                free(c->v[i].client);
        free(c->v);
        *c = (struct repair_candidates){0};
}

static struct repair_candidate *add(struct repair_candidates *c)
{
        if (c->n == c->cap) {
                c->cap = c->cap ? 2 * c->cap : 64;
                c->v = xrealloc(c->v, c->cap * sizeof(*c->v));
        }
        c->v[c->n] = (struct repair_candidate){0};
        return &c->v[c->n++];
}

/* Columns from `at` on: id, kind, step, version, client, age. */
static void add_chain(struct repair_candidates *found, const struct repair_rule *rule, const PGresult *r, int row, int at)
{
        struct repair_candidate *c = add(found);
        struct slice client = db_text(r, row, at + 4);

        c->rule = rule;
        c->chain_id = db_uuid(r, row, at);
        copy(c->chain_kind, sizeof(c->chain_kind), db_text(r, row, at + 1));
        copy(c->step, sizeof(c->step), db_text(r, row, at + 2));
        c->version = (int)db_int(r, row, at + 3);
        c->client = xstrndup(client.s, client.len);
        c->age_ms = db_int(r, row, at + 5);
        c->grade = REPAIR_BEYOND;
}

/* --- chains --- */

#define STANDING "c.aside IS NULL"
#define WAITING  "c.aside IS NOT NULL AND c.aside <> 'clock'"
#define EDGE_OF  " m AS (SELECT count(*) AS n, (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last FROM page)"
#define COLUMNS  "c.id, c.kind, c.step, c.version, c.client, c.waits_for, c.aside, c.created_at, c.updated_at, c.label, c.status, c.amount, c.currency"
#define WALK     "WITH page AS MATERIALIZED (SELECT " COLUMNS " FROM chain c WHERE c.status = 'open' AND c.id > $1 AND "
#define WALKED   " ORDER BY c.id LIMIT $2), " EDGE_OF
/* Is in the index of what stands, and waits for longer than a payer needs who pays at once. */
#define LASTS "aside IS NULL AND waits_for IS NOT NULL AND (aside_of(waits_for) IS NOT NULL OR updated_at <= now() - interval '1 minute')"
/* Most of what stands or waits is in time: a page is added up by where its chains stand, and only those of a place where the oldest is late are
 * looked at. */
#define SWEEP(which)                                                                                                                                 \
        WALK which WALKED                                                                                                                            \
                ", places AS MATERIALIZED (SELECT kind, step, label, count(*) AS n, min(created_at) AS created, min(updated_at) AS updated,"         \
                "  count(*) FILTER (WHERE waits_for IS NULL AND updated_at <= now() - interval '60 s') AS past_bell,"                                \
                "  bool_or(waits_for IS NOT NULL) AS waits, bool_or(" LASTS ") AS lasts FROM page"                                                   \
                "  GROUP BY kind, step, label), "                                                                                                    \
                "ruled AS MATERIALIZED (SELECT g.kind, g.step, g.label, ($3)[g.rule] = 1 AS by_created,"                                             \
                "  CASE ($3)[g.rule] WHEN 1 THEN g.created ELSE g.updated END AS oldest, now() - ($4)[g.rule] * interval '1 ms' AS late,"            \
                "  now() - ($5)[g.rule] * interval '1 ms' AS deadline, ($6)[g.rule] AS issue, ($7)[g.rule] AS rule_label"                            \
                "  FROM (SELECT c.*, " RULE " FROM places c OFFSET 0) g), "                                                                          \
                "aged AS MATERIALIZED (SELECT c.*, CASE WHEN g.by_created THEN c.created_at ELSE c.updated_at END AS since, g.late,"                 \
                "  g.deadline, g.issue, g.rule_label FROM (SELECT * FROM ruled WHERE oldest <= greatest(late, deadline) OFFSET 0) g"                 \
                "  CROSS JOIN LATERAL (SELECT * FROM page x WHERE x.kind = g.kind AND x.step = g.step"                                               \
                "  AND x.label IS NOT DISTINCT FROM g.label OFFSET 0) c)"                                                                            \
                " SELECT 0, m.last, NULL, NULL, m.n, NULL, NULL, NULL, NULL::bigint, NULL FROM m"                                                    \
                " UNION ALL SELECT CASE WHEN p.waits THEN 2 ELSE 1 END, NULL, p.kind, p.step, p.n, NULL, ms(now() - p.updated), p.past_bell,"        \
                "  0, NULL FROM places p"                                                                                                            \
                " UNION ALL SELECT 1, NULL, a.kind, a.step, 0, NULL, 0, 0, count(*), NULL FROM aged a WHERE a.since <= a.deadline"                   \
                "  GROUP BY a.kind, a.step"                                                                                                          \
                " UNION ALL SELECT 3, a.id, a.kind, a.step, a.version, a.client, ms(now() - a.since), NULL, NULL, a.rule_label FROM aged a"          \
                "  WHERE a.since <= a.late AND NOT EXISTS"                                                                                           \
                "   (SELECT 1 FROM issue i WHERE i.chain_id = a.id AND i.kind = a.issue AND i.closed_at IS NULL OFFSET 0)"                           \
                " UNION ALL SELECT 4, p.id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM page p"                                              \
                "  WHERE EXISTS (SELECT 1 FROM places WHERE step = 'REFUND_CONFIRMED') AND p.step = 'REFUND_CONFIRMED'"                              \
                "  AND p.updated_at <= now() - interval '2 s'"                                                                                       \
                " UNION ALL SELECT 5, NULL, NULL, NULL, set_aside(array_agg(id)), NULL, NULL, NULL, NULL, NULL FROM page"                            \
                "  WHERE $9 AND EXISTS (SELECT 1 FROM places WHERE lasts) AND (" LASTS ") HAVING count(*) > 0"

static struct repair_gauge *gauge_of(struct repair_gauges *gauges, struct slice kind, struct slice step)
{
        struct repair_gauge *g = gauges->v;

        for (; g < gauges->v + gauges->n; g++)
                if (slice_equal(step, g->step) && slice_equal(kind, g->kind))
                        return g;
        if (gauges->n == ARRAY_SIZE(gauges->v))
                die("the specification names more than 64 steps");
        gauges->n++;
        *g = (struct repair_gauge){0};
        copy(g->kind, sizeof(g->kind), kind);
        copy(g->step, sizeof(g->step), step);
        return g;
}

static void add_gauge(struct repair_gauges *gauges, bool waiting, const PGresult *r, int row)
{
        struct repair_gauge *g = gauge_of(gauges, db_text(r, row, 2), db_text(r, row, 3));
        int64_t oldest = db_int(r, row, 6);

        g->standing += waiting ? 0 : db_int(r, row, 4);
        g->waiting += waiting ? db_int(r, row, 4) : 0;
        g->past_bell += db_int(r, row, 7);
        g->past_deadline += db_int(r, row, 8);
        if (oldest > g->oldest_ms)
                g->oldest_ms = oldest;
}

int repair_sweep_chains(struct db *db, enum repair_walk walk, const struct repair_rules *rules, struct uuid *after, struct repair_gauges *gauges,
        struct repair_candidates *found, struct uuid **ret_refunded, size_t *ret_n_refunded, bool *ret_more)
{
        static const char *const sql[REPAIR_WALKS] = {[REPAIR_WALK_STANDING] = SWEEP(STANDING), [REPAIR_WALK_WAITING] = SWEEP(WAITING)};
        _cleanup_(strbuf_done) struct strbuf places = {0};
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        struct uuid *refunded;
        size_t n = 0;
        int e;

        db_arg_uuid(&args, after);
        db_arg_int(&args, REPAIR_PAGE);
        rule_args(&args, rules, &places);
        db_arg_bool(&args, gauges != NULL);
        e = db_run(db, sql[walk], &args, &r);
        if (e < 0)
                return e;
        refunded = xcalloc((size_t)PQntuples(r) + 1, sizeof(*refunded));
        for (int row = 0; row < PQntuples(r); row++) {
                switch (db_int(r, row, 0)) {
                case 0:
                        *ret_more = db_int(r, row, 4) == REPAIR_PAGE;
                        if (!db_null(r, row, 1))
                                *after = db_uuid(r, row, 1);
                        break;
                case 1:
                case 2:
                        if (gauges)
                                add_gauge(gauges, db_int(r, row, 0) == 2, r, row);
                        break;
                case 3:
                        add_chain(found, repair_rule_of(rules, PQgetvalue(r, row, 2), PQgetvalue(r, row, 3), PQgetvalue(r, row, 9)), r, row, 1);
                        found->v[found->n - 1].grade = repair_grade(found->v[found->n - 1].rule, found->v[found->n - 1].age_ms);
                        break;
                case 4:
                        refunded[n++] = db_uuid(r, row, 1);
                        break;
                default: /* set aside */
                        break;
                }
        }
        *ret_refunded = refunded;
        *ret_n_refunded = n;
        return 0;
}

int repair_candidates_of(struct db *db, const struct repair_rules *rules, const struct uuid ids[], size_t n, struct repair_candidates *found)
{
        static const char sql[] =
                "SELECT c.id, c.kind, c.step, c.version, c.client, ms(now() - c.updated_at), coalesce(c.label, '') FROM unnest($1) u(id)"
                " JOIN LATERAL (SELECT * FROM chain x WHERE x.id = u.id AND x.status = 'open' OFFSET 0) c ON true"
                " WHERE NOT EXISTS (SELECT 1 FROM issue i WHERE i.chain_id = c.id AND i.closed_at IS NULL OFFSET 0)";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuids(&args, ids, n);
        e = db_run(db, sql, &args, &r);
        for (int row = 0; e == 0 && row < PQntuples(r); row++) {
                const struct repair_rule *rule = repair_rule_of(rules, PQgetvalue(r, row, 1), PQgetvalue(r, row, 2), PQgetvalue(r, row, 6));

                if (rule && repair_grade(rule, db_int(r, row, 5)) == REPAIR_BEYOND)
                        add_chain(found, rule, r, row, 0);
        }
        return e;
}

#define BROKEN(which)                                                                                                                                \
        WALK which WALKED                                                                                                                            \
                " SELECT m.n, m.last, b.id, b.kind, b.step, b.version, b.client, ms(now() - b.updated_at) FROM m LEFT JOIN ("                        \
                "  SELECT p.* FROM page p LEFT JOIN step st ON st.kind = p.kind AND st.name = p.step"                                                \
                "  JOIN LATERAL (SELECT count(*) AS n, max(e.version) AS top, (array_agg(e.type ORDER BY e.version DESC))[1] AS step,"               \
                "    event_minor((array_agg(e.data ORDER BY e.version DESC) FILTER (WHERE e.type IN ('PRICED', 'PAYOUT_EARNED')))[1]) AS amount"     \
                "    FROM event e WHERE e.chain_id = p.id OFFSET 0) f ON true"                                                                       \
                "  WHERE (f.n <> p.version OR f.top <> p.version OR f.step <> p.step OR f.step IS NULL OR st.status IS DISTINCT FROM p.status"       \
                "    OR st.waits_for IS DISTINCT FROM p.waits_for OR p.aside <> coalesce(p.waits_for, '') OR f.amount IS DISTINCT FROM p.amount)"    \
                "  AND NOT EXISTS (SELECT 1 FROM issue i WHERE i.chain_id = p.id AND i.kind = '" ISSUE_BROKEN_CHAIN                                  \
                "' AND i.closed_at IS NULL OFFSET 0)"                                                                                                \
                " ) b ON true"

int repair_sweep_broken(struct db *db, enum repair_walk walk, int64_t limit, struct uuid *after, struct repair_candidates *found, bool *ret_more)
{
        static const char *const sql[REPAIR_WALKS] = {[REPAIR_WALK_STANDING] = BROKEN(STANDING), [REPAIR_WALK_WAITING] = BROKEN(WAITING)};
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, after);
        db_arg_int(&args, limit);
        e = db_run(db, sql[walk], &args, &r);
        if (e < 0)
                return e;
        *ret_more = db_int(r, 0, 0) == limit;
        if (!db_null(r, 0, 1))
                *after = db_uuid(r, 0, 1);
        for (int row = 0; row < PQntuples(r); row++)
                if (!db_null(r, row, 2)) {
                        add_chain(found, repair_fixed_rule(ISSUE_BROKEN_CHAIN), r, row, 2);
                        found->v[found->n - 1].version = -1;
                }
        return 0;
}

/* --- operators and evidence --- */

int repair_sweep_operators(struct db *db, struct repair_candidates *found)
{
        static const char sql[] = "SELECT o.name, o.successes + o.failures, o.failures, o.streak FROM operator o WHERE o.streak > 0"
                                  " AND NOT EXISTS (SELECT 1 FROM issue i WHERE i.operator = o.name AND i.kind = '" ISSUE_OPERATOR
                                  "' AND i.closed_at IS NULL OFFSET 0)";
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, sql, NULL, &r);

        for (int row = 0; e == 0 && row < PQntuples(r); row++)
                if (repair_operator_fails(db_int(r, row, 1), db_int(r, row, 2), db_int(r, row, 3))) {
                        struct repair_candidate *c = add(found);

                        c->rule = repair_fixed_rule(ISSUE_OPERATOR);
                        c->grade = REPAIR_BEYOND;
                        copy(c->operator, sizeof(c->operator), db_text(r, row, 0));
                        c->client = xstrdup("");
                }
        return e;
}

int repair_sweep_webhooks(struct db *db, struct repair_candidates *found)
{
        static const char sql[] = "SELECT w.id, coalesce(w.client, ''), greatest(ms(now() - coalesce(w.failing_since, now())), 0) FROM webhook w "
                                  "WHERE w.state = 'disabled' AND NOT EXISTS (SELECT 1 FROM issue i"
                                  "  WHERE i.webhook_id = w.id AND i.kind = '" ISSUE_WEBHOOK "' AND i.closed_at IS NULL OFFSET 0)";
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e = db_run(db, sql, NULL, &r);

        for (int row = 0; e == 0 && row < PQntuples(r); row++) {
                struct repair_candidate *c = add(found);

                c->rule = repair_fixed_rule(ISSUE_WEBHOOK);
                c->grade = REPAIR_BEYOND;
                c->of_webhook = true;
                c->webhook_id = db_uuid(r, row, 0);
                c->version = -1;
                c->client = xstrdup(PQgetvalue(r, row, 1));
                c->age_ms = db_int(r, row, 2);
        }
        return e;
}

int repair_sweep_mismatches(struct db *db, struct uuid *after, struct repair_candidates *found, bool *ret_more)
{
        static const char sql[] = "WITH page AS MATERIALIZED (SELECT x.chain_id AS id, max(x.at) AS at FROM evidence_mismatch x WHERE x.chain_id > $1"
                                  "  GROUP BY x.chain_id ORDER BY x.chain_id LIMIT $2), " EDGE_OF
                                  " SELECT m.n, m.last, b.* FROM m LEFT JOIN (SELECT c.id, c.kind, c.step, c.version, c.client, ms(now() - p.at) "
                                  "FROM page p JOIN LATERAL (SELECT * FROM chain x WHERE x.id = p.id OFFSET 0) c ON true WHERE NOT "
                                  "EXISTS (SELECT 1 FROM issue i"
                                  "  WHERE i.chain_id = p.id AND i.kind = '" ISSUE_EVIDENCE_MISMATCH
                                  "' AND coalesce(i.closed_at, 'infinity') >= p.at OFFSET 0)) b ON true";
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, after);
        db_arg_int(&args, REPAIR_PAGE);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        *ret_more = db_int(r, 0, 0) == REPAIR_PAGE;
        if (!db_null(r, 0, 1))
                *after = db_uuid(r, 0, 1);
        for (int row = 0; row < PQntuples(r); row++)
                if (!db_null(r, row, 2)) {
                        add_chain(found, repair_fixed_rule(ISSUE_EVIDENCE_MISMATCH), r, row, 2);
                        found->v[found->n - 1].version = -1;
                }
        return 0;
}

/* --- issues whose time has come --- */

int repair_sweep_issues(struct db *db, const struct repair_rules *rules, struct uuid *after, bool *ret_more)
{
        static const char sql[] =
                "WITH page AS MATERIALIZED (SELECT i.id, i.chain_id, i.version, i.grade, i.next_at FROM issue i"
                "  WHERE i.closed_at IS NULL AND i.id > $1 ORDER BY i.id LIMIT $2), " EDGE_OF ","
                " due AS MATERIALIZED (SELECT p.id FROM page p"
                "  JOIN LATERAL (SELECT c.*, " RULE " FROM chain c WHERE c.id = p.chain_id OFFSET 0) c ON true"
                "  WHERE p.next_at > now() AND (c.version <> p.version OR (p.grade = 'late' AND"
                "   ms(now() - CASE ($3)[c.rule] WHEN 1 THEN c.created_at ELSE c.updated_at END) >= ($5)[c.rule]))),"
                " woken AS (UPDATE issue i SET next_at = now() FROM due d WHERE i.id = d.id AND i.closed_at IS NULL AND i.owner IS NULL)"
                " SELECT m.n, m.last FROM m";
        _cleanup_(strbuf_done) struct strbuf places = {0};
        _cleanup_(db_args_done) struct db_args args = {0};
        _cleanup_(PQclearp) PGresult *r = NULL;
        int e;

        db_arg_uuid(&args, after);
        db_arg_int(&args, REPAIR_PAGE);
        rule_args(&args, rules, &places);
        e = db_run(db, sql, &args, &r);
        if (e < 0)
                return e;
        *ret_more = db_int(r, 0, 0) == REPAIR_PAGE;
        if (!db_null(r, 0, 1))
                *after = db_uuid(r, 0, 1);
        return 0;
}

/* --- figures --- */

void repair_gauges_add(struct repair_gauges *to, const struct repair_gauges *from)
{
        for (const struct repair_gauge *f = from->v; f < from->v + from->n; f++) {
                struct repair_gauge *g = gauge_of(to, slice_of(f->kind), slice_of(f->step));

                g->standing += f->standing;
                g->past_bell += f->past_bell;
                g->past_deadline += f->past_deadline;
                g->waiting += f->waiting;
                if (f->oldest_ms > g->oldest_ms)
                        g->oldest_ms = f->oldest_ms;
        }
}

int repair_gauges_write(struct db *db, const struct repair_gauges *gauges)
{
        static const char sql[] =
                "WITH g AS MATERIALIZED (SELECT v.name, u.label, v.value FROM unnest($1, $2, $3, $4, $5, $6) u(label, standing, past_bell, "
                "past_deadline,"
                "  waiting, oldest), LATERAL (VALUES ('standing', u.standing), ('past_bell', u.past_bell), ('past_deadline', u.past_deadline),"
                "  ('waiting', u.waiting), ('oldest_s', u.oldest)) v(name, value)"
                "  UNION ALL SELECT 'waiting_evidence', i.waits_for, count(*) FROM issue i WHERE i.closed_at IS NULL AND i.waits_for IS NOT NULL "
                "GROUP BY 2),"
                " gone AS (DELETE FROM repair_figure f WHERE f.name <> 'repair' AND NOT EXISTS (SELECT 1 FROM g WHERE g.name = f.name AND g.label = "
                "f.label))"
                " INSERT INTO repair_figure AS f (name, label, value) SELECT * FROM g ON CONFLICT (name, label) DO UPDATE SET value = "
                "excluded.value, at = now()"
                "  WHERE f.value <> excluded.value OR f.at < now() - interval '1 minute'";
        _cleanup_(db_args_done) struct db_args args = {0};
        char label[64];

        db_array_begin(&args, DB_ARRAY_TEXT);
        for (size_t i = 0; i < gauges->n; i++) {
                snprintf(label, sizeof(label), "%s/%s", gauges->v[i].kind, gauges->v[i].step);
                db_array_text(&args, label, strlen(label));
        }
        for (int column = 0; column < 5; column++) {
                db_array_begin(&args, DB_ARRAY_BIGINT);
                for (size_t i = 0; i < gauges->n; i++) {
                        const struct repair_gauge *g = &gauges->v[i];

                        db_array_int(&args, (const int64_t[]){g->standing, g->past_bell, g->past_deadline, g->waiting, g->oldest_ms / 1000}[column]);
                }
        }
        return db_run(db, sql, &args, NULL);
}
