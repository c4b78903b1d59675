/* What the readers of bodies share: what a refusal looks like, and members that may be null. */
#include "board_read.h"

bool board_read_refuse(struct board_problem *ret, int status, const char *slug, const char *detail, const char *field)
{
        *ret = (struct board_problem){.status = status, .slug = slug, .detail = detail};
        copy_text(ret->field, sizeof(ret->field), field ? field : "");
        return false;
}

bool board_read_bad(struct board_problem *ret, const char *detail, const char *field)
{
        return board_read_refuse(ret, 422, "invalid-value", detail, field);
}

bool board_read_object(const char *body, size_t len, struct json_doc *ret_doc, struct board_problem *ret_problem)
{
        struct json_error error;

        if (json_parse(body ? body : "", len, ret_doc, &error) < 0)
                return board_read_refuse(ret_problem, 400, "invalid-json", error.why, NULL);
        if (json_is(json_root(ret_doc), JSON_OBJECT))
                return true;
        json_done(ret_doc);
        return board_read_bad(ret_problem, "the body must be an object", "");
}

json_value board_read_member(const struct json_doc *doc, json_value object, const char *name)
{
        json_value v = json_get(doc, object, name);

        return json_is(v, JSON_NULL) ? NULL : v;
}

char *board_read_string(const struct json_doc *doc, json_value object, const char *name)
{
        return json_string(doc, board_read_member(doc, object, name), NULL);
}
