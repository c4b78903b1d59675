/* Which addresses an outside URL may lead to. */
#ifndef AETHELOS_HTTP_HTTP_ADDRESS_H
#define AETHELOS_HTTP_HTTP_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/* Whether it is an address of the public internet: not loopback, private, link-local, shared, multicast, reserved, nor one that stands for such a
 * one. Judged on the address that is connected to, so no spelling and no name that answers differently the second time gets by. */
bool http_address_public(const struct sockaddr *address);

#endif
