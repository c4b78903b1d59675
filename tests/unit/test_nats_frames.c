/* The proxy of the fault suite: what it spoils is never another message that somebody may have meant. */
#include "tests/fault/fault_random.h"
#include "tests/fault/nats_frames.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

/* Found in ten minutes of the fault suite (seed 17): the key f11-4628 became f11-2628, and the receipt of that job was taken for the other's. */
static void a_spoiled_key_is_no_other_key(void **state)
{
        static const char *const frames[] = {"PUB aethelos.query.receipt.default _INBOX.f11.f11-4628 8\r\nf11-4628\r\n",
                "PUB aethelos.operator.desk.status _INBOX.a.1 12\r\n{\"run\":\"abc\"\r\n"};
        struct fault_random random = {17};

        (void)state;
        for (int i = 0; i < 20000; i++) {
                char bytes[128];
                struct nats_frame f;

                strcpy(bytes, frames[i % 2]);
                assert_true(nats_frame_read(bytes, strlen(bytes), &f));
                nats_frame_garble(bytes, &f, &random);
                assert_non_null(memchr(bytes + f.body, 0xff, f.n_body));
        }
}

static void a_spoiled_envelope_is_another(void **state)
{
        static const char frame[] = "PUB aethelos.hop.pricing.normal 4\r\n\n\x02\x08\x01\r\n";
        struct fault_random random = {1};
        struct nats_frame f;
        char bytes[sizeof(frame)];

        (void)state;
        memcpy(bytes, frame, sizeof(frame));
        assert_true(nats_frame_read(bytes, sizeof(frame) - 1, &f));
        nats_frame_garble(bytes, &f, &random);
        assert_memory_not_equal(bytes, frame, sizeof(frame));
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(a_spoiled_key_is_no_other_key), cmocka_unit_test(a_spoiled_envelope_is_another)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
