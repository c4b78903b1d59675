-- System tasks: internal work as chains of kind system. They are priced like jobs, paid by internal transfer, and end at EXECUTION_COMPLETED: no revenue,
-- no payout, no key of a client, no account of the customers' books.

COMMENT ON COLUMN step.kind IS 'Kind of chain: job, payout, issue or system';
COMMENT ON COLUMN chain.kind IS 'job, payout, issue or system';
COMMENT ON COLUMN figure.name IS 'Type of the event counted; of system tasks behind the word system, so that no customer figure counts them';

INSERT INTO account VALUES
  ('system_expense', 'expense', 'internal work, paid by the system to itself'),
  ('system_account', 'liability', 'what internal work was paid from: the counterpart of system_expense, and of nothing else');

INSERT INTO step (kind, name, hearer, status, debit, credit, evidence) VALUES
  ('system', 'TASK_CREATED',        'pricing',     'open', NULL, NULL, NULL),
  ('system', 'FLOW_CHOSEN',         'pricing',     'open', NULL, NULL, NULL),
  ('system', 'PRICED',              'payments',    'open', NULL, NULL, NULL),
  ('system', 'PAYMENT_CONFIRMED',   'execution',   'open', 'system_expense', 'system_account', '{internal}'),
  ('system', 'EXECUTION_STARTED',   'execution',   'open', NULL, NULL, NULL),
  ('system', 'STEP_COMPLETED',      'execution',   'open', NULL, NULL, NULL),
  ('system', 'EXECUTION_COMPLETED', NULL,          'completed', NULL, NULL, NULL),
  ('system', 'EXECUTION_FAILED',    'meta-repair', 'open', NULL, NULL, NULL),
  ('system', 'EXECUTION_REQUIRED',  'execution',   'open', NULL, NULL, NULL),
  ('system', 'PAYMENT_REVERSED',    'meta-repair', 'open', 'system_account', 'system_expense', '{internal}'),
  ('system', 'FINAL_FAIL',          NULL,          'final_fail', NULL, NULL, NULL);

INSERT INTO edge (kind, from_step, event, service, relation, why) VALUES
  ('system', '',                   'TASK_CREATED',        'meta_repair', 'leads_to',    'an issue or a person asks for internal work (open_task)'),
  ('system', 'TASK_CREATED',       'FLOW_CHOSEN',         'pricing',     'leads_to',    'the flow that was pinned when it was opened'),
  ('system', 'FLOW_CHOSEN',        'PRICED',              'pricing',     'leads_to',    'the price, with its derivation'),
  ('system', 'PRICED',             'PAYMENT_CONFIRMED',   'payments',    'confirms',    'the internal transfer is made, and its evidence stored'),
  ('system', 'PAYMENT_CONFIRMED',  'EXECUTION_STARTED',   'execution',   'depends_on',  'the work begins'),
  ('system', 'PAYMENT_CONFIRMED',  'EXECUTION_FAILED',    'execution',   'leads_to',    'no operator is there for the first step'),
  ('system', 'EXECUTION_STARTED',  'STEP_COMPLETED',      'execution',   'leads_to',    'the first step is done'),
  ('system', 'EXECUTION_STARTED',  'EXECUTION_FAILED',    'execution',   'leads_to',    'the first step failed'),
  ('system', 'STEP_COMPLETED',     'STEP_COMPLETED',      'execution',   'leads_to',    'a further step is done'),
  ('system', 'STEP_COMPLETED',     'EXECUTION_FAILED',    'execution',   'leads_to',    'a further step failed'),
  ('system', 'STEP_COMPLETED',     'EXECUTION_COMPLETED', 'execution',   'leads_to',    'the work is done, its result stands: the end'),
  ('system', 'EXECUTION_FAILED',   'EXECUTION_REQUIRED',  'meta_repair', 'leads_to',    'the failed step is done again'),
  ('system', 'EXECUTION_REQUIRED', 'EXECUTION_STARTED',   'execution',   'leads_to',    'execution goes on at the failed step'),
  ('system', 'EXECUTION_REQUIRED', 'EXECUTION_FAILED',    'execution',   'leads_to',    'no operator is there for the failed step'),
  ('system', 'PAYMENT_CONFIRMED',  'PAYMENT_REVERSED',    'meta_repair', 'compensates', 'the work could not begin: the transfer is reversed'),
  ('system', 'EXECUTION_REQUIRED', 'PAYMENT_REVERSED',    'meta_repair', 'compensates', 'the failed step could not begin again'),
  ('system', 'EXECUTION_STARTED',  'PAYMENT_REVERSED',    'meta_repair', 'compensates', 'the work does not go on'),
  ('system', 'STEP_COMPLETED',     'PAYMENT_REVERSED',    'meta_repair', 'compensates', 'the work does not go on'),
  ('system', 'EXECUTION_FAILED',   'PAYMENT_REVERSED',    'meta_repair', 'compensates', 'the work failed: the transfer is reversed'),
  ('system', 'PAYMENT_REVERSED',   'FINAL_FAIL',          'meta_repair', 'compensates', 'reversed: nobody is owed anything'),
  ('system', 'TASK_CREATED',       'FINAL_FAIL',          'meta_repair', 'compensates', 'it could not be priced: nothing was transferred'),
  ('system', 'FLOW_CHOSEN',        'FINAL_FAIL',          'meta_repair', 'compensates', 'it could not be priced: nothing was transferred'),
  ('system', 'PRICED',             'FINAL_FAIL',          'meta_repair', 'compensates', 'it could not be paid: nothing was transferred');

