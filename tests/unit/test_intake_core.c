/* What a submission must look like, when two are the same job, and what JOB_CREATED holds. */
#include "services/intake/intake_core.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct intake_flow flow = {.id = (char *)"f",
        .version = 2,
        .type = (char *)"t",
        .base = (char *)"20.00",
        .per_unit = (char *)"0.05",
        .currency = (char *)"EUR",
        .steps = (char *)"[\"puz19_text\"]",
        .first_tag = (char *)"puz19_text"};

static void bodies(void **state)
{
        static const struct {
                const char *body;
                bool bus;
                int status; /* 0: admitted */
                const char *slug, *field;
        } cases[] = {
                {"{\"type\":\"t\",\"payload\":{\"text\":\"a\"}}", false, 0},
                {" {\"payload\" : {\"text\":\"a\"}, \"type\":\"t\", \"context\":{\"priority\":\"low\"} } ", false, 0},
                {"{\"type\":\"t\",\"payload\":{\"text\":\"a\"},\"key\":\"k\"}", true, 0},
                {"{\"type\":\"t\",\"payload\":{\"text\":\"a\"},\"key\":\"k\"}", false, 422, "unknown-member", "/key"},
                {"{\"type\":\"t\",\"payload\":{\"text\":\"a\"},\"pay/load\":1}", false, 422, "unknown-member", "/pay~1load"},
                {"", false, 400, "invalid-json", ""},
                {"{\"type\":\"t\",\"payload\":{\"text\":\"a\"}}x", false, 400, "invalid-json", ""},
                {"[]", false, 422, "invalid-job", ""},
                {"{\"payload\":{\"text\":\"a\"}}", false, 422, "invalid-type", "/type"},
                {"{\"type\":7,\"payload\":{\"text\":\"a\"}}", false, 422, "invalid-type", "/type"},
                {"{\"type\":\"t\"}", false, 422, "invalid-payload", "/payload"},
                {"{\"type\":\"t\",\"payload\":{\"text\":\"a\"},\"context\":7}", false, 422, "invalid-context", "/context"},
                {"{\"type\":\"t\",\"payload\":{\"text\":null}}", false, 422, "invalid-payload", "/payload/text"},
                {"{\"type\":\"t\",\"payload\":{\"text\":\"a\",\"complexity\":1e2}}", false, 422, "invalid-complexity", "/payload/complexity"},
                {"{\"type\":\"t\",\"payload\":{\"text\":\"a\",\"complexity\":9223372036854775000}}", false, 422, "amount-too-large",
                        "/payload/complexity"},
        };
        const struct intake_origin origin = {.client = "default", .key = "k"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(intake_submitted_done) struct intake_submitted s = {0};
                _cleanup_(strbuf_done) struct strbuf created = {0};
                struct refusal refusal = {0};
                enum pricing_priority priority;
                bool ok = intake_read_job(cases[i].body, strlen(cases[i].body), cases[i].bus, &s, &refusal) &&
                          intake_admit(&s, &flow, &origin, &created, &priority, &refusal);

                if (ok != !cases[i].status)
                        fail_msg("%s: %s", cases[i].body, ok ? "admitted" : refusal.detail);
                if (ok) {
                        assert_true(s.hashed);
                        continue;
                }
                assert_int_equal(refusal.status, cases[i].status);
                assert_string_equal(refusal.slug, cases[i].slug);
                assert_string_equal(refusal.field, cases[i].field);
        }
}

static void catalogue_refusals(void **state)
{
        static const char body[] = "{\"type\":\"t\",\"payload\":{\"text\":\"a\"}}";
        const struct intake_offer withdrawn = {.id = (char *)"o", .version = 1, .multiplier = (char *)"1", .active = false};
        const struct intake_origin plain = {.client = "default", .key = "k"}, bought = {.client = "default", .key = "k", .offer = &withdrawn};
        _cleanup_(intake_submitted_done) struct intake_submitted s = {0};
        _cleanup_(strbuf_done) struct strbuf created = {0};
        enum pricing_priority priority;
        struct refusal refusal;

        (void)state;
        assert_true(intake_read_job(body, strlen(body), false, &s, &refusal));
        assert_false(intake_admit(&s, NULL, &plain, &created, &priority, &refusal));
        assert_string_equal(refusal.slug, "unknown-type");
        assert_false(intake_admit(&s, &flow, &bought, &created, &priority, &refusal));
        assert_int_equal(refusal.status, 404);
        assert_int_equal(created.len, 0);
}

