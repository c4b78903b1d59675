/* The delivery protocol: how a job moves, is executed and ends, while everything but the store may be lost at any moment.
 *
 * One job, from its submission to its end. What stands within one `atomic` and touches the store is one transaction. Between two of them any process
 * may stand still for any time, and every worker and repairer may die: what it had in memory is gone, what it committed stays. The bus loses, repeats
 * and reorders. README.md says what is left out, which property is which, and what each BUG_ twin shows. */

#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef REPAIRERS
#define REPAIRERS 1
#endif
#ifndef RUNS
#define RUNS 2 /* a failed execution is run again RUNS - 1 times */
#endif
#define TRIES 1 /* a run that was certainly not done is sent again so often */

/* Without FAULTS faults never end. With it they run out, so that it can be asked what must happen afterwards. */
#ifdef FAULTS
byte faults = 0;
#define FAULT_LEFT (faults < FAULTS)
#define FAULT      faults++
#else
#define FAULT_LEFT true
#define FAULT      skip
#endif

/* Safety property n. A twin is searched for the one that it must break. */
#ifdef ONLY
#define S(n, holds) assert(n != ONLY || (holds))
#else
#define S(n, holds) assert(holds)
#endif

/* --- the store --- */

mtype:step_name = { NONE, JOB_CREATED, PAYMENT_INITIATED, PAYMENT_EXPIRED, PAYMENT_CONFIRMED, EXECUTION_STARTED, EXECUTION_FAILED, EXECUTION_REQUIRED,
        EXECUTION_COMPLETED, REVENUE_BOOKED, REFUND_REQUIRED, REFUND_INITIATED, REFUND_CONFIRMED, FINAL_FAIL };
mtype:step_name step = NONE; /* the chain row: step, version */
byte version = 0;
byte events = 0; /* rows of `event` */

bit submission[2]; /* rows of `submission`, by key: the client uses key 0 */
byte jobs = 0;     /* chains opened for what the client meant as one job */

bit payment_evidence = 0, refund_evidence = 0;

byte charged = 0, booked = 0, refunded = 0, payouts = 0; /* journal entries; payout chains opened */
#define HELD (charged - booked - refunded)               /* the customer's prepayment */

mtype:run_state = { ABSENT, CALLING, UNKNOWN, RESEND, DONE, FAILED };
typedef operator_run {
        mtype:run_state state = ABSENT;
        byte owner = 0; /* who took it last: stands for the epoch, of which only "still mine" matters */
        bit lease = 0;  /* its last call may still reach the operator */
        byte tries = 0
};
operator_run op_run[RUNS];
byte runs = 0;
#define LAST     (runs - 1)
#define OPEN(k)  (op_run[k].state == CALLING || op_run[k].state == UNKNOWN || op_run[k].state == RESEND)
#define RUN_OPEN (runs > 0 && OPEN(LAST))

/* --- the bus --- */

#define PAYMENTS  0
#define EXECUTION 1
#define LEDGER    2
#define NOBODY    3
bit key = 0; /* of the submission on the bus */
#ifdef FAULTS
/* Bells are hints: how many copies there are and in which order does not matter, only whether there is one. */
bit bell[NOBODY];
bit submit = 0, receipt = 0, receipted = 0;
#define RUNG(s)  bell[s]
#define RING(s)  bell[s] = 1
#define ACK(s)   bell[s] = 0
#define KEEP(s)  s
#define SUBMITTED submit
#define ANSWER    receipt = 1; submit = 0
#else
/* Faults without end: of whatever may once have been sent a copy may arrive, or not, at any moment. */
#define RUNG(s)  (step != NONE)
#define RING(s)  skip
#define ACK(s)   skip
#define KEEP(s)  NOBODY
#define SUBMITTED true
#define ANSWER    skip
#endif

/* --- the outside, and what is true there --- */

bit idempotent = 0, askable = 0; /* how the operator is registered */
bit mute = 0;                    /* nobody outside ever answers */
mtype:work_state = { NOTHING, BUSY, DID, REFUSED };
mtype:work_state work[RUNS] = NOTHING; /* at the operator, by run id */
bit call[RUNS];                  /* a call on its way to the operator */
byte at_work = 0;                /* pieces of work begun and not refused */
bit paid = 0;                    /* the payer has paid */
bit refund_known = 0;            /* the provider knows our refund id */
byte sent_back = 0;              /* refunds the provider has made */

