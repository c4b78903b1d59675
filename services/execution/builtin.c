/* The built-in operators: puz19_text_summary and puz19_numeric_stats.
 *
 * They are pure: no clock, no state, no outside call. Therefore they need no run_id and no lease; a crash leaves nothing, and the step is simply
 * computed again. */
#include "services/execution/builtin.h"

#include "base/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PREVIEW_WORDS 40

/* Length in bytes of the white space character (Unicode property White_Space) at s, 0 if it is another. s is valid UTF-8. */
static size_t white_space(const char *s, size_t left)
{
        const unsigned char *u = (const unsigned char *)s;

        if (u[0] == ' ' || (u[0] >= '\t' && u[0] <= '\r'))
                return 1;
        if (u[0] < 0xc2 || left < 2)
                return 0;
        if (u[0] == 0xc2)
                return u[1] == 0x85 || u[1] == 0xa0 ? 2 : 0;
        if (left < 3)
                return 0;

        unsigned c = (u[0] & 0x0fU) << 12 | (u[1] & 0x3fU) << 6 | (u[2] & 0x3fU);
        bool is = (u[0] & 0xf0) == 0xe0 &&
                  (c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000);
        return is ? 3 : 0;
}

static const char *text_summary(const struct json_doc *doc, json_value input, struct strbuf *ret_output)
{
        size_t len;
        _cleanup_(freep) char *text = json_string(doc, json_get(doc, input, "text"), &len);
        _cleanup_(strbuf_done) struct strbuf preview = {0};
        int64_t words = 0;
        size_t i = 0;

        if (!text)
                return "text must be a string";
        while (i < len) {
                size_t blank = white_space(text + i, len - i), start = i;
                if (blank) {
                        i += blank;
                        continue;
                }
                while (i < len && !white_space(text + i, len - i)) {
                        size_t step = utf8_step(text + i, len - i);
                        i += step ? step : 1;
                }
                if (words < PREVIEW_WORDS) {
                        if (words > 0)
                                strbuf_addc(&preview, ' ');
                        strbuf_add(&preview, text + start, i - start);
                }
                words++;
        }

        strbuf_adds(ret_output, "{\"length\":");
        strbuf_addi(ret_output, (int64_t)utf8_length(text, len));
        strbuf_adds(ret_output, ",\"word_count\":");
        strbuf_addi(ret_output, words);
        strbuf_adds(ret_output, ",\"preview\":");
        strbuf_add_json(ret_output, preview.s ? preview.s : "", preview.len);
        strbuf_addc(ret_output, '}');
        return NULL;
}

static const char *numeric_stats(const struct json_doc *doc, json_value input, struct strbuf *ret_output)
{
        json_value numbers = json_get(doc, input, "numbers");
        double sum = 0, avg = 0;
        int64_t count = 0;

        if (!json_is(numbers, JSON_ARRAY))
                return "numbers must be an array of numbers";
        for (json_value v = json_first(doc, numbers); v; v = json_after(doc, numbers, v)) {
                double d;
                int r = json_double(doc, v, &d);
                if (r == -ERANGE)
                        return "a number is too large";
                if (r < 0)
                        return "numbers must be an array of numbers";
                sum += d;
                count++;
        }
        if (!isfinite(sum))
                return "the sum is too large";
        if (count > 0)
                avg = sum / (double)count;

        strbuf_adds(ret_output, "{\"count\":");
        strbuf_addi(ret_output, count);
        strbuf_adds(ret_output, ",\"sum\":");
        json_add_double(ret_output, sum);
        strbuf_adds(ret_output, ",\"avg\":");
        json_add_double(ret_output, avg);
        strbuf_addc(ret_output, '}');
        return NULL;
}

static const struct builtin builtins[] = {
        {.name = "puz19_text_summary", .run = text_summary},
        {.name = "puz19_numeric_stats", .run = numeric_stats},
        {.name = "code19_text_summary", .run = text_summary},
};

const struct builtin *builtin_find(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(builtins); i++)
                if (strcmp(builtins[i].name, name) == 0)
                        return &builtins[i];
        return NULL;
}
