/* Bodies of the admin API and the meaning of verdicts, as tables. */
#include "services/board/board_core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ID "01890a5d-ac96-774b-bcce-b302099a8057"

struct body {
        const char *text;
        int status;        /* 0: accepted */
        const char *field; /* of the problem */
};

static void confirm_bodies(void **state)
{
        static const struct body cases[] = {
                {"{\"reference\":\"r\",\"by\":\"me\"}", 0},
                {"{\"reference\":\"Zahlung \\u00e4 1\",\"by\":\"me\",\"amount\":{\"minor\":2588,\"currency\":\"EUR\"}}", 0},
                {"{\"reference\":\"r\",\"by\":\"me\",\"amount\":null}", 0},
                {"", 400, ""},
                {"{\"reference\":\"r\"", 400, ""},
                {"[]", 422, ""},
                {"{}", 422, "/reference"},
                {"{\"reference\":7,\"by\":\"me\"}", 422, "/reference"},
                {"{\"reference\":\"\",\"by\":\"me\"}", 422, "/reference"},
                {"{\"reference\":\"a\\nb\",\"by\":\"me\"}", 422, "/reference"},
                {"{\"reference\":\"r\"}", 422, "/by"},
                {"{\"reference\":\"r\",\"by\":\"\"}", 422, "/by"},
                {"{\"reference\":\"r\",\"by\":\"me\",\"amount\":25}", 422, "/amount"},
                {"{\"reference\":\"r\",\"by\":\"me\",\"amount\":{\"minor\":25.5,\"currency\":\"EUR\"}}", 422, "/amount/minor"},
                {"{\"reference\":\"r\",\"by\":\"me\",\"amount\":{\"minor\":-1,\"currency\":\"EUR\"}}", 422, "/amount/minor"},
                {"{\"reference\":\"r\",\"by\":\"me\",\"amount\":{\"minor\":9223372036854775808,\"currency\":\"EUR\"}}", 422, "/amount/minor"},
                {"{\"reference\":\"r\",\"by\":\"me\",\"amount\":{\"minor\":1,\"currency\":\"XXQ\"}}", 422, "/amount/currency"},
                {"{\"reference\":\"r\",\"by\":\"me\",\"amount\":{\"minor\":1}}", 422, "/amount/currency"},
                {"{\"reference\":\"r\",\"by\":\"me\",\"ammount\":{\"minor\":1,\"currency\":\"EUR\"}}", 422, ""},
                {"{\"reference\":\"r\",\"by\":\"me\",\"payout_id\":\"" ID "\"}", 422, ""},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct board_evidence e;
                struct board_problem p;
                bool ok = board_read_confirm(cases[i].text, strlen(cases[i].text), &e, &p);

                print_message("%s\n", cases[i].text);
                assert_int_equal(ok, cases[i].status == 0);
                if (ok) {
                        board_evidence_done(&e);
                } else {
                        assert_int_equal(p.status, cases[i].status);
                        assert_string_equal(p.field, cases[i].field);
                }
        }
}

static void confirm_values(void **state)
{
        static const char text[] = "{\"reference\":\"r 1\",\"by\":\"me\",\"amount\":{\"minor\":2588,\"currency\":\"EUR\"}}";
        char long_text[900];
        struct board_evidence e;
        struct board_problem p;

        (void)state;
        assert_true(board_read_confirm(text, strlen(text), &e, &p));
        assert_string_equal(e.reference, "r 1");
        assert_string_equal(e.by, "me");
        assert_true(e.has_amount);
        assert_int_equal(e.amount.minor, 2588);
        assert_string_equal(e.amount.currency, "EUR");
        board_evidence_done(&e);

        /* Characters count, not bytes. */
        for (int n = 200; n <= 201; n++) {
                strcpy(long_text, "{\"by\":\"me\",\"reference\":\"");
                for (int i = 0; i < n; i++)
                        strcat(long_text, "\xc3\xa4");
                strcat(long_text, "\"}");
                assert_int_equal(board_read_confirm(long_text, strlen(long_text), &e, &p), n == 200);
                if (n == 200)
                        board_evidence_done(&e);
        }
}

