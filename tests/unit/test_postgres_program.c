/* The program of the server's own version is taken, and the newest where no version is asked for: 9 is older than 15. */
#include "base/util.h"
#include "cli/postgres_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void the_version_that_is_asked_for(void **state)
{
        static const char *const majors[] = {"15", "17", "9"};
        static const struct {
                int major;
                const char *wanted; /* NULL: none */
        } cases[] = {{0, "17"}, {15, "15"}, {17, "17"}, {9, "9"}, {16, NULL}};
        char root[] = "/tmp/aethelos-programs-XXXXXX", path[200];

        (void)state;
        assert_non_null(mkdtemp(root));
        for (size_t i = 0; i < ARRAY_SIZE(majors); i++) {
                static const char *const parts[] = {"", "/bin"};

                for (size_t k = 0; k < ARRAY_SIZE(parts); k++) {
                        snprintf(path, sizeof(path), "%s/%s%s", root, majors[i], parts[k]);
                        assert_int_equal(mkdir(path, 0700), 0);
                }
                snprintf(path, sizeof(path), "%s/%s/bin/pg_restore", root, majors[i]);
                close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0700));
        }
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(freep) char *found = postgres_program(root, "pg_restore", cases[i].major);

                snprintf(path, sizeof(path), "%s/%s/bin/pg_restore", root, cases[i].wanted ? cases[i].wanted : "");
                if (cases[i].wanted)
                        assert_string_equal(found, path);
                else
                        assert_null(found);
        }
        assert_null(postgres_program(root, "pg_dump", 0));
        for (size_t i = 0; i < ARRAY_SIZE(majors); i++) {
                static const char *const parts[] = {"/bin/pg_restore", "/bin", ""};

                for (size_t k = 0; k < ARRAY_SIZE(parts); k++) {
                        snprintf(path, sizeof(path), "%s/%s%s", root, majors[i], parts[k]);
                        assert_int_equal(remove(path), 0);
                }
        }
        assert_int_equal(rmdir(root), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(the_version_that_is_asked_for)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
