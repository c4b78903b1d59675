/* The provider over HTTP: calls under way, and what came of them. */
#ifndef AETHELOS_PAYMENTS_PROVIDER_H
#define AETHELOS_PAYMENTS_PROVIDER_H

#include "service/service.h"

struct payments_provider;

int payments_provider_open(struct service *s, struct payments_provider **ret_provider);
struct payments_provider *payments_provider_free(struct payments_provider *p); /* calls under way are taken over later; returns NULL */
void payments_provider_round(struct service *s, struct payments_provider *p);  /* answers in, outcomes committed, due calls started */
void payments_provider_look(struct service *s, struct payments_provider *p);   /* something may be due */
int payments_provider_fd(const struct payments_provider *p);
size_t payments_provider_busy(const struct payments_provider *p);

#endif
