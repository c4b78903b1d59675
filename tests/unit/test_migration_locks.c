/* Which locks the statements of a migration take, form by form, and that no migration from 0016 on holds up a table that grows. */
#include "migrations/locks.h"

#include "base/strbuf.h"
#include "base/util.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HISTORY 15 /* up to this number a database in use has had them long ago */

static void forms(void **state)
{
        static const struct {
                const char *sql, *table, *lock;
                enum lock_work work;
                bool is_long;
        } cases[] = {
                {"CREATE INDEX x ON chain (id) WHERE a = 'ON edge'", "chain", "SHARE", LOCK_BUILDS, true},
                {"create unique index x on aethelos.chain (id)", "chain", "SHARE", LOCK_BUILDS, true},
                {"CREATE INDEX CONCURRENTLY x ON chain (id)", "chain", "SHARE UPDATE EXCLUSIVE", LOCK_BUILDS, false},
                {"CREATE INDEX x ON step (name)", "step", "SHARE", LOCK_BUILDS, false},
                {"ALTER TABLE chain ADD COLUMN a text", "chain", "ACCESS EXCLUSIVE", LOCK_MOMENT, false},
                {"ALTER TABLE chain ADD COLUMN a text NOT NULL DEFAULT 'x'", "chain", "ACCESS EXCLUSIVE", LOCK_MOMENT, false},
                {"ALTER TABLE IF EXISTS ONLY chain ADD a uuid DEFAULT gen_random_uuid()", "chain", "ACCESS EXCLUSIVE", LOCK_REWRITES, true},
                {"ALTER TABLE chain ADD COLUMN a bigint GENERATED ALWAYS AS IDENTITY", "chain", "ACCESS EXCLUSIVE", LOCK_REWRITES, true},
                {"ALTER TABLE chain ADD COLUMN a int CHECK (a > 0)", "chain", "ACCESS EXCLUSIVE", LOCK_READS, true},
                {"ALTER TABLE chain ADD CONSTRAINT c CHECK (a > 0) NOT VALID", "chain", "ACCESS EXCLUSIVE", LOCK_MOMENT, false},
                {"ALTER TABLE chain ADD CONSTRAINT c CHECK (a > 0)", "chain", "ACCESS EXCLUSIVE", LOCK_READS, true},
                {"ALTER TABLE chain ADD CONSTRAINT c UNIQUE (a)", "chain", "ACCESS EXCLUSIVE", LOCK_BUILDS, true},
                {"ALTER TABLE chain ADD CONSTRAINT c UNIQUE USING INDEX i", "chain", "ACCESS EXCLUSIVE", LOCK_MOMENT, false},
                {"ALTER TABLE chain ADD FOREIGN KEY (a) REFERENCES step (name)", "chain", "ACCESS EXCLUSIVE", LOCK_READS, true},
                {"ALTER TABLE chain VALIDATE CONSTRAINT c", "chain", "SHARE UPDATE EXCLUSIVE", LOCK_READS, false},
                {"ALTER TABLE chain ALTER COLUMN a TYPE bigint", "chain", "ACCESS EXCLUSIVE", LOCK_REWRITES, true},
                {"ALTER TABLE chain ALTER a SET DATA TYPE bigint", "chain", "ACCESS EXCLUSIVE", LOCK_REWRITES, true},
                {"ALTER TABLE chain ALTER COLUMN a SET NOT NULL", "chain", "ACCESS EXCLUSIVE", LOCK_READS, true},
                {"ALTER TABLE chain ALTER COLUMN a DROP NOT NULL", "chain", "ACCESS EXCLUSIVE", LOCK_MOMENT, false},
                {"ALTER TABLE chain SET (fillfactor = 50)", "chain", "ACCESS EXCLUSIVE", LOCK_MOMENT, false},
                {"ALTER TABLE chain SET UNLOGGED", "chain", "ACCESS EXCLUSIVE", LOCK_REWRITES, true},
                {"UPDATE chain SET a = 1", "chain", "ROW EXCLUSIVE", LOCK_CHANGES, true},
                {"DELETE FROM chain", "chain", "ROW EXCLUSIVE", LOCK_CHANGES, true},
                {"TRUNCATE chain", "chain", "ACCESS EXCLUSIVE", LOCK_MOMENT, false},
                {"CREATE TRIGGER t BEFORE UPDATE ON chain FOR EACH ROW EXECUTE FUNCTION f()", "chain", "SHARE ROW EXCLUSIVE", LOCK_MOMENT, false},
                {"DO $$ BEGIN UPDATE chain SET a = 1; END $$", "?", "?", LOCK_UNKNOWN, true},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct lock_notes notes;

                locks_of(cases[i].sql, &notes);
                if (notes.n != 1 || notes.v[0].work != cases[i].work || strcmp(notes.v[0].lock, cases[i].lock) != 0 ||
                        strcmp(notes.v[0].table, cases[i].table) != 0 || lock_is_long(&notes.v[0]) != cases[i].is_long)
                        fail_msg("%s: %zu notes, %s, %s, %s", cases[i].sql, notes.n, notes.n ? notes.v[0].table : "", notes.n ? notes.v[0].lock : "",
                                notes.n ? lock_work_text(notes.v[0].work) : "");
                locks_done(&notes);
        }
}

