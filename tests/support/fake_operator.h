/* An HTTP operator with ground truth, on a free port of loopback, in threads of the test itself: it remembers what it was asked and what it really
 * did, so that a test can tell work done twice from work answered twice. `mode` of the URL's query, or else `input.mode`, chooses its behaviour at
 * each call:
 * - done (also without a mode): does it, 200
 * - failed: does nothing, 422 {"error"}; failed@NAME: only the operator of that name, every other does it
 * - denied: does nothing, 401
 * - busy: 429 to the first call of a run, which does nothing; the next does it
 * - error: does it, then 500
 * - lost: does it, then cuts the connection
 * - lost once: the same at the first call of a run; later calls are answered
 * - never: the first call of a run cuts the connection and does nothing; the next does it
 * - accept: 202; done once the status was asked twice (the first answer is "running")
 * - late: does it and answers after input.ms milliseconds; the status says so before
 * - meet: does it and answers once input.n calls have been under way at once
 * - twice: does it, 200, and a second answer behind the first on the same connection
 * - withheld: does it, cuts the connection, and answers no question about it until fake_operator_tell()
 * - bad: 200 without an output
 *
 * The output is {"text": "done by <name>", "job": "<job_id>"}. Every run is done at most once, however often it is sent: it keeps the contract. */
#ifndef AETHELOS_TESTS_FAKE_OPERATOR_H
#define AETHELOS_TESTS_FAKE_OPERATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fake_operator;

struct fake_operator *fake_operator_start(const char *name);
struct fake_operator *fake_operator_free(struct fake_operator *f); /* returns NULL */
const char *fake_operator_url(const struct fake_operator *f);
const char *fake_operator_status_url(const struct fake_operator *f);

void fake_operator_down(struct fake_operator *f, bool down); /* answers 503 to everything, counts it, and does nothing */

struct fake_truth {
        size_t runs;          /* distinct run_ids that came */
        size_t calls;         /* POSTs */
        size_t queries;       /* status queries */
        size_t done;          /* runs that were done */
        size_t most_per_step; /* the largest number of runs that were done for one job and step: 1 is right */
        size_t most_at_once;  /* calls under way at the same time */
        size_t wrong;         /* calls that broke the contract: no JSON, or the header Idempotency-Key is not run_id */
};
struct fake_truth fake_operator_truth(struct fake_operator *f);

struct fake_run {
        char id[64], job[64];
        int64_t step;
        int calls, queries;
        int again; /* calls that came although it was done, had failed or was accepted: harmless only where the operator is idempotent */
        bool done, failed, accepted, withheld;
};
struct fake_run *fake_operator_runs(struct fake_operator *f, size_t *ret_n); /* a copy of all, malloc'ed */
void fake_operator_tell(struct fake_operator *f);                            /* from now on nothing is withheld */

#endif
