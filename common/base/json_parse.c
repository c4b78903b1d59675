/* The parser of strict JSON. One pass over the input checks it, copies it without insignificant white space and writes the tokens; an explicit
 * stack of open containers takes the place of recursion, so the depth limit is also the memory limit.
 *
 * Invariants: a document that json_parse accepted is valid UTF-8, valid RFC 8259 and free of duplicate names, so that json.c walks it without
 * checking again; parsing doc.text yields the same doc.text and the same tokens (tests/fuzz holds it to that).
 *
 * The time is linear in the input whatever it holds: names of an object are compared pairwise while they are few, and through a table keyed with a
 * random secret when they are many, so that nobody can choose names that collide. */
#include "hash.h"
#include "json.h"
#include "json_escape.h"
#include "utf8.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define FEW_NAMES 16 /* up to here 120 comparisons of lengths are cheaper than hashing */

struct parser {
        const char *start, *end; /* the input */
        const char *p;           /* where we are in it */
        const char *run;         /* from here to p the text is kept, but not copied yet */
        char *out;               /* the minified text, as large as the input */
        size_t out_len;
        struct json_token *tokens;
        size_t n_tokens, cap_tokens;
        uint32_t open[JSON_DEPTH_OWN]; /* the containers around p, outermost first */
        unsigned depth, depth_max;
        struct json_error *error;
};

static bool fail(struct parser *ps, const char *at, const char *why)
{
        *ps->error = (struct json_error){(size_t)(at - ps->start), why};
        return false;
}

/* ---- output ---- */

static void flush_run(struct parser *ps)
{
        size_t len = (size_t)(ps->p - ps->run);
        memcpy(ps->out + ps->out_len, ps->run, len);
        ps->out_len += len;
        ps->run = ps->p;
}

/* Where p will stand in the minified text. */
static uint32_t out_position(const struct parser *ps)
{
        return (uint32_t)(ps->out_len + (size_t)(ps->p - ps->run));
}

/* Starts a token at p. A scalar is complete once its end is set; a container gets its n, end and next while its members come. */
static uint32_t push_token(struct parser *ps, enum json_kind kind)
{
        if (ps->n_tokens == ps->cap_tokens) {
                ps->cap_tokens *= 2;
                ps->tokens = xrealloc(ps->tokens, ps->cap_tokens * sizeof *ps->tokens);
        }
        uint32_t index = (uint32_t)ps->n_tokens++;
        ps->tokens[index] = (struct json_token){.kind = kind, .start = out_position(ps), .next = index + 1};
        return index;
}

/* ---- lexing ---- */