#define ITEM    "{\"id\":\"" ID "\",\"reference\":\"r\"}"
#define OWN(by) "{\"id\":\"" ID "\",\"reference\":\"r\",\"by\":" by "}"
#define MANY(x) "{\"by\":\"me\",\"items\":[" ITEM "," x "]}"

static void payments_bodies(void **state)
{
        static const struct body cases[] = {
                {"{\"by\":\"me\",\"items\":[" ITEM "]}", 0},
                {"{\"items\":[" OWN("\"me\"") "]}", 0},
                {"{\"by\":null,\"items\":[" OWN("\"me\"") "]}", 0},
                {MANY("{\"id\":\"none\",\"reference\":\"r\",\"by\":null,\"amount\":{\"minor\":1,\"currency\":\"EUR\"}}"), 0},
                {"", 400, ""},
                {"{\"items\":[", 400, ""},
                {"[" ITEM "]", 422, ""},
                {"{}", 422, "/items"},
                {"{\"by\":\"me\",\"items\":[]}", 422, "/items"},
                {"{\"by\":\"me\",\"items\":{\"0\":" ITEM "}}", 422, "/items"},
                {"{\"by\":7,\"items\":[" OWN("\"me\"") "]}", 422, "/by"},
                {"{\"by\":\"\",\"items\":[" OWN("\"me\"") "]}", 422, "/by"},
                {"{\"by\":\"me\",\"reference\":\"r\",\"items\":[" ITEM "]}", 422, ""},
                {"{\"items\":[" OWN("\"me\"") "," ITEM "]}", 422, "/items/1/by"},
                {MANY(OWN("\"\"")), 422, "/items/1/by"},
                {MANY("7"), 422, "/items/1"},
                {MANY("{\"reference\":\"r\"}"), 422, "/items/1/id"},
                {MANY("{\"id\":5,\"reference\":\"r\"}"), 422, "/items/1/id"},
                {MANY("{\"id\":\"" ID "\"}"), 422, "/items/1/reference"},
                {MANY("{\"id\":\"" ID "\",\"reference\":\"r\",\"ammount\":1}"), 422, "/items/1"},
                {MANY("{\"id\":\"" ID "\",\"reference\":\"r\",\"amount\":1}"), 422, "/items/1/amount"},
                {MANY("{\"id\":\"" ID "\",\"reference\":\"r\",\"amount\":{\"minor\":1,\"currency\":\"XXQ\"}}"), 422, "/items/1/amount/currency"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct board_payments payments;
                struct board_problem p;
                bool ok = board_read_payments(cases[i].text, strlen(cases[i].text), &payments, &p);

                print_message("%s\n", cases[i].text);
                assert_int_equal(ok, cases[i].status == 0);
                if (ok) {
                        board_payments_done(&payments);
                } else {
                        assert_int_equal(p.status, cases[i].status);
                        assert_string_equal(p.field, cases[i].field);
                }
        }
}

static bool read_so_many(size_t n, const char *last, struct board_payments *ret_payments, struct board_problem *ret_problem)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};

        strbuf_adds(&b, "{\"by\":\"all\",\"items\":[");
        for (size_t i = 0; i < n; i++)
                strbuf_addf(&b, "%s%s", i > 0 ? "," : "", i + 1 == n ? last : ITEM);
        strbuf_adds(&b, "]}");
        return board_read_payments(b.s, b.len, ret_payments, ret_problem);
}

