/* Operators that are compiled in. Pure: the same input gives the same output, so that one may be run again at any time. */
#ifndef AETHELOS_EXECUTION_BUILTIN_H
#define AETHELOS_EXECUTION_BUILTIN_H

#include "base/json.h"

struct builtin {
        const char *name;
        /* Adds its output, JSON text, to ret_output. NULL, or why the input cannot be used (static, for people; ret_output is untouched). */
        const char *(*run)(const struct json_doc *doc, json_value input, struct strbuf *ret_output);
};

const struct builtin *builtin_find(const char *name); /* or NULL */

#endif
