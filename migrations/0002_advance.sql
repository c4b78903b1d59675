-- advance(): the only writer of event, chain and journal; submit_evidence(): the only writer of evidence.
-- Both are set-based, lock chains in id order (no deadlocks between instances), and answer a verdict per row instead of failing.

CREATE FUNCTION judge(
  svc text,
  t_id uuid[], t_expected integer[], t_kind text[], t_client text[], t_lane text[], t_parent uuid[],
  e_t integer[], e_type text[], e_data text[]
) RETURNS TABLE (
  ord integer, verdict text, opens boolean, kind text, version integer, n integer, old_step text, new_step text, status text, waits_for text, hearer text,
  lane text, client text, amount bigint, currency text, priced bigint, priced_currency text)
LANGUAGE plpgsql STABLE
SET search_path = aethelos, pg_temp
-- The batch is joined with itself by hash: estimates for arrays are low, and nested loops over 256 transitions would be quadratic.
SET enable_nestloop = off SET enable_hashjoin = on SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH t AS MATERIALIZED (
    SELECT u.*, row_number() OVER (PARTITION BY u.id ORDER BY u.ord) AS nth
    FROM unnest(t_id, t_expected, t_kind, t_client, t_lane, t_parent) WITH ORDINALITY AS u (id, expected, kind, client, lane, parent, ord)
  ), stand AS MATERIALIZED (
    SELECT t.ord, t.id, t.nth, t.expected, t.parent, c.id IS NULL AS opens,
           coalesce(c.kind, t.kind) AS kind, coalesce(c.step, '') AS step, coalesce(c.version, 0) AS version, c.status,
           coalesce(c.client, p.client, t.client) AS client, coalesce(c.lane, p.lane, t.lane) AS lane,
           coalesce(c.amount, p.amount) AS amount, coalesce(c.currency, p.currency) AS currency
    FROM t
    -- OFFSET 0 keeps the planner from turning these look-ups into a join that reads all chains.
    LEFT JOIN LATERAL (SELECT x.* FROM chain x WHERE x.id = t.id OFFSET 0) c ON true
    LEFT JOIN LATERAL (SELECT x.* FROM chain x WHERE x.id = t.parent OFFSET 0) p ON true
  ), ev AS MATERIALIZED (
    SELECT e.t, e.type, e.data, row_number() OVER w AS n, lag(e.type) OVER w AS prev, lead(e.type) OVER w IS NULL AS last
    FROM unnest(e_t, e_type, e_data) WITH ORDINALITY AS e (t, type, data, o)
    WINDOW w AS (PARTITION BY e.t ORDER BY e.o)
  ), checked AS MATERIALIZED (
    SELECT s.ord, ev.type, ev.last, st.status, st.waits_for, st.hearer,
           CASE WHEN ev.type = 'PRICED' THEN ev.data::json -> 'amount' END AS priced,
           ed.event IS NOT NULL
           AND CASE WHEN st.evidence IS NULL THEN true ELSE EXISTS (
             SELECT 1 FROM evidence v WHERE v.chain_id = s.id AND v.version = s.version + ev.n - 1 AND v.event = ev.type
               AND v.kind = ANY (st.evidence) AND v.amount = s.amount AND v.currency = s.currency) END
           AND CASE WHEN ev.type <> 'PAYMENT_EXPIRED' THEN true ELSE
             NOT EXISTS (SELECT 1 FROM evidence v WHERE v.chain_id = s.id AND v.version = s.version)
             AND EXISTS (SELECT 1 FROM payment_intent i WHERE i.id = s.id AND i.expires_at <= now()) END AS allowed
    FROM stand s JOIN ev ON ev.t = s.ord
    LEFT JOIN edge ed ON ed.kind = s.kind AND ed.from_step = coalesce(ev.prev, s.step) AND ed.event = ev.type AND ed.service = svc
    LEFT JOIN step st ON st.kind = s.kind AND st.name = ev.type
  ), sound AS MATERIALIZED (
    SELECT k.ord, count(*)::integer AS n, bool_and(k.allowed) AS allowed,
           max(k.priced ->> 'minor')::bigint AS priced, max(k.priced ->> 'currency') AS priced_currency,
           max(k.type) FILTER (WHERE k.last) AS step, max(k.status) FILTER (WHERE k.last) AS status,
           max(k.waits_for) FILTER (WHERE k.last) AS waits_for, max(k.hearer) FILTER (WHERE k.last) AS hearer
    FROM checked k GROUP BY k.ord
  ), judged AS MATERIALIZED (
    SELECT s.*, o.n, o.step AS new_step, o.status AS new_status, o.waits_for, o.hearer, o.priced, o.priced_currency,
           CASE WHEN s.nth > 1 OR s.version <> s.expected THEN 'lost'
                WHEN o.allowed AND (s.opens OR s.status = 'open') AND NOT (s.opens AND s.kind = 'payout' AND s.amount IS NULL) THEN 'won'
                ELSE 'refused' END AS verdict
    FROM stand s LEFT JOIN sound o ON o.ord = s.ord
  )
  -- Booked revenue and the payout obligation that follows from it win together or not at all.
  SELECT j.ord::integer,
         CASE WHEN j.verdict <> 'won' THEN j.verdict
              WHEN j.new_step = 'REVENUE_BOOKED' AND q.parent IS NULL THEN 'refused'
              WHEN j.opens AND j.kind = 'payout' AND b.id IS NULL THEN 'lost'
              ELSE 'won' END,
         j.opens, j.kind, j.version, j.n, j.step, j.new_step, j.new_status, j.waits_for, j.hearer, j.lane, j.client, j.amount, j.currency, j.priced, j.priced_currency
  FROM judged j
  LEFT JOIN (SELECT DISTINCT o.parent FROM judged o WHERE o.opens AND o.verdict = 'won' AND o.parent IS NOT NULL) q ON q.parent = j.id
  LEFT JOIN (SELECT DISTINCT o.id FROM judged o WHERE o.new_step = 'REVENUE_BOOKED' AND o.verdict = 'won') b ON b.id = j.parent
  ORDER BY j.ord;
