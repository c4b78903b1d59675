/* Subjects and streams of the bus: no other file holds a subject literal. */
#ifndef AETHELOS_PROTO_SUBJECTS_H
#define AETHELOS_PROTO_SUBJECTS_H

#define SUBJECT_HOP       "aethelos.hop.%s.%s"       /* service, lane */
#define SUBJECT_INTENTS   "aethelos.hop.intake.*"    /* live: jobs that have their intent */
#define SUBJECT_SUBMIT    "aethelos.job.submit."     /* + client */
#define SUBJECT_RECEIPT   "aethelos.receipt.%s.%s"   /* client, key */
#define SUBJECT_QUERY     "aethelos.query.receipt."  /* + client */
#define SUBJECT_EVENT     "aethelos.event.%s.%s.%s"  /* client, type, chain id */
#define SUBJECT_HEARTBEAT "aethelos.heartbeat.%s.%s" /* service, instance */
#define SUBJECT_OPERATOR  "aethelos.operator.%s"     /* name; '*' for all */
#define SUBJECT_STATUS    SUBJECT_OPERATOR ".status"
#define SUBJECT_BEAT      SUBJECT_OPERATOR ".beat"
#define SUBJECT_RESULT    SUBJECT_OPERATOR ".result"

#define STREAM_SUBMIT "SUBMIT"
#define STREAM_HOP    "HOP_" /* + SERVICE in upper case, '-' as '_' */

#endif
