-- CLEANUP: a stuck payment or execution resolved through meta-repair's antibody, by a command whose answer is the result of the task.

ALTER TABLE task_kind DROP CONSTRAINT task_kind_about_check;
ALTER TABLE task_kind ADD CONSTRAINT task_kind_about_check CHECK (about IN ('stack', 'catalogue', 'owner', 'operator', 'issue'));
COMMENT ON COLUMN task_kind.about IS 'operator, issue: about the one that the request names; else always about the same';
COMMENT ON COLUMN task_kind.offer IS 'The offer that has its job type, context (priority) and multiplier; about an issue: the beginning of its name, followed by the issue''s kind';
INSERT INTO task_kind (name, offer, about, what) VALUES
  ('CLEANUP', 'system_cleanup', 'issue', 'a stuck payment or execution, resolved by the antibody of its issue at once');
INSERT INTO flow (id, version, type, base, per_unit, currency, steps) VALUES
  ('system_stuck_payment_flow', 1, 'system:stuck_payment', '5.00', '0.01', 'EUR', '{system_stuck_payment,system_command}'),
  ('system_stuck_execution_flow', 1, 'system:stuck_execution', '5.00', '0.01', 'EUR', '{system_stuck_execution,system_command}');
INSERT INTO offer (id, version, product, title, type, context, multiplier, active) VALUES
  ('system_cleanup_stuck_payment', 1, 'System', 'Cleanup of a stuck payment', 'system:stuck_payment', '{"priority":"low"}', '1', true),
  ('system_cleanup_stuck_execution', 1, 'System', 'Cleanup of a stuck execution', 'system:stuck_execution', '{"priority":"low"}', '1', true);
INSERT INTO operator (name, kind, description, tags, idempotent) VALUES
  ('resolve_stuck_payment', 'builtin', 'system task: asks meta-repair to handle a stuck payment', '{system_stuck_payment}', true),
  ('resolve_stuck_execution', 'builtin', 'system task: asks meta-repair to handle a stuck execution', '{system_stuck_execution}', true),
  ('await_command', 'builtin', 'system task: what meta-repair answered', '{system_command}', true);
COMMENT ON COLUMN repair_command.id IS 'UUIDv7; also the reference of the evidence that the command leaves. Of a CLEANUP the id of the task';
GRANT SELECT, INSERT ON repair_command TO aethelos_execution;