/* --- the specification: a part of docs/chain.md, with which check.sh compares it --- */

#define FROM(a, b) (step == a && to == b)
#define EDGE(to)                                                                                                      \
        (FROM(NONE, JOB_CREATED)                                                                                      \
         || FROM(JOB_CREATED, PAYMENT_INITIATED) /* by FLOW_CHOSEN PRICED PAYMENT_REQUIRED */                         \
         || FROM(JOB_CREATED, FINAL_FAIL)                                                                             \
         || FROM(PAYMENT_INITIATED, PAYMENT_CONFIRMED)                                                                \
         || FROM(PAYMENT_INITIATED, PAYMENT_EXPIRED)                                                                  \
         || FROM(PAYMENT_CONFIRMED, EXECUTION_STARTED)                                                                \
         || FROM(PAYMENT_CONFIRMED, REFUND_REQUIRED)                                                                  \
         || FROM(EXECUTION_STARTED, EXECUTION_COMPLETED) /* by STEP_COMPLETED */                                      \
         || FROM(EXECUTION_STARTED, EXECUTION_FAILED)                                                                 \
         || FROM(EXECUTION_STARTED, REFUND_REQUIRED)                                                                  \
         || FROM(EXECUTION_FAILED, EXECUTION_REQUIRED)                                                                \
         || FROM(EXECUTION_FAILED, REFUND_REQUIRED)                                                                   \
         || FROM(EXECUTION_REQUIRED, EXECUTION_STARTED)                                                               \
         || FROM(EXECUTION_REQUIRED, REFUND_REQUIRED)                                                                 \
         || FROM(EXECUTION_COMPLETED, REVENUE_BOOKED)                                                                 \
         || FROM(REFUND_REQUIRED, REFUND_INITIATED)                                                                   \
         || FROM(REFUND_INITIATED, REFUND_CONFIRMED)                                                                  \
         || FROM(REFUND_CONFIRMED, FINAL_FAIL))

#define ENDED (step == REVENUE_BOOKED || step == FINAL_FAIL || step == PAYMENT_EXPIRED)

/* The one service that must move the chain on from here, and is rung. */
inline hearer(ret_service)
{
        if
        :: step == JOB_CREATED || step == REFUND_REQUIRED -> ret_service = PAYMENTS
        :: step == PAYMENT_INITIATED && payment_evidence -> ret_service = PAYMENTS
        :: step == REFUND_INITIATED && refund_evidence -> ret_service = PAYMENTS
        :: step == PAYMENT_CONFIRMED || step == EXECUTION_REQUIRED -> ret_service = EXECUTION
        :: step == EXECUTION_COMPLETED -> ret_service = LEDGER
        :: else -> ret_service = NOBODY
        fi
}

/* Open, and it is for us to move it. Else an open chain waits for the payer, the provider, or the operator (or a person who knows). */
#define STANDING                                                                                                                    \
        (step == JOB_CREATED || step == PAYMENT_CONFIRMED || step == EXECUTION_FAILED || step == EXECUTION_REQUIRED                 \
         || step == EXECUTION_COMPLETED || step == REFUND_REQUIRED || step == REFUND_CONFIRMED                                      \
         || (step == PAYMENT_INITIATED && payment_evidence) || (step == REFUND_INITIATED && refund_evidence)                        \
         || (RUN_OPEN && op_run[LAST].state != UNKNOWN))

/* --- advance(): the only writer of chain, event and journal --- */

#ifdef BUG_FINAL_OWES
#define MAY_END true
#else
#define MAY_END (HELD == 0)
#endif
#ifdef BUG_REFUND_WHILE_RUNNING
#define MAY_REFUND true
#else
#define MAY_REFUND (!RUN_OPEN)
#endif
#ifdef BUG_NO_CAS
#define SAME(seen) true
#else
#define SAME(seen) (version == seen)
#endif
#define WINS(seen, to)                                                                                                              \
        (SAME(seen) && (to != PAYMENT_CONFIRMED || payment_evidence) && (to != PAYMENT_EXPIRED || !payment_evidence)                \
         && (to != REFUND_CONFIRMED || refund_evidence) && (to != FINAL_FAIL || MAY_END) && (to != REFUND_REQUIRED || MAY_REFUND))

