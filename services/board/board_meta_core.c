/* Pure decisions of the routes about repair. A command is a row of members that its body may have; what passes here meta-repair can read, and what a
 * chain allows is for meta-repair to say. The arguments travel as they were written: nothing is rounded on the way. */
#include "board_meta_core.h"

#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum field_kind { FLAG, TEXT, ID, NUMBER, TIME, FILTER };

struct field {
        const char *name;
        enum field_kind kind;
        bool required;
        int64_t max; /* of a number; the least is 0 */
};

#define TEN_YEARS_S (10LL * 365 * 86400)

static const struct field filter_fields[] = {
        {"reason", TEXT}, {"type", TEXT}, {"client", TEXT}, {"step", TEXT}, {"since", TIME}, {"until", TIME}, {"limit", NUMBER, .max = 1000000}, {0}};
static const struct field auto_repair_fields[] = {{"dry_run", FLAG}, {"kind", TEXT}, {"by", TEXT}, {0}};
static const struct field issue_fields[] = {{"dry_run", FLAG}, {"by", TEXT}, {0}};
static const struct field redrive_fields[] = {{"chain_id", ID}, {"filter", FILTER}, {"dry_run", FLAG}, {"reference", TEXT}, {"by", TEXT, true}, {0}};
static const struct field chain_fields[] = {{"dry_run", FLAG}, {"reason", TEXT, true}, {"by", TEXT, true}, {0}};
static const struct field rule_fields[] = {{"kind", TEXT, true}, {"step", TEXT, true}, {"late_s", NUMBER, .max = TEN_YEARS_S},
        {"deadline_s", NUMBER, .max = TEN_YEARS_S}, {"attempts", NUMBER, .max = 1000}, {"backoff_first_s", NUMBER, .max = TEN_YEARS_S},
        {"backoff_max_s", NUMBER, .max = TEN_YEARS_S}, {"antibody", TEXT}, {"why", TEXT, true}, {"by", TEXT, true}, {0}};
static const struct field haste_fields[] = {{"label", TEXT, true}, {"late_s", NUMBER, .max = TEN_YEARS_S}, {"deadline_s", NUMBER, .max = TEN_YEARS_S},
        {"backoff_first_s", NUMBER, .max = TEN_YEARS_S}, {"backoff_max_s", NUMBER, .max = TEN_YEARS_S}, {"remove", FLAG}, {"why", TEXT, true},
        {"by", TEXT, true}, {0}};
static const struct field task_fields[] = {{"kind", TEXT, true}, {"entity", TEXT}, {"now", FLAG}, {"by", TEXT}, {0}};
static const struct field run_task_fields[] = {{"by", TEXT}, {0}};

static const struct {
        const char *what, *subject; /* the member that the id of the path becomes */
        const struct field *fields;
} commands[] = {
        [BOARD_DO_AUTO_REPAIR] = {"auto_repair", NULL, auto_repair_fields},
        [BOARD_DO_REPAIR_ISSUE] = {"auto_repair", "issue_id", issue_fields},
        [BOARD_DO_CLOSE_ISSUE] = {"close", "issue_id", chain_fields},
        [BOARD_DO_REDRIVE] = {"redrive", NULL, redrive_fields},
        [BOARD_DO_REFUND] = {"refund", "chain_id", chain_fields},
        [BOARD_DO_CLOSE] = {"close", "chain_id", chain_fields},
        [BOARD_DO_RULE] = {"rule", NULL, rule_fields},
        [BOARD_DO_HASTE] = {"haste", NULL, haste_fields},
        [BOARD_DO_TASK] = {"task", NULL, task_fields},
        [BOARD_DO_RUN_TASK] = {"task", "task_id", run_task_fields},
};

const char *board_command_what(enum board_command command)
{
        return commands[command].what;
}

static bool refuse(struct board_problem *ret, int status, const char *slug, const char *detail, const char *prefix, struct slice name)
{
        *ret = (struct board_problem){.status = status, .slug = slug, .detail = detail};
        if (name.s)
                snprintf(ret->field, sizeof(ret->field), "%s/%.*s", prefix, (int)(name.len < 30 ? name.len : 30), name.s);
        return false;
}

static bool text_fits(const struct json_doc *doc, json_value v)
{
        size_t len = 0;
        _cleanup_(freep) char *s = json_string(doc, v, &len);

        return s && utf8_line(s, len, BOARD_TEXT_MAX);
}

/* 2026-01-31T08:00:00Z, with a fraction or not, with Z or an offset. That the day exists is for the database to say. */
static bool time_fits(const struct json_doc *doc, json_value v)
{
        static const char shape[] = "0000-00-00T00:00:00";
        _cleanup_(freep) char *s = json_string(doc, v, NULL);
        const char *rest;

        if (!s || strlen(s) > 40)
                return false;
        for (size_t i = 0; i < strlen(shape); i++)
                if (shape[i] == '0' ? s[i] < '0' || s[i] > '9' : s[i] != shape[i])
                        return false;
        rest = s + strlen(shape);
        if (*rest == '.')
                rest += 1 + strspn(rest + 1, "0123456789");
        if (strcmp(rest, "Z") == 0)
                return true;
        return (*rest == '+' || *rest == '-') && strlen(rest) == 6 && strspn(rest + 1, "0123456789:") == 5 && rest[3] == ':';
}

