-- Hasty labels are versioned as rules are: a version is never changed, it is followed by another that says who made it and why. A label that is removed
-- gives no new job its times, and keeps those of the jobs that have it already.

ALTER TABLE haste RENAME TO haste_version;
ALTER TABLE haste_version RENAME CONSTRAINT haste_pkey TO haste_version_pkey;
ALTER TABLE haste_version
  ADD COLUMN version integer NOT NULL DEFAULT 1 CHECK (version > 0),
  ADD COLUMN removed boolean NOT NULL DEFAULT false,
  ADD COLUMN changed_by text NOT NULL DEFAULT 'installation' CHECK (length(changed_by) BETWEEN 1 AND 200),
  ADD COLUMN why text NOT NULL DEFAULT 'first version' CHECK (length(why) BETWEEN 1 AND 200),
  ADD COLUMN at timestamptz NOT NULL DEFAULT now();
ALTER TABLE haste_version DROP CONSTRAINT haste_version_pkey, ADD PRIMARY KEY (label, version);
-- Services keep it in 32 bytes. NOT VALID: a longer one of before never counted, and stays without effect.
ALTER TABLE haste_version ADD CONSTRAINT haste_version_label CHECK (octet_length(label) BETWEEN 1 AND 31) NOT VALID;
ALTER TABLE haste_version ALTER COLUMN version DROP DEFAULT, ALTER COLUMN changed_by DROP DEFAULT, ALTER COLUMN why DROP DEFAULT;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON haste_version FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TABLE haste_version IS 'Labels of jobs that may not wait: no time of a rule is longer for them than here. Append-only: the newest version of a label counts, the older ones say who changed what';
COMMENT ON COLUMN haste_version.version IS '1, 2, 3, ... of its label';
COMMENT ON COLUMN haste_version.removed IS 'No new job gets the label; the times go on counting for those that have it';
COMMENT ON COLUMN haste_version.changed_by IS 'Who made this version';
COMMENT ON COLUMN haste_version.why IS 'Why';
COMMENT ON COLUMN haste_version.at IS 'When';

CREATE VIEW haste AS
  SELECT DISTINCT ON (label) label, late, deadline, backoff_first, backoff_max, version, removed, changed_by, why, at
  FROM haste_version WHERE octet_length(label) <= 31 ORDER BY label, version DESC;
COMMENT ON VIEW haste IS 'The newest version of each hasty label, removed ones too';

CREATE VIEW rule_in_force AS
  WITH newest AS (SELECT DISTINCT ON (kind, step) * FROM rule ORDER BY kind, step, version DESC)
  SELECT ''::text AS label, n.kind, n.step, n.version, n.issue, n.antibody, n.basis, n.late, n.deadline, n.attempts, n.backoff_first, n.backoff_max
  FROM newest n
  UNION ALL
  SELECT h.label, n.kind, n.step, n.version, n.issue, n.antibody, n.basis, least(n.late, h.late), least(n.deadline, h.deadline), n.attempts,
         least(n.backoff_first, h.backoff_first), least(n.backoff_max, h.backoff_max)
  FROM newest n CROSS JOIN haste h WHERE n.kind = 'job';
COMMENT ON VIEW rule_in_force IS 'The newest version of each rule (label empty), and of those for jobs also as each hasty label has it';

ALTER TABLE repair_command DROP CONSTRAINT repair_command_what_check;
ALTER TABLE repair_command ADD CONSTRAINT repair_command_what_check
  CHECK (what IN ('auto_repair', 'redrive', 'refund', 'close', 'reopen', 'rule', 'task', 'haste')) NOT VALID;
COMMENT ON COLUMN repair_command.what IS 'auto_repair: handle issues now; redrive, refund, close, reopen: chains; rule: a new version of a rule; haste: of a hasty label; task: a system task';

GRANT SELECT ON haste, rule_in_force TO aethelos_meta_repair, aethelos_intake, aethelos_board;
GRANT INSERT ON haste_version TO aethelos_meta_repair;