/* Writes event, journal entry and row of a move that has won. What must never happen is asserted here. */
inline write(to)
{
        S(6, !ENDED);              /* an end is an end */
        events++;
        version++;
        S(6, version == events); /* the row is the fold of its events */
        if
        :: to == PAYMENT_CONFIRMED ->
                charged++;
                S(5, charged == 1); /* one job, one charge */
                S(4, paid)          /* evidence comes from outside */
        :: to == REVENUE_BOOKED ->
                booked++;
                payouts++;
                S(5, booked == 1 && payouts == 1 && refunded == 0); /* booked once, one payout; or given back */
                S(7, at_work == 1)                                  /* it was done */
        :: to == REFUND_REQUIRED ->
                S(7, at_work == 0) /* what is given back was not done and will not be */
        :: to == REFUND_CONFIRMED ->
                refunded++;
                S(5, refunded == 1 && booked == 0 && charged == 1);
                S(4, sent_back == 1)
        :: to == FINAL_FAIL || to == PAYMENT_EXPIRED ->
                S(7, HELD == 0 && at_work == 0) /* nothing is owed */
        :: else
        fi;
        S(6, EDGE(to)); /* every event follows an edge */
        step = to
}

/* Ends the run k; the rest of its row matters no more. */
inline close(k, run_state, to)
{
        op_run[k].state = run_state;
        op_run[k].owner = 0;
        op_run[k].lease = 0;
        op_run[k].tries = 0;
        write(to)
}

/* Writes the outcome of the open run k, with the move of the chain that follows from it. */
mtype:outcome_name = { O_NONE, O_DONE, O_FAILED, O_NOT_DONE, O_UNKNOWN };
inline conclude(k, outcome)
{
        if
        :: outcome == O_DONE -> close(k, DONE, EXECUTION_COMPLETED)
        :: outcome == O_FAILED || (outcome == O_NOT_DONE && op_run[k].tries == TRIES) -> close(k, FAILED, EXECUTION_FAILED)
        :: outcome == O_NOT_DONE && op_run[k].tries < TRIES ->
                op_run[k].state = RESEND;
                op_run[k].tries++
        :: outcome == O_UNKNOWN ->
                op_run[k].state = UNKNOWN
        fi
}

/* --- the services --- */

#ifdef BUG_NO_KEY_CHECK
#define KNOWN false
#else
#define KNOWN submission[key]
#endif
#ifdef BUG_NEVER_ASKS
#define MAY_ASK false
#else
#define MAY_ASK (askable || idempotent)
#endif
#ifdef BUG_NO_TAKE_OVER
#define LEASE_OUT(k) false
#else
#define LEASE_OUT(k) (!op_run[k].lease)
#endif
#if defined(FAULTS) && !defined(BUG_NO_HOLD)
#define FREE (!held)
#else
#define FREE true
#endif
/* An open run that somebody must look at. */
#define DUE(k) ((op_run[k].state == CALLING && LEASE_OUT(k)) || op_run[k].state == RESEND || (op_run[k].state == UNKNOWN && MAY_ASK && FREE))
#ifdef BUG_NO_EPOCH
#define MINE(k) true
#else
#define MINE(k) (op_run[k].owner == _pid)
#endif
#ifdef BUG_LATE_CALL
#define IN_TIME(k) true
#else
#define IN_TIME(k) (op_run[k].owner == _pid && op_run[k].lease)
#endif

#ifdef FAULTS
bit held = 0;   /* who asks has the run to itself, for as long as asking may take */
bit orphan = 0; /* somebody has died: time will pass until what it held is free */
#define DIES   FAULT; orphan = 1; FORGET
#define HOLD   held = 1
#define LET_GO held = 0
#else
#define DIES   FORGET
#define HOLD   skip /* asking may take any time */
#define LET_GO skip
#endif
#define FORGET  heard = NOBODY; to = NONE; seen = 0; k = 0; outcome = O_NONE; clean = 0; over = 0
#define OR_DIES :: atomic { FAULT_LEFT -> DIES; goto end_idle }

/* The bell for whoever must move the chain on from where it stands now. */
inline publish()
{
        hearer(next);
        if
        :: next != NOBODY -> RING(next)
        :: else
        fi;
        next = 0
}

