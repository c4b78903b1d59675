/* CloudEvents 1.0 as submissions: `type` is the job's type, `data` its payload, the extension attributes `priority` and `label` go into its context,
 * and `id` with `source` give the key when none is sent, because they name the event: a sender that repeats it names the same job. Both stand in the
 * context as `event`. Other attributes are passed over. Pure. */
#ifndef AETHELOS_INTAKE_EVENT_H
#define AETHELOS_INTAKE_EVENT_H

#include "services/intake/intake_core.h"

/* What a Content-Type and the header ce-specversion (each may be NULL) say a body is. */
enum intake_form {
        INTAKE_PLAIN,      /* no event */
        INTAKE_STRUCTURED, /* application/cloudevents+json */
        INTAKE_BINARY,     /* attributes in headers, the body is `data` */
        INTAKE_FOREIGN,    /* an event in a format that is not read here, or a batch: 415 */
};
enum intake_form intake_form_of(const char *content_type, const char *specversion);
bool intake_looks_like_event(const char *text, size_t len); /* a JSON object with the member specversion: of who cannot set headers */

/* As intake_read_job. `header` yields the header of a name ("ce-id", "Content-Type") or NULL. */
bool intake_read_structured(const char *text, size_t len, struct intake_submitted *ret_s, struct refusal *ret_refusal);
bool intake_read_binary(const char *(*header)(const void *arg, const char *name), const void *arg, struct slice data, struct intake_submitted *ret_s,
        struct refusal *ret_refusal);
bool intake_refuse_foreign(struct refusal *ret_refusal); /* false */

#define INTAKE_EVENT_KEY_SIZE 68
#define INTAKE_EVENT_KEY      "ce_"
/* INTAKE_EVENT_KEY and the SHA-256, in lower-case hex, of the source, a newline, and the id. */
void intake_event_key(const char *source, const char *id, char ret_key[INTAKE_EVENT_KEY_SIZE]);

/* Where a refused field of the job stood in the event: /payload is /data, /context/priority is /priority. */
void intake_event_field(struct refusal *refusal);

#endif
