/* Which events a reader of the stream wants. */
#include "services/board/board_stream_core.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define CHAIN "01890a5d-ac96-774b-bcce-b302099a8057"

static void what_cannot_be(void **state)
{
        static const char *const cases[][3] = {
                {"", NULL, NULL},
                {"paid", NULL, NULL},
                {"PAID,", NULL, NULL},
                {",PAID", NULL, NULL},
                {"PAID;DONE", NULL, NULL},
                {"AN_EVENT_WITH_A_NAME_THAT_IS_TOO_LONG", NULL, NULL},
                {NULL, "", NULL},
                {NULL, NULL, ""},
                {NULL, NULL, "7"},
        };
        char many[33 * 2 + 1] = "", client[200];
        struct board_filter f;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                if (board_filter_parse(cases[i][0], cases[i][1], cases[i][2], &f))
                        fail_msg("case %zu", i);
        for (size_t i = 0; i < 33; i++)
                strcat(many, i == 0 ? "A" : ",A");
        assert_false(board_filter_parse(many, NULL, NULL, &f));
        many[strlen(many) - 2] = '\0';
        assert_true(board_filter_parse(many, NULL, NULL, &f));
        memset(client, 'c', sizeof(client));
        client[129] = '\0';
        assert_false(board_filter_parse(NULL, client, NULL, &f));
        client[128] = '\0';
        assert_true(board_filter_parse(NULL, client, NULL, &f));
        assert_true(board_filter_wants(&f, "PAID", client, CHAIN));
}

static void what_is_wanted(void **state)
{
        struct board_filter f;

        (void)state;
        assert_true(board_filter_parse(NULL, NULL, NULL, &f));
        assert_true(board_filter_wants(&f, "PRICED", "default", CHAIN));
        assert_true(board_filter_parse("PRICED,FINAL_FAIL", "default", CHAIN, &f));
        assert_true(board_filter_wants(&f, "PRICED", "default", CHAIN));
        assert_true(board_filter_wants(&f, "FINAL_FAIL", "default", CHAIN));
        assert_false(board_filter_wants(&f, "FINAL", "default", CHAIN));
        assert_false(board_filter_wants(&f, "PRICED", "another", CHAIN));
        assert_false(board_filter_wants(&f, "PRICED", "default", "01890a5d-ac96-774b-bcce-b302099a8058"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(what_cannot_be), cmocka_unit_test(what_is_wanted)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
