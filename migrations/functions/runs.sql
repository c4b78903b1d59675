-- decide_run(): the only writer of run_decision. A person's word counts only where the operator's own cannot be had (I7).

CREATE OR REPLACE FUNCTION decide_run(p_run uuid, p_outcome text, p_output text, p_who text, p_reference text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = aethelos, pg_temp
AS $$
DECLARE
  r operator_run%ROWTYPE;
  d run_decision%ROWTYPE;
BEGIN
  -- Against execution, which takes the row before it acts on it.
  SELECT * INTO r FROM operator_run x WHERE x.id = p_run FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 'unknown';
  END IF;
  SELECT * INTO d FROM run_decision x WHERE x.run_id = p_run;
  IF FOUND THEN
    RETURN CASE WHEN (d.outcome, d.who, d.reference) = (p_outcome, p_who, p_reference) AND d.output IS NOT DISTINCT FROM p_output THEN 'repeated'
                ELSE 'conflict' END;
  END IF;
  IF r.state IN ('done', 'failed') THEN
    RETURN 'known';
  END IF;
  IF r.lease_until > now() THEN
    RETURN 'calling';
  END IF;
  IF (r.error LIKE 'not sent: %' OR EXISTS (SELECT 1 FROM operator o WHERE o.name = r.operator AND (o.status_url IS NOT NULL OR o.idempotent)))
     AND NOT EXISTS (
       SELECT 1 FROM chain c
       JOIN rule_in_force u ON (u.kind, u.step) = (c.kind, c.step) AND u.label = coalesce((SELECT h.label FROM haste h WHERE h.label = c.label), '')
       WHERE c.id = r.chain_id AND r.started_at + u.deadline <= now()) THEN
    RETURN 'askable';
  END IF;
  INSERT INTO run_decision (run_id, outcome, output, who, reference) VALUES (p_run, p_outcome, p_output, p_who, p_reference);
  UPDATE operator_run x SET next_at = now() WHERE x.id = p_run;
  RETURN 'stored';
END $$;
COMMENT ON FUNCTION decide_run IS 'Stores a person''s word about an open run, and has execution look at it: stored; repeated (the same stands); conflict (another stands); unknown (no such run); known (done or failed); calling (its call may still be under way); askable (its operator can be asked or sent to, and the run is younger than the deadline of the rule for its chain''s step)';
REVOKE INSERT ON run_decision FROM aethelos_board;
GRANT EXECUTE ON FUNCTION decide_run TO aethelos_board;
