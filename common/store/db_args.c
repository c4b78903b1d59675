/* Parameters and results. Arrays travel in PostgreSQL's binary format (array_recv: dimensions, null flag, element type, length, lower bound, then
 * each element behind its length), so that a batch of JSON texts needs no quoting and costs one copy. */
#include "base/util.h"
#include "store/db.h"

#include <arpa/inet.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

enum { OID_BOOL = 16, OID_BYTEA = 17, OID_INT8 = 20, OID_INT4 = 23, OID_TEXT = 25, OID_UUID = 2950 };

static const struct {
        unsigned element, array;
} array_oids[] = {
        [DB_ARRAY_UUID] = {OID_UUID, 2951},
        [DB_ARRAY_INT] = {OID_INT4, 1007},
        [DB_ARRAY_BIGINT] = {OID_INT8, 1016},
        [DB_ARRAY_TEXT] = {OID_TEXT, 1009},
        [DB_ARRAY_BYTEA] = {OID_BYTEA, 1001},
};

void db_args_done(struct db_args *a)
{
        for (int i = 0; i < a->n; i++)
                strbuf_done(&a->own[i]);
        a->n = 0;
}

static int next(struct db_args *a, unsigned oid, int format)
{
        int i;

        if (a->n >= DB_ARGS_MAX)
                die("too many parameters for one statement");
        i = a->n++;
        a->oids[i] = oid;
        a->formats[i] = format;
        a->values[i] = NULL;
        a->lengths[i] = 0;
        a->own[i] = (struct strbuf){0};
        return i;
}

void db_arg_text(struct db_args *a, const char *s)
{
        int i = next(a, OID_TEXT, 0);

        a->values[i] = s;
}

void db_arg_bytes(struct db_args *a, const void *p, size_t len)
{
        int i = next(a, OID_BYTEA, 1);

        a->values[i] = p ? p : "";
        a->lengths[i] = (int)len;
}

static void own(struct db_args *a, int i, const void *p, size_t len)
{
        strbuf_add(&a->own[i], p, len);
        a->values[i] = a->own[i].s;
        a->lengths[i] = (int)len;
}

void db_arg_int(struct db_args *a, int64_t n)
{
        uint64_t big = htobe64((uint64_t)n);

        own(a, next(a, OID_INT8, 1), &big, sizeof(big));
}

void db_arg_bool(struct db_args *a, bool b)
{
        own(a, next(a, OID_BOOL, 1), b ? "\1" : "\0", 1);
}

void db_arg_uuid(struct db_args *a, const struct uuid *id)
{
        int i = next(a, OID_UUID, 1);

        if (id)
                own(a, i, id->b, sizeof(id->b));
}

static void add32(struct strbuf *b, uint32_t n)
{
        uint32_t big = htonl(n);

        strbuf_add(b, &big, sizeof(big));
}

void db_array_begin(struct db_args *a, enum db_array_kind kind)
{
        struct strbuf *b;
        int i = next(a, array_oids[kind].array, 1);

        b = &a->own[i];
        add32(b, 1); /* dimensions */
        add32(b, 1); /* may hold NULLs */
        add32(b, array_oids[kind].element);
        add32(b, 0); /* number of elements, counted up below */
        add32(b, 1); /* lower bound */
        a->values[i] = b->s;
        a->lengths[i] = (int)b->len;
}

static void element(struct db_args *a, const void *p, size_t len)
{
        int i = a->n - 1;
        struct strbuf *b = &a->own[i];
        uint32_t n;

        memcpy(&n, b->s + 12, sizeof(n));
        n = htonl(ntohl(n) + 1);
        memcpy(b->s + 12, &n, sizeof(n));
        add32(b, p ? (uint32_t)len : UINT32_MAX);
        if (p)
                strbuf_add(b, p, len);
        a->values[i] = b->s;
        a->lengths[i] = (int)b->len;
}

void db_array_uuid(struct db_args *a, const struct uuid *id)
{
        element(a, id ? id->b : NULL, sizeof(id->b));
}

void db_arg_uuids(struct db_args *a, const struct uuid ids[], size_t n)
{
        db_array_begin(a, DB_ARRAY_UUID);
        for (size_t i = 0; i < n; i++)
                db_array_uuid(a, &ids[i]);
}

void db_array_int(struct db_args *a, int64_t n)
{
        if (a->oids[a->n - 1] == array_oids[DB_ARRAY_INT].array) {
                uint32_t big = htonl((uint32_t)n);
                element(a, &big, sizeof(big));
        } else {
                uint64_t big = htobe64((uint64_t)n);
                element(a, &big, sizeof(big));
        }
}

void db_array_text(struct db_args *a, const char *s, size_t len)
{
        element(a, s, len);
}

void db_array_null(struct db_args *a)
{
        element(a, NULL, 0);
}

void PQclearp(PGresult **r)
{
        PQclear(*r);
}

bool db_null(const PGresult *r, int row, int column)
{
        return PQgetisnull(r, row, column);
}

struct slice db_text(const PGresult *r, int row, int column)
{
        if (PQgetisnull(r, row, column))
                return (struct slice){0};
        return (struct slice){PQgetvalue(r, row, column), (size_t)PQgetlength(r, row, column)};
}

/* Two's complement, the highest byte first. */
static int64_t big_endian(const char *s, int len)
{
        uint64_t n = len > 0 && (signed char)s[0] < 0 ? UINT64_MAX : 0;

        for (int i = 0; i < len; i++)
                n = n << 8 | (uint8_t)s[i];
        return (int64_t)n;
}

int64_t db_int(const PGresult *r, int row, int column)
{
        const char *s = PQgetvalue(r, row, column);

        return PQfformat(r, column) ? big_endian(s, PQgetlength(r, row, column)) : strtoll(s, NULL, 10);
}

bool db_bool(const PGresult *r, int row, int column)
{
        return PQgetvalue(r, row, column)[0] == (PQfformat(r, column) ? 1 : 't');
}

struct uuid db_uuid(const PGresult *r, int row, int column)
{
        struct uuid id = {0};
        struct slice s = db_text(r, row, column);

        if (s.s && PQfformat(r, column) && s.len == sizeof(id.b))
                memcpy(id.b, s.s, sizeof(id.b));
        else if (s.s && !uuid_parse(s.s, s.len, &id))
                die("a uuid column does not hold a uuid");
        return id;
}
