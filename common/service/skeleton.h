/* What the files of the skeleton share; not for services. */
#ifndef AETHELOS_SERVICE_SKELETON_H
#define AETHELOS_SERVICE_SKELETON_H

#include "service/service.h"

struct skeleton_config {
        char *database_url, *database_user, *database_passfile, *database_password;
        char *nats_url, *nats_user, *nats_password;
        char *instance, *log_level, *ready_file;
        int64_t nats_replicas, batch;
        char *address, *port_file, *token;
        int64_t port, avoid_port, drain_ms;
};

/* Reads options and settings. 0: go on; 1: done, exit 0 (--help and the like); -EINVAL: said why, exit 2. */
int skeleton_options(int argc, char *argv[], const struct service_spec *spec, struct skeleton_config *ret_config, void **ret_own);
void skeleton_options_done(const struct service_spec *spec, struct skeleton_config *config, void *own);

/* Tells whoever started the service whether it can work: at most once a second the time of `file` (NULL: none) is renewed, and systemd is told
 * (NOTIFY_SOCKET; its watchdog, too). While it cannot work the file is not there. */
void ready_tell(const char *file, bool ready);

/* The outbox: bells to be rung after the commit, gathered over a round. */
struct outbox {
        struct outbox_bell {
                char hearer[16];
                enum lane lane;
                struct uuid id;
                int version;
        } * bells;
        size_t n, cap;
};
void outbox_add(struct outbox *o, const char *hearer, enum lane lane, const struct uuid *id, int version);
/* Publishes one envelope for at most 256 bells of one hearer and lane, and empties the outbox. What the bus does not take is lost: the ringer rings
 * again, and intake, which only waits, looks all the same. */
void outbox_publish(struct outbox *o, struct bus *bus);
void outbox_done(struct outbox *o);
/* Unpacks an envelope: the ids are appended to *ids (malloc'ed array of *n, capacity *cap). 0 or -EBADMSG. */
int envelope_ids(const void *data, size_t len, struct uuid **ids, size_t *n, size_t *cap);

#endif