inline acknowledge()
{
        if
        :: heard != NOBODY -> ACK(heard)
        :: else
        fi;
        heard = NOBODY
}

/* What an operator does with a call that reaches it. */
inline begin(k)
{
        if
        :: work[k] == NOTHING || !idempotent ->
                work[k] = BUSY;
                at_work++;
                S(2, at_work == 1); /* nothing is done twice, nor by two at once */
                S(3, HELD == 1)     /* no execution without a payment */
        :: work[k] != NOTHING && idempotent
        fi
}

/* Admits a submission, or finds the job that stands under its key; the receipt comes after the commit, and the acknowledgement last. */
proctype intake()
{
end_idle:
        do
#ifdef BUG_RECEIPT_BEFORE_COMMIT
        :: atomic { SUBMITTED -> ANSWER; S(1, jobs == 1) /* what is receipted is in the store */ }
#endif
#ifdef BUG_NEW_KEY
        :: key = 1 /* the client repeats under another key */
#endif
        :: atomic { SUBMITTED && !KNOWN ->
                submission[key] = 1;
                jobs++;
                S(1, jobs == 1); /* one job, whatever is repeated */
                write(JOB_CREATED);
                RING(PAYMENTS);
                ANSWER }
        :: atomic { SUBMITTED && !KNOWN && FAULT_LEFT -> FAULT; submission[key] = 1; jobs++; write(JOB_CREATED) } /* it dies after the commit */
        :: atomic { SUBMITTED && KNOWN -> ANSWER; S(1, jobs == 1) /* what is receipted is in the store */ }
        od
}

