-- How often a run was sent: an operator that says it never had a run is sent it again, and questions asked meanwhile are not attempts.
ALTER TABLE operator_run ADD COLUMN sends integer NOT NULL DEFAULT 1;
COMMENT ON COLUMN operator_run.sends IS 'How often it was sent, or tried to be';
