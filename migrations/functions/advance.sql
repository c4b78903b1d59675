-- advance(): the only writer of event, chain and journal. Set-based; locks chains in id order (no deadlocks between instances), and answers a verdict per
-- row instead of failing.

CREATE OR REPLACE FUNCTION judge(
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
           ev.type = 'CHAIN_REOPENED' AND ev.n = 1 AS reopens,
           ed.event IS NOT NULL
           AND CASE WHEN coalesce(ed.evidence, st.evidence) IS NULL THEN true ELSE EXISTS (
             SELECT 1 FROM evidence v WHERE v.chain_id = s.id AND v.version = s.version + ev.n - 1 AND v.event = ev.type
               AND v.kind = ANY (coalesce(ed.evidence, st.evidence))
               AND v.amount IS NOT DISTINCT FROM s.amount AND v.currency IS NOT DISTINCT FROM s.currency) END
           AND CASE ev.type
             -- Unpaid, and its time is over: by our own clock where we hold the intent, by the provider's word where he does.
             WHEN 'PAYMENT_EXPIRED' THEN
               NOT EXISTS (SELECT 1 FROM evidence v WHERE v.chain_id = s.id AND v.version = s.version AND v.event <> ev.type)
               AND EXISTS (SELECT 1 FROM payment_intent i WHERE i.id = s.id AND CASE i.driver WHEN 'manual' THEN i.expires_at <= now() ELSE EXISTS (
                 SELECT 1 FROM evidence v WHERE v.chain_id = s.id AND v.version = s.version AND v.event = ev.type AND v.kind = 'provider') END)
             -- Nothing may be owed, and nothing may still come in at a provider.
             WHEN 'FINAL_FAIL' THEN
               NOT EXISTS (SELECT 1 FROM journal j WHERE j.chain_id = s.id
                 HAVING sum(CASE 'customer_prepayment' WHEN j.credit THEN j.amount WHEN j.debit THEN -j.amount ELSE 0 END) <> 0)
               AND NOT (s.step = 'PAYMENT_INITIATED' AND EXISTS (SELECT 1 FROM payment_intent i WHERE i.id = s.id AND i.driver <> 'manual'))
             -- One job, one charge: what was paid once is not charged again.
             WHEN 'CHAIN_REOPENED' THEN NOT EXISTS (SELECT 1 FROM journal j WHERE j.chain_id = s.id)
             -- Not while an operator may still be at it, nor is it run while a refund may be under way.
             WHEN 'REFUND_REQUIRED' THEN
               NOT EXISTS (SELECT 1 FROM operator_run r WHERE r.chain_id = s.id AND r.state IN ('calling', 'accepted', 'unknown'))
             WHEN 'EXECUTION_REQUIRED' THEN
               NOT EXISTS (SELECT 1 FROM provider_call p WHERE p.chain_id = s.id AND p.what = 'refund' AND p.state <> 'failed')
             ELSE true END AS allowed
    FROM stand s JOIN ev ON ev.t = s.ord
    LEFT JOIN edge ed ON ed.kind = s.kind AND ed.from_step = coalesce(ev.prev, s.step) AND ed.event = ev.type AND ed.service = svc
    LEFT JOIN step st ON st.kind = s.kind AND st.name = ev.type
  ), sound AS MATERIALIZED (
    SELECT k.ord, count(*)::integer AS n, bool_and(k.allowed) AS allowed, bool_or(k.reopens) AS reopens,
           max(k.priced ->> 'minor')::bigint AS priced, max(k.priced ->> 'currency') AS priced_currency,
           max(k.type) FILTER (WHERE k.last) AS step, max(k.status) FILTER (WHERE k.last) AS status,
           max(k.waits_for) FILTER (WHERE k.last) AS waits_for, max(k.hearer) FILTER (WHERE k.last) AS hearer
    FROM checked k GROUP BY k.ord
  ), judged AS MATERIALIZED (
    SELECT s.*, o.n, o.step AS new_step, o.status AS new_status, o.waits_for, o.hearer, o.priced, o.priced_currency,
           CASE WHEN s.nth > 1 OR s.version <> s.expected THEN 'lost'
                WHEN o.allowed AND (s.opens OR s.status = 'open' OR o.reopens) AND NOT (s.opens AND s.kind = 'payout' AND s.amount IS NULL) THEN 'won'
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

CREATE OR REPLACE FUNCTION advance(
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

