/* Reads SQL as far as it takes to know what a statement locks: words, without comments, texts and bodies of functions. What is not known to be
 * harmless is told. The forms are PostgreSQL's own (15 to 17): ADD COLUMN with a constant default and constraints that are NOT VALID touch no row. */
#include "locks.h"

#include "base/strbuf.h"
#include "base/util.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define WORDS_MAX 2048

/* One statement. A text, or the body of a function, is the word '. */
struct statement {
        char *word[WORDS_MAX];
        size_t n;
};

static const char *const few[] = {"account", "edge", "figure", "flow", "generation", "haste", "haste_version", "lease", "offer", "operator", "reader",
        "repair_figure", "rule", "schema_migration", "step", "task_kind", "webhook"}; /* their rows do not grow with the jobs */

void locks_done(struct lock_notes *notes)
{
        free(notes->v);
        *notes = (struct lock_notes){0};
}

const char *lock_work_text(enum lock_work work)
{
        static const char *const texts[] = {[LOCK_MOMENT] = "for a moment",
                [LOCK_READS] = "while every row is read",
                [LOCK_BUILDS] = "while an index is built from every row",
                [LOCK_REWRITES] = "while every row is written again",
                [LOCK_CHANGES] = "the changed rows, until the end",
                [LOCK_UNKNOWN] = "a DO block: read it"};

        return texts[work];
}

bool lock_is_long(const struct lock_note *note)
{
        for (size_t i = 0; i < ARRAY_SIZE(few); i++)
                if (strcmp(few[i], note->table) == 0)
                        return false;
        return note->work != LOCK_MOMENT && strcmp(note->waits, "nobody") != 0;
}

/* --- words --- */

static void statement_done(struct statement *s)
{
        for (size_t i = 0; i < s->n; i++)
                free(s->word[i]);
        s->n = 0;
}

static void add_word(struct statement *s, const char *text, size_t len)
{
        if (s->n < WORDS_MAX)
                s->word[s->n++] = xstrndup(text, len);
}

/* Behind a text in quotes, where a doubled quote is one of its characters. */
static const char *skip_quoted(const char *at)
{
        char quote = *at++;

        for (; *at; at++)
                if (*at == quote && *++at != quote)
                        return at;
        return at;
}

