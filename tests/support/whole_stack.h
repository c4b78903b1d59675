/* The stack that a suite shares: started before its first test, ended behind its last one, with nothing for audit() to find. */
#ifndef AETHELOS_TESTS_WHOLE_STACK_H
#define AETHELOS_TESTS_WHOLE_STACK_H

#include "tests/support/stack.h"

extern struct stack *stack;

/* For cmocka's group. */
int set_up(void **state);
int tear_down(void **state);

void await_step(const char *id, const char *step); /* of a chain; at most 20 s */

#endif
