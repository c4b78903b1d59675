-- advance(): the only writer of event, chain and journal. Set-based; locks chains in id order (no deadlocks between instances), and answers a verdict per
-- row instead of failing.

CREATE OR REPLACE FUNCTION judge(
  svc text, t_id uuid[], t_expected integer[], t_kind text[], t_client text[], t_lane text[], t_parent uuid[], t_events text[],
  OUT d judged[], OUT prices boolean, OUT posts boolean
)
LANGUAGE plpgsql
SET search_path = aethelos, pg_temp
-- The batch is joined with itself by hash: estimates for arrays are low, and nested loops over 256 transitions would be quadratic. OFFSET 0 keeps a look-up
-- by primary key from becoming a join that reads the whole table.
SET enable_nestloop = off SET enable_hashjoin = on SET enable_seqscan = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  guarded boolean;
  pairs boolean;
  i integer;
  v text;
BEGIN
  -- What may follow what is looked up once for each way that is taken in this batch (kind, place, events), and not for each chain.
  WITH t AS (
    SELECT u.*, row_number() OVER (PARTITION BY u.id ORDER BY u.ord) AS nth
    FROM unnest(t_id, t_expected, t_kind, t_client, t_lane, t_parent, t_events) WITH ORDINALITY AS u (id, expected, kind, client, lane, parent, events, ord)
  ), stand AS MATERIALIZED (
    SELECT t.ord, t.id, t.nth, t.expected, t.parent, t.events, c.id IS NULL AS opens,
           coalesce(c.kind, t.kind) AS kind, coalesce(c.step, '') AS step, coalesce(c.version, 0) AS version, c.status,
           coalesce(c.client, p.client, t.client) AS client, coalesce(c.lane, p.lane, t.lane) AS lane,
           coalesce(c.amount, p.amount) AS amount, coalesce(c.currency, p.currency) AS currency
    FROM t
    LEFT JOIN (SELECT x.* FROM chain x WHERE x.id = ANY (t_id) ORDER BY x.id FOR UPDATE) c ON c.id = t.id
    LEFT JOIN LATERAL (SELECT * FROM chain x WHERE x.id = t.parent OFFSET 0) p ON true
  ), way AS MATERIALIZED (
    SELECT w.kind, w.step, w.events, split_part(w.events, ',', -1) AS new_step, count(*)::integer AS n, bool_and(ed.event IS NOT NULL) AS known,
           bool_or(x.n = 1 AND x.type = 'CHAIN_REOPENED') AS reopens,
           bool_or(coalesce(ed.evidence, st.evidence) IS NOT NULL OR x.type IN
             ('PAYMENT_EXPIRED', 'FINAL_FAIL', 'CHAIN_REOPENED', 'REFUND_REQUIRED', 'EXECUTION_REQUIRED')) AS guarded,
           bool_or(x.type = 'PRICED') AS prices, bool_or(st.debit IS NOT NULL) AS posts
    FROM (SELECT DISTINCT s.kind, s.step, s.events FROM stand s) w
    CROSS JOIN LATERAL unnest(string_to_array(w.events, ',')) WITH ORDINALITY AS x (type, n)
    LEFT JOIN LATERAL (SELECT * FROM edge z WHERE z.kind = w.kind AND z.event = x.type AND z.service = svc
      AND z.from_step = CASE x.n WHEN 1 THEN w.step ELSE split_part(w.events, ',', x.n::integer - 1) END OFFSET 0) ed ON true
    LEFT JOIN LATERAL (SELECT * FROM step z WHERE z.kind = w.kind AND z.name = x.type OFFSET 0) st ON true
    GROUP BY w.kind, w.step, w.events
  )
  SELECT array_agg(ROW(s.id, s.parent, s.events,
           CASE WHEN s.nth > 1 OR s.version <> s.expected THEN 'lost'
                WHEN w.known AND (s.opens OR s.status = 'open' OR w.reopens) AND NOT (s.opens AND s.kind = 'payout' AND s.amount IS NULL)
                  AND NOT (s.opens AND s.kind = 'system' AND cardinality(t_id) > 1) THEN 'won'
                ELSE 'refused' END,
           w.guarded, s.opens, s.kind, s.version, coalesce(w.n, 0), s.step, w.new_step, f.status, f.waits_for, f.hearer, s.lane, s.client, s.amount, s.currency)::judged
           ORDER BY s.ord),
         bool_or(w.guarded), bool_or(w.new_step IN ('REVENUE_BOOKED', 'PAYOUT_EARNED')), bool_or(w.prices), bool_or(w.posts)
  INTO d, guarded, pairs, prices, posts
  FROM stand s LEFT JOIN way w ON w.kind = s.kind AND w.step = s.step AND w.events = s.events
  LEFT JOIN step f ON f.kind = w.kind AND f.name = w.new_step;

  -- The chains are locked, and what follows sees what was committed before they were.
  IF guarded THEN
    FOR i IN
      SELECT DISTINCT s.ord
      FROM unnest(d) WITH ORDINALITY AS s (id, parent, events, verdict, guarded, opens, kind, version, n, old_step, new_step, status, waits_for, hearer, lane, client,
        amount, currency, ord)
      CROSS JOIN LATERAL unnest(string_to_array(s.events, ',')) WITH ORDINALITY AS x (type, n)
      LEFT JOIN LATERAL (SELECT * FROM edge z WHERE z.kind = s.kind AND z.event = x.type
        AND z.from_step = CASE x.n WHEN 1 THEN s.old_step ELSE split_part(s.events, ',', x.n::integer - 1) END OFFSET 0) ed ON true
      LEFT JOIN LATERAL (SELECT * FROM step z WHERE z.kind = s.kind AND z.name = x.type OFFSET 0) st ON true
      WHERE s.guarded AND s.verdict = 'won' AND NOT (
        CASE WHEN coalesce(ed.evidence, st.evidence) IS NULL THEN true ELSE EXISTS (
          SELECT 1 FROM evidence v WHERE v.chain_id = s.id AND v.version = s.version + x.n - 1 AND v.event = x.type
            AND v.kind = ANY (coalesce(ed.evidence, st.evidence))
            AND v.amount IS NOT DISTINCT FROM s.amount AND v.currency IS NOT DISTINCT FROM s.currency) END
        AND CASE x.type
          -- Unpaid, and its time is over: by our own clock where we hold the intent, by the provider's word where he does.
          WHEN 'PAYMENT_EXPIRED' THEN
            NOT EXISTS (SELECT 1 FROM evidence v WHERE v.chain_id = s.id AND v.version = s.version AND v.event <> x.type)
            AND EXISTS (SELECT 1 FROM payment_intent p WHERE p.id = s.id AND CASE p.driver WHEN 'manual' THEN p.expires_at <= now() ELSE EXISTS (
              SELECT 1 FROM evidence v WHERE v.chain_id = s.id AND v.version = s.version AND v.event = x.type AND v.kind = 'provider') END)
          -- Nothing may be owed, and nothing may still come in at a provider.
          WHEN 'FINAL_FAIL' THEN
            NOT EXISTS (SELECT 1 FROM journal j WHERE j.chain_id = s.id
              HAVING sum(CASE 'customer_prepayment' WHEN j.credit THEN j.amount WHEN j.debit THEN -j.amount ELSE 0 END) <> 0)
            AND NOT (s.old_step = 'PAYMENT_INITIATED' AND EXISTS (SELECT 1 FROM payment_intent p WHERE p.id = s.id AND p.driver <> 'manual'))
          -- One job, one charge: what was paid once is not charged again.
          WHEN 'CHAIN_REOPENED' THEN NOT EXISTS (SELECT 1 FROM journal j WHERE j.chain_id = s.id)
          -- Not while an operator may still be at it, nor is it run while a refund may be under way.
          WHEN 'REFUND_REQUIRED' THEN
            NOT EXISTS (SELECT 1 FROM operator_run o WHERE o.chain_id = s.id AND o.state IN ('calling', 'accepted', 'unknown'))
          WHEN 'EXECUTION_REQUIRED' THEN
            NOT EXISTS (SELECT 1 FROM provider_call p WHERE p.chain_id = s.id AND p.what = 'refund' AND p.state <> 'failed')
          ELSE true END)
    LOOP
      d[i].verdict := 'refused';
    END LOOP;
  END IF;
  -- Booked revenue and the payout obligation that follows from it win together or not at all.
  IF pairs THEN
    FOR i, v IN
      WITH s AS MATERIALIZED (
        SELECT u.id, u.parent, u.ord FROM unnest(d) WITH ORDINALITY
          AS u (id, parent, events, verdict, guarded, opens, kind, version, n, old_step, new_step, status, waits_for, hearer, lane, client, amount, currency, ord)
        WHERE u.verdict = 'won' AND (u.new_step = 'REVENUE_BOOKED' OR u.opens AND u.kind = 'payout'))
      SELECT s.ord, 'refused' FROM s WHERE s.parent IS NULL AND NOT EXISTS (SELECT 1 FROM s o WHERE o.parent = s.id)
      UNION ALL
      SELECT s.ord, 'lost' FROM s WHERE s.parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM s o WHERE o.id = s.parent)
    LOOP
      d[i].verdict := v;
    END LOOP;
  END IF;
