-- advance(): the only writer of event, chain and journal; submit_evidence(): the only writer of evidence.
-- Both are set-based, lock chains in id order (no deadlocks between instances), and answer a verdict per row instead of failing.

CREATE FUNCTION advance(
  t_id uuid[], t_expected integer[], t_kind text[], t_client text[], t_lane text[], t_parent uuid[],
  e_t integer[], e_type text[], e_data text[]
) RETURNS TABLE (ord integer, verdict text, version integer, step text, hearer text, lane text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = aethelos, pg_temp
-- An empty or un-analysed chain table must not lead to a scan of all chains for each batch: the shape of the plan is pinned to the primary key.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  svc text := substr(session_user, length('aethelos_') + 1);
  gen smallint := (SELECT max(n) FROM generation);
  x bigint := pg_current_xact_id()::text::bigint;
BEGIN
  PERFORM 1 FROM chain c WHERE c.id = ANY (t_id) ORDER BY c.id FOR UPDATE;
  RETURN QUERY
  WITH t AS MATERIALIZED (
    SELECT u.*, row_number() OVER (PARTITION BY u.id ORDER BY u.ord) AS nth
    FROM unnest(t_id, t_expected, t_kind, t_client, t_lane, t_parent) WITH ORDINALITY AS u (id, expected, kind, client, lane, parent, ord)
  ), stand AS MATERIALIZED (
    SELECT t.ord, t.id, t.nth, t.expected, t.parent, c.id IS NULL AS opens,
           coalesce(c.kind, t.kind) AS kind, coalesce(c.step, '') AS step, coalesce(c.version, 0) AS version, c.status,
           coalesce(c.client, p.client, t.client) AS client, coalesce(c.lane, p.lane, t.lane) AS lane,
           coalesce(c.amount, p.amount) AS amount, coalesce(c.currency, p.currency) AS currency, p.step AS parent_step
    FROM t LEFT JOIN chain c ON c.id = t.id LEFT JOIN chain p ON p.id = t.parent
  ), ev AS MATERIALIZED (
    SELECT e.t, e.type, e.data, row_number() OVER w AS n, lag(e.type) OVER w AS prev, lead(e.type) OVER w IS NULL AS last
    FROM unnest(e_t, e_type, e_data) WITH ORDINALITY AS e (t, type, data, o)
    WINDOW w AS (PARTITION BY e.t ORDER BY e.o)
  ), checked AS MATERIALIZED (
    SELECT s.ord, s.id, ev.n, ev.type, ev.data, ev.last, st.status, st.waits_for, st.hearer, st.debit, st.credit,
           CASE WHEN ev.type = 'PRICED' THEN (ev.data::json #>> '{amount,minor}')::bigint END AS priced,
           CASE WHEN ev.type = 'PRICED' THEN ev.data::json #>> '{amount,currency}' END AS priced_currency,
           ed.event IS NOT NULL
           AND (st.evidence IS NULL OR EXISTS (
             SELECT 1 FROM evidence v WHERE v.chain_id = s.id AND v.version = s.version + ev.n - 1 AND v.event = ev.type
               AND v.kind = ANY (st.evidence) AND v.amount = s.amount AND v.currency = s.currency))
           AND (ev.type <> 'PAYMENT_EXPIRED' OR (
             NOT EXISTS (SELECT 1 FROM evidence v WHERE v.chain_id = s.id AND v.version = s.version)
             AND EXISTS (SELECT 1 FROM payment_intent i WHERE i.id = s.id AND i.expires_at <= now()))) AS allowed
    FROM stand s JOIN ev ON ev.t = s.ord
    LEFT JOIN edge ed ON ed.kind = s.kind AND ed.from_step = coalesce(ev.prev, s.step) AND ed.event = ev.type AND ed.service = svc
    LEFT JOIN step st ON st.kind = s.kind AND st.name = ev.type
  ), sound AS MATERIALIZED (
    SELECT k.ord, count(*)::integer AS n, bool_and(k.allowed) AS allowed, max(k.priced) AS priced, max(k.priced_currency) AS priced_currency,
           max(k.type) FILTER (WHERE k.last) AS step, max(k.status) FILTER (WHERE k.last) AS status,
           max(k.waits_for) FILTER (WHERE k.last) AS waits_for, max(k.hearer) FILTER (WHERE k.last) AS hearer
    FROM checked k GROUP BY k.ord
  ), judged AS MATERIALIZED (
    SELECT s.*, o.n, o.step AS new_step, o.status AS new_status, o.waits_for, o.hearer, o.priced, o.priced_currency,
           CASE WHEN s.nth > 1 OR s.version <> s.expected THEN 'lost'
                WHEN o.allowed AND (s.opens OR s.status = 'open') AND NOT (s.opens AND s.kind = 'payout' AND s.amount IS NULL) THEN 'won'
                ELSE 'refused' END AS verdict
    FROM stand s LEFT JOIN sound o ON o.ord = s.ord
  ), decided AS MATERIALIZED (
    -- Booked revenue and the payout obligation that follows from it win together or not at all.
    SELECT j.*, CASE
        WHEN j.verdict <> 'won' THEN j.verdict
        WHEN j.new_step = 'REVENUE_BOOKED' AND NOT EXISTS (SELECT 1 FROM judged q WHERE q.parent = j.id AND q.opens AND q.verdict = 'won') THEN 'refused'
        WHEN j.opens AND j.kind = 'payout' AND NOT EXISTS (SELECT 1 FROM judged q WHERE q.id = j.parent AND q.new_step = 'REVENUE_BOOKED' AND q.verdict = 'won') THEN 'lost'
        ELSE 'won' END AS final
    FROM judged j
  ), opened AS (
    INSERT INTO chain (id, kind, step, version, status, waits_for, lane, client, amount, currency, parent, created_at, updated_at)
    SELECT d.id, d.kind, d.new_step, d.n, d.new_status, d.waits_for, d.lane, d.client, d.amount, d.currency, d.parent, now(), now()
    FROM decided d WHERE d.final = 'won' AND d.opens
  ), moved AS (
    UPDATE chain c SET step = d.new_step, version = d.version + d.n, status = d.new_status, waits_for = d.waits_for,
           amount = coalesce(d.priced, c.amount), currency = coalesce(d.priced_currency, c.currency), updated_at = now()
    FROM decided d WHERE d.final = 'won' AND NOT d.opens AND c.id = d.id
  ), written AS (
    INSERT INTO event (generation, xid, chain_id, version, type, at, data)
    SELECT gen, x, d.id, d.version + k.n, k.type, now(), k.data
    FROM decided d JOIN checked k ON k.ord = d.ord WHERE d.final = 'won' ORDER BY d.ord, k.n
  ), posted AS (
    INSERT INTO journal (chain_id, version, debit, credit, amount, currency, at)
    SELECT d.id, d.version + k.n, k.debit, k.credit, d.amount, d.currency, now()
    FROM decided d JOIN checked k ON k.ord = d.ord WHERE d.final = 'won' AND k.debit IS NOT NULL
  )
  SELECT d.ord::integer, d.final,
         (CASE WHEN d.final = 'won' THEN d.version + d.n ELSE d.version END)::integer,
         CASE WHEN d.final = 'won' THEN d.new_step ELSE d.step END,
         CASE WHEN d.final = 'won' THEN d.hearer END, d.lane
  FROM decided d ORDER BY d.ord;
END $$;
COMMENT ON FUNCTION advance IS 'Moves a batch of chains, at most one transition (of one or more events) per chain and call. Transition i is t_*[i]; event j belongs to transition e_t[j]. t_expected 0 opens a chain (t_kind, t_client, t_lane; t_parent for a payout). Per transition: won, lost (another was faster, or a repeat) or refused (no such edge for this service, or evidence is missing)';

CREATE FUNCTION submit_evidence(
  p_id uuid[], p_event text[], p_kind text[], p_who text[], p_reference text[], p_amount bigint[]
) RETURNS TABLE (ord integer, verdict text, hearer text, lane text, version integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = aethelos, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
BEGIN
  -- Against a clock that expires the chain meanwhile.
  PERFORM 1 FROM chain c WHERE c.id = ANY (p_id) ORDER BY c.id FOR SHARE;
  RETURN QUERY
  WITH r AS MATERIALIZED (
    SELECT u.*, row_number() OVER (PARTITION BY u.id ORDER BY u.ord) AS nth
    FROM unnest(p_id, p_event, p_kind, p_who, p_reference, p_amount) WITH ORDINALITY AS u (id, event, kind, who, reference, amount, ord)
  ), seen AS MATERIALIZED (
    SELECT r.*, c.version, c.lane, c.amount AS due, c.currency, st.hearer, prior.reference AS prior_reference,
      CASE
        WHEN c.id IS NULL THEN 'unknown'
        WHEN prior.reference IS NOT NULL THEN CASE WHEN prior.reference = r.reference AND coalesce(r.amount, c.amount) = c.amount THEN 'repeated' ELSE 'conflict' END
        WHEN ed.event IS NULL OR c.status <> 'open' THEN CASE WHEN c.step = 'PAYMENT_EXPIRED' THEN 'expired' ELSE 'not_waiting' END
        WHEN i.expires_at <= now() THEN 'expired'
        WHEN coalesce(r.amount, c.amount) <> c.amount THEN 'amount'
        WHEN r.nth > 1 THEN 'again'
        ELSE 'stored' END AS verdict
    FROM r
    LEFT JOIN chain c ON c.id = r.id
    LEFT JOIN step st ON st.kind = c.kind AND st.name = c.step
    LEFT JOIN edge ed ON ed.kind = c.kind AND ed.from_step = c.step AND ed.event = r.event AND ed.relation = 'confirms'
    LEFT JOIN payment_intent i ON i.id = c.id
    LEFT JOIN LATERAL (SELECT v.reference FROM evidence v WHERE v.chain_id = r.id AND v.event = r.event ORDER BY v.version DESC LIMIT 1) prior ON true
  ), stored AS (
    INSERT INTO evidence (chain_id, version, event, kind, who, reference, amount, currency, hash)
    SELECT s.id, s.version, s.event, s.kind, s.who, s.reference, s.due, s.currency,
           sha256(convert_to(json_build_array(s.id, s.event, s.kind, s.who, s.reference, s.due, s.currency)::text, 'UTF8'))
    FROM seen s WHERE s.verdict = 'stored'
    ON CONFLICT DO NOTHING RETURNING chain_id
  ), heard AS (
    INSERT INTO evidence_inbox (chain_id) SELECT chain_id FROM stored ON CONFLICT DO NOTHING
  )
  -- Two sessions at once: FOR SHARE lets both in, the primary key only one; the other asks again.
  SELECT s.ord::integer, CASE WHEN s.verdict = 'stored' AND NOT EXISTS (SELECT 1 FROM stored d WHERE d.chain_id = s.id) THEN 'again' ELSE s.verdict END,
         s.hearer, s.lane, s.version
  FROM seen s ORDER BY s.ord;
END $$;
COMMENT ON FUNCTION submit_evidence IS 'Stores evidence for chains that wait for it. p_amount NULL: the amount due. Per row: stored, repeated (same reference), conflict (another reference or amount stands), amount (differs), expired, not_waiting, unknown, or again (a concurrent call was faster: call again)';

-- Immutable for everybody, the owner included.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
COMMENT ON FUNCTION refuse_change IS 'Trigger of the append-only tables';
DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['event', 'journal', 'evidence', 'submission', 'payment_intent', 'generation'] LOOP
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', t);
  END LOOP;
END $$;

CREATE FUNCTION audit() RETURNS TABLE (invariant text, chain_id uuid, fault text)
LANGUAGE sql STABLE SET search_path = aethelos, pg_temp AS $$
  -- I3: versions without gaps, the row is the fold of its events, every step an allowed edge.
  SELECT 'I3', c.id, 'the row is not the fold of its events'
  FROM chain c LEFT JOIN LATERAL (
    SELECT count(*) AS n, max(e.version) AS top, (array_agg(e.type ORDER BY e.version DESC))[1] AS step,
           max((e.data::json #>> '{amount,minor}')::bigint) FILTER (WHERE e.type IN ('PRICED', 'PAYOUT_EARNED')) AS amount
    FROM event e WHERE e.chain_id = c.id) f ON true
  LEFT JOIN step s ON s.kind = c.kind AND s.name = c.step
  WHERE f.n <> c.version OR f.top <> c.version OR f.step <> c.step OR s.status <> c.status OR s.waits_for IS DISTINCT FROM c.waits_for
     OR f.amount IS DISTINCT FROM c.amount
  UNION ALL
  SELECT 'I3', e.chain_id, 'event without an allowed edge: ' || e.type
  FROM (SELECT e.chain_id, e.type, coalesce(lag(e.type) OVER (PARTITION BY e.chain_id ORDER BY e.version), '') AS prev FROM event e) e
  LEFT JOIN chain c ON c.id = e.chain_id
  LEFT JOIN edge d ON d.kind = c.kind AND d.from_step = e.prev AND d.event = e.type
  WHERE d.event IS NULL
  UNION ALL
  SELECT 'I4', e.chain_id, 'execution without a confirmed payment'
  FROM event e WHERE e.type LIKE 'EXECUTION_%'
    AND NOT EXISTS (SELECT 1 FROM event p WHERE p.chain_id = e.chain_id AND p.type = 'PAYMENT_CONFIRMED' AND p.version < e.version)
  UNION ALL
  SELECT 'I5', e.chain_id, 'more than one ' || e.type
  FROM event e WHERE e.type IN ('PAYMENT_CONFIRMED', 'REVENUE_BOOKED', 'PAYOUT_EARNED') GROUP BY e.chain_id, e.type HAVING count(*) > 1
  UNION ALL
  SELECT 'I5', c.id, 'completed without exactly one payout obligation'
  FROM chain c WHERE c.kind = 'job' AND c.status = 'completed' AND (SELECT count(*) FROM chain p WHERE p.parent = c.id) <> 1
  UNION ALL
  SELECT 'I6', e.chain_id, 'money event and journal entry do not match'
  FROM event e JOIN chain c ON c.id = e.chain_id JOIN step s ON s.kind = c.kind AND s.name = e.type
  LEFT JOIN journal j ON j.chain_id = e.chain_id AND j.version = e.version
  WHERE (s.debit IS NOT NULL) <> (j.chain_id IS NOT NULL)
     OR (j.chain_id IS NOT NULL AND (j.debit <> s.debit OR j.credit <> s.credit OR j.amount <> c.amount OR j.currency <> c.currency))
  UNION ALL
  SELECT 'I7', e.chain_id, 'money moved without evidence: ' || e.type
  FROM event e JOIN chain c ON c.id = e.chain_id JOIN step s ON s.kind = c.kind AND s.name = e.type
  WHERE s.evidence IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM evidence v WHERE v.chain_id = e.chain_id AND v.version = e.version - 1 AND v.event = e.type AND v.kind = ANY (s.evidence))
  UNION ALL
  SELECT 'I8', NULL, 'more paid out than earned in ' || j.currency
  FROM journal j WHERE 'owner_payable' IN (j.debit, j.credit)
  GROUP BY j.currency HAVING sum(CASE WHEN j.credit = 'owner_payable' THEN j.amount ELSE -j.amount END) < 0
  UNION ALL
  SELECT 'I9', s.job_id, 'a key without its job' FROM submission s WHERE NOT EXISTS (SELECT 1 FROM chain c WHERE c.id = s.job_id AND c.kind = 'job')
  UNION ALL
  SELECT 'I9', c.id, 'a job without exactly one key' FROM chain c WHERE c.kind = 'job' AND (SELECT count(*) FROM submission s WHERE s.job_id = c.id) <> 1
$$;
COMMENT ON FUNCTION audit IS 'Every breach of I3 to I9 in the whole store; no row: all hold. Reads everything: for tests and the occasional check';