INSERT INTO rule (kind, step, version, issue, antibody, basis, late, deadline, attempts, backoff_first, backoff_max, changed_by, why) VALUES
  ('system', 'TASK_CREATED',       1, 'SYSTEM_TASK_UNANSWERED', 'ring_again', 'step', '60 s', '300 s', 8, '30 s', '600 s', 'installation', 'first version'),
  ('system', 'FLOW_CHOSEN',        1, 'SYSTEM_TASK_UNANSWERED', 'ring_again', 'step', '60 s', '300 s', 8, '30 s', '600 s', 'installation', 'first version'),
  ('system', 'PRICED',             1, 'SYSTEM_TASK_UNANSWERED', 'ring_again', 'step', '60 s', '300 s', 8, '30 s', '600 s', 'installation', 'first version'),
  ('system', 'PAYMENT_CONFIRMED',  1, 'SYSTEM_TASK_UNANSWERED', 'ring_again', 'step', '60 s', '300 s', 8, '30 s', '600 s', 'installation', 'first version'),
  ('system', 'EXECUTION_REQUIRED', 1, 'SYSTEM_TASK_UNANSWERED', 'ring_again', 'step', '60 s', '300 s', 8, '30 s', '600 s', 'installation', 'first version'),
  ('system', 'EXECUTION_STARTED',  1, 'SYSTEM_TASK_UNANSWERED', 'ring_again', 'step', '60 s', '300 s', 8, '30 s', '600 s', 'installation', 'first version'),
  ('system', 'STEP_COMPLETED',     1, 'SYSTEM_TASK_UNANSWERED', 'ring_again', 'step', '60 s', '300 s', 8, '30 s', '600 s', 'installation', 'first version'),
  ('system', 'EXECUTION_FAILED',   1, 'SYSTEM_TASK_UNANSWERED', 'run_again',  'step', '0 s',  '0 s',   1, '30 s', '600 s', 'installation', 'first version'),
  ('system', 'PAYMENT_REVERSED',   1, 'SYSTEM_TASK_UNANSWERED', 'ring_again', 'step', '60 s', '300 s', 8, '30 s', '600 s', 'installation', 'first version');

-- At most one active task of a kind about the same thing. Neither column is touched by a move, so updates stay as they are (HOT).
ALTER TABLE chain ADD COLUMN task text;
ALTER TABLE chain ADD CONSTRAINT chain_task CHECK ((kind = 'system') = (task IS NOT NULL)) NOT VALID;
CREATE UNIQUE INDEX chain_one_task ON chain (task) WHERE task IS NOT NULL AND status = 'open';
CREATE INDEX chain_of_task ON chain (id) WHERE task IS NOT NULL;
COMMENT ON COLUMN chain.task IS 'Of a system task: KIND/what it is about, as its first event says. Unique among the open ones';

