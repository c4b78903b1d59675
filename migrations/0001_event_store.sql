-- The event store and the chains: what has happened, where each chain stands, and the specification that says which steps are allowed.
-- advance() (0002) is the only writer of event, chain and journal.

-- A function may be executed by those it is granted to, and not by everybody.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

CREATE TABLE generation (
  n                 smallint PRIMARY KEY,
  system_identifier bigint NOT NULL,
  opened_at         timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE generation IS 'A new row each time the migration runner finds another cluster under the data (a restore): transaction ids of an older generation may stand above the new horizon';
COMMENT ON COLUMN generation.n IS 'Number of the generation; the highest is the present one';
COMMENT ON COLUMN generation.system_identifier IS 'pg_control_system().system_identifier when it was opened';
COMMENT ON COLUMN generation.opened_at IS 'When the runner opened it';

CREATE TABLE step (
  kind      text NOT NULL,
  name      text NOT NULL,
  hearer    text,
  waits_for text CHECK (waits_for IN ('payer', 'provider', 'operator', 'bank', 'person')),
  status    text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'completed', 'final_fail')),
  debit     text,
  credit    text,
  evidence  text[],
  PRIMARY KEY (kind, name),
  CHECK ((debit IS NULL) = (credit IS NULL)),
  CHECK (status = 'open' OR (hearer IS NULL AND waits_for IS NULL))
);
COMMENT ON TABLE step IS 'Chain specification: one row a place where a chain can stand, named by the event that brought it there';
COMMENT ON COLUMN step.kind IS 'Kind of chain: job or payout';
COMMENT ON COLUMN step.name IS 'The event after which a chain stands here';
COMMENT ON COLUMN step.hearer IS 'The one service that must move the chain on; its bell is rung';
COMMENT ON COLUMN step.waits_for IS 'The party outside for whom the chain waits here; NULL: it must move by itself, and is rung when it does not';
COMMENT ON COLUMN step.status IS 'Status of a chain that stands here';
COMMENT ON COLUMN step.debit IS 'Account debited with the amount of the chain when the event is written; NULL: not a money event';
COMMENT ON COLUMN step.credit IS 'Account credited with it';
COMMENT ON COLUMN step.evidence IS 'Kinds of evidence of which one must be stored for the chain before the event (I7); NULL: none needed';

CREATE TABLE edge (
  kind      text NOT NULL,
  from_step text NOT NULL,
  event     text NOT NULL,
  service   text NOT NULL,
  relation  text NOT NULL DEFAULT 'leads_to' CHECK (relation IN ('leads_to', 'depends_on', 'confirms', 'compensates')),
  deadline  interval,
  strategy  text,
  why       text NOT NULL,
  PRIMARY KEY (kind, from_step, event),
  FOREIGN KEY (kind, event) REFERENCES step (kind, name)
);
COMMENT ON TABLE edge IS 'Chain specification: one row an allowed move. The database refuses every other';
COMMENT ON COLUMN edge.kind IS 'Kind of chain';
COMMENT ON COLUMN edge.from_step IS 'Where the chain stands; empty: the chain does not exist yet';
COMMENT ON COLUMN edge.event IS 'The event that is written, and the step after it';
COMMENT ON COLUMN edge.service IS 'The one service that may make the move (login role aethelos_<service>)';
COMMENT ON COLUMN edge.relation IS 'leads_to: the main way; confirms: an answer from outside; compensates: undoes; depends_on: needs another chain';
COMMENT ON COLUMN edge.deadline IS 'After this long at from_step the move is late; NULL: by the row it stands in (expires_at) or never';
COMMENT ON COLUMN edge.strategy IS 'What is done when it is late';
COMMENT ON COLUMN edge.why IS 'One line for people';

INSERT INTO step (kind, name, hearer, waits_for, status, debit, credit, evidence) VALUES
  ('job', 'JOB_CREATED',         'pricing',   NULL,     'open', NULL, NULL, NULL),
  ('job', 'FLOW_CHOSEN',         'pricing',   NULL,     'open', NULL, NULL, NULL),
  ('job', 'PRICED',              'payments',  NULL,     'open', NULL, NULL, NULL),
  ('job', 'PAYMENT_REQUIRED',    'payments',  NULL,     'open', NULL, NULL, NULL),
  ('job', 'PAYMENT_INITIATED',   'payments',  'payer',  'open', NULL, NULL, NULL),
  ('job', 'PAYMENT_CONFIRMED',   'execution', NULL,     'open', 'cash', 'customer_prepayment', '{person}'),
  ('job', 'PAYMENT_EXPIRED',     NULL,        NULL,     'final_fail', NULL, NULL, NULL),
  ('job', 'EXECUTION_STARTED',   'execution', NULL,     'open', NULL, NULL, NULL),
  ('job', 'STEP_COMPLETED',      'execution', NULL,     'open', NULL, NULL, NULL),
  ('job', 'EXECUTION_COMPLETED', 'ledger',    NULL,     'open', NULL, NULL, NULL),
  ('job', 'EXECUTION_FAILED',    NULL,        'person', 'open', NULL, NULL, NULL),
  ('job', 'REVENUE_BOOKED',      NULL,        NULL,     'completed', 'customer_prepayment', 'revenue', NULL),
  ('payout', 'PAYOUT_EARNED',    'payouts',   NULL,     'open', 'owner_earnings', 'owner_payable', NULL),
  ('payout', 'PAYOUT_READY',     'payouts',   'person', 'open', NULL, NULL, NULL),
  ('payout', 'PAYOUT_DONE',      NULL,        NULL,     'completed', 'owner_payable', 'cash', '{person}');