/* One instance of payments (with pricing), execution and ledger in one. At any moment it is busy with one thing. */
proctype worker()
{
        byte heard = NOBODY; /* the service whose bell it has received */
        byte seen = 0;       /* version it has read */
        mtype:step_name to = NONE;
        byte k = 0; /* its run */
        bit clean = 0; /* before its call it was certain that the run had not been done */
        bit over = 0;  /* when it took the run no call could reach the operator any more */
        mtype:outcome_name outcome = O_NONE;
        byte next = 0;

end_idle:
        do
        /* A bell: receive, read, decide. The bell stays on the bus until it is acknowledged. */
        :: atomic { RUNG(PAYMENTS) -> heard = PAYMENTS; goto read }
        :: atomic { RUNG(EXECUTION) -> heard = EXECUTION; goto read }
        :: atomic { RUNG(LEDGER) -> heard = LEDGER; goto read }

        /* The clock of payments. */
        :: atomic { step == PAYMENT_INITIATED && !payment_evidence -> to = PAYMENT_EXPIRED; seen = version; goto commit }

        /* A refund whose outcome is not known: the provider is told again under the same id, and says what it did. */
        :: step == REFUND_INITIATED && !refund_evidence -> goto refund

        /* An open run whose time has come. It is taken, in a transaction, before anything is done about it. */
        :: atomic { RUN_OPEN && DUE(LAST) ->
                k = LAST;
                over = !op_run[k].lease;
                op_run[k].owner = _pid;
#ifdef FAULTS
                orphan = 0;
#endif
                if
                :: op_run[k].state == RESEND -> clean = 1; over = 0; op_run[k].state = CALLING; op_run[k].lease = 1; goto send
                :: op_run[k].state != RESEND && askable -> op_run[k].state = UNKNOWN; HOLD; goto ask
                :: op_run[k].state != RESEND && !askable && idempotent -> over = 0; op_run[k].state = CALLING; op_run[k].lease = 1; goto send
                :: op_run[k].state != RESEND && !askable && !idempotent -> op_run[k].state = UNKNOWN; FORGET /* it waits for a person */
                fi }
        od;

read:   atomic {
                hearer(next);
                seen = version;
                if
#ifdef BUG_TRUST_BELL
                :: heard == EXECUTION && step != EXECUTION_STARTED && !ENDED && runs < RUNS -> to = EXECUTION_STARTED
#endif
                :: next != heard -> to = NONE /* not for us to move */
                :: next == heard && step == JOB_CREATED -> to = PAYMENT_INITIATED
                :: next == heard && step == PAYMENT_INITIATED -> to = PAYMENT_CONFIRMED
                :: next == heard && step == REFUND_REQUIRED -> to = REFUND_INITIATED
                :: next == heard && step == REFUND_INITIATED -> to = REFUND_CONFIRMED
                :: next == heard && heard == EXECUTION -> to = EXECUTION_STARTED
                :: next == heard && heard == LEDGER -> to = REVENUE_BOOKED
                fi;
                if
                :: to == NONE -> /* whoever must move it is rung again: his bell may have been lost after our commit */
                        publish();
                        ACK(heard);
                        FORGET;
                        goto end_idle
                :: to != NONE -> heard = KEEP(heard)
                fi;
                next = 0 };

#ifdef BUG_CALL_BEFORE_COMMIT
        if
        :: to == EXECUTION_STARTED -> call[runs] = 1
        :: else
        fi;
#endif

        /* Commit, then publish, then acknowledge. Dying between the first two is the same as a bell that is lost, between the others as one that
         * comes twice: the bus does both. */
commit: if
        :: atomic { WINS(seen, to) ->
                write(to);
                seen = 0;
                publish();
                acknowledge();
                if
                :: to == EXECUTION_STARTED -> /* the run's id is in the store, in the same transaction, before the operator is called */
                        assert(runs < RUNS);
                        k = runs;
                        runs++;
                        op_run[k].state = CALLING;
                        op_run[k].owner = _pid;
                        op_run[k].lease = 1;
                        clean = 1;
                        to = NONE;
                        goto send
                :: to == REFUND_INITIATED -> to = NONE; goto refund
                :: else -> FORGET; goto end_idle
                fi }
        :: atomic { !WINS(seen, to) -> acknowledge(); FORGET; goto end_idle } /* lost, or refused */
        OR_DIES
        fi;

        /* The outside. No transaction is open here; what is intended stands in the store. */
send:   if
        :: atomic { IN_TIME(k) -> call[k] = 1; clean = 0 }
        :: atomic { !IN_TIME(k) -> FORGET; goto end_idle } /* our time is over: whoever takes it asks */
        :: atomic { FAULT_LEFT -> FAULT; outcome = (clean -> O_NOT_DONE : O_UNKNOWN); clean = 0; goto concluded } /* not reached */
        OR_DIES
        fi;
        if
        :: atomic { work[k] == DID -> outcome = O_DONE; goto concluded }
        :: atomic { work[k] == REFUSED -> outcome = O_FAILED; goto concluded }
        :: atomic { work[k] == NOTHING || work[k] == BUSY -> outcome = O_UNKNOWN; goto concluded } /* no answer in time: it may be done yet */
        :: atomic { (work[k] == DID || work[k] == REFUSED) && FAULT_LEFT -> FAULT; outcome = O_UNKNOWN; goto concluded } /* the answer is lost */
        OR_DIES
        fi;

ask:    if
        :: atomic { !mute ->
                if
                :: work[k] == DID -> outcome = O_DONE
                :: work[k] == REFUSED -> outcome = O_FAILED
                :: work[k] == BUSY || (work[k] == NOTHING && !over) -> outcome = O_UNKNOWN
                :: work[k] == NOTHING && over -> outcome = O_NOT_DONE /* it has not heard of it, and will not */
                fi;
                over = 0 }
        :: atomic { mute || FAULT_LEFT -> outcome = O_UNKNOWN; over = 0 } /* no answer */
        OR_DIES
        fi;

concluded:
        if
        /* Done is a fact and counts from anybody; everything else only from whoever has the run. */
        :: atomic { OPEN(k) && (outcome == O_DONE || MINE(k)) -> conclude(k, outcome); LET_GO; FORGET; goto end_idle }
        :: atomic { !(OPEN(k) && (outcome == O_DONE || MINE(k))) -> FORGET; goto end_idle }
        OR_DIES
        fi;

refund: if
        :: atomic { !mute ->
                if
#ifdef BUG_NEW_REFUND_KEY
                :: sent_back++
#else
                :: !refund_known -> refund_known = 1; sent_back++
                :: refund_known
#endif
                fi;
                S(5, sent_back == 1) /* given back once */ }
        :: atomic { mute || FAULT_LEFT -> FORGET; goto end_idle } /* not reached */
        OR_DIES
        fi;
        if
        :: atomic { step == REFUND_INITIATED -> refund_evidence = 1; FORGET; goto end_idle }
        :: atomic { step != REFUND_INITIATED -> FORGET; goto end_idle }
        OR_DIES /* and as good: the answer was lost */
        fi
}