CREATE TABLE task_kind (
  name  text PRIMARY KEY,
  offer text NOT NULL,
  about text NOT NULL CHECK (about IN ('stack', 'catalogue', 'owner', 'operator')),
  what  text NOT NULL
);
COMMENT ON TABLE task_kind IS 'Kinds of system tasks';
COMMENT ON COLUMN task_kind.name IS 'Name';
COMMENT ON COLUMN task_kind.offer IS 'The offer that has its job type, context (priority) and multiplier';
COMMENT ON COLUMN task_kind.about IS 'operator: about the one that the request names; else always about the same';
COMMENT ON COLUMN task_kind.what IS 'One line for people';
INSERT INTO task_kind (name, offer, about, what) VALUES
  ('HEALTH_CHECK',      'system_health_check',      'stack',     'what stands, what is late, what is broken, and whether database and broker answer'),
  ('FLOW_AUDIT',        'system_flow_audit',        'catalogue', 'whether each flow has a healthy operator for each of its tags'),
  ('OPERATOR_TUNING',   'system_operator_tuning',   'operator',  'how often an operator failed lately, and with what; one that fails too often is avoided where another stands in'),
  ('PAYOUT_SETTLEMENT', 'system_payout_settlement', 'owner',     'the payouts that are ready, gathered for the transfer: sums, and a list to export');

INSERT INTO flow (id, version, type, base, per_unit, currency, steps) VALUES
  ('system_health_flow', 2, 'system:health_check', '5.00', '0.01', 'EUR', '{system_health}'),
  ('system_audit_flow', 1, 'system:flow_audit', '5.00', '0.01', 'EUR', '{system_flows}'),
  ('system_tuning_flow', 1, 'system:operator_tuning', '5.00', '0.01', 'EUR', '{system_operator}'),
  ('system_settlement_flow', 1, 'system:payout_settlement', '5.00', '0.01', 'EUR', '{system_payouts}');
INSERT INTO offer (id, version, product, title, type, context, multiplier, active) VALUES
  ('system_health_check', 1, 'System', 'Health check', 'system:health_check', '{"priority":"low"}', '1', true),
  ('system_flow_audit', 1, 'System', 'Audit of the flows', 'system:flow_audit', '{"priority":"low"}', '1', true),
  ('system_operator_tuning', 1, 'System', 'Analysis of an operator', 'system:operator_tuning', '{"priority":"low"}', '1', true),
  ('system_payout_settlement', 1, 'System', 'Settlement of payouts', 'system:payout_settlement', '{"priority":"low"}', '1', true);
INSERT INTO operator (name, kind, description, tags, idempotent) VALUES
  ('check_health', 'builtin', 'system task: the health of the stack', '{system_health}', true),
  ('audit_flows', 'builtin', 'system task: every flow against the operators there are', '{system_flows}', true),
  ('analyze_operator_fail_rate', 'builtin', 'system task: statistics of the runs of an operator', '{system_operator}', true),
  ('prepare_owner_payout', 'builtin', 'system task: gathers the payouts that are ready', '{system_payouts}', true);

CREATE TABLE settlement_item (
  task_id   uuid NOT NULL,
  payout_id uuid NOT NULL,
  PRIMARY KEY (task_id, payout_id)
);
CREATE INDEX settlement_item_payout ON settlement_item (payout_id);
COMMENT ON TABLE settlement_item IS 'The payouts that a PAYOUT_SETTLEMENT gathered, written with its result. It moves no money: a payout is done by the evidence of its transfer';
COMMENT ON COLUMN settlement_item.task_id IS 'The task';
COMMENT ON COLUMN settlement_item.payout_id IS 'A payout that was ready then';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON settlement_item FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE repair_command DROP CONSTRAINT repair_command_what_check;
ALTER TABLE repair_command ADD CONSTRAINT repair_command_what_check CHECK (what IN ('auto_repair', 'redrive', 'refund', 'close', 'reopen', 'rule', 'task'));
COMMENT ON COLUMN repair_command.what IS 'auto_repair: handle issues now; redrive, refund, close, reopen: chains; rule: a new version of a rule; task: a system task';

GRANT SELECT ON repair_figure, issue, lease TO aethelos_execution;
GRANT SELECT, INSERT ON settlement_item TO aethelos_execution;
GRANT SELECT ON settlement_item TO aethelos_meta_repair, aethelos_board;
GRANT SELECT ON task_kind TO aethelos_board;
