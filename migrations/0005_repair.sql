-- Nothing hangs: rules with deadlines for every place a chain can stand, issues as chains of their own, refunds, FINAL_FAIL, reopening, and the
-- commands and decisions of people. From here on functions stand in functions/*.sql, one definition each, which the runner replaces when their text
-- has changed.

-- The chain specification.
ALTER TABLE step DROP CONSTRAINT step_waits_for_check;
ALTER TABLE step ADD CONSTRAINT step_waits_for_check CHECK (waits_for IN ('payer', 'provider', 'operator', 'bank', 'person', 'clock'));
COMMENT ON COLUMN step.kind IS 'Kind of chain: job, payout or issue';
COMMENT ON COLUMN step.waits_for IS 'The party outside for whom the chain waits here (clock: meta-repair''s own, of issues); NULL: it must move by itself, and is rung when it does not';
COMMENT ON COLUMN chain.kind IS 'job, payout or issue';

ALTER TABLE edge DROP COLUMN deadline, DROP COLUMN strategy;
ALTER TABLE edge ADD COLUMN evidence text[];
COMMENT ON COLUMN edge.evidence IS 'Kinds of evidence of which one must be stored for this move; NULL: what step.evidence says';
COMMENT ON COLUMN edge.relation IS 'leads_to: the main way; confirms: an answer from outside; compensates: undoes or closes; depends_on: needs another chain';


UPDATE step SET evidence = '{person,provider}' WHERE (kind, name) = ('job', 'PAYMENT_CONFIRMED');
UPDATE step SET hearer = 'meta-repair', waits_for = NULL WHERE (kind, name) = ('job', 'EXECUTION_FAILED');
INSERT INTO step (kind, name, hearer, waits_for, status, debit, credit, evidence) VALUES
  ('job', 'EXECUTION_REQUIRED', 'execution',   NULL,       'open', NULL, NULL, NULL),
  ('job', 'REFUND_REQUIRED',    'payments',    NULL,       'open', NULL, NULL, NULL),
  ('job', 'REFUND_INITIATED',   'payments',    'provider', 'open', NULL, NULL, NULL),
  ('job', 'REFUND_CONFIRMED',   'meta-repair', NULL,       'open', 'customer_prepayment', 'cash', '{person,provider}'),
  ('job', 'FINAL_FAIL',         NULL,          NULL,       'final_fail', NULL, NULL, NULL),
  ('job', 'CHAIN_REOPENED',     'pricing',     NULL,       'open', NULL, NULL, NULL),
  ('issue', 'META_ISSUE',       NULL,          'clock',    'open', NULL, NULL, NULL),
  ('issue', 'META_REPAIR',      NULL,          'clock',    'open', NULL, NULL, NULL),
  ('issue', 'META_RESOLVED',    NULL,          NULL,       'completed', NULL, NULL, NULL);
INSERT INTO edge (kind, from_step, event, service, relation, evidence, why) VALUES
  ('job', 'EXECUTION_FAILED',   'EXECUTION_REQUIRED', 'meta_repair', 'leads_to',    NULL,       'the failed step is run again'),
  ('job', 'REFUND_INITIATED',   'EXECUTION_REQUIRED', 'meta_repair', 'leads_to',    '{person}', 'a person has it run again instead of refunding it'),
  ('job', 'EXECUTION_REQUIRED', 'EXECUTION_STARTED',  'execution',   'leads_to',    NULL,       'execution goes on at the failed step'),
  ('job', 'EXECUTION_REQUIRED', 'EXECUTION_FAILED',   'execution',   'leads_to',    NULL,       'no operator is there for the failed step'),
  ('job', 'PAYMENT_CONFIRMED',  'REFUND_REQUIRED',    'meta_repair', 'compensates', NULL,       'paid work could not begin: the payment goes back'),
  ('job', 'EXECUTION_REQUIRED', 'REFUND_REQUIRED',    'meta_repair', 'compensates', NULL,       'the failed step could not begin again'),
  ('job', 'EXECUTION_STARTED',  'REFUND_REQUIRED',    'meta_repair', 'compensates', NULL,       'no run is open and none could be started'),
  ('job', 'STEP_COMPLETED',     'REFUND_REQUIRED',    'meta_repair', 'compensates', NULL,       'no run is open and none could be started'),
  ('job', 'EXECUTION_FAILED',   'REFUND_REQUIRED',    'meta_repair', 'compensates', NULL,       'every operator failed: the payment goes back'),
  ('job', 'REFUND_REQUIRED',    'REFUND_INITIATED',   'payments',    'leads_to',    NULL,       'the refund is asked of the provider, or of a person'),
  ('job', 'REFUND_INITIATED',   'REFUND_CONFIRMED',   'payments',    'confirms',    NULL,       'evidence of the refund is stored'),
  ('job', 'REFUND_CONFIRMED',   'FINAL_FAIL',         'meta_repair', 'compensates', NULL,       'refunded: nothing is owed'),
  ('job', 'JOB_CREATED',        'FINAL_FAIL',         'meta_repair', 'compensates', NULL,       'it could not be priced: nothing is owed'),
  ('job', 'FLOW_CHOSEN',        'FINAL_FAIL',         'meta_repair', 'compensates', NULL,       'it could not be priced: nothing is owed'),
  ('job', 'PRICED',             'FINAL_FAIL',         'meta_repair', 'compensates', NULL,       'no payment could be asked for: nothing is owed'),
  ('job', 'CHAIN_REOPENED',     'FINAL_FAIL',         'meta_repair', 'compensates', NULL,       'it could not be priced: nothing is owed'),
  ('job', 'PAYMENT_INITIATED',  'FINAL_FAIL',         'meta_repair', 'compensates', '{person}', 'a person closes an unpaid job'),
  ('job', 'FINAL_FAIL',         'CHAIN_REOPENED',     'meta_repair', 'leads_to',    '{person}', 'a person has an unpaid job tried again'),
  ('job', 'PAYMENT_EXPIRED',    'CHAIN_REOPENED',     'meta_repair', 'leads_to',    '{person}', 'a person gives an unpaid job another term'),
  ('job', 'CHAIN_REOPENED',     'FLOW_CHOSEN',        'pricing',     'leads_to',    NULL,       'the flow that admission pinned'),
  ('issue', '',            'META_ISSUE',    'meta_repair', 'leads_to', NULL, 'something stands, or is broken'),
  ('issue', 'META_ISSUE',  'META_REPAIR',   'meta_repair', 'leads_to', NULL, 'the antibody has acted'),
  ('issue', 'META_ISSUE',  'META_RESOLVED', 'meta_repair', 'leads_to', NULL, 'what it was about has moved on'),
  ('issue', 'META_REPAIR', 'META_REPAIR',   'meta_repair', 'leads_to', NULL, 'the antibody has acted again'),
  ('issue', 'META_REPAIR', 'META_RESOLVED', 'meta_repair', 'leads_to', NULL, 'what it was about has moved on, or came to its documented end');

UPDATE chain SET waits_for = NULL WHERE kind = 'job' AND step = 'EXECUTION_FAILED' AND status = 'open';
-- What waits for a party outside, for the watch over long waits; like chain_standing it changes only when a wait begins or ends.
CREATE INDEX chain_waiting ON chain (id) WHERE status = 'open' AND waits_for IS NOT NULL AND waits_for <> 'clock';

-- When a chain that stands somewhere is late, and what is done about it.
CREATE TABLE rule (
  kind          text NOT NULL,
  step          text NOT NULL,
  version       integer NOT NULL CHECK (version > 0),
  issue         text NOT NULL,
  antibody      text NOT NULL,
  basis         text NOT NULL CHECK (basis IN ('step', 'created')),
  late          interval NOT NULL CHECK (late >= interval '0'),
  deadline      interval NOT NULL CHECK (deadline >= late),
  attempts      integer NOT NULL CHECK (attempts >= 0),
  backoff_first interval NOT NULL CHECK (backoff_first > interval '0'),
  backoff_max   interval NOT NULL CHECK (backoff_max >= backoff_first),
  changed_by    text NOT NULL,
  why           text NOT NULL,
  at            timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (kind, step, version),
  FOREIGN KEY (kind, step) REFERENCES step (kind, name)
);
COMMENT ON TABLE rule IS 'How long a chain may stand at a step, and what is done when it stands longer. Append-only: the newest version counts, the older ones say who changed what';
COMMENT ON COLUMN rule.kind IS 'Kind of chain';
COMMENT ON COLUMN rule.step IS 'Where it stands';
COMMENT ON COLUMN rule.version IS '1, 2, 3, ...';
COMMENT ON COLUMN rule.issue IS 'Kind of the issue that is opened';
COMMENT ON COLUMN rule.antibody IS 'What repairs it: a name in meta-repair''s table';
COMMENT ON COLUMN rule.basis IS 'step: since the last event; created: since the first';
COMMENT ON COLUMN rule.late IS 'After this long it is watched (grade late)';
COMMENT ON COLUMN rule.deadline IS 'After this long it is repaired (grade repair)';
COMMENT ON COLUMN rule.attempts IS 'How often the antibody may act before the chain goes to its documented end; where no end is allowed it goes on, at the longest pause';
COMMENT ON COLUMN rule.backoff_first IS 'Pause after the first attempt; doubles, with jitter';
COMMENT ON COLUMN rule.backoff_max IS 'Longest pause';
COMMENT ON COLUMN rule.changed_by IS 'Who made this version';
COMMENT ON COLUMN rule.why IS 'Why';
COMMENT ON COLUMN rule.at IS 'When';
INSERT INTO rule (kind, step, version, issue, antibody, basis, late, deadline, attempts, backoff_first, backoff_max, changed_by, why) VALUES
  ('job', 'JOB_CREATED',         1, 'MISSING_STEP',      'ring_again',        'step',    '900 s',   '3600 s',  8, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'FLOW_CHOSEN',         1, 'MISSING_STEP',      'ring_again',        'step',    '900 s',   '3600 s',  8, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'CHAIN_REOPENED',      1, 'MISSING_STEP',      'ring_again',        'step',    '900 s',   '3600 s',  8, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'PRICED',              1, 'MISSING_STEP',      'ring_again',        'step',    '900 s',   '3600 s',  8, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'PAYMENT_REQUIRED',    1, 'STUCK_PAYMENT',     'ask_provider',      'created', '450 s',   '900 s',   0, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'PAYMENT_INITIATED',   1, 'STUCK_PAYMENT',     'ask_provider',      'created', '450 s',   '900 s',   0, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'PAYMENT_CONFIRMED',   1, 'MISSING_EXECUTION', 'ring_again',        'step',    '450 s',   '1800 s',  8, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'EXECUTION_REQUIRED',  1, 'MISSING_EXECUTION', 'ring_again',        'step',    '450 s',   '1800 s',  8, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'EXECUTION_STARTED',   1, 'STUCK_EXECUTION',   'ask_operator',      'step',    '450 s',   '1800 s',  8, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'STEP_COMPLETED',      1, 'STUCK_EXECUTION',   'ask_operator',      'step',    '450 s',   '1800 s',  8, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'EXECUTION_FAILED',    1, 'MISSING_EXECUTION', 'run_again',         'step',    '0 s',     '0 s',     1, '30 s', '600 s',  'installation', 'first version'),
  ('job', 'EXECUTION_COMPLETED', 1, 'MISSING_PAYOUT',    'ring_again',        'step',    '900 s',   '3600 s',  8, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'REFUND_REQUIRED',     1, 'STUCK_AT_STEP',     'ring_again',        'step',    '300 s',   '900 s',   8, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'REFUND_INITIATED',    1, 'STUCK_AT_STEP',     'ask_provider',      'step',    '3600 s',  '86400 s', 0, '60 s', '3600 s', 'installation', 'first version'),
  ('job', 'REFUND_CONFIRMED',    1, 'STUCK_AT_STEP',     'ring_again',        'step',    '300 s',   '900 s',   8, '60 s', '3600 s', 'installation', 'first version'),
  ('payout', 'PAYOUT_EARNED',    1, 'MISSING_PAYOUT',    'ring_again',        'step',    '3600 s',  '86400 s', 8, '60 s', '3600 s', 'installation', 'first version'),
  ('payout', 'PAYOUT_READY',     1, 'MISSING_PAYOUT',    'await_settlement',  'step',    '43200 s', '86400 s', 0, '3600 s', '86400 s', 'installation', 'first version');

-- Issues: the working row of an issue chain.
CREATE TABLE issue (
  id          uuid PRIMARY KEY,
  kind        text NOT NULL,
  grade       text NOT NULL CHECK (grade IN ('late', 'repair')),
  chain_id    uuid,
  operator    text,
  client      text NOT NULL,
  step        text,
  version     integer,
  since       timestamptz NOT NULL,
  state       text NOT NULL CHECK (state IN ('open', 'waiting_evidence', 'quarantined', 'resolved', 'final_fail')),
  waits_for   text,
  antibody    text NOT NULL,
  attempts    integer NOT NULL DEFAULT 0,
  outcome     text,
  next_at     timestamptz NOT NULL,
  owner       text,
  epoch       integer NOT NULL DEFAULT 0,
  lease_until timestamptz,
  opened_at   timestamptz NOT NULL DEFAULT now(),
  closed_at   timestamptz,
  CHECK ((chain_id IS NULL) <> (operator IS NULL)),
  CHECK ((closed_at IS NULL) = (state IN ('open', 'waiting_evidence', 'quarantined')))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX issue_of_chain ON issue (chain_id, kind) WHERE closed_at IS NULL;
CREATE UNIQUE INDEX issue_of_operator ON issue (operator, kind) WHERE closed_at IS NULL;
CREATE INDEX issue_due ON issue (client, kind, next_at) WHERE closed_at IS NULL;
CREATE INDEX issue_history ON issue (chain_id);
COMMENT ON TABLE issue IS 'What meta-repair has found and what it does about it. Its history is the issue chain of the same id (META_ISSUE, META_REPAIR, META_RESOLVED)';
COMMENT ON COLUMN issue.id IS 'The issue chain';
COMMENT ON COLUMN issue.kind IS 'MISSING_STEP, STUCK_PAYMENT and so on: docs/repair.md';
COMMENT ON COLUMN issue.grade IS 'late: watched; repair: beyond its deadline';
COMMENT ON COLUMN issue.chain_id IS 'The chain it is about';
COMMENT ON COLUMN issue.operator IS 'The operator it is about';
COMMENT ON COLUMN issue.client IS 'Client of the chain; empty for operators';
COMMENT ON COLUMN issue.step IS 'Where the chain stands';
COMMENT ON COLUMN issue.version IS 'Its version then: when the chain has moved, the issue is resolved';
COMMENT ON COLUMN issue.since IS 'Since when it has stood there';
COMMENT ON COLUMN issue.state IS 'open: repair is under way; waiting_evidence: a party outside must answer; quarantined: a person must look; resolved, final_fail: closed';
COMMENT ON COLUMN issue.waits_for IS 'The party outside, while waiting_evidence';
COMMENT ON COLUMN issue.antibody IS 'What repairs it';
COMMENT ON COLUMN issue.attempts IS 'How often the antibody has acted';
COMMENT ON COLUMN issue.outcome IS 'What came of the last attempt, for people';
COMMENT ON COLUMN issue.next_at IS 'When it is looked at again';
COMMENT ON COLUMN issue.owner IS 'Instance that holds the lease';
COMMENT ON COLUMN issue.epoch IS 'Fencing number of the lease: only the present one may write the outcome';
COMMENT ON COLUMN issue.lease_until IS 'After this another instance may take it';
COMMENT ON COLUMN issue.opened_at IS 'When it was found';
COMMENT ON COLUMN issue.closed_at IS 'When it ended';

CREATE TABLE lease (
  name  text PRIMARY KEY,
  owner text NOT NULL,
  epoch bigint NOT NULL,
  until timestamptz NOT NULL
);
COMMENT ON TABLE lease IS 'Work that one instance at a time does, such as looking for what stands';
COMMENT ON COLUMN lease.name IS 'The work';
COMMENT ON COLUMN lease.owner IS 'Instance that does it';
COMMENT ON COLUMN lease.epoch IS 'Grows with every change of owner';
COMMENT ON COLUMN lease.until IS 'After this another may take it, database clock';

-- What people ask of meta-repair, and what it answers.
CREATE TABLE repair_command (
  id      uuid PRIMARY KEY,
  what    text NOT NULL CHECK (what IN ('auto_repair', 'redrive', 'refund', 'close', 'reopen', 'rule')),
  args    text NOT NULL,
  by_whom text NOT NULL CHECK (length(by_whom) BETWEEN 1 AND 200),
  at      timestamptz NOT NULL DEFAULT now(),
  result  text,
  done_at timestamptz
);
CREATE INDEX repair_command_open ON repair_command (id) WHERE done_at IS NULL;
COMMENT ON TABLE repair_command IS 'Commands of authorised people to meta-repair: stored first, so that one that was accepted is carried out whatever dies';
COMMENT ON COLUMN repair_command.id IS 'UUIDv7; also the reference of the evidence that the command leaves';
COMMENT ON COLUMN repair_command.what IS 'auto_repair: handle issues now; redrive, refund, close, reopen: chains; rule: a new version of a rule';
COMMENT ON COLUMN repair_command.args IS 'JSON text';
COMMENT ON COLUMN repair_command.by_whom IS 'Who asked';
COMMENT ON COLUMN repair_command.at IS 'When';
COMMENT ON COLUMN repair_command.result IS 'JSON text: exact counts, and what was refused and why';
COMMENT ON COLUMN repair_command.done_at IS 'When it was carried out';

-- Evidence: also of providers, also for chains without a price.
ALTER TABLE evidence DROP CONSTRAINT evidence_kind_check;
ALTER TABLE evidence ADD CONSTRAINT evidence_kind_check CHECK (kind IN ('person', 'provider', 'internal'));
ALTER TABLE evidence ALTER COLUMN amount DROP NOT NULL, ALTER COLUMN currency DROP NOT NULL;
COMMENT ON COLUMN evidence.kind IS 'person: an authorised person''s word; provider: the answer of a payment provider; internal: a transfer within the system';
COMMENT ON COLUMN evidence.amount IS 'Minor units; must equal the chain''s; NULL for a chain without a price';
CREATE TABLE evidence_mismatch (
  chain_id  uuid NOT NULL,
  event     text NOT NULL,
  hash      bytea NOT NULL,
  verdict   text NOT NULL,
  kind      text NOT NULL,
  who       text NOT NULL,
  reference text NOT NULL,
  amount    bigint,
  at        timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (chain_id, event, hash)
);
COMMENT ON TABLE evidence_mismatch IS 'What a provider said that does not go with the chain: it moves nothing, and becomes an issue EVIDENCE_MISMATCH. Append-only';
COMMENT ON COLUMN evidence_mismatch.chain_id IS 'The chain';
COMMENT ON COLUMN evidence_mismatch.event IS 'The event that it would allow';
COMMENT ON COLUMN evidence_mismatch.hash IS 'SHA-256 over kind, who, reference and amount';
COMMENT ON COLUMN evidence_mismatch.verdict IS 'Why it was not taken: amount, conflict, not_waiting';
COMMENT ON COLUMN evidence_mismatch.kind IS 'Kind of evidence';
COMMENT ON COLUMN evidence_mismatch.who IS 'Who said so';
COMMENT ON COLUMN evidence_mismatch.reference IS 'Its reference';
COMMENT ON COLUMN evidence_mismatch.amount IS 'Minor units that it names';
COMMENT ON COLUMN evidence_mismatch.at IS 'When';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON evidence_mismatch FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON rule FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A reopened job gets a new term under the same intent: one job, one charge.
DROP TRIGGER append_only ON payment_intent;
CREATE TRIGGER no_removal BEFORE DELETE OR TRUNCATE ON payment_intent FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TABLE payment_intent IS 'What a client owes, held at a provider. Its status is the step of its job, which has the same id; only expires_at changes, when a job is reopened';
COMMENT ON COLUMN payment_intent.driver IS 'Payment driver: manual or http';

CREATE TABLE provider_call (
  id          uuid PRIMARY KEY,
  chain_id    uuid NOT NULL,
  version     integer NOT NULL,
  what        text NOT NULL CHECK (what IN ('create', 'query', 'refund')),
  state       text NOT NULL CHECK (state IN ('calling', 'pending', 'unknown', 'done', 'failed')),
  error       text,
  owner       text NOT NULL,
  epoch       integer NOT NULL DEFAULT 1,
  lease_until timestamptz NOT NULL,
  next_at     timestamptz NOT NULL,
  probes      integer NOT NULL DEFAULT 0,
  started_at  timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX provider_call_live ON provider_call (chain_id) WHERE state IN ('calling', 'pending', 'unknown');
CREATE INDEX provider_call_due ON provider_call (next_at) WHERE state IN ('calling', 'pending', 'unknown');
CREATE INDEX provider_call_history ON provider_call (chain_id, version);
COMMENT ON TABLE provider_call IS 'Dealings with a payment provider over the network, committed before the call, so that an unknown outcome is asked about. At most one under way per chain';
COMMENT ON COLUMN provider_call.id IS 'Idempotency key of the call; of a refund its refund_id';
COMMENT ON COLUMN provider_call.chain_id IS 'The job, and so the intent';
COMMENT ON COLUMN provider_call.version IS 'Version of the chain that it belongs to';
COMMENT ON COLUMN provider_call.what IS 'create: the intent; query: whether it is paid; refund: of the whole payment';
COMMENT ON COLUMN provider_call.state IS 'calling: may be under way; pending: the provider has it; unknown: no answer came; done, failed: known';
COMMENT ON COLUMN provider_call.error IS 'Why it failed or is unknown';
COMMENT ON COLUMN provider_call.owner IS 'Instance that holds the lease';
COMMENT ON COLUMN provider_call.epoch IS 'Fencing number of the lease: only the present one may write the outcome';
COMMENT ON COLUMN provider_call.lease_until IS 'After this another instance may take over, and asks';
COMMENT ON COLUMN provider_call.next_at IS 'When the provider is asked again';
COMMENT ON COLUMN provider_call.probes IS 'How often it was asked';
COMMENT ON COLUMN provider_call.started_at IS 'When it began';

-- A person's word about a run whose operator cannot say what came of it.
CREATE TABLE run_decision (
  run_id    uuid PRIMARY KEY,
  outcome   text NOT NULL CHECK (outcome IN ('done', 'failed')),
  output    text,
  who       text NOT NULL CHECK (length(who) BETWEEN 1 AND 200),
  reference text NOT NULL CHECK (length(reference) BETWEEN 1 AND 200),
  at        timestamptz NOT NULL DEFAULT now(),
  CHECK ((outcome = 'done') = (output IS NOT NULL))
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON run_decision FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TABLE run_decision IS 'What an authorised person says came of a run with an unknown outcome; execution takes it for the operator''s answer. Append-only';
COMMENT ON COLUMN run_decision.run_id IS 'The run';
COMMENT ON COLUMN run_decision.outcome IS 'done or failed';
COMMENT ON COLUMN run_decision.output IS 'Of a run that is done: JSON text';
COMMENT ON COLUMN run_decision.who IS 'Who says so';
COMMENT ON COLUMN run_decision.reference IS 'How he knows';
COMMENT ON COLUMN run_decision.at IS 'When';

-- Memory of operators: the circuit breaker.
ALTER TABLE operator ADD COLUMN streak integer NOT NULL DEFAULT 0, ADD COLUMN avoid_until timestamptz;
COMMENT ON COLUMN operator.streak IS 'Failures since the last success';
COMMENT ON COLUMN operator.avoid_until IS 'Not chosen before this while there is another; then one run is its probe. NULL: not avoided';

GRANT EXECUTE ON FUNCTION advance TO aethelos_meta_repair;
GRANT EXECUTE ON FUNCTION submit_evidence TO aethelos_meta_repair, aethelos_payments;
GRANT SELECT ON rule, issue, repair_command, run_decision, provider_call, evidence_mismatch, lease TO aethelos_meta_repair, aethelos_board;
GRANT INSERT ON rule TO aethelos_meta_repair;
GRANT INSERT, UPDATE ON issue, lease TO aethelos_meta_repair;
GRANT UPDATE (result, done_at) ON repair_command TO aethelos_meta_repair;
GRANT INSERT ON repair_command, run_decision TO aethelos_board;
GRANT SELECT ON submission, flow, operator, payment_intent, evidence, journal, quarantine, figure, reader TO aethelos_meta_repair;
GRANT UPDATE (next_at) ON operator_run, provider_call TO aethelos_meta_repair;
GRANT SELECT, INSERT, UPDATE ON provider_call TO aethelos_payments;
GRANT UPDATE (expires_at) ON payment_intent TO aethelos_payments;
GRANT SELECT ON run_decision TO aethelos_execution;
GRANT UPDATE (streak, avoid_until) ON operator TO aethelos_execution;
-- What is known of a job is shown to its client too: why it ended, and for whom it waits.
GRANT SELECT ON issue, operator_run, provider_call, rule, journal TO aethelos_intake;
