-- Code 19: a job whose context has a hasty label has a flow of its own, the high lane, and short times wherever it stands.

CREATE TABLE haste (
  label         text PRIMARY KEY,
  late          interval NOT NULL CHECK (late >= interval '0'),
  deadline      interval NOT NULL CHECK (deadline >= late),
  backoff_first interval NOT NULL CHECK (backoff_first > interval '0'),
  backoff_max   interval NOT NULL CHECK (backoff_max >= backoff_first)
);
COMMENT ON TABLE haste IS 'Labels of jobs that may not wait: no time of a rule is longer for them than here';
COMMENT ON COLUMN haste.label IS 'context.label of the job';
COMMENT ON COLUMN haste.late IS 'Longest rule.late';
COMMENT ON COLUMN haste.deadline IS 'Longest rule.deadline';
COMMENT ON COLUMN haste.backoff_first IS 'Longest rule.backoff_first';
COMMENT ON COLUMN haste.backoff_max IS 'Longest rule.backoff_max';
INSERT INTO haste VALUES ('code19_issue', '2 s', '10 s', '1 s', '60 s');

ALTER TABLE chain ADD COLUMN label text;
COMMENT ON COLUMN chain.label IS 'Of a job: its hasty label, as its first event says; NULL: none. No move changes it';

INSERT INTO flow (id, version, type, base, per_unit, currency, steps) VALUES ('code19_flow', 1, 'code19:issue', '20.00', '0.05', 'EUR', '{code19}');
INSERT INTO operator (name, kind, description, tags, idempotent) VALUES
  ('code19_text_summary', 'builtin', 'length, word count and preview of payload.text of a Code 19 job', '{code19}', true);

GRANT SELECT ON haste TO aethelos_meta_repair, aethelos_intake, aethelos_board;
