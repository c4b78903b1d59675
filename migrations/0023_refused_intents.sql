-- An intent that the provider refuses is asked for again, and might be for ever: a person may close the job. Not while the provider may have the intent
-- (guard, drop_refused_intent).
INSERT INTO edge (kind, from_step, event, service, relation, evidence, why) VALUES
  ('job', 'PAYMENT_REQUIRED', 'FINAL_FAIL', 'meta_repair', 'compensates', '{person}', 'a person closes a job whose intent the provider refuses');
COMMENT ON COLUMN provider_call.error IS 'Why it failed or is unknown; "send": it is sent again; of an intent "refused: ...": the provider''s last word, and it is asked for again';
COMMENT ON COLUMN operator_run.probes IS 'How often its outcome was asked since it was last sent';