static bool is_space(char c)
{
        return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void skip_space(struct parser *ps)
{
        if (ps->p == ps->end || !is_space(*ps->p))
                return;
        flush_run(ps);
        while (ps->p < ps->end && is_space(*ps->p))
                ps->p++;
        ps->run = ps->p;
}

static bool at_char(const struct parser *ps, char c)
{
        return ps->p < ps->end && *ps->p == c;
}

/* In a string: 0 = a plain ASCII character, 1 = anything that needs a look (quote, backslash, control character, not ASCII). */
static const bool needs_look[256] = {
        [0 ... 0x1f] = true,
        ['"'] = true,
        ['\\'] = true,
        [0x80 ... 0xff] = true,
};

/* The end of the plain ASCII that starts at s. Long texts are most of what we are sent, so eight bytes are looked at together. */
static const char *skip_plain(const char *s, const char *end)
{
        const uint64_t ones = 0x0101010101010101, highs = 0x8080808080808080;
        while (end - s >= 8) {
                uint64_t w;
                memcpy(&w, s, 8);
                /* (v - ones) & ~v & highs is not 0 exactly if v has a zero byte; with 0x20 in place of 1, a byte below 0x20. */
                uint64_t quote = w ^ ones * '"', backslash = w ^ ones * '\\';
                if ((((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | ((w - ones * 0x20) & ~w) | w) & highs)
                        break;
                s += 8;
        }
        while (s < end && !needs_look[(unsigned char)*s])
                s++;
        return s;
}

/* Checks the escape at s (a backslash). Yields its length, and how much shorter the character is than its escape; 0 after fail(). */
static size_t scan_escape(struct parser *ps, const char *s, uint32_t *ret_saved)
{
        if (ps->end - s < 2)
                return fail(ps, ps->end, "string without an end");
        if (s[1] != 'u') {
                *ret_saved = 1;
                return s[1] && strchr("\"\\/bfnrt", s[1]) ? 2 : fail(ps, s, "unknown escape");
        }
        int32_t c = json_hex4(s + 2, ps->end);
        if (c < 0)
                return fail(ps, s, "\\u without four hex digits");
        if (c == 0)
                return fail(ps, s, "NUL in a string");
        if (json_is_high_surrogate(c)) {
                bool pair = ps->end - s >= 12 && s[6] == '\\' && s[7] == 'u' && json_is_low_surrogate(json_hex4(s + 8, ps->end));
                *ret_saved = 12 - 4;
                return pair ? 12 : fail(ps, s, "lone surrogate");
        }
        if (json_is_low_surrogate(c))
                return fail(ps, s, "lone surrogate");
        *ret_saved = 6 - (c < 0x80 ? 1 : c < 0x800 ? 2 : 3);
        return 6;
}

static bool scan_string(struct parser *ps)
{
        uint32_t index = push_token(ps, JSON_STRING), saved = 0;
        const char *s = ps->p + 1;
        for (;;) {
                s = skip_plain(s, ps->end);
                if (s == ps->end)
                        return fail(ps, s, "string without an end");
                if (*s == '"')
                        break;
                if (*s == '\\') {
                        uint32_t saved_here;
                        size_t len = scan_escape(ps, s, &saved_here);
                        if (len == 0)
                                return false;
                        s += len;
                        saved += saved_here;
                        continue;
                }
                if ((unsigned char)*s < 0x20)
                        return fail(ps, s, "control character in a string");
                do { /* text that is not ASCII comes in runs, too */
                        size_t len = utf8_step(s, (size_t)(ps->end - s));
                        if (len == 0)
                                return fail(ps, s, "not UTF-8");
                        s += len;
                } while (s < ps->end && (unsigned char)*s >= 0x80);
        }
        ps->p = s + 1;
        struct json_token *t = &ps->tokens[index];
        t->end = out_position(ps);
        t->n = t->end - t->start - 2 - saved;
        return true;
}

static const char *skip_digits(const char *s, const char *end)
{
        while (s < end && *s >= '0' && *s <= '9')
                s++;
        return s;
}

static bool scan_number(struct parser *ps)
{
        uint32_t index = push_token(ps, JSON_NUMBER);
        const char *s = ps->p, *end = ps->end, *from;
        if (*s == '-')
                s++;
        from = s;
        s = skip_digits(s, end);
        if (s == from)
                return fail(ps, s, "digit expected");
        if (*from == '0' && s - from > 1)
                return fail(ps, from, "number with a leading zero");
        if (s < end && *s == '.') {
                from = ++s;
                s = skip_digits(s, end);
                if (s == from)
                        return fail(ps, s, "digit expected");
        }
        if (s < end && (*s == 'e' || *s == 'E')) {
                s++;
                if (s < end && (*s == '+' || *s == '-'))
                        s++;
                from = s;
                s = skip_digits(s, end);
                if (s == from)
                        return fail(ps, s, "digit expected");
        }
        ps->p = s;
        ps->tokens[index].end = out_position(ps);
        return true;
}

static bool scan_word(struct parser *ps, const char *word, enum json_kind kind)
{
        size_t len = strlen(word);
        if ((size_t)(ps->end - ps->p) < len || memcmp(ps->p, word, len) != 0)
                return fail(ps, ps->p, "value expected");
        uint32_t index = push_token(ps, kind);
        ps->p += len;
        ps->tokens[index].end = out_position(ps);
        return true;
}

/* ---- duplicate names ---- */

struct name {
        const char *s; /* unescaped */
        uint32_t len;
        uint32_t token;
};

/* Lists the names of an object of n members; unescaped copies of those that need it live in the block that is yielded (or NULL). */
static char *list_names(const struct parser *ps, uint32_t object, uint32_t n, struct name *ret_names)
{
        const struct json_token *tokens = ps->tokens;
        size_t copied = 0;
        for (uint32_t i = 0, t = object + 1; i < n; i++, t = tokens[t + 1].next) {
                uint32_t raw_len = tokens[t].end - tokens[t].start - 2;
                ret_names[i] = (struct name){ps->out + tokens[t].start + 1, tokens[t].n, t};
                if (tokens[t].n != raw_len) {
                        ret_names[i].s = NULL;
                        copied += tokens[t].n;
                }
        }
        if (copied == 0)
                return NULL;
        char *copies = xmalloc(copied), *at = copies;
        for (uint32_t i = 0; i < n; i++) {
                const struct json_token *t = &tokens[ret_names[i].token];
                if (!ret_names[i].s) {
                        ret_names[i].s = at;
                        at = json_unescape(ps->out + t->start + 1, ps->out + t->end - 1, at);
                }
        }
        return copies;
}

static bool name_equal(const struct name *a, const struct name *b)
{
        return a->len == b->len && memcmp(a->s, b->s, a->len) == 0;
}

/* Yields the first name that stood before, or NULL. */
static const struct name *repeated_of_few(const struct name names[], uint32_t n)
{
        for (uint32_t i = 1; i < n; i++) {
                for (uint32_t k = 0; k < i; k++) {
                        if (name_equal(&names[i], &names[k]))
                                return &names[i];
                }
        }
        return NULL;
}

static uint64_t hash_key[2];

static void draw_hash_key(void)
{
        if (random_bytes(hash_key, sizeof hash_key) != 0)
                die("getrandom failed");
}

static uint64_t rotate(uint64_t x, int bits)
{
        return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein): without the key nobody can tell which names collide. */
static uint64_t hash_name(const char *s, size_t len)
{
        uint64_t v[4] = {hash_key[0] ^ 0x736f6d6570736575, hash_key[1] ^ 0x646f72616e646f6d, hash_key[0] ^ 0x6c7967656e657261,
                hash_key[1] ^ 0x7465646279746573};
        size_t left = len;
        for (; left >= 8; left -= 8, s += 8) {
                uint64_t word;
                memcpy(&word, s, 8);
                v[3] ^= word;
                sip_round(v);
                v[0] ^= word;
        }
        uint64_t last = 0;
        memcpy(&last, s, left);
        last ^= (uint64_t)len << 56;
        v[3] ^= last;
        sip_round(v);
        v[0] ^= last;
        v[2] ^= 0xff;
        for (int i = 0; i < 3; i++)
                sip_round(v);
        return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The same as repeated_of_few, with a half-empty table of open addressing. */
static const struct name *repeated_of_many(const struct name names[], uint32_t n)
{
        struct place {
                uint32_t hash;
                uint32_t name; /* index + 1; 0 = free */
        };
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        pthread_once(&once, draw_hash_key);

        size_t size = 64;
        while (size < 2 * (size_t)n)
                size *= 2;
        _cleanup_(freep) struct place *table = xcalloc(size, sizeof *table);
        for (uint32_t i = 0; i < n; i++) {
                uint64_t hash = hash_name(names[i].s, names[i].len);
                size_t at = hash & (size - 1);
                uint32_t tag = (uint32_t)(hash >> 32);
                for (; table[at].name; at = (at + 1) & (size - 1)) {
                        if (table[at].hash == tag && name_equal(&names[table[at].name - 1], &names[i]))
                                return &names[i];
                }
                table[at] = (struct place){tag, i + 1};
        }
        return NULL;
}

/* The quote in the input that stands at `minified` in the copy. Only errors need it, so it is found by walking once more. */
static const char *input_of(const struct parser *ps, uint32_t minified)
{
        bool in_string = false;
        for (const char *s = ps->start;; s++) {
                if (!in_string && is_space(*s))
                        continue;
                if (minified-- == 0)
                        return s;
                if (*s == '"') {
                        in_string = !in_string;
                } else if (*s == '\\') { /* stands in strings only; what it escapes does not end the string */
                        s++;
                        minified--;
                }
        }
}

static bool check_names(struct parser *ps, uint32_t object)
{
        uint32_t n = ps->tokens[object].n;
        if (n < 2)
                return true;
        flush_run(ps); /* the names are read from the copy */
        struct name few[FEW_NAMES];
        struct name *names = n <= FEW_NAMES ? few : xmalloc(n * sizeof *names);
        char *copies = list_names(ps, object, n, names);
        const struct name *repeated = n <= FEW_NAMES ? repeated_of_few(names, n) : repeated_of_many(names, n);
        if (repeated)
                fail(ps, input_of(ps, ps->tokens[repeated->token].start), "duplicate member name");
        free(copies);
        if (names != few)
                free(names);
        return !repeated;
}

/* ---- grammar ---- */

static bool open_container(struct parser *ps, enum json_kind kind)
{
        if (ps->depth == ps->depth_max)
                return fail(ps, ps->p, "nested too deep");
        ps->open[ps->depth++] = push_token(ps, kind);
        ps->p++;
        skip_space(ps);
        return true;
}

static bool close_container(struct parser *ps)
{
        uint32_t index = ps->open[--ps->depth];
        struct json_token *t = &ps->tokens[index];
        ps->p++;
        t->end = out_position(ps);
        t->next = (uint32_t)ps->n_tokens;
        return t->kind != JSON_OBJECT || check_names(ps, index);
}

/* "name" and its colon, up to the value. */
static bool member_name(struct parser *ps)
{
        if (!at_char(ps, '"'))
                return fail(ps, ps->p, "member name expected");
        ps->tokens[ps->open[ps->depth - 1]].n++;
        if (!scan_string(ps))
                return false;
        skip_space(ps);
        if (!at_char(ps, ':'))
                return fail(ps, ps->p, "':' expected");
        ps->p++;
        return true;
}

static bool scan_scalar(struct parser *ps)
{
        switch (*ps->p) {
        case '"':
                return scan_string(ps);
        case 't':
                return scan_word(ps, "true", JSON_TRUE);
        case 'f':
                return scan_word(ps, "false", JSON_FALSE);
        case 'n':
                return scan_word(ps, "null", JSON_NULL);
        case '-':
        case '0' ... '9':
                return scan_number(ps);
        default:
                return fail(ps, ps->p, "value expected");
        }
}

/* A value has ended at p: closes every container that ends here, and stops before the next value or, at depth 0, behind the root. */
static bool after_value(struct parser *ps)
{
        while (ps->depth > 0) {
                struct json_token *container = &ps->tokens[ps->open[ps->depth - 1]];
                bool object = container->kind == JSON_OBJECT;
                skip_space(ps);
                if (at_char(ps, ',')) {
                        ps->p++;
                        skip_space(ps);
                        if (object)
                                return member_name(ps);
                        container->n++;
                        return true;
                }
                if (!at_char(ps, object ? '}' : ']'))
                        return fail(ps, ps->p, object ? "',' or '}' expected" : "',' or ']' expected");
                if (!close_container(ps))
                        return false;
        }
        return true;
}

static bool parse(struct parser *ps)
{
        if (ps->end - ps->p >= 3 && memcmp(ps->p, "\xef\xbb\xbf", 3) == 0)
                return fail(ps, ps->p, "byte-order mark");
        do { /* each round takes one value, or opens one container */
                skip_space(ps);
                if (ps->p == ps->end)
                        return fail(ps, ps->p, "value expected");
                if (*ps->p == '{') {
                        if (!open_container(ps, JSON_OBJECT))
                                return false;
                        if (!at_char(ps, '}')) {
                                if (!member_name(ps))
                                        return false;
                                continue;
                        }
                        if (!close_container(ps))
                                return false;
                } else if (*ps->p == '[') {
                        if (!open_container(ps, JSON_ARRAY))
                                return false;
                        if (!at_char(ps, ']')) {
                                ps->tokens[ps->open[ps->depth - 1]].n++;
                                continue;
                        }
                        if (!close_container(ps))
                                return false;
                } else if (!scan_scalar(ps)) {
                        return false;
                }
                if (!after_value(ps))
                        return false;
        } while (ps->depth > 0);
        skip_space(ps);
        if (ps->p < ps->end)
                return fail(ps, ps->p, "text behind the document");
        flush_run(ps);
        return true;
}

static int parse_to(unsigned depth_max, const char *text, size_t len, struct json_doc *ret_doc, struct json_error *ret_error)
{
        if (len >= UINT32_MAX) { /* spans and token indexes are 32 bits */
                *ret_error = (struct json_error){0, "document too large"};
                return -EINVAL;
        }
        if (!text)
                text = "";
        struct parser ps = {.start = text, .end = text + len, .p = text, .run = text, .depth_max = depth_max, .error = ret_error};
        ps.out = xmalloc(len + 1);
        ps.cap_tokens = len / 8 + 8; /* a usual density; grows if it is not */
        ps.tokens = xmalloc(ps.cap_tokens * sizeof *ps.tokens);
        if (!parse(&ps)) {
                free(ps.out);
                free(ps.tokens);
                return -EINVAL;
        }
        ps.out[ps.out_len] = '\0';
        *ret_doc = (struct json_doc){.text = ps.out, .len = ps.out_len, .tokens = ps.tokens, .n_tokens = ps.n_tokens};
        return 0;
}

int json_parse(const char *text, size_t len, struct json_doc *ret_doc, struct json_error *ret_error)
{
        return parse_to(JSON_DEPTH_MAX, text, len, ret_doc, ret_error);
}

int json_parse_own(const char *text, size_t len, struct json_doc *ret_doc, struct json_error *ret_error)
{
        return parse_to(JSON_DEPTH_OWN, text, len, ret_doc, ret_error);
}
