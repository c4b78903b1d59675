-- submit_evidence(): the only writer of evidence. Who may say what: a person's word comes through board or meta-repair, a provider's answer through
-- payments, and an internal transfer, which only system tasks know, is made by payments and reversed by meta-repair. What a provider says and the chain cannot take is kept in evidence_mismatch, and moves nothing.

CREATE OR REPLACE FUNCTION submit_evidence(
  p_id uuid[], p_event text[], p_kind text[], p_who text[], p_reference text[], p_amount bigint[]
) RETURNS TABLE (ord integer, verdict text, hearer text, lane text, version integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = aethelos, pg_temp
-- The batch is joined with itself by hash; OFFSET 0 keeps the look-ups of chains look-ups.
SET enable_nestloop = off SET enable_hashjoin = on SET enable_seqscan = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  mine text[] := CASE session_user WHEN 'aethelos_payments' THEN '{provider,internal}' WHEN 'aethelos_meta_repair' THEN '{person,internal}' ELSE '{person}' END;
BEGIN
  IF session_user LIKE 'aethelos_%' AND NOT p_kind <@ mine THEN
    RAISE EXCEPTION '% may not say this', session_user USING ERRCODE = 'insufficient_privilege';
  END IF;
  -- Against a clock that expires the chain meanwhile.
  PERFORM 1 FROM chain c WHERE c.id = ANY (p_id) ORDER BY c.id FOR SHARE;
  RETURN QUERY
  WITH r AS MATERIALIZED (
    SELECT u.*, row_number() OVER (PARTITION BY u.id ORDER BY u.ord) AS nth
    FROM unnest(p_id, p_event, p_kind, p_who, p_reference, p_amount) WITH ORDINALITY AS u (id, event, kind, who, reference, amount, ord)
  ), seen AS MATERIALIZED (
    SELECT r.*, c.version, c.lane, c.amount AS due, c.currency, st.hearer, ed.service,
      CASE
        WHEN c.id IS NULL THEN 'unknown'
        WHEN prior.same AND coalesce(r.amount, c.amount) IS NOT DISTINCT FROM c.amount THEN 'repeated'
        WHEN prior.same OR prior.here THEN 'conflict'
        WHEN ed.event IS NULL AND prior.event IS NOT NULL THEN 'conflict'
        WHEN ed.event IS NULL THEN CASE WHEN c.step = 'PAYMENT_EXPIRED' THEN 'expired' ELSE 'not_waiting' END
        -- A provider's word of a payment that came in time counts although it is heard late.
        WHEN r.event = 'PAYMENT_CONFIRMED' AND r.kind = 'person' AND i.expires_at <= now() THEN 'expired'
        WHEN coalesce(r.amount, c.amount) IS DISTINCT FROM c.amount THEN 'amount'
        WHEN r.nth > 1 THEN 'again'
        ELSE 'stored' END AS verdict
    FROM r
    LEFT JOIN LATERAL (SELECT * FROM chain x WHERE x.id = r.id OFFSET 0) c ON true
    LEFT JOIN LATERAL (SELECT * FROM step x WHERE x.kind = c.kind AND x.name = c.step OFFSET 0) st ON true
    LEFT JOIN LATERAL (SELECT * FROM step x WHERE x.kind = c.kind AND x.name = r.event OFFSET 0) n ON true
    LEFT JOIN LATERAL (SELECT * FROM edge x WHERE x.kind = c.kind AND x.from_step = c.step AND x.event = r.event
      AND (r.kind = ANY (coalesce(x.evidence, n.evidence)) OR (x.event = 'PAYMENT_EXPIRED' AND r.kind = 'provider')) OFFSET 0) ed ON true
    LEFT JOIN LATERAL (SELECT * FROM payment_intent x WHERE x.id = c.id AND r.event = 'PAYMENT_CONFIRMED' OFFSET 0) i ON true
    LEFT JOIN LATERAL (SELECT max(v.event) FILTER (WHERE v.event = r.event) AS event,
      bool_or(v.event = r.event AND v.reference = r.reference) AS same, bool_or(v.version = c.version) AS here
      FROM evidence v WHERE v.chain_id = r.id) prior ON true
  ), stored AS (
    INSERT INTO evidence (chain_id, version, event, kind, who, reference, amount, currency, hash)
    SELECT s.id, s.version, s.event, s.kind, s.who, s.reference, s.due, s.currency,
           sha256(convert_to(json_build_array(s.id, s.event, s.kind, s.who, s.reference, s.due, s.currency)::text, 'UTF8'))
    FROM seen s WHERE s.verdict = 'stored'
    ON CONFLICT DO NOTHING RETURNING chain_id
  ), heard AS (
    -- meta-repair moves the chain itself, in the transaction that stores the evidence.
    INSERT INTO evidence_inbox (chain_id) SELECT d.chain_id FROM stored d JOIN seen s ON s.id = d.chain_id AND s.verdict = 'stored'
    WHERE s.service <> 'meta_repair' ON CONFLICT DO NOTHING
  ), mismatch AS (
    INSERT INTO evidence_mismatch (chain_id, event, hash, verdict, kind, who, reference, amount)
    SELECT s.id, s.event, sha256(convert_to(json_build_array(s.kind, s.who, s.reference, s.amount)::text, 'UTF8')), s.verdict, s.kind, s.who, s.reference, s.amount
    FROM seen s WHERE s.kind = 'provider' AND s.verdict IN ('amount', 'conflict', 'not_waiting', 'expired') ON CONFLICT DO NOTHING
  )
  -- Two sessions at once: FOR SHARE lets both in, the primary key only one; the other asks again.
  SELECT s.ord::integer, CASE WHEN s.verdict = 'stored' AND NOT EXISTS (SELECT 1 FROM stored d WHERE d.chain_id = s.id) THEN 'again' ELSE s.verdict END,
         s.hearer, s.lane, s.version
  FROM seen s ORDER BY s.ord;
END $$;
COMMENT ON FUNCTION submit_evidence IS 'Stores evidence for chains that wait for it. p_amount NULL: the amount due. Per row: stored, repeated (same reference), conflict (another reference or amount stands), amount (differs), expired, not_waiting, unknown, or again (a concurrent call was faster: call again)';