/* meta-repair's second clock. Whether a chain is late is a question of time, so it may be at any moment. It moves chains like everybody else. */
proctype repairer()
{
        byte seen = 0, next = 0;
        mtype:step_name to = NONE;

end_idle:
        do
#ifndef BUG_NO_REPAIR
        :: atomic { step == JOB_CREATED || step == REFUND_CONFIRMED -> seen = version; to = FINAL_FAIL; goto commit }
        :: atomic { step == PAYMENT_CONFIRMED || step == EXECUTION_STARTED || step == EXECUTION_REQUIRED || step == EXECUTION_FAILED ->
                seen = version;
                to = REFUND_REQUIRED;
                goto commit }
        :: atomic { step == EXECUTION_FAILED && runs < RUNS -> seen = version; to = EXECUTION_REQUIRED; goto commit }
#endif
#ifdef BUG_FINAL_OWES
        :: atomic { step == EXECUTION_FAILED -> seen = version; to = FINAL_FAIL; goto commit }
#endif
#ifdef BUG_INVENTED_EVIDENCE
        :: step == PAYMENT_INITIATED -> payment_evidence = 1
#endif
#ifdef BUG_REPAIR_RESENDS
        :: atomic { RUN_OPEN && op_run[LAST].state == UNKNOWN && !op_run[LAST].lease -> op_run[LAST].state = RESEND }
#endif
#ifdef BUG_RING_BUMPS
        :: atomic { STANDING && version < 20 -> version++ } /* so that everybody sees that it was rung */
#endif
        :: false
        od;

commit: if
        :: atomic { WINS(seen, to) -> write(to); publish(); seen = 0; to = NONE; goto end_idle }
        :: atomic { !WINS(seen, to) -> seen = 0; to = NONE; goto end_idle }
        :: atomic { FAULT_LEFT -> FAULT; seen = 0; to = NONE; goto end_idle } /* it dies */
        fi
}

#ifdef FAULTS
/* meta-repair's first clock: what stands is rung again. It remembers nothing, so it can lose nothing. */
proctype ringer()
{
        byte next = 0;

end_idle:
        do
#ifndef BUG_NO_RINGER
        :: atomic { hearer(next) ->
                if
                :: next != NOBODY && !bell[next] -> bell[next] = 1
                :: else
                fi;
                next = 0 }
#endif
        :: false
        od
}

/* Repeats its submission under one key until it has its receipt. */
proctype client()
{
#ifdef BUG_CLIENT_GIVES_UP
        submit = 1; /* once */
#endif
        do
#ifndef BUG_CLIENT_GIVES_UP
        :: atomic { !submit && !receipt -> submit = 1 }
#endif
        :: atomic { receipt -> receipted = 1 } break
        od
}

proctype bus()
{
end_idle:
        do
        /* Lost. */
        :: atomic { FAULT_LEFT && bell[PAYMENTS] -> FAULT; bell[PAYMENTS] = 0 }
        :: atomic { FAULT_LEFT && bell[EXECUTION] -> FAULT; bell[EXECUTION] = 0 }
        :: atomic { FAULT_LEFT && bell[LEDGER] -> FAULT; bell[LEDGER] = 0 }
        :: atomic { FAULT_LEFT && submit -> FAULT; submit = 0 }
        :: atomic { FAULT_LEFT && receipt && !receipted -> FAULT; receipt = 0 }
        /* Wiped. */
        :: atomic { FAULT_LEFT -> FAULT; bell[PAYMENTS] = 0; bell[EXECUTION] = 0; bell[LEDGER] = 0; submit = 0; receipt = receipted }
        /* Delivered again. */
        :: atomic { FAULT_LEFT && step != NONE && !bell[PAYMENTS] -> FAULT; bell[PAYMENTS] = 1 }
        :: atomic { FAULT_LEFT && step != NONE && !bell[EXECUTION] -> FAULT; bell[EXECUTION] = 1 }
        :: atomic { FAULT_LEFT && step != NONE && !bell[LEDGER] -> FAULT; bell[LEDGER] = 1 }
        :: atomic { FAULT_LEFT && step != NONE && !submit -> FAULT; submit = 1 }
        od
}
#endif

