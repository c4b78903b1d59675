-- What an operator refuses because of what it was given speaks against the job and not against the operator: it is counted apart, and neither its
-- health nor its score nor its pauses follow from it.

ALTER TABLE operator ADD COLUMN refusals bigint NOT NULL DEFAULT 0, ADD COLUMN refused_in_a_row bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN operator.failures IS 'Finished runs that failed and were not refused';
COMMENT ON COLUMN operator.refusals IS 'Finished runs that it refused because of their input: no failures';
COMMENT ON COLUMN operator.refused_in_a_row IS 'Of these, those since the last success: an operator that refuses everything shows here';

ALTER TABLE operator_run ADD COLUMN refused boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN operator_run.refused IS 'Of a failed run: the operator refused its input';

GRANT UPDATE (refusals, refused_in_a_row) ON operator TO aethelos_execution;