static void payments_values(void **state)
{
        struct board_payments payments;
        struct board_problem p;

        (void)state;
        assert_true(read_so_many(1000, OWN("\"anna\""), &payments, &p));
        assert_int_equal(payments.n, 1000);
        assert_true(payments.v[0].known);
        assert_string_equal(payments.v[0].id_text, ID);
        assert_string_equal(payments.v[0].evidence.reference, "r");
        assert_string_equal(payments.v[0].evidence.by, "all");
        assert_false(payments.v[0].evidence.has_amount);
        assert_string_equal(payments.v[999].evidence.by, "anna");
        board_payments_done(&payments);

        assert_true(read_so_many(1, "{\"id\":\"p 1\",\"reference\":\"r\"}", &payments, &p));
        assert_false(payments.v[0].known);
        assert_string_equal(payments.v[0].id_text, "p 1");
        board_payments_done(&payments);

        assert_false(read_so_many(1000, OWN("1"), &payments, &p));
        assert_string_equal(p.field, "/items/999/by");
        assert_false(read_so_many(1001, ITEM, &payments, &p));
        assert_int_equal(p.status, 422);
        assert_string_equal(p.slug, "invalid-value");
        assert_string_equal(p.field, "/items");
        assert_false(read_so_many(1, "{\"id\":\"" ID "\",\"reference\":\"r\",\"x\":1}", &payments, &p));
        assert_string_equal(p.slug, "unknown-member");
}

static void mark_bodies(void **state)
{
        static const struct body cases[] = {
                {"{\"payout_id\":\"" ID "\",\"reference\":\"r\",\"by\":\"me\"}", 0},
                {"{\"payout_id\":\"" ID "\",\"reference\":\"r\",\"by\":\"me\",\"amount\":{\"minor\":1,\"currency\":\"EUR\"}}", 0},
                {"{\"payout_id\":\"" ID "\",\"reference\":\"r\",\"by\":\"me\",\"amount\":1}", 422, "/amount"},
                {"{\"payout_id\":\"" ID "\",\"reference\":\"r\",\"by\":\"me\",\"sum\":1}", 422, ""},
                {"{\"reference\":\"r\",\"by\":\"me\"}", 422, "/payout_id"},
                {"{\"payout_id\":5,\"reference\":\"r\",\"by\":\"me\"}", 422, "/payout_id"},
                {"{\"payout_id\":\"p1\",\"reference\":\"r\",\"by\":\"me\"}", 404, "/payout_id"},
                {"{\"payout_id\":\"" ID "\",\"by\":\"me\"}", 422, "/reference"},
                {"nonsense", 400, ""},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct board_evidence e;
                struct board_problem p;
                bool ok = board_read_mark(cases[i].text, strlen(cases[i].text), &e, &p);

                assert_int_equal(ok, cases[i].status == 0);
                if (ok) {
                        board_evidence_done(&e);
                } else {
                        assert_int_equal(p.status, cases[i].status);
                        assert_string_equal(p.field, cases[i].field);
                }
        }
}

#define OPERATOR(rest) "{\"name\":\"op_1\",\"kind\":\"http\",\"url\":\"http://127.0.0.1/\",\"tags\":[\"t\"]" rest "}"

