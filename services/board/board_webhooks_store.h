/* The SQL of webhook subscriptions. Documents are added as JSON; results are 0 or a negative errno of db_run unless said otherwise. */
#ifndef AETHELOS_BOARD_WEBHOOKS_STORE_H
#define AETHELOS_BOARD_WEBHOOKS_STORE_H

#include "store/db.h"

struct board_webhook {
        struct uuid id;
        char *url, *client; /* client NULL: events of all */
        char *types[32];
        size_t n_types;
        const char *secret;
        bool cloudevents; /* the form in which it is told */
};

/* Makes it, from now on. -EDOM: one of its types is no event; -ENOSPC: there are as many as there may be. */
int board_webhook_add(struct db *db, const struct board_webhook *w);
int board_webhooks(struct db *db, const struct uuid *id, struct strbuf *b); /* id: the one, as an object, -ENOENT; NULL: {"items", "next"} */
int board_webhook_remove(struct db *db, const struct uuid *id);             /* with its deliveries; -ENOENT */
/* Another secret; the one before signs beside it for keep_s. -ENOENT, or -ENOSPC: too many old ones sign. */
int board_webhook_rotate(struct db *db, const struct uuid *id, const char *secret, int64_t keep_s);
int board_webhook_enable(struct db *db, const struct uuid *id);             /* -ENOENT */
int board_redeliver(struct db *db, const struct uuid *webhook, int64_t id); /* -ENOENT */
/* Latest first. -ENOENT: no such subscription. state: NULL, all. */
int board_deliveries(struct db *db, const struct uuid *webhook, const char *state, int64_t before, int64_t limit, struct strbuf *b);

#endif