/* --- the outside --- */

/* The network to the operator, and time. */
#define REACHES(k) :: atomic { call[k] -> call[k] = 0; begin(k) }
proctype network()
{
end_idle:
        do
        REACHES(0)
        REACHES(1)
#if RUNS > 2
        REACHES(2)
#endif
        /* A lease is out: the call reaches the operator now or never. (A lease is longer than a call may take.) */
        :: atomic { RUN_OPEN && op_run[LAST].lease && FAULT_LEFT -> FAULT; op_run[LAST].lease = 0; call[LAST] = 0 }
#ifdef FAULTS
        :: atomic { RUN_OPEN && op_run[LAST].lease && !call[LAST] && (op_run[LAST].state != CALLING || orphan) -> op_run[LAST].lease = 0 }
        :: atomic { held && orphan -> held = 0 }
        :: atomic { held && FAULT_LEFT -> FAULT; held = 0 }
#endif
        od
}

#define WORKS(k)                                                              \
        :: atomic { work[k] == BUSY && !mute -> work[k] = DID }               \
        :: atomic { work[k] == BUSY && !mute -> work[k] = REFUSED; at_work-- }
proctype operator()
{
end_idle:
        do
        WORKS(0)
        WORKS(1)
#if RUNS > 2
        WORKS(2)
#endif
        od
}

proctype people()
{
end_idle:
        do
        :: atomic { step == PAYMENT_INITIATED && !payment_evidence && !mute -> paid = 1; payment_evidence = 1 }
        /* Somebody finds out what came of a run of which nobody can be asked, and says so. */
        :: atomic { RUN_OPEN && op_run[LAST].state == UNKNOWN && !askable && !idempotent && !op_run[LAST].lease && work[LAST] != BUSY && !mute ->
                if
                :: work[LAST] == DID -> close(LAST, DONE, EXECUTION_COMPLETED)
                :: work[LAST] != DID -> close(LAST, FAILED, EXECUTION_FAILED)
                fi }
        od
}

#ifndef FAULTS
/* Not vacuous: check.sh demands that every statement is reached, these too. */
proctype witness()
{
end_idle:
        do
        :: step == REVENUE_BOOKED && runs == 1 -> skip                                            /* done at once */
        :: step == REVENUE_BOOKED && runs == RUNS -> skip                                         /* done after all */
        :: step == FINAL_FAIL && refunded == 1 -> skip                                            /* given back */
        :: step == FINAL_FAIL && charged == 0 -> skip                                             /* never paid for, given up */
        :: step == PAYMENT_EXPIRED -> skip                                                        /* never paid */
        :: step == PAYMENT_INITIATED && !payment_evidence -> skip                                 /* waits for the payer */
        :: step == EXECUTION_STARTED && op_run[LAST].state == UNKNOWN && work[LAST] == BUSY -> skip /* waits for the operator */
        :: step == EXECUTION_STARTED && op_run[LAST].state == UNKNOWN && work[LAST] == DID && !askable && !idempotent -> skip /* waits for a person */
        :: step == REFUND_INITIATED && !refund_evidence -> skip                                   /* waits for the provider */
        :: runs > 0 && op_run[LAST].tries == 1 && work[LAST] == DID -> skip /* sent again, done once */
        od
}
#endif

init
{
        atomic {
                if
                :: idempotent = 1
                :: skip
                fi;
                if
                :: askable = 1
                :: skip
                fi;
#ifdef FAULTS
                if
                :: mute = 1
                :: skip
                fi;
#else
                run witness();
#endif
                run intake();
                run worker();
#if WORKERS > 1
                run worker();
#endif
#if WORKERS > 2
                run worker();
#endif
                run repairer();
#if REPAIRERS > 1
                run repairer();
#endif
#ifdef FAULTS
                run ringer();
                run bus();
                run client();
#endif
                run network();
                run operator();
                run people() }
}

#ifdef FAULTS
/* L1: no chain stands for ever: it ends, or waits for a party. */
ltl moves { []<> !(STANDING) }
/* L2: when the parties answer, it ends. */
ltl ends { <> (mute || ENDED) }
/* L3: whoever repeats his submission gets his receipt. */
ltl answered { <> receipted }
#endif
