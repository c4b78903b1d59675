-- One login role per service, with what it needs and nothing else. Nobody but the owner can write event, chain, journal or evidence; the owner's functions do it for them.
DO $$
DECLARE
  s text;
  role text;
BEGIN
  FOREACH s IN ARRAY ARRAY['intake', 'pricing', 'payments', 'execution', 'ledger', 'payouts', 'meta_repair', 'feed', 'board'] LOOP
    role := 'aethelos_' || s;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role) THEN
      EXECUTE format('CREATE ROLE %I LOGIN', role);
    END IF;
    EXECUTE format('ALTER ROLE %I SET search_path = aethelos, pg_temp', role);
    EXECUTE format('ALTER ROLE %I SET statement_timeout = %L', role, '30s');
    EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = %L', role, '10s');
    EXECUTE format('ALTER ROLE %I SET jit = off', role);
    -- Services read by primary key, a batch at a time. A plan made while the tables were empty would scan them for ever after: leave only the look-ups.
    EXECUTE format('ALTER ROLE %I SET enable_seqscan = off', role);
    EXECUTE format('ALTER ROLE %I SET enable_hashjoin = off', role);
    EXECUTE format('ALTER ROLE %I SET enable_mergejoin = off', role);
    EXECUTE format('GRANT USAGE ON SCHEMA aethelos TO %I', role);
    EXECUTE format('GRANT SELECT ON step, edge, chain, event, generation TO %I', role);
    EXECUTE format('GRANT SELECT, INSERT ON quarantine TO %I', role);
    IF s NOT IN ('meta_repair', 'feed', 'board') THEN
      EXECUTE format('GRANT EXECUTE ON FUNCTION advance TO %I', role);
    END IF;
  END LOOP;
END $$;
GRANT SELECT, INSERT ON submission TO aethelos_intake;
GRANT SELECT ON flow, offer, operator, payment_intent, evidence TO aethelos_intake;
GRANT SELECT ON flow, submission TO aethelos_pricing;
GRANT SELECT, INSERT ON payment_intent TO aethelos_payments;
GRANT SELECT ON evidence TO aethelos_payments, aethelos_payouts;
GRANT SELECT, DELETE ON evidence_inbox TO aethelos_payments, aethelos_payouts;
GRANT SELECT, INSERT, UPDATE ON reader TO aethelos_payments, aethelos_feed;
GRANT SELECT ON flow TO aethelos_execution;
GRANT SELECT, UPDATE (successes, failures, total_ms, last_error) ON operator TO aethelos_execution;
GRANT SELECT, INSERT, UPDATE ON operator_run TO aethelos_execution;
GRANT SELECT ON evidence_inbox, operator_run TO aethelos_meta_repair;
GRANT SELECT, INSERT, UPDATE ON figure TO aethelos_feed;
GRANT SELECT ON submission, payment_intent, evidence, evidence_inbox, journal, account, flow, offer, operator, operator_run, reader, figure, quarantine TO aethelos_board;
GRANT INSERT ON flow, offer TO aethelos_board;
GRANT INSERT ON operator TO aethelos_board;
GRANT EXECUTE ON FUNCTION submit_evidence TO aethelos_board;