INSERT INTO edge (kind, from_step, event, service, relation, deadline, strategy, why) VALUES
  ('job', '',                    'JOB_CREATED',         'intake',    'leads_to', NULL,            NULL,      'a client submitted a job and it was admitted'),
  ('job', 'JOB_CREATED',         'FLOW_CHOSEN',         'pricing',   'leads_to', '3600 s',        'ring',    'the flow that admission pinned'),
  ('job', 'FLOW_CHOSEN',         'PRICED',              'pricing',   'leads_to', '3600 s',        'ring',    'the price, with its derivation'),
  ('job', 'PRICED',              'PAYMENT_REQUIRED',    'payments',  'leads_to', '900 s',         'ring',    'the job has a price above zero or not: it is owed'),
  ('job', 'PAYMENT_REQUIRED',    'PAYMENT_INITIATED',   'payments',  'leads_to', '900 s',         'ring',    'the intent stands at the provider'),
  ('job', 'PAYMENT_INITIATED',   'PAYMENT_CONFIRMED',   'payments',  'confirms', NULL,            'ask',     'evidence of the payment is stored'),
  ('job', 'PAYMENT_INITIATED',   'PAYMENT_EXPIRED',     'payments',  'leads_to', NULL,            'expire',  'the intent ran out unpaid: nothing is owed'),
  ('job', 'PAYMENT_CONFIRMED',   'EXECUTION_STARTED',   'execution', 'depends_on', '1800 s',      'ring',    'paid work begins'),
  ('job', 'PAYMENT_CONFIRMED',   'EXECUTION_FAILED',    'execution', 'leads_to', '1800 s',        'ring',    'no operator is there for the first step'),
  ('job', 'EXECUTION_STARTED',   'STEP_COMPLETED',      'execution', 'leads_to', '1800 s',        'ask',     'an operator finished the first step'),
  ('job', 'EXECUTION_STARTED',   'EXECUTION_FAILED',    'execution', 'leads_to', '1800 s',        'ask',     'every operator failed definitely'),
  ('job', 'STEP_COMPLETED',      'STEP_COMPLETED',      'execution', 'leads_to', '1800 s',        'ask',     'an operator finished a further step'),
  ('job', 'STEP_COMPLETED',      'EXECUTION_FAILED',    'execution', 'leads_to', '1800 s',        'ask',     'every operator failed definitely'),
  ('job', 'STEP_COMPLETED',      'EXECUTION_COMPLETED', 'execution', 'leads_to', '1800 s',        'ring',    'the last step is done, the result stands'),
  ('job', 'EXECUTION_COMPLETED', 'REVENUE_BOOKED',      'ledger',    'leads_to', '3600 s',        'ring',    'the prepayment becomes revenue'),
  ('payout', '',                 'PAYOUT_EARNED',       'ledger',    'depends_on', NULL,          NULL,      'the booked revenue is owed to the owner'),
  ('payout', 'PAYOUT_EARNED',    'PAYOUT_READY',        'payouts',   'leads_to', '86400 s',       'ring',    'the payout can be transferred'),
  ('payout', 'PAYOUT_READY',     'PAYOUT_DONE',         'payouts',   'confirms', '86400 s',       'ask',     'evidence of the transfer is stored');

