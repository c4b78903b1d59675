-- audit(): reads everything and reports every breach of the invariants.

CREATE OR REPLACE FUNCTION audit() RETURNS TABLE (invariant text, chain_id uuid, fault text)
LANGUAGE sql STABLE SET search_path = aethelos, pg_temp AS $$
  -- I3: versions without gaps, the row is the fold of its events, every step an allowed edge.
  SELECT 'I3', c.id, 'the row is not the fold of its events'
  FROM chain c LEFT JOIN LATERAL (
    SELECT count(*) AS n, max(e.version) AS top, (array_agg(e.type ORDER BY e.version DESC))[1] AS step,
           max((e.data::json #>> '{amount,minor}')::bigint) FILTER (WHERE e.type IN ('PRICED', 'PAYOUT_EARNED')) AS amount
    FROM event e WHERE e.chain_id = c.id) f ON true
  LEFT JOIN step s ON s.kind = c.kind AND s.name = c.step
  WHERE f.n <> c.version OR f.top <> c.version OR f.step <> c.step OR s.status <> c.status OR s.waits_for IS DISTINCT FROM c.waits_for
     OR c.aside <> coalesce(c.waits_for, '') OR f.amount IS DISTINCT FROM c.amount
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
  SELECT 'I5', p.id, 'a payout of something else than a job' FROM chain p JOIN chain c ON c.id = p.parent WHERE c.kind <> 'job'
  UNION ALL
  SELECT 'I5', c.id, 'not the task that its first event names'
  FROM chain c LEFT JOIN event e ON e.chain_id = c.id AND e.version = 1 WHERE c.kind = 'system' AND c.task IS DISTINCT FROM e.data::json ->> 'slot'
  UNION ALL
  SELECT 'I3', c.id, 'not the label that its first event names'
  FROM chain c LEFT JOIN event e ON e.chain_id = c.id AND e.version = 1
  WHERE c.label IS NOT NULL AND c.label IS DISTINCT FROM e.data::json #>> '{context,label}'
  UNION ALL
  SELECT 'I6', j.chain_id, 'the books of tasks and of customers mix'
  FROM journal j JOIN chain c ON c.id = j.chain_id
  WHERE (c.kind = 'system') <> (j.debit LIKE 'system\_%') OR (c.kind = 'system') <> (j.credit LIKE 'system\_%')
  UNION ALL
  SELECT 'I6', e.chain_id, 'money event and journal entry do not match'
  FROM event e JOIN chain c ON c.id = e.chain_id JOIN step s ON s.kind = c.kind AND s.name = e.type
  LEFT JOIN journal j ON j.chain_id = e.chain_id AND j.version = e.version
  WHERE (s.debit IS NOT NULL) <> (j.chain_id IS NOT NULL)
     OR (j.chain_id IS NOT NULL AND (j.debit <> s.debit OR j.credit <> s.credit OR j.amount <> c.amount OR j.currency <> c.currency))
  UNION ALL
  SELECT 'I7', e.chain_id, 'moved without evidence: ' || e.type
  FROM (SELECT x.*, coalesce(lag(x.type) OVER (PARTITION BY x.chain_id ORDER BY x.version), '') AS prev FROM event x) e
  JOIN chain c ON c.id = e.chain_id JOIN step s ON s.kind = c.kind AND s.name = e.type
  JOIN edge d ON d.kind = c.kind AND d.from_step = e.prev AND d.event = e.type
  WHERE coalesce(d.evidence, s.evidence) IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM evidence v WHERE v.chain_id = e.chain_id AND v.version = e.version - 1 AND v.event = e.type
      AND v.kind = ANY (coalesce(d.evidence, s.evidence)))
  UNION ALL
  SELECT 'I8', c.id, CASE WHEN b.held < 0 THEN 'more refunded or earned than paid' ELSE 'ended, and the prepayment is still owed' END
  FROM (SELECT j.chain_id, sum(CASE 'customer_prepayment' WHEN j.credit THEN j.amount WHEN j.debit THEN -j.amount ELSE 0 END) AS held
        FROM journal j GROUP BY j.chain_id) b JOIN chain c ON c.id = b.chain_id
  WHERE b.held < 0 OR (b.held > 0 AND c.status <> 'open')
  UNION ALL
  SELECT 'I8', c.id, 'failed, and its internal transfer stands'
  FROM chain c JOIN journal j ON j.chain_id = c.id WHERE c.kind = 'system' AND c.status = 'final_fail'
  GROUP BY c.id HAVING sum(CASE j.debit WHEN 'system_expense' THEN j.amount ELSE -j.amount END) <> 0
  UNION ALL
  SELECT 'I8', NULL, 'more paid out than earned in ' || j.currency
  FROM journal j WHERE 'owner_payable' IN (j.debit, j.credit)
  GROUP BY j.currency HAVING sum(CASE WHEN j.credit = 'owner_payable' THEN j.amount ELSE -j.amount END) < 0
  UNION ALL
  SELECT 'I9', s.job_id, 'a key without its job' FROM submission s WHERE NOT EXISTS (SELECT 1 FROM chain c WHERE c.id = s.job_id AND c.kind = 'job')
  UNION ALL
  SELECT 'I9', c.id, 'a job without exactly one key'
  FROM chain c LEFT JOIN (SELECT s.job_id, count(*) AS n FROM submission s GROUP BY s.job_id) k ON k.job_id = c.id
  WHERE c.kind = 'job' AND coalesce(k.n, 0) <> 1
$$;
COMMENT ON FUNCTION audit IS 'Every breach of I3 to I9 in the whole store; no row: all hold. Reads everything: for tests and the occasional check';
