/* Parsing as tests of JSON do: every input from a block of exactly its size, so that the address sanitizer sees a read behind it. Include it behind
 * <cmocka.h>, which wants headers of its own first. */
#ifndef AETHELOS_TESTS_JSON_EXACT_H
#define AETHELOS_TESTS_JSON_EXACT_H

#include "base/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static inline int parse_exact(const char *text, size_t len, struct json_doc *ret_doc, struct json_error *ret_error)
{
        char *exact = calloc(1, len ? len : 1);
        if (len)
                memcpy(exact, text, len);
        int r = json_parse(exact, len, ret_doc, ret_error);
        free(exact);
        return r;
}

static inline void parse_ok(const char *text, size_t len, struct json_doc *ret_doc)
{
        struct json_error e = {0};
        int r = parse_exact(text, len, ret_doc, &e);
        if (r != 0)
                print_error("%.*s: %s at %zu\n", (int)len, text, e.why, e.offset);
        assert_int_equal(r, 0);
        assert_int_equal(strlen(ret_doc->text), ret_doc->len);
        assert_int_equal(ret_doc->tokens[0].next, ret_doc->n_tokens);
}

static inline void doc_of(const char *text, struct json_doc *ret_doc)
{
        parse_ok(text, strlen(text), ret_doc);
}

static inline void assert_refused(const char *text, size_t len, size_t offset, const char *why)
{
        struct json_doc doc = {.len = 77};
        struct json_error e = {.offset = SIZE_MAX, .why = "?"};
        int r = parse_exact(text, len, &doc, &e);
        if (r != -EINVAL || e.offset != offset || strcmp(e.why, why) != 0)
                print_error("%.*s: got %d, %s at %zu\n", (int)len, text ? text : "", r, e.why, e.offset);
        assert_int_equal(r, -EINVAL);
        assert_int_equal(e.offset, offset);
        assert_string_equal(e.why, why);
        assert_int_equal(doc.len, 77);
}

#define REFUSED(text, offset, why) assert_refused((text), sizeof(text) - 1, (offset), (why))

#endif