static void nothing(void **state)
{
        static const char *const cases[] = {"", ";", "SELECT 1", "-- ALTER TABLE chain SET UNLOGGED", "/* DELETE FROM chain; */",
                "COMMENT ON TABLE chain IS 'UPDATE chain; DELETE FROM chain;'", "GRANT SELECT ON chain TO x", "INSERT INTO step VALUES ('a')",
                "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $x$ UPDATE chain SET a = 1; $x$;",
                "CREATE INDEX i ON fresh (a); CREATE TABLE fresh (a int); ALTER TABLE fresh ADD CHECK (a > 0);"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct lock_notes notes;

                locks_of(cases[i], &notes);
                if (notes.n != 0)
                        fail_msg("%s: %s", cases[i], notes.v[0].table);
                locks_done(&notes);
        }
}

static void several(void **state)
{
        struct lock_notes notes;

        (void)state;
        locks_of("ALTER TABLE chain DROP CONSTRAINT a, ADD CONSTRAINT a CHECK (x IN ('b', 'c')); CREATE INDEX i ON event (id); CREATE INDEX j ON "
                 "event (at)",
                &notes);
        assert_int_equal(notes.n, 3);
        assert_int_equal(notes.v[0].work, LOCK_MOMENT);
        assert_int_equal(notes.v[1].work, LOCK_READS);
        assert_string_equal(notes.v[2].table, "event");
        locks_done(&notes);
}

/* What takes long on a table that grows is said in the file: "-- takes long on <table>: why that is no matter". */
static void migrations_lock_nothing_for_long(void **state)
{
        glob_t files;
        size_t judged = 0;

        (void)state;
        assert_int_equal(glob(AETHELOS_SOURCE_DIR "/migrations/[0-9]*.sql", 0, NULL, &files), 0);
        for (size_t i = 0; i < files.gl_pathc; i++) {
                _cleanup_(freep) char *sql = NULL;
                struct lock_notes notes;

                if (atoi(strrchr(files.gl_pathv[i], '/') + 1) <= HISTORY)
                        continue;
                assert_int_equal(read_file(files.gl_pathv[i], 1 << 20, &sql), 0);
                locks_of(sql, &notes);
                for (size_t k = 0; k < notes.n; k++) {
                        char said[128];

                        snprintf(said, sizeof(said), "-- takes long on %s: ", notes.v[k].table);
                        if (lock_is_long(&notes.v[k]) && !strstr(sql, said))
                                fail_msg("%s locks %s (%s) %s; do it in another form (docs/operations.md), or say why it is no matter: %s",
                                        files.gl_pathv[i], notes.v[k].table, notes.v[k].lock, lock_work_text(notes.v[k].work), said);
                }
                locks_done(&notes);
                judged++;
        }
        assert_true(judged > 0 || files.gl_pathc >= HISTORY);
        globfree(&files);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(forms), cmocka_unit_test(nothing), cmocka_unit_test(several), cmocka_unit_test(migrations_lock_nothing_for_long)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
