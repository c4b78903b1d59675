/* Which of PostgreSQL's programs on this machine. It looks at names only. */
#include "postgres_program.h"

#include "base/strbuf.h"
#include "base/util.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

char *postgres_program(const char *root, const char *name, int major)
{
        _cleanup_(strbuf_done) struct strbuf pattern = {0};
        char *best = NULL;
        int version = 0;
        glob_t found;

        strbuf_addf(&pattern, "%s/*/bin/%s", root, name);
        if (glob(pattern.s, 0, NULL, &found) != 0)
                return NULL;
        for (size_t i = 0; i < found.gl_pathc; i++) {
                int this = atoi(found.gl_pathv[i] + strlen(root) + 1);
                if (major ? this != major : this <= version)
                        continue;
                version = this;
                free(best);
                best = xstrdup(found.gl_pathv[i]);
        }
        globfree(&found);
        return best;
}
