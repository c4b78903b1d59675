/* The NATS client protocol, as far as a proxy needs it: where a frame ends, what it carries, and how to spoil that without breaking the protocol. */
#ifndef AETHELOS_TESTS_FAULT_NATS_FRAMES_H
#define AETHELOS_TESTS_FAULT_NATS_FRAMES_H

#include "fault_random.h"

#include <stddef.h>

struct nats_frame {
        size_t len;          /* whole frame, with all its line ends */
        bool message;        /* MSG, HMSG, PUB or HPUB of the application, not of the broker's own API */
        size_t body, n_body; /* where the payload begins behind its headers, and its bytes */
};

/* The frame at the beginning of `bytes`: true when it is complete. What is no NATS protocol is one frame up to its line end. */
bool nats_frame_read(const char *bytes, size_t n, struct nats_frame *ret_frame);
/* Spoils the payload. Text is made unreadable (a byte that no UTF-8 has) and not another text: nobody could tell a submission whose text was
 * exchanged from the one its sender meant. Everything else has some of its bits turned. */
void nats_frame_garble(char *frame, const struct nats_frame *f, struct fault_random *r);

#endif