static bool id_fits(const struct json_doc *doc, json_value v)
{
        _cleanup_(freep) char *s = json_string(doc, v, NULL);
        struct uuid id;

        return s && uuid_parse(s, strlen(s), &id);
}

static bool number_fits(const struct json_doc *doc, json_value v, int64_t max)
{
        int64_t n;

        return json_int64(doc, v, &n) == 0 && n >= 0 && n <= max;
}

static bool read_members(const struct json_doc *doc, json_value object, const struct field fields[], const char *prefix, struct strbuf *args,
        char **ret_by, struct board_problem *ret_problem);

static bool read_value(
        const struct json_doc *doc, json_value v, const struct field *f, const char *prefix, struct strbuf *args, struct board_problem *ret_problem)
{
        static const char *const wanted[] = {[FLAG] = "true or false",
                [TEXT] = "a string of 1 to 200 characters",
                [ID] = "an id",
                [NUMBER] = "a whole number within its bounds",
                [TIME] = "a time as in 2026-01-31T08:00:00Z",
                [FILTER] = "an object with reason, type, client, step, since, until, limit"};
        bool fits = false;

        switch (f->kind) {
        case FLAG:
                fits = json_is(v, JSON_TRUE) || json_is(v, JSON_FALSE);
                break;
        case TEXT:
                fits = text_fits(doc, v);
                break;
        case ID:
                fits = id_fits(doc, v);
                break;
        case NUMBER:
                fits = number_fits(doc, v, f->max);
                break;
        case TIME:
                fits = time_fits(doc, v);
                break;
        case FILTER:
                fits = json_is(v, JSON_OBJECT);
                break;
        }
        if (!fits)
                return refuse(ret_problem, 422, "invalid-value", wanted[f->kind], prefix, slice_of(f->name));
        strbuf_addf(args, "%s\"%s\":", args->s[args->len - 1] == '{' ? "" : ",", f->name);
        if (f->kind != FILTER) {
                struct slice raw = json_raw(doc, v);

                strbuf_add(args, raw.s, raw.len);
                return true;
        }
        strbuf_addc(args, '{');
        if (!read_members(doc, v, filter_fields, "/filter", args, NULL, ret_problem))
                return false;
        strbuf_addc(args, '}');
        return true;
}

static bool read_members(const struct json_doc *doc, json_value object, const struct field fields[], const char *prefix, struct strbuf *args,
        char **ret_by, struct board_problem *ret_problem)
{
        json_value value;

        for (json_value name = json_first(doc, object); name; name = json_after(doc, object, value)) {
                const struct field *f = fields;
                struct slice raw = json_raw(doc, name);

                value = json_after(doc, object, name);
                while (f->name && !json_string_is(doc, name, f->name))
                        f++;
                if (!f->name)
                        return refuse(ret_problem, 422, "unknown-member", "this command has no such member", prefix,
                                (struct slice){raw.s + 1, raw.len - 2});
                if (json_is(value, JSON_NULL))
                        continue;
                if (ret_by && strcmp(f->name, "by") == 0) {
                        if (!text_fits(doc, value))
                                return refuse(ret_problem, 422, "invalid-value", "who asks: a string of 1 to 200 characters", "", slice_of("by"));
                        *ret_by = json_string(doc, value, NULL);
                } else if (!read_value(doc, value, f, prefix, args, ret_problem)) {
                        return false;
                }
        }
        for (const struct field *f = fields; f->name; f++) {
                json_value v = json_get(doc, object, f->name);

                if (f->required && (!v || json_is(v, JSON_NULL)))
                        return refuse(ret_problem, 422, "invalid-value", "this member is needed: a string of 1 to 200 characters", prefix,
                                slice_of(f->name));
        }
        return true;
}

static bool read_command(enum board_command command, const struct json_doc *doc, const struct uuid *id, struct strbuf *args, char **by,
        struct board_problem *ret_problem)
{
        json_value chain = json_get(doc, json_root(doc), "chain_id"), filter = json_get(doc, json_root(doc), "filter");
        char text[UUID_TEXT_SIZE];