/* Code 19 is chosen by its label, and by nothing else. */
static void flow_of_a_submission(void **state)
{
        static const struct {
                const char *body, *flow;
        } cases[] = {
                {"{\"type\":\"t\",\"payload\":1}", "plain"},
                {"{\"type\":\"t\",\"payload\":1,\"context\":{\"label\":\"code19_issue\"}}", "nineteen"},
                {"{\"type\":\"none\",\"payload\":1,\"context\":{\"label\":\"code19_issue\"}}", "nineteen"},
                {"{\"type\":\"t\",\"payload\":1,\"context\":{\"label\":\"else\"}}", "plain"},
                {"{\"type\":\"t\",\"payload\":1,\"context\":{\"label\":19}}", "plain"},
                {"{\"type\":\"code19:issue\",\"payload\":1}", NULL},
                {"{\"type\":\"none\",\"payload\":1}", NULL},
        };
        struct intake_flow flows[] = {{.id = (char *)"plain", .type = (char *)"t"}, {.id = (char *)"nineteen", .type = (char *)"code19:issue"}};
        const struct intake_catalogue catalogue = {.flows = flows, .n_flows = ARRAY_SIZE(flows)};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(intake_submitted_done) struct intake_submitted s = {0};
                const struct intake_flow *found;
                struct refusal refusal;

                assert_true(intake_read_job(cases[i].body, strlen(cases[i].body), false, &s, &refusal));
                found = intake_flow_for(&catalogue, &s);
                assert_int_equal(found != NULL, cases[i].flow != NULL);
                if (found)
                        assert_string_equal(found->id, cases[i].flow);
        }
}

/* Two submissions: the same job or not. */
static bool same(const char *a, const char *b)
{
        _cleanup_(intake_submitted_done) struct intake_submitted x = {0}, y = {0};
        struct refusal refusal;

        assert_true(intake_read_job(a, strlen(a), true, &x, &refusal));
        assert_true(intake_read_job(b, strlen(b), true, &y, &refusal));
        return memcmp(x.hash, y.hash, sizeof(x.hash)) == 0;
}

static void same_job(void **state)
{
        static const char job[] = "{\"type\":\"t\",\"payload\":{\"a\":1,\"b\":2},\"context\":{}}";

        (void)state;
        assert_true(same(job, " {\"payload\": {\"a\":1, \"b\":2}, \"type\":\"\\u0074\"}\n")); /* white space, order of members, no context */
        assert_true(same(job, "{\"type\":\"t\",\"payload\":{\"a\":1,\"b\":2},\"key\":\"other\"}"));
        assert_false(same(job, "{\"type\":\"t\",\"payload\":{\"b\":2,\"a\":1}}")); /* another text */
        assert_false(same(job, "{\"type\":\"u\",\"payload\":{\"a\":1,\"b\":2}}"));
        assert_false(same(job, "{\"type\":\"t\",\"payload\":{\"a\":1,\"b\":2},\"context\":{\"priority\":\"normal\"}}"));
}

static void parts(void **state)
{
        static const struct {
                const char *payload, *context;
                int status;
        } cases[] = {
                {"{\"text\":\"a\"}", NULL, 0},
                {" 7 ", "{}", 0},
                {"1,\"context\":{}", NULL, 400}, /* would close nothing, but must not smuggle members in */
                {"1}", NULL, 400},
                {"", NULL, 400},
                {"1", "", 400},
                {"1", "[]", 422},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(intake_submitted_done) struct intake_submitted s = {0};
                struct refusal refusal = {0};
                bool ok = intake_read_parts("t", slice_of(cases[i].payload), slice_of(cases[i].context), &s, &refusal);

                assert_int_equal(ok, !cases[i].status);
                assert_int_equal(refusal.status, cases[i].status);
        }
}