END $$;
COMMENT ON FUNCTION judge IS 'Decides for advance(), which has locked the chains: per transition won, lost or refused, and what becomes of the chain';

CREATE FUNCTION advance(
  t_id uuid[], t_expected integer[], t_kind text[], t_client text[], t_lane text[], t_parent uuid[],
  e_t integer[], e_type text[], e_data text[]
) RETURNS TABLE (ord integer, verdict text, version integer, step text, hearer text, lane text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = aethelos, pg_temp
-- An empty or un-analysed chain table must not lead to a scan of all chains for each batch: the only plan left is the look-up by primary key.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  svc text := substr(session_user, length('aethelos_') + 1);
  gen smallint := (SELECT max(n) FROM generation);
  x bigint := pg_current_xact_id()::text::bigint;
  money text[] := (SELECT array_agg(DISTINCT name) FROM step WHERE debit IS NOT NULL);
  d_verdict text[]; d_opens boolean[]; d_kind text[]; d_version integer[]; d_n integer[]; d_old text[]; d_new text[]; d_status text[]; d_waits text[];
  d_hearer text[]; d_lane text[]; d_client text[]; d_amount bigint[]; d_currency text[]; d_priced bigint[]; d_priced_currency text[]; d_won boolean[];
BEGIN
  PERFORM 1 FROM chain c WHERE c.id = ANY (t_id) ORDER BY c.id FOR UPDATE;

  SELECT array_agg(j.verdict), array_agg(j.verdict = 'won'), array_agg(j.opens), array_agg(j.kind), array_agg(j.version), array_agg(coalesce(j.n, 0)), array_agg(j.old_step),
         array_agg(j.new_step), array_agg(j.status), array_agg(j.waits_for), array_agg(j.hearer), array_agg(j.lane), array_agg(j.client), array_agg(j.amount),
         array_agg(j.currency), array_agg(j.priced), array_agg(j.priced_currency)
  INTO d_verdict, d_won, d_opens, d_kind, d_version, d_n, d_old, d_new, d_status, d_waits, d_hearer, d_lane, d_client, d_amount, d_currency, d_priced, d_priced_currency
  FROM judge(svc, t_id, t_expected, t_kind, t_client, t_lane, t_parent, e_t, e_type, e_data) j;

  IF true = ANY (d_opens) THEN
    INSERT INTO chain (id, kind, step, version, status, waits_for, lane, client, amount, currency, parent, created_at, updated_at)
    SELECT d.id, d.kind, d.new, d.n, d.status, d.waits, d.lane, d.client, d.amount, d.currency, d.parent, now(), now()
    FROM unnest(t_id, t_parent, d_won, d_opens, d_kind, d_new, d_n, d_status, d_waits, d_lane, d_client, d_amount, d_currency)
      AS d (id, parent, won, opens, kind, new, n, status, waits, lane, client, amount, currency)
    WHERE d.won AND d.opens;
  END IF;
  IF false = ANY (d_opens) THEN
    UPDATE chain c SET step = d.new, version = d.version + d.n, status = d.status, waits_for = d.waits,
           amount = coalesce(d.priced, c.amount), currency = coalesce(d.priced_currency, c.currency), updated_at = now()
    FROM unnest(t_id, d_won, d_opens, d_new, d_version, d_n, d_status, d_waits, d_priced, d_priced_currency)
      AS d (id, won, opens, new, version, n, status, waits, priced, priced_currency)
    WHERE d.won AND NOT d.opens AND c.id = d.id;
  END IF;
  -- Only arrays without NULLs are subscripted: the others would be walked from the front each time.
  INSERT INTO event (generation, xid, chain_id, version, type, at, data)
  SELECT gen, x, t_id[e.t], d_version[e.t] + row_number() OVER (PARTITION BY e.t ORDER BY e.o), e.type, now(), e.data
  FROM unnest(e_t, e_type, e_data) WITH ORDINALITY AS e (t, type, data, o)
  WHERE d_won[e.t];
  IF e_type && money THEN
    INSERT INTO journal (chain_id, version, debit, credit, amount, currency, at)
    SELECT t_id[e.t], d_version[e.t] + e.n, s.debit, s.credit, d_amount[e.t], d_currency[e.t], now()
    FROM (SELECT u.t, u.type, row_number() OVER (PARTITION BY u.t ORDER BY u.o)::integer AS n
          FROM unnest(e_t, e_type) WITH ORDINALITY AS u (t, type, o)) e
    JOIN step s ON s.kind = d_kind[e.t] AND s.name = e.type
    WHERE d_won[e.t] AND e.type = ANY (money);
  END IF;

  RETURN QUERY
  SELECT d.ord::integer, d.verdict, CASE WHEN d.won THEN d.version + d.n ELSE d.version END, CASE WHEN d.won THEN d.new ELSE d.old END,
         CASE WHEN d.won THEN d.hearer END, d.lane
  FROM unnest(d_verdict, d_won, d_version, d_n, d_new, d_old, d_hearer, d_lane) WITH ORDINALITY
    AS d (verdict, won, version, n, new, old, hearer, lane, ord);
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
