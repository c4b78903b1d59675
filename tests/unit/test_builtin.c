/* The built-in operators, by tables of input and exact output. */
#include "services/execution/builtin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

struct row {
        const char *label, *input, *output; /* output NULL: the input is refused */
};

static void check(const char *name, const struct row rows[], size_t n)
{
        const struct builtin *builtin = builtin_find(name);

        assert_non_null(builtin);
        for (size_t i = 0; i < n; i++) {
                struct json_doc doc;
                struct json_error error;
                _cleanup_(strbuf_done) struct strbuf out = {0};
                const char *why;

                if (json_parse(rows[i].input, strlen(rows[i].input), &doc, &error) < 0)
                        fail_msg("%s: bad input in the table: %s", rows[i].label, error.why);
                why = builtin->run(&doc, json_root(&doc), &out);
                if (!rows[i].output) {
                        if (!why || out.len > 0)
                                fail_msg("%s: was not refused", rows[i].label);
                } else if (why) {
                        fail_msg("%s: refused: %s", rows[i].label, why);
                } else if (strcmp(out.s, rows[i].output) != 0) {
                        fail_msg("%s: %s instead of %s", rows[i].label, out.s, rows[i].output);
                }
                json_done(&doc);
        }
}

static void text_summary(void **state)
{
        static const struct row rows[] = {
                {"the example", "{\"text\":\"Code 19: Initial global activation payload.\"}",
                        "{\"length\":43,\"word_count\":6,\"preview\":\"Code 19: Initial global activation payload.\"}"},
                {"empty", "{\"text\":\"\"}", "{\"length\":0,\"word_count\":0,\"preview\":\"\"}"},
                {"only blanks", "{\"text\":\" \\t\\n\"}", "{\"length\":3,\"word_count\":0,\"preview\":\"\"}"},
                {"blanks around and between", "{\"text\":\"  a \\n b  \"}", "{\"length\":9,\"word_count\":2,\"preview\":\"a b\"}"},
                {"characters, not bytes", "{\"text\":\"äöü \\ud83d\\ude00\"}", "{\"length\":5,\"word_count\":2,\"preview\":\"äöü 😀\"}"},
                {"white space beyond ASCII", "{\"text\":\"a\\u00a0b\\u2003c\\u3000d\\u0085e\\u1680f\\u2028g\\u202fh\\u205fi\"}",
                        "{\"length\":17,\"word_count\":9,\"preview\":\"a b c d e f g h i\"}"},
                {"not white space", "{\"text\":\"a\\u200bb\\u00adc\\u2060d\"}",
                        "{\"length\":7,\"word_count\":1,\"preview\":\"a\u200bb\u00adc\u2060d\"}"},
                {"quotes", "{\"text\":\"say \\\"hi\\\"\"}", "{\"length\":8,\"word_count\":2,\"preview\":\"say \\\"hi\\\"\"}"},
                {"40 words",
                        "{\"text\":\"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 "
                        "40\"}",
                        "{\"length\":110,\"word_count\":40,\"preview\":\"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 "
                        "29 30 31 32 33 34 "
                        "35 36 37 38 39 40\"}"},
                {"41 words",
                        "{\"text\":\"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 "
                        "41\"}",
                        "{\"length\":113,\"word_count\":41,\"preview\":\"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 "
                        "29 30 31 32 33 34 "
                        "35 36 37 38 39 40\"}"},
                {"text is missing", "{}", NULL},
                {"text is a number", "{\"text\":1}", NULL},
                {"text is null", "{\"text\":null}", NULL},
                {"no object", "[\"text\"]", NULL},
        };

        (void)state;
        check("puz19_text_summary", rows, ARRAY_SIZE(rows));
}

static void numeric_stats(void **state)
{
        static const struct row rows[] = {
                {"integers", "{\"numbers\":[1,2,3]}", "{\"count\":3,\"sum\":6,\"avg\":2}"},
                {"fractions", "{\"numbers\":[0.5,1.25]}", "{\"count\":2,\"sum\":1.75,\"avg\":0.875}"},
                {"none: zeros", "{\"numbers\":[]}", "{\"count\":0,\"sum\":0,\"avg\":0}"},
                {"negative", "{\"numbers\":[-5,2]}", "{\"count\":2,\"sum\":-3,\"avg\":-1.5}"},
                {"exponents", "{\"numbers\":[1e3,2E-1]}", "{\"count\":2,\"sum\":1000.2,\"avg\":500.1}"},
                {"a string among them", "{\"numbers\":[1,\"2\"]}", NULL},
                {"null among them", "{\"numbers\":[null]}", NULL},
                {"too large", "{\"numbers\":[1e999]}", NULL},
                {"a sum too large", "{\"numbers\":[1e308,1e308]}", NULL},
                {"no list", "{\"numbers\":1}", NULL},
                {"missing", "{}", NULL},
        };

        (void)state;
        check("puz19_numeric_stats", rows, ARRAY_SIZE(rows));
}

static void others_are_not_there(void **state)
{
        (void)state;
        assert_null(builtin_find("puz19_text"));
        assert_null(builtin_find(""));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(text_summary),
                cmocka_unit_test(numeric_stats),
                cmocka_unit_test(others_are_not_there),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
