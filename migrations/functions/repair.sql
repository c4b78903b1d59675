-- event_minor(): the amount of an event, in minor units; NULL where it cannot be read, because what is broken must not stop who looks for it.

CREATE OR REPLACE FUNCTION event_minor(p_data text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
  RETURN (p_data::json #>> '{amount,minor}')::bigint;
EXCEPTION WHEN data_exception THEN
  RETURN NULL;
END $$;
COMMENT ON FUNCTION event_minor IS 'The amount of an event, in minor units; NULL where it has none or cannot be read';
GRANT EXECUTE ON FUNCTION event_minor TO aethelos_meta_repair;

-- refold(): makes a chain's row what its events say again. The events are the truth (I3); nothing else is touched, and where the events themselves are
-- not sound nothing is, because a person must look.

CREATE OR REPLACE FUNCTION refold(p_id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = aethelos, pg_temp
AS $$
DECLARE
  c chain%ROWTYPE;
  n integer; top integer; last_type text; last_at timestamptz; sound boolean; minor bigint; unit text;
  s step%ROWTYPE;
BEGIN
  SELECT * INTO c FROM chain x WHERE x.id = p_id FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 'unknown';
  END IF;
  SELECT count(*), max(e.version), (array_agg(e.type ORDER BY e.version DESC))[1], max(e.at),
         bool_and(EXISTS (SELECT 1 FROM edge d WHERE d.kind = c.kind AND d.from_step = e.prev AND d.event = e.type)),
         (array_agg(e.data::json #>> '{amount,minor}' ORDER BY e.version DESC) FILTER (WHERE e.type IN ('PRICED', 'PAYOUT_EARNED')))[1]::bigint,
         (array_agg(e.data::json #>> '{amount,currency}' ORDER BY e.version DESC) FILTER (WHERE e.type IN ('PRICED', 'PAYOUT_EARNED')))[1]
  INTO n, top, last_type, last_at, sound, minor, unit
  FROM (SELECT x.*, coalesce(lag(x.type) OVER (ORDER BY x.version), '') AS prev FROM event x WHERE x.chain_id = p_id) e;
  IF n = 0 OR top <> n OR NOT sound THEN
    RETURN 'broken';
  END IF;
  SELECT * INTO s FROM step x WHERE x.kind = c.kind AND x.name = last_type;
  IF (c.step, c.version, c.status) = (last_type, n, s.status) AND c.waits_for IS NOT DISTINCT FROM s.waits_for
     AND (c.aside IS NULL OR c.aside IS NOT DISTINCT FROM c.waits_for)
     AND c.amount IS NOT DISTINCT FROM minor AND c.currency IS NOT DISTINCT FROM unit THEN
    RETURN 'sound';
  END IF;
  UPDATE chain x SET step = last_type, version = n, status = s.status, waits_for = s.waits_for, aside = aside_of(s.waits_for), amount = minor,
         currency = unit, updated_at = last_at
  WHERE x.id = p_id;
  RETURN 'refolded';
EXCEPTION WHEN data_exception THEN -- an event that cannot be read
  RETURN 'broken';
END $$;
COMMENT ON FUNCTION refold IS 'Re-folds a chain''s row from its events: sound (nothing to do), refolded, broken (the events themselves are not sound: nothing is changed) or unknown';
GRANT EXECUTE ON FUNCTION refold TO aethelos_meta_repair;

-- set_aside(): takes what waits out of the index of what stands. Its version stays: a move that is under way goes on, and brings it back. Whoever is held
-- by somebody is left for the next walk, which must not wait for him.
CREATE OR REPLACE FUNCTION set_aside(p_id uuid[]) RETURNS bigint
LANGUAGE sql SECURITY DEFINER
SET search_path = aethelos, pg_temp
SET enable_hashjoin = on SET enable_nestloop = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
  WITH free AS MATERIALIZED (
    SELECT x.id FROM chain x WHERE x.id = ANY (p_id) AND x.status = 'open' AND x.aside IS NULL AND x.waits_for IS NOT NULL
    ORDER BY x.id FOR NO KEY UPDATE SKIP LOCKED
  ), done AS (
    UPDATE chain c SET aside = c.waits_for FROM free f WHERE c.id = f.id AND c.id = ANY (p_id) RETURNING 1
  )
  SELECT count(*) FROM done;
$$;
COMMENT ON FUNCTION set_aside IS 'Has chains that wait looked at with those that wait long, until they move; how many were not yet';
GRANT EXECUTE ON FUNCTION set_aside TO aethelos_meta_repair;

-- The row is locked to the end of the transaction, and payments takes none that is locked: either it is dropped, or it is asked for again.
CREATE OR REPLACE FUNCTION drop_refused_intent(p_chain uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = aethelos, pg_temp
AS $$
  UPDATE provider_call p SET state = 'failed' WHERE p.chain_id = p_chain AND p.what = 'create' AND p.state = 'unknown' AND p.error LIKE 'refused: %';
$$;
COMMENT ON FUNCTION drop_refused_intent IS 'Has an intent that the provider has refused asked for no more; meta-repair does it in the transaction that closes the job';
GRANT EXECUTE ON FUNCTION drop_refused_intent TO aethelos_meta_repair;