static void operator_bodies(void **state)
{
        static const struct body cases[] = {
                {OPERATOR(""), 0},
                {OPERATOR(",\"status_url\":null,\"fallback_for\":[\"other\"],\"idempotent\":true,\"timeout_ms\":100,\"max_in_flight\":10000"), 0},
                {OPERATOR(",\"status_url\":5"), 422, "/status_url"},
                {OPERATOR(",\"fallback_for\":\"x\""), 422, "/fallback_for"},
                {OPERATOR(",\"fallback_for\":[\"x\",\"x\"]"), 422, "/fallback_for/1"},
                {OPERATOR(",\"idempotent\":1"), 422, "/idempotent"},
                {OPERATOR(",\"timeout_ms\":99"), 422, "/timeout_ms"},
                {OPERATOR(",\"timeout_ms\":600001"), 422, "/timeout_ms"},
                {OPERATOR(",\"timeout_ms\":1e3"), 422, "/timeout_ms"},
                {OPERATOR(",\"max_in_flight\":0"), 422, "/max_in_flight"},
                {OPERATOR(",\"description\":[]"), 422, "/description"},
                {"{\"name\":\"Op\",\"kind\":\"http\",\"url\":\"http://x/\",\"tags\":[\"t\"]}", 422, "/name"},
                {"{\"name\":\"op\",\"url\":\"http://x/\",\"tags\":[\"t\"]}", 422, "/kind"},
                {"{\"name\":\"op\",\"kind\":\"builtin\",\"url\":\"http://x/\",\"tags\":[\"t\"]}", 422, "/kind"},
                {"{\"name\":\"op\",\"kind\":\"http\",\"tags\":[\"t\"]}", 422, "/url"},
                {"{\"name\":\"op\",\"kind\":\"http\",\"url\":\"http://x/\"}", 422, "/tags"},
                {"{\"name\":\"op\",\"kind\":\"http\",\"url\":\"http://x/\",\"tags\":[]}", 422, "/tags"},
                {"{\"name\":\"op\",\"kind\":\"http\",\"url\":\"http://x/\",\"tags\":[\"t\",\"\"]}", 422, "/tags/1"},
                {"{\"name\":\"op\",\"name\":\"op\"}", 400, ""},
                {OPERATOR(",\"lease_ms\":999"), 422, "/lease_ms"},
                {"{\"name\":\"op\",\"kind\":\"bus\",\"tags\":[\"t\"],\"url\":\"http://x/\"}", 422, "/url"},
                {"{\"name\":\"op\",\"kind\":\"bus\",\"tags\":[\"t\"],\"status_url\":\"http://x/\"}", 422, "/status_url"},
                {"{\"name\":\"op\",\"kind\":\"bus\",\"tags\":[\"t\"],\"answers_status\":\"yes\"}", 422, "/answers_status"},
                {"{\"name\":\"op\",\"kind\":\"bus\",\"tags\":[\"t\"],\"encoding\":\"xml\"}", 422, "/encoding"},
                {"{\"name\":\"op\",\"kind\":\"http\",\"tags\":[\"t\"],\"url\":\"http://x/\",\"encoding\":\"protobuf\"}", 422, "/encoding"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct board_operator o;
                struct board_problem p;
                bool ok = board_read_operator(cases[i].text, strlen(cases[i].text), &o, &p);

                print_message("%s\n", cases[i].text);
                assert_int_equal(ok, cases[i].status == 0);
                if (ok) {
                        assert_true(o.timeout_ms == (i == 0 ? 30000 : 100));
                        assert_true(o.max_in_flight == (i == 0 ? 100 : 10000));
                        assert_int_equal(o.fallback_for.n, i);
                        board_operator_done(&o);
                } else {
                        assert_int_equal(p.status, cases[i].status);
                        assert_string_equal(p.field, cases[i].field);
                }
        }
}

static void workers_on_the_bus(void **state)
{
        static const char silent[] = "{\"name\":\"op\",\"kind\":\"bus\",\"tags\":[\"t\"]}";
        static const char asked[] = "{\"name\":\"op\",\"kind\":\"bus\",\"tags\":[\"t\"],\"answers_status\":true,\"lease_ms\":1000}";
        static const char binary[] = "{\"name\":\"op\",\"kind\":\"bus\",\"tags\":[\"t\"],\"encoding\":\"protobuf\"}";
        struct board_operator o;
        struct board_problem p;

        (void)state;
        assert_true(board_read_operator(silent, strlen(silent), &o, &p));
        assert_string_equal(o.kind, "bus");
        assert_string_equal(o.url, "aethelos.operator.op");
        assert_null(o.status_url);
        assert_int_equal(o.lease_ms, 10000);
        board_operator_done(&o);
        assert_true(board_read_operator(asked, strlen(asked), &o, &p));
        assert_string_equal(o.status_url, "aethelos.operator.op.status");
        assert_int_equal(o.lease_ms, 1000);
        assert_string_equal(o.encoding, "json");
        board_operator_done(&o);
        assert_true(board_read_operator(binary, strlen(binary), &o, &p));
        assert_string_equal(o.encoding, "protobuf");
        board_operator_done(&o);
}

#define FLOW(type, name, base, per_unit, currency, steps)                                                                                            \
        "{\"type\":" type ",\"name\":" name ",\"base\":" base ",\"per_unit\":" per_unit ",\"currency\":" currency ",\"steps\":" steps "}"
#define STEPS "[{\"tag\":\"a\"},{\"tag\":\"a\"}]"

static void flow_bodies(void **state)
{
        static const struct body cases[] = {
                {FLOW("\"x:y\"", "\"f\"", "\"20.00\"", "\"0.05\"", "\"EUR\"", STEPS), 0},
                {FLOW("\"x:y\"", "\"f\"", "20.00", "0.05", "\"JPY\"", STEPS), 0},
                {FLOW("\"X\"", "\"f\"", "\"1\"", "\"1\"", "\"EUR\"", STEPS), 422, "/type"},
                {FLOW("\"x\"", "\"\"", "\"1\"", "\"1\"", "\"EUR\"", STEPS), 422, "/name"},
                {FLOW("\"x\"", "\"f\"", "\"-1\"", "\"1\"", "\"EUR\"", STEPS), 422, "/base"},
                {FLOW("\"x\"", "\"f\"", "\"1.\"", "\"1\"", "\"EUR\"", STEPS), 422, "/base"},
                {FLOW("\"x\"", "\"f\"", "1e3", "\"1\"", "\"EUR\"", STEPS), 422, "/base"},
                {FLOW("\"x\"", "\"f\"", "\"1234567890123456\"", "\"1\"", "\"EUR\"", STEPS), 422, "/base"},
                {FLOW("\"x\"", "\"f\"", "\"1\"", "\"0.1234567\"", "\"EUR\"", STEPS), 422, "/per_unit"},
                {FLOW("\"x\"", "\"f\"", "\"1\"", "null", "\"EUR\"", STEPS), 422, "/per_unit"},
                {FLOW("\"x\"", "\"f\"", "\"1\"", "\"1\"", "\"EURO\"", STEPS), 422, "/currency"},
                {FLOW("\"x\"", "\"f\"", "\"1\"", "\"1\"", "\"XXQ\"", STEPS), 422, "/currency"},
                {FLOW("\"x\"", "\"f\"", "\"1\"", "\"1\"", "\"EUR\"", "[]"), 422, "/steps"},
                {FLOW("\"x\"", "\"f\"", "\"1\"", "\"1\"", "\"EUR\"", "[\"a\"]"), 422, "/steps/0/tag"},
                {FLOW("\"x\"", "\"f\"", "\"1\"", "\"1\"", "\"EUR\"", "[{\"tag\":\"a\"},{}]"), 422, "/steps/1/tag"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct board_flow f;
                struct board_problem p;
                bool ok = board_read_flow(cases[i].text, strlen(cases[i].text), &f, &p);

                print_message("%s\n", cases[i].text);
                assert_int_equal(ok, cases[i].status == 0);
                if (ok) {
                        assert_string_equal(f.base, "20.00"); /* as it was written */
                        assert_int_equal(f.steps.n, 2);
                        board_flow_done(&f);
                } else {
                        assert_int_equal(p.status, cases[i].status);
                        assert_string_equal(p.field, cases[i].field);
                }
        }
}

static void verdicts(void **state)
{
        static const struct {
                const char *verdict;
                int payment, payout;
                const char *payment_slug, *payout_slug;
        } cases[] = {
                {"stored", 0, 0, NULL, NULL},
                {"repeated", 0, 0, NULL, NULL},
                {"conflict", 409, 409, "already-confirmed", "already-marked"},
                {"amount", 409, 409, "wrong-amount", "wrong-amount"},
                {"expired", 409, 409, "payment-expired", "payment-expired"},
                {"not_waiting", 409, 409, "not-waiting-for-payment", "payout-not-ready"},
                {"unknown", 404, 404, "unknown-payment-intent", "unknown-payout"},
        };
        enum board_verdict v;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct board_problem payment, payout;

                assert_true(board_verdict_parse(cases[i].verdict, &v));
                payment = board_verdict_problem(BOARD_PAYMENT, v);
                payout = board_verdict_problem(BOARD_PAYOUT, v);
                assert_int_equal(payment.status, cases[i].payment);
                assert_int_equal(payout.status, cases[i].payout);
                if (cases[i].payment_slug) {
                        assert_string_equal(payment.slug, cases[i].payment_slug);
                        assert_string_equal(payout.slug, cases[i].payout_slug);
                }
        }
        assert_false(board_verdict_parse("", &v));
        assert_false(board_verdict_parse("storedx", &v));
}

static void stands(void **state)
{
        static const struct {
                enum board_kind kind;
                const char *chain_kind, *step;
                enum board_stand stand;
        } cases[] = {
                {BOARD_PAYMENT, "job", "JOB_CREATED", BOARD_ABSENT},
                {BOARD_PAYMENT, "job", "FLOW_CHOSEN", BOARD_ABSENT},
                {BOARD_PAYMENT, "job", "PRICED", BOARD_ABSENT},
                {BOARD_PAYMENT, "job", "PAYMENT_REQUIRED", BOARD_ABSENT},
                {BOARD_PAYMENT, "job", "PAYMENT_INITIATED", BOARD_WAITS},
                {BOARD_PAYMENT, "job", "PAYMENT_EXPIRED", BOARD_OVER},
                {BOARD_PAYMENT, "job", "PAYMENT_CONFIRMED", BOARD_MOVED},
                {BOARD_PAYMENT, "job", "EXECUTION_FAILED", BOARD_MOVED},
                {BOARD_PAYMENT, "job", "REVENUE_BOOKED", BOARD_MOVED},
                {BOARD_PAYMENT, "payout", "PAYOUT_READY", BOARD_ABSENT},
                {BOARD_REFUND, "job", "REFUND_REQUIRED", BOARD_WAITS},
                {BOARD_REFUND, "job", "REFUND_INITIATED", BOARD_WAITS},
                {BOARD_REFUND, "job", "REFUND_CONFIRMED", BOARD_MOVED},
                {BOARD_REFUND, "job", "FINAL_FAIL", BOARD_MOVED},
                {BOARD_REFUND, "payout", "PAYOUT_READY", BOARD_ABSENT},
                {BOARD_PAYOUT, "job", "REVENUE_BOOKED", BOARD_ABSENT},
                {BOARD_PAYOUT, "payout", "PAYOUT_EARNED", BOARD_WAITS},
                {BOARD_PAYOUT, "payout", "PAYOUT_READY", BOARD_WAITS},
                {BOARD_PAYOUT, "payout", "PAYOUT_DONE", BOARD_MOVED},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_int_equal(board_stand(cases[i].kind, cases[i].chain_kind, cases[i].step), cases[i].stand);
}

static void queries(void **state)
{
        static const char *const bad_cursors[] = {
                "", "1", "1.2", "1.2.", "1.2.3.", "1.2.3.4", "a.2.3", "1.-2.3", "40000.1.1", "1.1234567890123456789.1", "1.2.3 "};
        static const char *const bad_limits[] = {"", "0", "1001", "-1", "ten", "1 ", "10000"};
        struct board_cursor c;
        int64_t n;

        (void)state;
        assert_true(board_cursor_parse("1.821.37", &c));
        assert_true(c.generation == 1 && c.xid == 821 && c.id == 37);
        for (size_t i = 0; i < ARRAY_SIZE(bad_cursors); i++)
                assert_false(board_cursor_parse(bad_cursors[i], &c));
        assert_true(board_limit_parse(NULL, 50, &n) && n == 50);
        assert_true(board_limit_parse("1000", 50, &n) && n == 1000);
        for (size_t i = 0; i < ARRAY_SIZE(bad_limits); i++)
                assert_false(board_limit_parse(bad_limits[i], 50, &n));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(confirm_bodies),
                cmocka_unit_test(confirm_values),
                cmocka_unit_test(payments_bodies),
                cmocka_unit_test(payments_values),
                cmocka_unit_test(mark_bodies),
                cmocka_unit_test(operator_bodies),
                cmocka_unit_test(workers_on_the_bus),
                cmocka_unit_test(flow_bodies),
                cmocka_unit_test(verdicts),
                cmocka_unit_test(stands),
                cmocka_unit_test(queries),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
