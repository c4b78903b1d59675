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
  twins boolean := (SELECT count(DISTINCT x) < count(*) FROM unnest(p_id) x);
  mine text[] := CASE session_user WHEN 'aethelos_payments' THEN '{provider,internal}' WHEN 'aethelos_meta_repair' THEN '{person,internal}' ELSE '{person}' END;
BEGIN
  IF session_user LIKE 'aethelos_%' AND NOT p_kind <@ mine THEN
    RAISE EXCEPTION '% may not say this', session_user USING ERRCODE = 'insufficient_privilege';
  END IF;
  -- Against a clock that expires the chain meanwhile, and against somebody who says the same: what follows sees what he has stored.
  PERFORM 1 FROM chain c WHERE c.id = ANY (p_id) ORDER BY c.id FOR NO KEY UPDATE;
  RETURN QUERY
  WITH told AS MATERIALIZED (
    -- What is said is taken by element where it is needed: narrow rows are cheaper to join and to keep.
    SELECT o AS ord, p_id[o] AS id, p_event[o] AS event, p_kind[o] AS kind, p_amount[o] AS amount, c.id IS NOT NULL AS known, c.kind AS chain_kind,
           c.step, c.version, c.lane, c.amount AS due, c.currency
    FROM generate_series(1, cardinality(p_id)) o LEFT JOIN chain c ON c.id = p_id[o] AND c.id = ANY (p_id)
  ), prior AS MATERIALIZED (
    SELECT t.ord, max(v.event) FILTER (WHERE v.event = t.event) AS event, bool_or(v.event = t.event AND v.reference = p_reference[t.ord]) AS same,
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
    SELECT t.ord, t.id, t.version, t.lane, t.due, t.currency, p.hearer, p.service,
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
  ), twin AS MATERIALIZED (
    SELECT j.ord, first_value(j.ord) OVER (PARTITION BY j.id ORDER BY j.ord) AS first FROM judged j WHERE twins AND j.verdict = 'stored'
  ), seen AS MATERIALIZED (
    -- Of what one call says twice the first counts, and the others are judged as if it stood already.
    SELECT j.ord, j.id, j.version, j.lane, j.due, j.currency, j.hearer, j.service,
      CASE WHEN w.first IS NULL OR w.first = j.ord THEN j.verdict
           WHEN p_event[j.ord] = p_event[w.first] AND p_reference[j.ord] = p_reference[w.first] THEN 'repeated' ELSE 'conflict' END AS verdict
    FROM judged j LEFT JOIN twin w ON w.ord = j.ord
  ), stored AS (
    INSERT INTO evidence (chain_id, version, event, kind, who, reference, amount, currency, hash)
    SELECT s.id, s.version, p_event[s.ord], p_kind[s.ord], p_who[s.ord], p_reference[s.ord], s.due, s.currency, sha256(convert_to(
             json_build_array(s.id, p_event[s.ord], p_kind[s.ord], p_who[s.ord], p_reference[s.ord], s.due, s.currency)::text, 'UTF8'))
    FROM seen s WHERE s.verdict = 'stored'
  ), heard AS (
    -- meta-repair moves the chain itself, in the transaction that stores the evidence.
    INSERT INTO evidence_inbox (chain_id) SELECT s.id FROM seen s WHERE s.verdict = 'stored' AND s.service <> 'meta_repair' ON CONFLICT DO NOTHING
  ), mismatch AS (
    INSERT INTO evidence_mismatch (chain_id, event, hash, verdict, kind, who, reference, amount)
    SELECT s.id, p_event[s.ord], sha256(convert_to(json_build_array(p_kind[s.ord], p_who[s.ord], p_reference[s.ord], p_amount[s.ord])::text, 'UTF8')),
           s.verdict, p_kind[s.ord], p_who[s.ord], p_reference[s.ord], p_amount[s.ord]
    FROM seen s WHERE p_kind[s.ord] = 'provider' AND s.verdict IN ('amount', 'conflict', 'not_waiting', 'expired') ON CONFLICT DO NOTHING
  )
  SELECT s.ord, s.verdict, s.hearer, s.lane, s.version
  FROM seen s ORDER BY s.ord;
END $$;
COMMENT ON FUNCTION submit_evidence IS 'Stores evidence for chains that wait for it. p_amount NULL: the amount due. Per row: stored, repeated (same reference), conflict (another reference or amount stands), amount (differs), expired, not_waiting or unknown';