/* Behind $tag$...$tag$; NULL when that is none. */
static const char *skip_dollar(const char *at)
{
        size_t len = 1 + strspn(at + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
        _cleanup_(freep) char *tag = NULL;
        const char *end;

        if (at[len] != '$')
                return NULL;
        tag = xstrndup(at, len + 1);
        end = strstr(at + len + 1, tag);
        return end ? end + len + 1 : at + strlen(at);
}

/* The words up to the next semicolon; false at the end of the text. */
static bool next_statement(const char **text, struct statement *s)
{
        const char *at = *text, *behind;

        while (*at && *at != ';') {
                if (strncmp(at, "--", 2) == 0) {
                        at += strcspn(at, "\n");
                } else if (strncmp(at, "/*", 2) == 0) {
                        behind = strstr(at + 2, "*/");
                        at = behind ? behind + 2 : at + strlen(at);
                } else if (isspace((unsigned char)*at)) {
                        at++;
                } else if (*at == '\'' || (*at == '$' && skip_dollar(at))) {
                        at = *at == '$' ? skip_dollar(at) : skip_quoted(at);
                        add_word(s, "'", 1);
                } else if (*at == '"') {
                        behind = skip_quoted(at);
                        add_word(s, at + 1, (size_t)(behind - at) - 2);
                        at = behind;
                } else if (isalnum((unsigned char)*at) || *at == '_') {
                        size_t len = 0;

                        while (isalnum((unsigned char)at[len]) || at[len] == '_')
                                len++;
                        add_word(s, at, len);
                        at += len;
                } else {
                        add_word(s, at++, 1);
                }
        }
        *text = *at ? at + 1 : at;
        return s->n > 0 || *at;
}

static bool is(const struct statement *s, size_t i, const char *word)
{
        return i < s->n && strcasecmp(s->word[i], word) == 0;
}

/* Where the words stand one behind the other, from `from` on and before `to`; `to` when they do not. */
static size_t find(const struct statement *s, size_t from, size_t to, const char *first, const char *second)
{
        for (size_t i = from; i < to; i++)
                if (is(s, i, first) && (!second || (i + 1 < to && is(s, i + 1, second))))
                        return i;
        return to;
}

/* The name at i, without its schema; *ret_next is behind it. */
static const char *name_at(const struct statement *s, size_t i, size_t *ret_next)
{
        static const char *const noise[] = {"IF", "NOT", "EXISTS", "ONLY", "TABLE", "CONCURRENTLY"};

        for (size_t k = 0; k < ARRAY_SIZE(noise); k++)
                if (is(s, i, noise[k]))
                        return name_at(s, i + 1, ret_next);
        while (is(s, i + 1, "."))
                i += 2;
        *ret_next = i + 1;
        return i < s->n ? s->word[i] : "";
}

/* --- notes --- */

static void note(struct lock_notes *notes, const char *table, const char *lock, const char *waits, enum lock_work work)
{
        for (size_t i = 0; i < notes->n; i++)
                if (strcmp(notes->v[i].table, table) == 0 && notes->v[i].work == work && strcmp(notes->v[i].lock, lock) == 0)
                        return;
        notes->v = xrealloc(notes->v, (notes->n + 1) * sizeof(*notes->v));
        notes->v[notes->n] = (struct lock_note){.lock = lock, .waits = waits, .work = work};
        snprintf(notes->v[notes->n++].table, sizeof(notes->v[0].table), "%s", table);
}

static bool has_any(const struct statement *s, size_t from, size_t to, const char *const words[])
{
        for (; *words; words++)
                if (find(s, from, to, *words, NULL) < to)
                        return true;
        return false;
}

/* What one action of ALTER TABLE does to the rows. */
static enum lock_work action(const struct statement *s, size_t from, size_t to)
{
        static const char *const computed[] = {
                "GENERATED", "SERIAL", "BIGSERIAL", "random", "gen_random_uuid", "clock_timestamp", "nextval", "timeofday", NULL};
        static const char *const keys[] = {"UNIQUE", "PRIMARY", "EXCLUDE", NULL}, *const checks[] = {"CHECK", "REFERENCES", "FOREIGN", NULL};

        if (is(s, from, "ADD")) {
                bool column = !is(s, from + 1, "CONSTRAINT") && !has_any(s, from + 1, from + 2, keys) && !has_any(s, from + 1, from + 2, checks);

                if (column && has_any(s, from, to, computed))
                        return LOCK_REWRITES;
                if (has_any(s, from, to, keys))
                        return find(s, from, to, "USING", "INDEX") < to ? LOCK_MOMENT : LOCK_BUILDS;
                return has_any(s, from, to, checks) && find(s, from, to, "NOT", "VALID") == to ? LOCK_READS : LOCK_MOMENT;
        }
        if (is(s, from, "ALTER")) {
                size_t at = from + (is(s, from + 1, "COLUMN") ? 3 : 2);

                if (is(s, at, "TYPE") || (is(s, at, "SET") && is(s, at + 1, "DATA")))
                        return LOCK_REWRITES;
                return is(s, at, "SET") && is(s, at + 1, "NOT") ? LOCK_READS : LOCK_MOMENT;
        }
        if (is(s, from, "SET") && (is(s, from + 1, "LOGGED") || is(s, from + 1, "UNLOGGED") || is(s, from + 1, "TABLESPACE")))
                return LOCK_REWRITES;
        return LOCK_MOMENT;
}

static void alter_table(const struct statement *s, struct lock_notes *notes)
{
        size_t at;
        const char *table = name_at(s, 2, &at);

        for (int depth = 0; at < s->n;) {
                size_t end = at;

                for (; end < s->n && (depth > 0 || !is(s, end, ",")); end++)
                        depth += is(s, end, "(") ? 1 : is(s, end, ")") ? -1 : 0;
                if (is(s, at, "VALIDATE"))
                        note(notes, table, "SHARE UPDATE EXCLUSIVE", "nobody", LOCK_READS);
                else
                        note(notes, table, "ACCESS EXCLUSIVE", "everybody", action(s, at, end));
                at = end + 1;
        }
}

static void create_index(const struct statement *s, struct lock_notes *notes)
{
        size_t at = find(s, 0, s->n, "ON", NULL), next;
        bool concurrently = find(s, 0, at, "CONCURRENTLY", NULL) < at;

        note(notes, name_at(s, at + 1, &next), concurrently ? "SHARE UPDATE EXCLUSIVE" : "SHARE", concurrently ? "nobody" : "who writes",
                LOCK_BUILDS);
}

static void create_trigger(const struct statement *s, struct lock_notes *notes)
{
        size_t next;

        note(notes, name_at(s, find(s, 0, s->n, "ON", NULL) + 1, &next), "SHARE ROW EXCLUSIVE", "who writes", LOCK_MOMENT);
}

static void drop_trigger(const struct statement *s, struct lock_notes *notes)
{
        size_t next;

        note(notes, name_at(s, find(s, 0, s->n, "ON", NULL) + 1, &next), "ACCESS EXCLUSIVE", "everybody", LOCK_MOMENT);
}

static void drop_table(const struct statement *s, struct lock_notes *notes)
{
        size_t next;

        note(notes, name_at(s, is(s, 0, "DROP") ? 2 : 1, &next), "ACCESS EXCLUSIVE", "everybody", LOCK_MOMENT);
}

static void whole_table(const struct statement *s, struct lock_notes *notes)
{
        size_t next;

        note(notes, name_at(s, 1, &next), "ACCESS EXCLUSIVE", "everybody", LOCK_REWRITES);
}

static void change_rows(const struct statement *s, struct lock_notes *notes)
{
        size_t next;

        note(notes, name_at(s, is(s, 0, "DELETE") ? 2 : 1, &next), "ROW EXCLUSIVE", "who changes the same rows", LOCK_CHANGES);
}

static void do_block(const struct statement *s, struct lock_notes *notes)
{
        (void)s;
        note(notes, "?", "?", "?", LOCK_UNKNOWN);
}

static const struct form {
        const char *first, *second; /* NULL: any */
        void (*judge)(const struct statement *s, struct lock_notes *notes);
} forms[] = {
        {"ALTER", "TABLE", alter_table},
        {"CREATE", "INDEX", create_index},
        {"CREATE", "UNIQUE", create_index},
        {"CREATE", "TRIGGER", create_trigger},
        {"CREATE", "CONSTRAINT", create_trigger},
        {"DROP", "TRIGGER", drop_trigger},
        {"DROP", "TABLE", drop_table},
        {"DROP", "INDEX", drop_table}, /* of its table, whose name is not said */
        {"TRUNCATE", NULL, drop_table},
        {"CLUSTER", NULL, whole_table},
        {"REINDEX", NULL, whole_table},
        {"LOCK", NULL, whole_table},
        {"UPDATE", NULL, change_rows},
        {"DELETE", NULL, change_rows},
        {"DO", NULL, do_block},
};

static void forget(struct lock_notes *notes, const char *table)
{
        size_t kept = 0;

        for (size_t i = 0; i < notes->n; i++)
                if (strcmp(notes->v[i].table, table) != 0)
                        notes->v[kept++] = notes->v[i];
        notes->n = kept;
}

void locks_of(const char *sql, struct lock_notes *ret_notes)
{
        static struct statement s;
        struct lock_notes notes = {0};

        for (const char *at = sql; next_statement(&at, &s); statement_done(&s))
                for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
                        if (is(&s, 0, forms[i].first) && (!forms[i].second || is(&s, 1, forms[i].second)))
                                forms[i].judge(&s, &notes);
        statement_done(&s);
        for (const char *at = sql; next_statement(&at, &s); statement_done(&s)) {
                size_t next;

                if (is(&s, 0, "CREATE") && is(&s, 1, "TABLE"))
                        forget(&notes, name_at(&s, 2, &next));
        }
        statement_done(&s);
        *ret_notes = notes;
}
