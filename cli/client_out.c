/* Writes answers for people: amounts, times, tables, events, a job with all that belongs to it.
 *
 * Invariant: text from outside reaches the terminal without control characters, so that no payload can steer it. A crash here leaves nothing behind.
 */
#include "client.h"

#include "base/amount.h"
#include "base/utf8.h"
#include "base/util.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

json_value answer_at(const struct json_doc *doc, json_value v, const char *path)
{
        while (v && *path) {
                size_t len = strcspn(path, ".");
                _cleanup_(freep) char *name = xstrndup(path, len);
                v = json_get(doc, v, name);
                path += len + (path[len] == '.');
        }
        return v;
}

/* Control characters (C0, DEL, C1) and bidirectional overrides become '?'. */
static char *printable(const char *s, size_t len)
{
        struct strbuf b = {0};
        for (size_t i = 0; i < len;) {
                size_t n = utf8_step(s + i, len - i);
                const unsigned char *u = (const unsigned char *)s + i;
                bool c1 = n == 2 && u[0] == 0xc2 && u[1] < 0xa0;
                bool bidi =
                        n == 3 && u[0] == 0xe2 && ((u[1] == 0x80 && u[2] >= 0xaa && u[2] <= 0xae) || (u[1] == 0x81 && u[2] >= 0xa6 && u[2] <= 0xa9));
                if (n == 0 || (n == 1 && (u[0] < 0x20 || u[0] == 0x7f)) || c1 || bidi)
                        strbuf_addc(&b, '?');
                else
                        strbuf_add(&b, s + i, n);
                i += n > 0 ? n : 1;
        }
        return strbuf_take(&b);
}

char *answer_text(const struct json_doc *doc, json_value v, const char *path)
{
        v = answer_at(doc, v, path);
        if (!v || json_is(v, JSON_NULL))
                return xstrdup("");
        if (!json_is(v, JSON_STRING)) {
                struct slice raw = json_raw(doc, v);
                return printable(raw.s, raw.len);
        }
        size_t len;
        _cleanup_(freep) char *s = json_string(doc, v, &len);
        return printable(s, len);
}

char *answer_amount(const struct json_doc *doc, json_value v, const char *path)
{
        v = answer_at(doc, v, path);
        struct amount a = {0};
        _cleanup_(freep) char *currency = answer_text(doc, v, "currency");
        if (strlen(currency) != 3 || currency_exponent(currency) < 0 || json_int64(doc, json_get(doc, v, "minor"), &a.minor) < 0)
                return xstrdup("");
        memcpy(a.currency, currency, sizeof(a.currency));
        struct strbuf b = {0};
        amount_add_human(&b, a);
        return strbuf_take(&b);
}

json_value answer_list(const struct answer *a, const char *name)
{
        json_value v = a->root;
        if (json_is(v, JSON_OBJECT)) {
                v = json_get(&a->doc, a->root, "items");
                if (!v)
                        v = json_get(&a->doc, a->root, name);
        }
        return json_is(v, JSON_ARRAY) ? v : NULL;
}

void print_json(const struct answer *a)
{
        fwrite(a->body.s, 1, a->body.len, stdout);
        if (a->body.len == 0 || a->body.s[a->body.len - 1] != '\n')
                putchar('\n');
        fflush(stdout);
}

void print_field(const char *label, char *text)
{
        if (text && *text)
                printf("  %-12s %s\n", label, text);
        free(text);
}

/* Tables. */

void table_cell(struct table *t, char *cell)
{
        t->cells = xrealloc(t->cells, (t->n_cells + 1) * sizeof(*t->cells));
        t->cells[t->n_cells++] = cell ? cell : xstrdup("");
}

void table_cells(struct table *t, const char *first, ...)
{
        va_list ap;
        va_start(ap, first);
        for (const char *s = first; s; s = va_arg(ap, const char *))
                table_cell(t, xstrdup(s));
        va_end(ap);
}

void table_print(const struct table *t)
{
        size_t widths[16] = {0};
        for (size_t i = 0; i < t->n_cells; i++) {
                size_t len = utf8_length(t->cells[i], strlen(t->cells[i]));
                if (len > widths[i % t->columns])
                        widths[i % t->columns] = len;
        }
        for (size_t i = 0; i < t->n_cells; i++) {
                size_t column = i % t->columns;
                int pad = (int)(widths[column] - utf8_length(t->cells[i], strlen(t->cells[i])));
                bool right = t->right >> column & 1, last = true;
                for (size_t k = i + 1; k < t->n_cells && k % t->columns != 0; k++)
                        last = last && t->cells[k][0] == '\0'; /* no blanks at the end of a line */
                if (!last || t->cells[i][0])
                        printf("  %*s%s", right ? pad : 0, "", t->cells[i]);
                if (!last && !right)
                        printf("%*s", pad, "");
                if (column + 1 == t->columns)
                        putchar('\n');
        }
}