END $$;
COMMENT ON FUNCTION judge IS 'Locks the chains of a batch and decides for advance(): per transition won, lost or refused and what becomes of the chain, and whether any of them sets a price or posts to the journal';

CREATE OR REPLACE FUNCTION advance(
  t_id uuid[], t_expected integer[], t_kind text[], t_client text[], t_lane text[], t_parent uuid[], t_events text[], e_data text[]
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
  d judged[];
  prices boolean;
  posts boolean;
  i integer;
  price json;
BEGIN
  SELECT j.d, j.prices, j.posts INTO d, prices, posts FROM judge(svc, t_id, t_expected, t_kind, t_client, t_lane, t_parent, t_events) j;

  -- A chain has the amount of the price it was given last.
  IF prices THEN
    FOR i, price IN
      SELECT e.t, e.data::json -> 'amount'
      FROM (SELECT u.t, x.type, e_data[row_number() OVER ()] AS data
        FROM unnest(t_events) WITH ORDINALITY AS u (events, t) CROSS JOIN LATERAL unnest(string_to_array(u.events, ',')) AS x (type)) e
      WHERE e.type = 'PRICED'
    LOOP
      d[i].amount := coalesce((price ->> 'minor')::bigint, d[i].amount);
      d[i].currency := coalesce(price ->> 'currency', d[i].currency);
    END LOOP;
  END IF;
  IF 0 = ANY (t_expected) THEN
    -- A task is opened alone (open_task), and its first event names its slot. Jobs are opened by one event each; a hasty one is in the high lane.
    INSERT INTO chain (id, kind, step, version, status, waits_for, lane, client, amount, currency, parent, created_at, updated_at, task, label)
    SELECT u.id, u.kind, u.new_step, u.n, u.status, u.waits_for, u.lane, u.client, u.amount, u.currency, u.parent, now(), now(),
           CASE u.kind WHEN 'system' THEN e_data[1]::json ->> 'slot' END,
           CASE WHEN u.kind = 'job' AND u.lane = 'high' THEN
             (SELECT h.label FROM haste h WHERE h.label = e_data[array_position(t_id, u.id)]::json #>> '{context,label}' AND NOT h.removed) END
    FROM unnest(d) u WHERE u.verdict = 'won' AND u.opens;
  END IF;
  IF 0 < ANY (t_expected) THEN
    UPDATE chain c SET step = u.new_step, version = u.version + u.n, status = u.status, waits_for = u.waits_for, amount = u.amount, currency = u.currency,
           updated_at = now()
    FROM unnest(d) u WHERE u.verdict = 'won' AND NOT u.opens AND c.id = u.id;
  END IF;
  INSERT INTO event (generation, xid, chain_id, version, type, at, data)
  SELECT (SELECT max(n) FROM generation), pg_current_xact_id()::text::bigint, e.id, e.version + e.n, e.type, now(), e_data[e.o]
  FROM (SELECT u.id, u.verdict, u.version, x.type, x.n, row_number() OVER () AS o
        FROM unnest(d) u CROSS JOIN LATERAL unnest(string_to_array(u.events, ',')) WITH ORDINALITY AS x (type, n)) e
  WHERE e.verdict = 'won';
  IF posts THEN
    INSERT INTO journal (chain_id, version, debit, credit, amount, currency, at)
    SELECT u.id, u.version + x.n, s.debit, s.credit, u.amount, u.currency, now()
    FROM unnest(d) u CROSS JOIN LATERAL unnest(string_to_array(u.events, ',')) WITH ORDINALITY AS x (type, n)
    JOIN step s ON s.kind = u.kind AND s.name = x.type
    WHERE u.verdict = 'won' AND s.debit IS NOT NULL;
  END IF;

  RETURN QUERY
  SELECT u.ord::integer, u.verdict, CASE WHEN u.verdict = 'won' THEN u.version + u.n ELSE u.version END,
         CASE WHEN u.verdict = 'won' THEN u.new_step ELSE u.old_step END,
         -- Whoever waits for a person is rung by what the person brings.
         CASE WHEN u.verdict = 'won' AND u.waits_for IS DISTINCT FROM 'payer' AND u.waits_for IS DISTINCT FROM 'person' THEN u.hearer END, u.lane
  FROM unnest(d) WITH ORDINALITY
    AS u (id, parent, events, verdict, guarded, opens, kind, version, n, old_step, new_step, status, waits_for, hearer, lane, client, amount, currency, ord);
END $$;
COMMENT ON FUNCTION advance IS 'Moves a batch of chains, at most one transition (of one or more events) per chain and call. Transition i is t_*[i]; t_events[i] names its events, separated by commas, and e_data holds the data of all events in that order. t_expected 0 opens a chain (t_kind, t_client, t_lane; t_parent for a payout). Per transition: won, lost (another was faster, or a repeat) or refused (no such edge for this service, or evidence is missing)';
GRANT EXECUTE ON FUNCTION advance TO aethelos_intake, aethelos_pricing, aethelos_payments, aethelos_execution, aethelos_ledger, aethelos_payouts, aethelos_meta_repair;