CREATE TABLE chain (
  id         uuid PRIMARY KEY,
  kind       text NOT NULL,
  step       text NOT NULL,
  version    integer NOT NULL CHECK (version > 0),
  status     text NOT NULL,
  waits_for  text,
  lane       text NOT NULL CHECK (lane IN ('high', 'normal', 'low')),
  client     text NOT NULL,
  amount     bigint CHECK (amount >= 0),
  currency   text,
  parent     uuid,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  CHECK ((amount IS NULL) = (currency IS NULL)),
  CHECK ((kind = 'payout') = (parent IS NOT NULL))
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
-- Nothing that every step changes is indexed, so that updates stay heap-only (HOT): this index changes only when a chain opens, begins or ends to wait for a party, or becomes final.
CREATE INDEX chain_standing ON chain (id) WHERE status = 'open' AND waits_for IS NULL;
CREATE UNIQUE INDEX chain_one_payout ON chain (parent) WHERE parent IS NOT NULL;
COMMENT ON TABLE chain IS 'Where each chain stands: the fold of its events (I3). Written by advance() alone';
COMMENT ON COLUMN chain.id IS 'UUIDv7; of a job it is also the id of its payment intent: one job, one charge (I5)';
COMMENT ON COLUMN chain.kind IS 'job or payout';
COMMENT ON COLUMN chain.step IS 'The last event';
COMMENT ON COLUMN chain.version IS 'Number of events; compared and set by every move';
COMMENT ON COLUMN chain.status IS 'open, completed or final_fail, from step.status';
COMMENT ON COLUMN chain.waits_for IS 'From step.waits_for; NULL and open means it must move by itself';
COMMENT ON COLUMN chain.lane IS 'Lane on the bus';
COMMENT ON COLUMN chain.client IS 'Who submitted';
COMMENT ON COLUMN chain.amount IS 'Price in minor units, from PRICED; a payout''s is the price of its job';
COMMENT ON COLUMN chain.currency IS 'ISO 4217 code';
COMMENT ON COLUMN chain.parent IS 'Of a payout: its job. Unique: one job, one payout obligation (I5)';
COMMENT ON COLUMN chain.created_at IS 'Time of the first event';
COMMENT ON COLUMN chain.updated_at IS 'Time of the last event, database clock';

CREATE TABLE event (
  generation smallint NOT NULL,
  xid        bigint NOT NULL,
  id         bigint GENERATED ALWAYS AS IDENTITY (CACHE 32),
  chain_id   uuid NOT NULL,
  version    integer NOT NULL CHECK (version > 0),
  type       text NOT NULL,
  at         timestamptz NOT NULL,
  data       text NOT NULL,
  PRIMARY KEY (chain_id, version)
);
CREATE INDEX event_tail ON event (generation, xid, id);
ALTER TABLE event ALTER COLUMN data SET STORAGE EXTENDED;
COMMENT ON TABLE event IS 'What has happened, append-only (I3, I10). A reader who follows it orders by (generation, xid, id) below pg_snapshot_xmin';
COMMENT ON COLUMN event.generation IS 'Generation in which it was written';
COMMENT ON COLUMN event.xid IS 'pg_current_xact_id() of its transaction';
COMMENT ON COLUMN event.id IS 'Public number; has gaps, and its order is not the order of commits';
COMMENT ON COLUMN event.chain_id IS 'The chain';
COMMENT ON COLUMN event.version IS '1, 2, 3, ... within the chain, without gaps';
COMMENT ON COLUMN event.type IS 'Name of the event';
COMMENT ON COLUMN event.at IS 'Transaction time, database clock';
COMMENT ON COLUMN event.data IS 'Exact JSON text: its bytes are the truth and can be hashed; read it in psql as data::json';

CREATE TABLE submission (
  client text NOT NULL,
  key    text NOT NULL CHECK (key ~ '^[A-Za-z0-9_-]{1,128}$'),
  hash   bytea NOT NULL CHECK (length(hash) = 32),
  job_id uuid NOT NULL,
  PRIMARY KEY (client, key)
);
COMMENT ON TABLE submission IS 'The key space of each client (I9): the same key answers with the same job for ever';
COMMENT ON COLUMN submission.client IS 'Who submitted';
COMMENT ON COLUMN submission.key IS 'Idempotency key, one space across HTTP, offers and the bus';
COMMENT ON COLUMN submission.hash IS 'SHA-256 over type, payload and context as minified JSON text, each behind its length';
COMMENT ON COLUMN submission.job_id IS 'The job chain that it opened';

CREATE TABLE payment_intent (
  id         uuid PRIMARY KEY,
  driver     text NOT NULL,
  expires_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX payment_intent_expiry ON payment_intent (expires_at);
COMMENT ON TABLE payment_intent IS 'What a client owes, held at a provider. Append-only: its status is the step of its job, which has the same id';
COMMENT ON COLUMN payment_intent.id IS 'The job''s id: one job, one charge (I5)';
COMMENT ON COLUMN payment_intent.driver IS 'Payment driver: manual';
COMMENT ON COLUMN payment_intent.expires_at IS 'After this it cannot be confirmed';
COMMENT ON COLUMN payment_intent.created_at IS 'When it was made';

CREATE TABLE evidence (
  chain_id  uuid NOT NULL,
  version   integer NOT NULL,
  event     text NOT NULL,
  kind      text NOT NULL CHECK (kind IN ('person')),
  who       text NOT NULL CHECK (length(who) BETWEEN 1 AND 200),
  reference text NOT NULL CHECK (length(reference) BETWEEN 1 AND 200),
  amount    bigint NOT NULL,
  currency  text NOT NULL,
  hash      bytea NOT NULL,
  at        timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (chain_id, version)
);
COMMENT ON TABLE evidence IS 'Proof from outside, one row for each place at which a chain waited for it. Append-only';
COMMENT ON COLUMN evidence.chain_id IS 'The chain that waited';
COMMENT ON COLUMN evidence.version IS 'Its version when it waited: a chain that is reopened waits at another one';
COMMENT ON COLUMN evidence.event IS 'The event that it allows';
COMMENT ON COLUMN evidence.kind IS 'person: an authorised person''s confirmation';
COMMENT ON COLUMN evidence.who IS 'Who says so';
COMMENT ON COLUMN evidence.reference IS 'Reference of the payment or transfer';
COMMENT ON COLUMN evidence.amount IS 'Minor units; must equal the chain''s';
COMMENT ON COLUMN evidence.currency IS 'ISO 4217 code';
COMMENT ON COLUMN evidence.hash IS 'SHA-256 over kind, who, reference, amount and currency';
COMMENT ON COLUMN evidence.at IS 'When it was stored, database clock';

CREATE TABLE evidence_inbox (
  chain_id uuid PRIMARY KEY,
  at       timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE evidence_inbox IS 'Chains with evidence that their service has not heard yet: what the ringer rings. Emptied by the move that uses the evidence';
COMMENT ON COLUMN evidence_inbox.chain_id IS 'The chain';
COMMENT ON COLUMN evidence_inbox.at IS 'Since when';

CREATE TABLE account (
  name  text PRIMARY KEY,
  class text NOT NULL CHECK (class IN ('asset', 'liability', 'income', 'expense')),
  what  text NOT NULL
);
COMMENT ON TABLE account IS 'Chart of accounts';
COMMENT ON COLUMN account.name IS 'Name, used in step.debit and step.credit';
COMMENT ON COLUMN account.class IS 'Class of the account';
COMMENT ON COLUMN account.what IS 'One line for people';
INSERT INTO account VALUES
  ('cash', 'asset', 'money that payers confirmed and that was not paid out yet'),
  ('customer_prepayment', 'liability', 'paid by customers, not earned yet'),
  ('revenue', 'income', 'earned by completed jobs'),
  ('owner_earnings', 'expense', 'what the owner takes out of revenue'),
  ('owner_payable', 'liability', 'owed to the owner, not transferred yet');
ALTER TABLE step ADD FOREIGN KEY (debit) REFERENCES account (name), ADD FOREIGN KEY (credit) REFERENCES account (name);

CREATE TABLE journal (
  chain_id uuid NOT NULL,
  version  integer NOT NULL,
  debit    text NOT NULL,
  credit   text NOT NULL,
  amount   bigint NOT NULL CHECK (amount >= 0),
  currency text NOT NULL,
  at       timestamptz NOT NULL,
  PRIMARY KEY (chain_id, version),
  CHECK (debit <> credit)
);
COMMENT ON TABLE journal IS 'Double entry as debit/credit pairs: balanced by construction (I6). One row for each money event, written with it by advance()';
COMMENT ON COLUMN journal.chain_id IS 'Chain of the money event';
COMMENT ON COLUMN journal.version IS 'Version of the money event';
COMMENT ON COLUMN journal.debit IS 'Account debited';
COMMENT ON COLUMN journal.credit IS 'Account credited';
COMMENT ON COLUMN journal.amount IS 'Minor units';
COMMENT ON COLUMN journal.currency IS 'ISO 4217 code';
COMMENT ON COLUMN journal.at IS 'Transaction time, database clock';

CREATE TABLE quarantine (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  service text NOT NULL,
  subject text,
  chain_id uuid,
  reason  text NOT NULL,
  bytes   bytea,
  at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE quarantine IS 'Messages and items that could not be used: kept for a person, while everything behind them goes on';
COMMENT ON COLUMN quarantine.id IS 'Number';
COMMENT ON COLUMN quarantine.service IS 'Who put it here';
COMMENT ON COLUMN quarantine.subject IS 'Bus subject, if it came by the bus';
COMMENT ON COLUMN quarantine.chain_id IS 'The chain, if it is known';
COMMENT ON COLUMN quarantine.reason IS 'Why';
COMMENT ON COLUMN quarantine.bytes IS 'The message, cut at 64 KiB';
COMMENT ON COLUMN quarantine.at IS 'When';
