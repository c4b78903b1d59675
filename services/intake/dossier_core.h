/* What a dossier says beyond what is stored: for whom an unfinished chain waits and what happens next, and what a person may still do. Pure. */
#ifndef AETHELOS_INTAKE_DOSSIER_CORE_H
#define AETHELOS_INTAKE_DOSSIER_CORE_H

#include <stdbool.h>
#include <stddef.h>

/* Where the chain stands and what is known about it. */
struct dossier_facts {
        const char *kind, *step, *hearer, *waits_for; /* of the chain; hearer and waits_for NULL: none */
        bool open;
        bool paid;         /* money of the payer was ever taken */
        bool manual;       /* its payment driver is a person */
        bool intent_alive; /* its intent has not run out */
        bool run, call;    /* a run at an operator, a call at the payment provider is under way */
        bool refund_asked; /* the provider has, or may have, a refund */
        bool issue;        /* an issue about it is open */
        bool refused;      /* the provider refuses its intent */
};

/* Whose time says when the next thing happens. */
enum dossier_clock { DOSSIER_NO_TIME, DOSSIER_EXPIRY, DOSSIER_RUN, DOSSIER_CALL, DOSSIER_ISSUE };

struct dossier_waits {
        const char *who;  /* payer, provider, operator, bank, person, or the service that must move it */
        const char *next; /* one sentence */
        enum dossier_clock clock;
};

/* False: it is finished, and waits for nothing. */
bool dossier_waits(const struct dossier_facts *f, struct dossier_waits *ret_waits);

/* A thing that a person may do, and the route of the admin port; {id} is the job, {run_id} its open run, {payout_id} its payout. */
struct dossier_act {
        const char *what, *route;
};

#define DOSSIER_ACTS_MAX 4

size_t dossier_may(const struct dossier_facts *f, struct dossier_act ret_acts[DOSSIER_ACTS_MAX]);

#endif
