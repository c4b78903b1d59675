-- advance(): the only writer of event, chain and journal. Set-based; locks chains in id order (no deadlocks between instances of a service), and answers a
-- verdict per row instead of failing. (Of a batch in which not all may move, those that do are locked first, then all: against somebody else who has a later
-- one of the first and waits for one of the rest, PostgreSQL ends one of the two after a second, and it is tried again.)

-- A payer is expected to pay soon: who waits for him stays in the index of what stands, and is set aside later (set_aside()).
CREATE OR REPLACE FUNCTION aside_of(p_waits_for text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT nullif(p_waits_for, 'payer') $$;
COMMENT ON FUNCTION aside_of IS 'Of whom a chain waits for: chain.aside as soon as the wait begins';
GRANT EXECUTE ON FUNCTION aside_of TO aethelos_meta_repair;

CREATE OR REPLACE FUNCTION learn_ways(svc text, w_kind text[], w_step text[], w_events text[]) RETURNS boolean
LANGUAGE plpgsql SET search_path = aethelos, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
BEGIN
  -- Against somebody who changes them meanwhile: he has forgotten all ways before we read, or does it after we have committed.
  LOCK TABLE step, edge IN SHARE MODE;
  INSERT INTO way (kind, from_step, events, service, n, new_step, status, waits_for, hearer, reopens, guarded, paired, prices, posts, proof)
  SELECT w.kind, w.step, w.events, svc, w.n, w.new_step, f.status, f.waits_for,
         CASE f.waits_for WHEN 'payer' THEN 'intake' WHEN 'person' THEN NULL ELSE f.hearer END, w.reopens, w.proof IS NOT NULL OR w.beyond,
         w.new_step IN ('REVENUE_BOOKED', 'PAYOUT_EARNED'), w.prices, w.posts, CASE WHEN w.n = 1 AND NOT w.beyond THEN w.proof END
  FROM (
    SELECT u.kind, u.step, u.events, split_part(u.events, ',', -1) AS new_step, count(*)::integer AS n,
           bool_or(x.n = 1 AND x.type = 'CHAIN_REOPENED') AS reopens,
           max(coalesce(ed.evidence, st.evidence)) AS proof,
           bool_or(x.type IN ('PAYMENT_EXPIRED', 'FINAL_FAIL', 'CHAIN_REOPENED', 'REFUND_REQUIRED', 'EXECUTION_REQUIRED')) AS beyond,
           bool_or(x.type = 'PRICED') AS prices, bool_or(st.debit IS NOT NULL) AS posts
    FROM (SELECT DISTINCT d.kind, d.step, d.events FROM unnest(w_kind, w_step, w_events) d (kind, step, events)) u
    CROSS JOIN LATERAL unnest(string_to_array(u.events, ',')) WITH ORDINALITY AS x (type, n)
    LEFT JOIN LATERAL (SELECT * FROM edge z WHERE z.kind = u.kind AND z.event = x.type AND z.service = svc
      AND z.from_step = CASE x.n WHEN 1 THEN u.step ELSE split_part(u.events, ',', x.n::integer - 1) END OFFSET 0) ed ON true
    LEFT JOIN LATERAL (SELECT * FROM step z WHERE z.kind = u.kind AND z.name = x.type OFFSET 0) st ON true
    GROUP BY u.kind, u.step, u.events HAVING bool_and(ed.event IS NOT NULL)) w
  JOIN step f ON f.kind = w.kind AND f.name = w.new_step
  ON CONFLICT DO NOTHING;
  -- Another session may have been faster with the same.
  RETURN EXISTS (SELECT 1 FROM unnest(w_kind, w_step, w_events) d (kind, step, events)
    JOIN way x ON x.from_step = d.step AND x.events = d.events AND x.kind = d.kind AND x.service = svc);
END $$;
COMMENT ON COLUMN way.hearer IS 'The service that hears of the move: the one that must move it on, and of who waits for a payer intake, which tells him; NULL also where it waits for a person';
COMMENT ON FUNCTION learn_ways IS 'Writes down those of the given ways (kind, step, events) that the chain specification allows to the service; whether there is one';

CREATE OR REPLACE FUNCTION guard(d judged[], guarded boolean, pairs boolean) RETURNS judged[]
LANGUAGE plpgsql SET search_path = aethelos, pg_temp
-- The batch is joined with itself by hash: estimates for arrays are low, and nested loops over 256 transitions would be quadratic. OFFSET 0 keeps a look-up
-- by primary key from becoming a join that reads the whole table.
SET enable_nestloop = off SET enable_hashjoin = on SET enable_seqscan = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  i integer;
  v text;
BEGIN
  -- The chains are locked, and what follows sees what was committed before they were.
  IF guarded THEN
    FOR i IN
      WITH s AS MATERIALIZED (
        SELECT u.*, u.ordinality AS ord FROM unnest(d) WITH ORDINALITY u WHERE u.guarded AND u.verdict = 'won'
      ), asked AS MATERIALIZED (
        -- What is asked for at each event of each move that the batch has.
        SELECT m.kind, m.old_step, m.events, x.type, x.n, coalesce(ed.evidence, st.evidence) AS evidence
        FROM (SELECT DISTINCT kind, old_step, events FROM s) m
        CROSS JOIN LATERAL unnest(string_to_array(m.events, ',')) WITH ORDINALITY AS x (type, n)
        LEFT JOIN LATERAL (SELECT * FROM edge z WHERE z.kind = m.kind AND z.event = x.type
          AND z.from_step = CASE x.n WHEN 1 THEN m.old_step ELSE split_part(m.events, ',', x.n::integer - 1) END OFFSET 0) ed ON true
        LEFT JOIN LATERAL (SELECT * FROM step z WHERE z.kind = m.kind AND z.name = x.type OFFSET 0) st ON true
      )
      SELECT DISTINCT s.ord
      FROM s JOIN asked x ON x.kind = s.kind AND x.old_step = s.old_step AND x.events = s.events
      WHERE NOT (
        CASE WHEN x.evidence IS NULL THEN true ELSE EXISTS (
          SELECT 1 FROM evidence v WHERE v.chain_id = s.id AND v.version = s.version + x.n - 1 AND v.event = x.type
            AND v.kind = ANY (x.evidence)
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
            AND NOT (s.old_step = 'PAYMENT_REQUIRED' AND EXISTS (SELECT 1 FROM provider_call p WHERE p.chain_id = s.id AND p.state IN ('calling', 'pending', 'unknown')))
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
        SELECT u.id, u.parent, u.ordinality AS ord, row_number() OVER (PARTITION BY u.parent ORDER BY u.ordinality) AS nth FROM unnest(d) WITH ORDINALITY u
        WHERE u.verdict = 'won' AND (u.new_step = 'REVENUE_BOOKED' OR u.opens AND u.kind = 'payout'))
      SELECT s.ord, 'refused' FROM s WHERE s.parent IS NULL AND NOT EXISTS (SELECT 1 FROM s o WHERE o.parent = s.id)
      UNION ALL
      SELECT s.ord, 'lost' FROM s WHERE s.parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM s o WHERE o.id = s.parent)
      UNION ALL
      SELECT s.ord, 'lost' FROM s WHERE s.parent IS NOT NULL AND s.nth > 1
    LOOP
      d[i].verdict := v;
    END LOOP;
  END IF;
  RETURN d;
END $$;
COMMENT ON FUNCTION guard IS 'Refuses in a batch whose chains are locked what its edges allow and more is needed for: evidence, the absence of something, or the other one of a pair';

CREATE OR REPLACE FUNCTION advance(
  t_id uuid[], t_expected integer[], t_kind text[], t_client text[], t_lane text[], t_parent uuid[], t_events text[], e_data text[]
) RETURNS TABLE (ord integer, verdict text, version integer, step text, hearer text, lane text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = aethelos, pg_temp
-- An empty or un-analysed chain table must not lead to a scan of all chains for each batch: chains are found by = ANY (t_id), or one by one (OFFSET 0), and
-- the only plan left for either is the look-up by primary key. What a batch has in common, a handful of rows, is read first (MATERIALIZED). Joined is by
-- hash: loops over what is believed to be one row and is 256 would be quadratic.
SET enable_hashjoin = on SET enable_nestloop = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_memoize = off SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  svc text := substr(session_user, length('aethelos_') + 1);
  tx bigint := pg_current_xact_id()::text::bigint;
  d judged[];
  guarded boolean;
  pairs boolean;
  prices boolean;
  posts boolean;
  untrodden boolean;
  i integer;
  price json;
  names text[] := string_to_array(t_events[1], ',');
  k integer := cardinality(names);
  priced integer := array_position(names, 'PRICED');
  -- Transition i is element i: of one dimension, and counted from 1.
  plain boolean := array_ndims(t_id) + array_ndims(t_expected) + array_ndims(t_events) + array_ndims(e_data) = 4
    AND array_lower(t_id, 1) = 1 AND array_lower(t_expected, 1) = 1 AND array_lower(t_events, 1) = 1 AND array_lower(e_data, 1) = 1;
  alike boolean := plain AND cardinality(t_events) = cardinality(t_id) AND cardinality(e_data) = k * cardinality(t_id) AND t_events[1] = ALL (t_events);
  quick integer[];
  quick_id uuid[];
  quick_lane text[];
  quick_hearer text[];
  posted integer[];
  posted_kind text[];
  posted_amount bigint[];
  posted_currency text[];
  e_t integer[];
  e_n integer[];
  e_type text[];
BEGIN
  -- A batch of moves for which an edge and evidence are all that is needed, as most: compared, set and told in one statement. Whoever has moved on
  -- already, or may not move, is not touched by it, and judged below. (Who has changed meanwhile has another version. Evidence that is stored
  -- stays.)
  IF alike AND NOT 0 = ANY (t_expected) THEN
    WITH ways AS MATERIALIZED (SELECT * FROM way x WHERE x.service = svc AND x.events = t_events[1] AND (NOT x.guarded OR x.proof IS NOT NULL) AND NOT x.paired
    ), moved AS (
      UPDATE chain c SET step = w.new_step, version = c.version + w.n, status = w.status, waits_for = w.waits_for, aside = aside_of(w.waits_for),
             updated_at = now(), amount = coalesce((t.price ->> 'minor')::bigint, c.amount), currency = coalesce(t.price ->> 'currency', c.currency)
      FROM (SELECT t_id[o] AS id, t_expected[o] AS expected, o AS ord, e_data[(o - 1) * k + priced]::jsonb -> 'amount' AS price
            FROM generate_series(1, cardinality(t_id)) o ORDER BY t_id[o], o) t, ways w
      WHERE c.id = ANY (t_id) AND c.id = t.id AND c.version = t.expected AND c.status = 'open' AND w.from_step = c.step AND w.kind = c.kind
        AND (w.proof IS NULL OR EXISTS (SELECT 1 FROM evidence v WHERE v.chain_id = c.id AND v.version = c.version AND v.event = t_events[1]
          AND v.kind = ANY (w.proof) AND v.amount IS NOT DISTINCT FROM c.amount AND v.currency IS NOT DISTINCT FROM c.currency))
      RETURNING t.ord, c.id, t.expected AS version, c.kind, c.lane, c.amount, c.currency, w.posts, w.hearer
    ), told AS (
      -- An element of an array is found at once, a slice by walking through it.
      INSERT INTO event (generation, xid, chain_id, version, type, at, data)
      SELECT (SELECT max(n) FROM generation), tx, m.id, m.version + e.n, e.name, now(), e_data[(m.ord - 1) * k + e.n]
      FROM moved m CROSS JOIN unnest(names) WITH ORDINALITY AS e (name, n)
    )
    SELECT array_agg(m.ord), array_agg(m.lane), array_agg(m.hearer), array_agg(m.ord) FILTER (WHERE m.posts), array_agg(m.kind) FILTER (WHERE m.posts),
           array_agg(m.amount) FILTER (WHERE m.posts), array_agg(m.currency) FILTER (WHERE m.posts)
    INTO quick, quick_lane, quick_hearer, posted, posted_kind, posted_amount, posted_currency FROM moved m;
    -- A statement of its own: most batches post nothing, and would pay for its start.
    IF posted IS NOT NULL THEN
      WITH posting AS MATERIALIZED (SELECT z.*, e.n FROM unnest(names) WITH ORDINALITY AS e (name, n) JOIN step z ON z.name = e.name AND z.debit IS NOT NULL)
      INSERT INTO journal (chain_id, version, debit, credit, amount, currency, at)
      SELECT t_id[m.ord], t_expected[m.ord] + s.n, s.debit, s.credit, m.amount, m.currency, now()
      FROM unnest(posted, posted_kind, posted_amount, posted_currency) AS m (ord, kind, amount, currency) JOIN posting s ON s.kind = m.kind;
    END IF;

  -- A batch of bookings, each with the payout obligation that follows from it: the same, in pairs.
  ELSIF plain AND t_events[1] = 'REVENUE_BOOKED' AND cardinality(t_id) % 2 = 0 AND cardinality(e_data) = cardinality(t_id)
      AND NOT EXISTS (
        SELECT 1 FROM unnest(t_id, t_expected, t_kind, t_parent, t_events) WITH ORDINALITY AS a (id, expected, kind, parent, event, ord)
        WHERE NOT CASE a.ord % 2 WHEN 1 THEN a.event = 'REVENUE_BOOKED' AND a.expected > 0
          ELSE a.event = 'PAYOUT_EARNED' AND a.expected = 0 AND a.kind = 'payout' AND a.parent = t_id[a.ord - 1] END IS TRUE)
      AND (SELECT count(*) = count(DISTINCT t_id[o]) FROM generate_series(2, cardinality(t_id), 2) o)
      AND NOT EXISTS (SELECT 1 FROM chain x WHERE x.id = ANY (ARRAY(SELECT t_id[o] FROM generate_series(2, cardinality(t_id), 2) o))) THEN
    WITH ways AS MATERIALIZED (
      SELECT j.from_step, j.new_step, j.status, j.waits_for, j.hearer,
             p.new_step AS payout_step, p.status AS payout_status, p.waits_for AS payout_waits, p.hearer AS payout_hearer
      FROM way j, way p
      WHERE j.service = svc AND j.events = 'REVENUE_BOOKED' AND j.kind = 'job' AND NOT j.guarded
        AND p.service = svc AND p.events = 'PAYOUT_EARNED' AND p.kind = 'payout' AND p.from_step = '' AND NOT p.guarded
    ), moved AS (
      UPDATE chain c SET step = w.new_step, version = c.version + 1, status = w.status, waits_for = w.waits_for, aside = aside_of(w.waits_for),
             updated_at = now()
      FROM (SELECT t_id[o] AS id, t_expected[o] AS expected, o AS ord FROM generate_series(1, cardinality(t_id), 2) o ORDER BY t_id[o], o) t, ways w
      WHERE c.id = ANY (t_id) AND c.id = t.id AND c.version = t.expected AND c.status = 'open' AND c.kind = 'job' AND c.amount IS NOT NULL
        AND w.from_step = c.step
      RETURNING t.ord, c.id, c.lane, c.client, c.amount, c.currency, w.hearer, w.payout_step, w.payout_status, w.payout_waits, w.payout_hearer
    ), opened AS (
      INSERT INTO chain (id, kind, step, version, status, waits_for, aside, lane, client, amount, currency, parent, created_at, updated_at)
      SELECT t_id[m.ord + 1], 'payout', m.payout_step, 1, m.payout_status, m.payout_waits, aside_of(m.payout_waits), m.lane, m.client, m.amount,
             m.currency, m.id, now(), now()
      FROM moved m
    ), told AS (
      INSERT INTO event (generation, xid, chain_id, version, type, at, data)
      SELECT (SELECT max(n) FROM generation), tx, t_id[m.ord + e.n], t_expected[m.ord + e.n] + 1, t_events[m.ord + e.n], now(), e_data[m.ord + e.n]
      FROM moved m CROSS JOIN generate_series(0, 1) AS e (n)
    ), booked AS (
      INSERT INTO journal (chain_id, version, debit, credit, amount, currency, at)
      SELECT t_id[m.ord + s.n], t_expected[m.ord + s.n] + 1, s.debit, s.credit, m.amount, m.currency, now()
      FROM moved m CROSS JOIN (SELECT e.n, z.debit, z.credit FROM generate_series(0, 1) AS e (n)
        JOIN step z ON z.kind = (ARRAY['job', 'payout'])[e.n + 1] AND z.name = (ARRAY['REVENUE_BOOKED', 'PAYOUT_EARNED'])[e.n + 1]
        WHERE z.debit IS NOT NULL) s
    )
    SELECT array_agg(m.ord + e.n), array_agg(m.lane), array_agg(CASE e.n WHEN 0 THEN m.hearer ELSE m.payout_hearer END)
    INTO quick, quick_lane, quick_hearer FROM moved m CROSS JOIN generate_series(0, 1) AS e (n);

  -- A batch of jobs of which none is there yet.
  ELSIF alike AND k = 1 AND 0 = ALL (t_expected) AND 'job' = ALL (t_kind) AND (SELECT count(*) = count(DISTINCT x) FROM unnest(t_id) x)
      AND NOT EXISTS (SELECT 1 FROM chain x WHERE x.id = ANY (t_id)) THEN
    WITH ways AS MATERIALIZED (SELECT * FROM way x WHERE x.from_step = '' AND x.events = t_events[1] AND x.kind = 'job' AND x.service = svc
      AND NOT x.guarded AND NOT x.paired AND NOT x.posts AND NOT x.prices
    ), opened AS (
      INSERT INTO chain (id, kind, step, version, status, waits_for, aside, lane, client, parent, created_at, updated_at, label)
      SELECT a.id, 'job', w.new_step, 1, w.status, w.waits_for, aside_of(w.waits_for), a.lane, a.client, a.parent, now(), now(), CASE WHEN a.lane = 'high' THEN
        (SELECT h.label FROM haste h WHERE h.label = a.data::json #>> '{context,label}' AND NOT h.removed) END
      FROM ways w CROSS JOIN unnest(t_id, t_client, t_lane, t_parent, e_data) AS a (id, client, lane, parent, data)
    ), told AS (
      INSERT INTO event (generation, xid, chain_id, version, type, at, data)
      SELECT (SELECT max(n) FROM generation), tx, a.id, 1, t_events[1], now(), a.data FROM ways w CROSS JOIN unnest(t_id, e_data) AS a (id, data)
    )
    SELECT array_agg(a.ord), array_agg(a.lane), array_agg(w.hearer) INTO quick, quick_lane, quick_hearer
    FROM ways w CROSS JOIN unnest(t_lane) WITH ORDINALITY AS a (lane, ord);
  END IF;
  RETURN QUERY
  SELECT m.ord, 'won', t_expected[m.ord] + k, CASE k WHEN 1 THEN t_events[m.ord] ELSE names[k] END, m.hearer, m.lane
  FROM unnest(quick, quick_lane, quick_hearer) m (ord, lane, hearer);
  IF cardinality(quick) = cardinality(t_id) THEN
    RETURN;
  END IF;

  -- What has moved counts as lost here, in whatever other transition the call names it, and is left out of the answer.
  SELECT array_agg(t_id[q]) INTO quick_id FROM unnest(quick) q;
  -- Event o of the call is the e_n[o]-th of transition e_t[o]. Where all are alike, that is arithmetic.
  IF alike THEN
    SELECT array_agg((o - 1) / k + 1), array_agg((o - 1) % k + 1), array_agg(names[(o - 1) % k + 1])
    INTO e_t, e_n, e_type FROM generate_series(1, cardinality(e_data)) o;
  ELSE
    SELECT array_agg(u.t), array_agg(x.n), array_agg(x.type) INTO e_t, e_n, e_type
    FROM unnest(t_events) WITH ORDINALITY AS u (events, t) CROSS JOIN LATERAL unnest(string_to_array(u.events, ',')) WITH ORDINALITY AS x (type, n);
  END IF;
  FOR attempt IN 1..2 LOOP
    -- In id order, one look-up each.
    WITH ways AS MATERIALIZED (SELECT * FROM way x WHERE x.service = svc AND x.events = ANY (ARRAY(SELECT DISTINCT z FROM unnest(t_events) z)))
    SELECT array_agg(ROW(u.id, u.parent, u.events,
             CASE WHEN u.again OR u.id = ANY (quick_id) OR coalesce(c.version, 0) <> u.expected THEN 'lost'
                  WHEN w.n IS NOT NULL AND (c.id IS NULL OR c.status = 'open' OR w.reopens)
                    AND NOT (c.id IS NULL AND u.kind = 'payout' AND p.amount IS NULL)
                    AND NOT (c.id IS NULL AND u.kind = 'system' AND cardinality(t_id) > 1) THEN 'won'
                  ELSE 'refused' END,
             w.guarded, c.id IS NULL, coalesce(c.kind, u.kind), coalesce(c.version, 0), coalesce(w.n, 0), coalesce(c.step, ''), w.new_step, w.status,
             w.waits_for, w.hearer, coalesce(c.lane, p.lane, u.lane), coalesce(c.client, p.client, u.client), coalesce(c.amount, p.amount),
             coalesce(c.currency, p.currency))::judged ORDER BY u.ord),
           bool_or(w.guarded), bool_or(w.paired), bool_or(w.prices), bool_or(w.posts), bool_or(w.n IS NULL AND coalesce(c.version, 0) = u.expected)
    INTO d, guarded, pairs, prices, posts, untrodden
    FROM (SELECT a.*, lag(a.id) OVER (ORDER BY a.id, a.ord) IS NOT DISTINCT FROM a.id AS again
          FROM unnest(t_id, t_expected, t_kind, t_client, t_lane, t_parent, t_events) WITH ORDINALITY
            AS a (id, expected, kind, client, lane, parent, events, ord)) u
    LEFT JOIN LATERAL (SELECT * FROM chain x WHERE x.id = u.id FOR UPDATE) c ON true
    LEFT JOIN LATERAL (SELECT * FROM chain x WHERE x.id = u.parent OFFSET 0) p ON true
    LEFT JOIN ways w ON w.from_step = coalesce(c.step, '') AND w.events = u.events AND w.kind = coalesce(c.kind, u.kind);
    EXIT WHEN NOT untrodden OR attempt = 2;
    SELECT learn_ways(svc, array_agg(u.kind), array_agg(u.old_step), array_agg(u.events)) INTO untrodden FROM unnest(d) u
    WHERE u.verdict = 'refused';
    EXIT WHEN NOT untrodden;
  END LOOP;
  IF guarded OR pairs THEN
    d := guard(d, guarded, pairs);
  END IF;

  -- A chain has the amount of the price it was given last.
  IF prices THEN
    FOR i, price IN
      SELECT e.t, e.data::json -> 'amount' FROM unnest(e_t, e_type, e_data) AS e (t, type, data) WHERE e.type = 'PRICED'
    LOOP
      d[i].amount := coalesce((price ->> 'minor')::bigint, d[i].amount);
      d[i].currency := coalesce(price ->> 'currency', d[i].currency);
    END LOOP;
  END IF;
  IF 0 = ANY (t_expected) THEN
    -- A task is opened alone (open_task), and its first event names its slot. Jobs are opened by one event each; a hasty one is in the high lane.
    INSERT INTO chain (id, kind, step, version, status, waits_for, aside, lane, client, amount, currency, parent, created_at, updated_at, task, label)
    SELECT u.id, u.kind, u.new_step, u.n, u.status, u.waits_for, aside_of(u.waits_for), u.lane, u.client, u.amount, u.currency, u.parent, now(), now(),
           CASE u.kind WHEN 'system' THEN e_data[1]::json ->> 'slot' END,
           CASE WHEN u.kind = 'job' AND u.lane = 'high' THEN
             (SELECT h.label FROM haste h WHERE h.label = e_data[array_position(t_id, u.id)]::json #>> '{context,label}' AND NOT h.removed) END
    FROM unnest(d) u WHERE u.verdict = 'won' AND u.opens;
  END IF;
  IF 0 < ANY (t_expected) THEN
    UPDATE chain c SET step = u.new_step, version = u.version + u.n, status = u.status, waits_for = u.waits_for, aside = aside_of(u.waits_for),
           amount = u.amount, currency = u.currency, updated_at = now()
    FROM unnest(d) u WHERE u.verdict = 'won' AND NOT u.opens AND c.id = u.id AND c.id = ANY (t_id);
  END IF;
  INSERT INTO event (generation, xid, chain_id, version, type, at, data)
  SELECT (SELECT max(n) FROM generation), tx, (d[e.t]).id, (d[e.t]).version + e.n, e.type, now(), e.data
  FROM unnest(e_t, e_n, e_type, e_data) AS e (t, n, type, data) WHERE (d[e.t]).verdict = 'won';
  IF posts THEN
    WITH posting AS MATERIALIZED (SELECT * FROM step z WHERE z.name = ANY (ARRAY(SELECT DISTINCT x FROM unnest(e_type) x)) AND z.debit IS NOT NULL)
    INSERT INTO journal (chain_id, version, debit, credit, amount, currency, at)
    SELECT (d[e.t]).id, (d[e.t]).version + e.n, s.debit, s.credit, (d[e.t]).amount, (d[e.t]).currency, now()
    FROM unnest(e_t, e_n, e_type) AS e (t, n, type) JOIN posting s ON s.name = e.type AND s.kind = (d[e.t]).kind WHERE (d[e.t]).verdict = 'won';
  END IF;

  RETURN QUERY
  SELECT u.ordinality::integer, u.verdict, CASE WHEN u.verdict = 'won' THEN u.version + u.n ELSE u.version END,
         CASE WHEN u.verdict = 'won' THEN u.new_step ELSE u.old_step END,
         CASE WHEN u.verdict = 'won' THEN u.hearer END, u.lane
  FROM unnest(d) WITH ORDINALITY u WHERE quick IS NULL OR u.ordinality <> ALL (quick);
END $$;
COMMENT ON FUNCTION advance IS 'Moves a batch of chains, at most one transition (of one or more events) per chain and call. Transition i is t_*[i]; t_events[i] names its events, separated by commas, and e_data holds the data of all events in that order. t_expected 0 opens a chain (t_kind, t_client, t_lane; t_parent for a payout); where nothing is opened, these four may be empty. Per transition: won, lost (another was faster, or a repeat) or refused (no such edge for this service, or evidence is missing)';
GRANT EXECUTE ON FUNCTION advance TO aethelos_intake, aethelos_pricing, aethelos_payments, aethelos_execution, aethelos_ledger, aethelos_payouts, aethelos_meta_repair;
-- What was derived by other rules than those of learn_ways() above is derived anew.
LOCK TABLE way IN SHARE ROW EXCLUSIVE MODE;
DELETE FROM way;