void table_done(struct table *t)
{
        for (size_t i = 0; i < t->n_cells; i++)
                free(t->cells[i]);
        free(t->cells);
        *t = (struct table){0};
}

/* Events. */

int64_t time_ms(const char *s)
{
        struct tm tm = {0};
        int ms = 0, n = 0;
        if (sscanf(s, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &n) != 6)
                return -1;
        if (s[n] == '.')
                for (int i = 0, scale = 100; s[n + 1 + i] >= '0' && s[n + 1 + i] <= '9'; i++, scale /= 10)
                        ms += (s[n + 1 + i] - '0') * scale;
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        return (int64_t)timegm(&tm) * 1000 + ms;
}

/* A word list with one blank or ", " between what is not empty. */
static void add_word(struct strbuf *b, const char *before, char *word, const char *after)
{
        if (*word) {
                if (b->len > 0)
                        strbuf_adds(b, ", ");
                strbuf_addf(b, "%s%s%s", before, word, after);
        }
        free(word);
}

char *event_words(const struct json_doc *doc, json_value event)
{
        struct strbuf b = {0};
        _cleanup_(freep) char *type = answer_text(doc, event, "type");
        json_value data = json_get(doc, event, "data");
        if (strcmp(type, "JOB_CREATED") == 0) {
                add_word(&b, "", answer_text(doc, data, "type"), "");
                add_word(&b, "by ", answer_text(doc, data, "source"), "");
                add_word(&b, "offer ", answer_text(doc, data, "offer.id"), "");
        } else if (strcmp(type, "FLOW_CHOSEN") == 0) {
                add_word(&b, "", answer_text(doc, data, "flow"), "");
                add_word(&b, "version ", answer_text(doc, data, "version"), "");
        } else if (strcmp(type, "PAYMENT_INITIATED") == 0) {
                add_word(&b, "driver ", answer_text(doc, data, "driver"), "");
                add_word(&b, "until ", answer_text(doc, data, "expires_at"), "");
        } else if (strcmp(type, "STEP_COMPLETED") == 0) {
                add_word(&b, "", answer_text(doc, data, "tag"), "");
                add_word(&b, "by ", answer_text(doc, data, "operator"), "");
                add_word(&b, "", answer_text(doc, data, "took_ms"), " ms");
        } else if (strcmp(type, "TASK_CREATED") == 0) {
                add_word(&b, "", answer_text(doc, data, "slot"), "");
        } else if (strncmp(type, "META_", 5) == 0) {
                add_word(&b, "", answer_text(doc, data, "issue"), "");
                add_word(&b, "", answer_text(doc, data, "grade"), "");
                add_word(&b, "", answer_text(doc, data, "action"), "");
                add_word(&b, "", answer_text(doc, data, "outcome"), "");
        } else {
                add_word(&b, "", answer_amount(doc, data, "amount"), "");
                add_word(&b, "confirmed by ", answer_text(doc, data, "evidence.who"), "");
                add_word(&b, "reference \"", answer_text(doc, data, "evidence.reference"), "\"");
                add_word(&b, "", answer_text(doc, data, "error.reason"), "");
        }
        return strbuf_take(&b);
}

void print_event(const struct json_doc *doc, json_value event, bool with_chain)
{
        _cleanup_(freep) char *type = answer_text(doc, event, "type");
        _cleanup_(freep) char *chain = answer_text(doc, event, "chain_id");
        _cleanup_(freep) char *at = answer_text(doc, event, "time");
        _cleanup_(freep) char *words = event_words(doc, event);
        int to_ms = (int)strcspn(at, "Z+"); /* the fraction is cut to milliseconds */
        char *dot = strchr(at, '.');
        if (dot && dot - at + 4 < to_ms)
                to_ms = (int)(dot - at) + 4;
        int width = with_chain || *words ? 20 : 0; /* no blanks at the end of a line */
        printf("  %.*s  %-*s%s%s%s%s\n", to_ms, at, width, type, with_chain ? "  " : "", with_chain ? chain : "", *words ? "  " : "", words);
}

/* A job. */