static void data_of_the_event(void **state)
{
        const struct intake_offer offer = {.id = (char *)"o", .version = 3, .multiplier = (char *)"1.5", .active = true};
        const struct intake_origin origin = {.client = "c", .key = "k", .bus = true, .protobuf = true, .offer = &offer};
        _cleanup_(intake_submitted_done) struct intake_submitted s = {0};
        _cleanup_(strbuf_done) struct strbuf created = {0};
        enum pricing_priority priority;
        struct pricing_result priced;
        struct refusal refusal;
        const char *why;

        (void)state;
        assert_true(intake_read_parts("t", slice_of("{ \"text\": \"\\u00e4 a\" }"), slice_of("{\"priority\":\"high\"}"), &s, &refusal));
        assert_true(intake_admit(&s, &flow, &origin, &created, &priority, &refusal));
        assert_int_equal(priority, PRICING_HIGH);
        assert_string_equal(created.s,
                "{\"client\":\"c\",\"key\":\"k\",\"source\":\"bus\",\"encoding\":\"protobuf\",\"type\":\"t\",\"payload\":{\"text\":\"\\u00e4 a\"},"
                "\"context\":{\"priority\":\"high\"},\"flow\":{\"id\":\"f\",\"version\":2,\"base\":\"20.00\",\"per_unit\":\"0.05\","
                "\"currency\":\"EUR\",\"steps\":[\"puz19_text\"]},\"offer\":{\"id\":\"o\",\"version\":3,\"multiplier\":\"1.5\"}}");
        /* What is admitted can be priced. */
        assert_int_equal(pricing_decide(created.s, created.len, &priced, &why), 0);
        pricing_result_done(&priced);
}

/* A payload at the greatest depth that is admitted can still be read out of its event. */
static void depth(void **state)
{
        struct intake_flow any = flow;
        const struct intake_origin origin = {.client = "c", .key = "k"};

        (void)state;
        any.first_tag = (char *)"other";
        for (int levels = JSON_DEPTH_MAX; levels <= JSON_DEPTH_MAX + 1; levels++) {
                _cleanup_(intake_submitted_done) struct intake_submitted s = {0};
                _cleanup_(strbuf_done) struct strbuf payload = {0}, created = {0};
                enum pricing_priority priority;
                struct pricing_result priced;
                struct refusal refusal;
                const char *why;

                for (int i = 0; i < levels; i++)
                        strbuf_addc(&payload, '[');
                for (int i = 0; i < levels; i++)
                        strbuf_addc(&payload, ']');
                if (levels > JSON_DEPTH_MAX) {
                        assert_false(intake_read_parts("t", (struct slice){payload.s, payload.len}, (struct slice){0}, &s, &refusal));
                        assert_int_equal(refusal.status, 400);
                        continue;
                }
                assert_true(intake_read_parts("t", (struct slice){payload.s, payload.len}, (struct slice){0}, &s, &refusal));
                assert_true(intake_admit(&s, &any, &origin, &created, &priority, &refusal));
                assert_int_equal(pricing_decide(created.s, created.len, &priced, &why), 0);
                pricing_result_done(&priced);
        }
}

/* One alone is hardly waited for, and nobody is waited for longer than 15 ms. */
static void gathering(void **state)
{
        (void)state;
        assert_int_equal(intake_gather_ms(0), 0);
        assert_int_equal(intake_gather_ms(1), 5);
        assert_int_equal(intake_gather_ms(2), 10);
        for (size_t n = 3; n < 1000; n++)
                assert_int_equal(intake_gather_ms(n), 15);
        assert_int_equal(intake_gather_ms(SIZE_MAX), 15);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bodies),
                cmocka_unit_test(catalogue_refusals),
                cmocka_unit_test(flow_of_a_submission),
                cmocka_unit_test(same_job),
                cmocka_unit_test(parts),
                cmocka_unit_test(data_of_the_event),
                cmocka_unit_test(depth),
                cmocka_unit_test(gathering),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
