/* What tests of the HTTP APIs assert. Include it behind <cmocka.h>, which wants headers of its own first. */
#ifndef AETHELOS_TESTS_ASSERTS_H
#define AETHELOS_TESTS_ASSERTS_H

#include "base/util.h"
#include "tests/support/stack.h"

#include <string.h>

/* The value at the path (json_at's form) is exactly this text. */
static inline void assert_at(const char *json, const char *path, const char *value)
{
        _cleanup_(freep) char *got = json_at(json, path);

        if (!got || strcmp(got, value) != 0)
                fail_msg("%s is %s, not %s, in %s", path, got ? got : "absent", value, json);
}

/* One request as by stack_http, answered with the wanted status; the body, malloc'ed. */
static inline char *ask_stack(
        struct stack *s, bool admin, const char *method, const char *path, const char *const headers[], const char *body, long wanted)
{
        long status = 0;
        char *answer = stack_http(s, admin, method, path, headers, body, &status);

        if (status != wanted)
                fail_msg("%s %s: %ld, not %ld: %s", method, path, status, wanted, answer ? answer : "no answer");
        return answer;
}

#endif
