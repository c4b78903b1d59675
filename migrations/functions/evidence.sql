-- submit_evidence(): the only writer of evidence. Who may say what: a person's word comes through board or meta-repair, a provider's answer through
-- payments, and an internal transfer, which only system tasks know, is made by payments and reversed by meta-repair. What a provider says and the chain cannot take is kept in evidence_mismatch, and moves nothing.

CREATE OR REPLACE FUNCTION submit_evidence(
  p_id uuid[], p_event text[], p_kind text[], p_who text[], p_reference text[], p_amount bigint[]
) RETURNS TABLE (ord integer, verdict text, hearer text, lane text, version integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = aethelos, pg_temp
-- The batch is joined by hash with itself, and with what ANY finds of its chains.
SET enable_nestloop = off SET enable_hashjoin = on SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  mine text[] := CASE session_user WHEN 'aethelos_payments' THEN '{provider,internal}' WHEN 'aethelos_meta_repair' THEN '{person,internal}' ELSE '{person}' END;
BEGIN
  IF session_user LIKE 'aethelos_%' AND NOT p_kind <@ mine THEN
    RAISE EXCEPTION '% may not say this', session_user USING ERRCODE = 'insufficient_privilege';
  END IF;
  -- Against a clock that expires the chain meanwhile, and against somebody who says the same: what follows sees what he has stored.
  PERFORM 1 FROM chain c WHERE c.id = ANY (p_id) ORDER BY c.id FOR NO KEY UPDATE;
  RETURN QUERY
  WITH told AS MATERIALIZED (
    SELECT r.*, c.id IS NOT NULL AS known, c.kind AS chain_kind, c.step, c.version, c.lane, c.amount AS due, c.currency
    FROM unnest(p_id, p_event, p_kind, p_who, p_reference, p_amount) WITH ORDINALITY AS r (id, event, kind, who, reference, amount, ord)
    LEFT JOIN chain c ON c.id = r.id AND c.id = ANY (p_id)
  ), prior AS MATERIALIZED (
    SELECT t.ord, max(v.event) FILTER (WHERE v.event = t.event) AS event, bool_or(v.event = t.event AND v.reference = t.reference) AS same,
           bool_or(v.version = t.version) AS here
    FROM told t JOIN evidence v ON v.chain_id = t.id AND v.chain_id = ANY (p_id) GROUP BY t.ord
  ), place AS MATERIALIZED (
    -- Where the chains stand, and what may be said there: a handful.
    SELECT t.*, st.hearer, ed.event IS NOT NULL AS waits, ed.service
    FROM (SELECT DISTINCT chain_kind, step, event, kind FROM told WHERE known) t
    LEFT JOIN LATERAL (SELECT * FROM step x WHERE x.kind = t.chain_kind AND x.name = t.step OFFSET 0) st ON true
    LEFT JOIN LATERAL (SELECT * FROM step x WHERE x.kind = t.chain_kind AND x.name = t.event OFFSET 0) n ON true
    LEFT JOIN LATERAL (SELECT * FROM edge x WHERE x.kind = t.chain_kind AND x.from_step = t.step AND x.event = t.event
      AND (t.kind = ANY (coalesce(x.evidence, n.evidence)) OR (x.event = 'PAYMENT_EXPIRED' AND t.kind = 'provider')) OFFSET 0) ed ON true
  ), judged AS MATERIALIZED (
    SELECT t.*, p.hearer, p.service,
      CASE
        WHEN NOT t.known THEN 'unknown'
        WHEN prior.same AND coalesce(t.amount, t.due) IS NOT DISTINCT FROM t.due THEN 'repeated'
        WHEN prior.same OR prior.here THEN 'conflict'
        WHEN p.waits IS NOT TRUE AND prior.event IS NOT NULL THEN 'conflict'
        WHEN p.waits IS NOT TRUE THEN CASE WHEN t.step = 'PAYMENT_EXPIRED' THEN 'expired' ELSE 'not_waiting' END
        -- A provider's word of a payment that came in time counts although it is heard late.
        WHEN t.event = 'PAYMENT_CONFIRMED' AND t.kind = 'person' AND i.expires_at <= now() THEN 'expired'
        WHEN coalesce(t.amount, t.due) IS DISTINCT FROM t.due THEN 'amount'
        ELSE 'stored' END AS verdict
    FROM told t
    LEFT JOIN place p ON p.chain_kind = t.chain_kind AND p.step = t.step AND p.event = t.event AND p.kind = t.kind
    LEFT JOIN payment_intent i ON i.id = t.id AND i.id = ANY (p_id)
    LEFT JOIN prior ON prior.ord = t.ord
  ), seen AS MATERIALIZED (
    -- Of what one call says twice the first counts, and the others are judged as if it stood already.
    SELECT j.id, j.event, j.kind, j.who, j.reference, j.amount, j.ord, j.version, j.lane, j.due, j.currency, j.hearer, j.service,
      CASE WHEN j.verdict <> 'stored' OR row_number() OVER said = 1 THEN j.verdict
           WHEN j.event = first_value(j.event) OVER said AND j.reference = first_value(j.reference) OVER said THEN 'repeated' ELSE 'conflict' END AS verdict
    FROM judged j WINDOW said AS (PARTITION BY j.id, j.verdict ORDER BY j.ord)
  ), stored AS (
    INSERT INTO evidence (chain_id, version, event, kind, who, reference, amount, currency, hash)
    SELECT s.id, s.version, s.event, s.kind, s.who, s.reference, s.due, s.currency,
           sha256(convert_to(json_build_array(s.id, s.event, s.kind, s.who, s.reference, s.due, s.currency)::text, 'UTF8'))
    FROM seen s WHERE s.verdict = 'stored'
  ), heard AS (
    -- meta-repair moves the chain itself, in the transaction that stores the evidence.
    INSERT INTO evidence_inbox (chain_id) SELECT s.id FROM seen s WHERE s.verdict = 'stored' AND s.service <> 'meta_repair' ON CONFLICT DO NOTHING
  ), mismatch AS (
    INSERT INTO evidence_mismatch (chain_id, event, hash, verdict, kind, who, reference, amount)
    SELECT s.id, s.event, sha256(convert_to(json_build_array(s.kind, s.who, s.reference, s.amount)::text, 'UTF8')), s.verdict, s.kind, s.who, s.reference, s.amount
    FROM seen s WHERE s.kind = 'provider' AND s.verdict IN ('amount', 'conflict', 'not_waiting', 'expired') ON CONFLICT DO NOTHING
  )
  SELECT s.ord::integer, s.verdict, s.hearer, s.lane, s.version
  FROM seen s ORDER BY s.ord;
END $$;
COMMENT ON FUNCTION submit_evidence IS 'Stores evidence for chains that wait for it. p_amount NULL: the amount due. Per row: stored, repeated (same reference), conflict (another reference or amount stands), amount (differs), expired, not_waiting or unknown';