        if (!json_is(json_root(doc), JSON_OBJECT))
                return refuse(ret_problem, 422, "invalid-value", "the body must be an object", "", (struct slice){0});
        strbuf_addc(args, '{');
        if (id) {
                uuid_format(id, text);
                strbuf_addf(args, "\"%s\":\"%s\"", commands[command].subject, text);
        }
        if (!read_members(doc, json_root(doc), commands[command].fields, "", args, by, ret_problem))
                return false;
        /* A filter that is left out would mean every chain: it is written, if only as {}. */
        if (command == BOARD_DO_REDRIVE && (chain && !json_is(chain, JSON_NULL)) == (filter && !json_is(filter, JSON_NULL)))
                return refuse(ret_problem, 422, "invalid-value", "name one chain (chain_id) or a filter, and not both", "", slice_of("chain_id"));
        strbuf_addc(args, '}');
        if (!*by)
                *by = xstrdup("admin");
        return true;
}

bool board_read_command(enum board_command command, const char *body, size_t len, const struct uuid *id, struct strbuf *ret_args, char **ret_by,
        struct board_problem *ret_problem)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;

        *ret_by = NULL;
        if (json_parse(len > 0 ? body : "{}", len > 0 ? len : 2, &doc, &error) < 0)
                return refuse(ret_problem, 400, "invalid-json", error.why, "", (struct slice){0});
        if (read_command(command, &doc, id, ret_args, ret_by, ret_problem))
                return true;
        strbuf_done(ret_args);
        free(*ret_by);
        *ret_by = NULL;
        return false;
}

struct uuid board_command_id(enum board_command command, const struct uuid *id, const char *key)
{
        struct slice parts[] = {slice_of(commands[command].what), slice_of(commands[command].subject ? commands[command].subject : ""),
                {id ? (const char *)id->b : "", id ? sizeof(id->b) : 0}, slice_of(key)};
        uint8_t hash[SHA256_SIZE];
        struct uuid made;

        sha256_parts(parts, ARRAY_SIZE(parts), hash);
        memcpy(made.b, hash, sizeof(made.b));
        made.b[6] = (uint8_t)((made.b[6] & 0x0f) | 0x80);
        made.b[8] = (uint8_t)((made.b[8] & 0x3f) | 0x80);
        return made;
}

struct board_problem board_command_problem(enum board_command command, const char *args, const char *result, char **ret_detail)
{
        static const struct {
                const char *why;
                int status;
                const char *slug, *detail;
        } refusals[] = {
                {"unknown", 404, "unknown-job", "there is no such job"},
                {"not_a_job", 404, "unknown-job", "this is the id of something else than a job"},
                {"completed", 409, "completed", "the job is completed"},
                {"refunded", 409, "refunded", "the job was refunded: it is never charged or run again"},
                {"final_fail", 409, "final-fail", "the job has already ended"},
                {"under_way", 409, "under-way", "the job is moving, or waits for something else: look at its dossier"},
                {"not_paid", 409, "not-paid", "nothing was paid, so nothing can be refunded: close it"},
                {"paid", 409, "paid", "the job is paid: refund it"},
                {"refund_under_way", 409, "refund-under-way", "the refund may be under way at the provider"},
                {"operator_at_it", 409, "operator-at-it", "an operator may be at it: its run must be resolved first"},
                {"over", 409, "issue-over", "the issue is over"},
                {"not_closable", 409, "not-closable", "it ends when what it is about is over, and would be found again: have it repaired"},
                {"held_by_provider", 409, "held-by-provider", "the provider holds the payment intent, or may hold it, and ends it"},
        };
        _cleanup_(json_done) struct json_doc doc = {0}, asked = {0};
        struct board_problem p = {0};
        struct json_error e;
        json_value error, first;

        *ret_detail = NULL;
        if (json_parse_own(result, strlen(result), &doc, &e) < 0 || json_parse_own(args, strlen(args), &asked, &e) < 0)
                return p;
        error = json_get(&doc, json_root(&doc), "error");
        if (error) {
                *ret_detail = json_string(&doc, error, NULL);
                refuse(&p, 422, "refused-command", NULL, "", (struct slice){0});
                return p;
        }
        first = json_get(&doc, json_root(&doc), "refusals");
        first = json_is(first, JSON_ARRAY) ? json_first(&doc, first) : NULL;
        if (!first || (!json_get(&asked, json_root(&asked), "chain_id") && command != BOARD_DO_CLOSE_ISSUE) || command == BOARD_DO_AUTO_REPAIR)
                return p; /* of a set the counts are the answer */
        refuse(&p, 409, "refused", "the chain does not allow it", "", (struct slice){0});
        for (size_t i = 0; i < ARRAY_SIZE(refusals); i++)
                if (json_string_is(&doc, json_get(&doc, first, "why"), refusals[i].why))
                        refuse(&p, refusals[i].status, refusals[i].slug, refusals[i].detail, "", (struct slice){0});
        return p;
}

bool board_issue_cursor_parse(const char *s, bool *ret_closed, struct uuid *ret_id)
{
        if ((s[0] != '0' && s[0] != '1') || s[1] != '.' || !uuid_parse(s + 2, strlen(s + 2), ret_id))
                return false;
        *ret_closed = s[0] == '1';
        return true;
}