/* What stands behind the price as a formula that can be computed by hand: (base + per unit x complexity) x factors = exact -> rounded. */
static void print_price(const struct json_doc *doc, json_value job, json_value derivation)
{
        _cleanup_(freep) char *price = answer_amount(doc, job, "price");
        if (!*price)
                return;
        if (!json_is(derivation, JSON_OBJECT)) {
                printf("  %-12s %s\n", "price", price);
                return;
        }
        _cleanup_(freep) char *base = answer_text(doc, derivation, "base");
        _cleanup_(freep) char *per_unit = answer_text(doc, derivation, "per_unit");
        _cleanup_(freep) char *complexity = answer_text(doc, derivation, "complexity");
        _cleanup_(freep) char *size = answer_text(doc, derivation, "size");
        _cleanup_(freep) char *priority = answer_text(doc, derivation, "priority");
        _cleanup_(freep) char *factor = answer_text(doc, derivation, "size_factor");
        _cleanup_(freep) char *offer = answer_text(doc, derivation, "offer");
        _cleanup_(freep) char *exact = answer_text(doc, derivation, "exact");
        printf("  %-12s %s = (%s + %s x %s) x %s (priority) x %s (size)", "price", price, base, per_unit, complexity, priority, factor);
        if (*offer)
                printf(" x %s (offer)", offer);
        printf(", exactly %s\n", exact);
        printf("  %-12s %s units: %s characters of payload", "", complexity, size);
        if (strcmp(size, complexity) != 0)
                printf(", the rest from payload.complexity");
        printf("\n");
}

void print_members(const struct json_doc *doc, json_value object, const char *heading)
{
        if (!object || json_is(object, JSON_NULL))
                return;
        printf("\n%s\n", heading);
        if (!json_is(object, JSON_OBJECT)) {
                _cleanup_(freep) char *all = answer_text(doc, object, "");
                printf("  %s\n", all);
                return;
        }
        for (json_value name = json_first(doc, object); name;) {
                json_value value = json_after(doc, object, name);
                _cleanup_(freep) char *label = answer_text(doc, name, "");
                print_field(label, answer_text(doc, value, ""));
                name = json_after(doc, object, value);
        }
}

static void print_ledger(const struct json_doc *doc, json_value ledger)
{
        if (json_is(ledger, JSON_OBJECT))
                ledger = json_get(doc, ledger, "items");
        if (!json_is(ledger, JSON_ARRAY) || ledger->n == 0)
                return;
        printf("\nledger\n");
        _cleanup_(table_done) struct table t = {.columns = 4, .right = 1 << 3};
        table_cells(&t, "event", "debit", "credit", "amount", (char *)NULL);
        for (json_value row = json_first(doc, ledger); row; row = json_after(doc, ledger, row)) {
                table_cell(&t, answer_text(doc, row, "event"));
                table_cell(&t, answer_text(doc, row, "debit"));
                table_cell(&t, answer_text(doc, row, "credit"));
                table_cell(&t, answer_amount(doc, row, "amount"));
        }
        table_print(&t);
}

/* For whom the job waits. */
static void print_operator_run(const struct json_doc *doc, json_value run)
{
        if (!json_is(run, JSON_OBJECT))
                return;
        printf("\nwaits for an operator\n");
        print_field("operator", answer_text(doc, run, "operator"));
        print_field("step", answer_text(doc, run, "tag"));
        print_field("run", answer_text(doc, run, "id"));
        print_field("state", answer_text(doc, run, "state"));
        print_field("error", answer_text(doc, run, "error"));
        print_field("since", answer_text(doc, run, "since"));
        print_field("next look", answer_text(doc, run, "next_look"));
}

void print_job(const struct answer *a)
{
        const struct json_doc *doc = &a->doc;
        json_value job = json_get(doc, a->root, "job");
        if (!job)
                job = a->root;
        printf("job\n");
        print_field("id", answer_text(doc, job, "id"));
        print_field("type", answer_text(doc, job, "type"));
        _cleanup_(freep) char *status = answer_text(doc, job, "status");
        _cleanup_(freep) char *step = answer_text(doc, job, "step");
        printf("  %-12s %s, at %s\n", "status", status, step);
        print_price(doc, job, json_get(doc, a->root, "derivation"));
        print_field("intent", answer_text(doc, job, "payment_intent_id"));
        print_field("created", answer_text(doc, job, "created_at"));
        print_field("updated", answer_text(doc, job, "updated_at"));
        print_members(doc, json_get(doc, job, "error"), "error");
        print_members(doc, json_get(doc, job, "result"), "result");
        print_ledger(doc, json_get(doc, a->root, "ledger"));
        json_value payout = json_get(doc, a->root, "payout");
        if (json_is(payout, JSON_OBJECT)) {
                printf("\npayout\n");
                print_field("id", answer_text(doc, payout, "id"));
                print_field("status", answer_text(doc, payout, "status"));
                print_field("amount", answer_amount(doc, payout, "amount"));
                print_field("reference", answer_text(doc, payout, "reference"));
        }
        print_operator_run(doc, json_get(doc, a->root, "operator_run"));
        if (strcmp(step, "PAYMENT_INITIATED") == 0) {
                _cleanup_(freep) char *id = answer_text(doc, job, "id");
                printf("\nIt waits for the payment. When the money is there: ./aethelos pay %s --reference TEXT\n", id);
        }
}
