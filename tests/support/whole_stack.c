#include "tests/support/whole_stack.h"

#include <stdio.h>

struct stack *stack;

int set_up(void **state)
{
        (void)state;
        stack = stack_start();
        return 0;
}

int tear_down(void **state)
{
        (void)state;
        stack_assert_sound(stack);
        stack = stack_free(stack);
        return 0;
}

void await_step(const char *id, const char *step)
{
        char sql[160];

        snprintf(sql, sizeof(sql), "SELECT step FROM chain WHERE id = '%s'", id);
        stack_await(stack, sql, step, 20000);
}
