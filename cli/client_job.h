/* The calls on one job that several commands make. */
#ifndef AETHELOS_CLI_CLIENT_JOB_H
#define AETHELOS_CLI_CLIENT_JOB_H

#include "client.h"

#include "base/uuid.h"

int json_file_read(const char *file, const char *names, struct strbuf *ret_body); /* names: what it should hold; "-" is standard input; 0 or -1 */
int job_file_read(const char *file, struct strbuf *ret_body);                     /* the same for a job */
void job_key_new(char ret_key[UUID_TEXT_SIZE]);
char *job_submitted_id(const struct answer *a);                           /* of the answer to a submission; malloc'ed, "" if it names none */
int job_get(struct client *c, const char *id, struct answer *ret_answer); /* from the admin side when it is known, with all that belongs to it */
int job_confirm(struct client *c, const char *intent, const char *reference, const char *by, struct answer *ret_answer);

#endif
