-- open_task(): the only way to open a system task; cleanup_command(): the one command that a task may give. What a task costs and how it is done is pinned here, as admission does for a job.

CREATE OR REPLACE FUNCTION open_task(p_id uuid, p_task text, p_entity text, p_cause text, p_lane text)
RETURNS TABLE (id uuid, opened boolean, refusal text, hearer text, version integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = aethelos, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  k task_kind%ROWTYPE;
  entity text;
  from_offer text;
  slot text;
  why text;
  first_event text;
BEGIN
  SELECT * INTO k FROM task_kind x WHERE x.name = p_task;
  entity := CASE WHEN k.about IN ('operator', 'issue') THEN p_entity ELSE k.about END;
  from_offer := k.offer;
  IF k.about = 'issue' THEN
    SELECT k.offer || '_' || lower(i.kind) INTO from_offer FROM issue i WHERE i.closed_at IS NULL
      AND i.id = CASE WHEN entity ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN entity::uuid END;
  END IF;
  IF k.name IS NULL THEN
    why := 'there is no such kind of task';
  ELSIF entity IS NULL THEN
    why := 'this kind of task is about an ' || k.about || ': name it';
  ELSIF k.about = 'operator' AND NOT EXISTS (SELECT 1 FROM operator o WHERE o.name = entity) THEN
    why := 'there is no such operator';
  ELSIF from_offer IS NULL THEN
    why := 'there is no such open issue';
  ELSIF NOT EXISTS (SELECT 1 FROM offer x WHERE x.id = from_offer) THEN
    why := 'no task of this kind goes with it';
  ELSIF p_entity <> entity THEN
    why := 'this kind of task is always about the ' || entity;
  END IF;
  IF why IS NOT NULL THEN
    RETURN QUERY SELECT NULL::uuid, false, why, NULL::text, NULL::integer;
    RETURN;
  END IF;
  slot := k.name || '/' || entity;
  -- Two at once: the second waits for the commit of the first, and finds its task.
  PERFORM pg_advisory_xact_lock(hashtext('aethelos.task'), hashtext(slot));
  RETURN QUERY SELECT c.id, false, NULL::text, s.hearer, c.version FROM chain c JOIN step s ON (s.kind, s.name) = (c.kind, c.step)
    WHERE c.task = slot AND c.status = 'open';
  IF FOUND THEN
    RETURN;
  END IF;
  SELECT row_to_json(d)::text INTO first_event
  FROM (SELECT * FROM offer x WHERE x.id = from_offer ORDER BY x.version DESC LIMIT 1) o
  CROSS JOIN LATERAL (SELECT * FROM flow x WHERE x.type = o.type ORDER BY x.at DESC, x.version DESC LIMIT 1) f
  CROSS JOIN LATERAL (SELECT k.name AS task, entity AS entity) p
  CROSS JOIN LATERAL (SELECT f.id, f.version, f.base, f.per_unit, f.currency, f.steps) w
  CROSS JOIN LATERAL (SELECT o.id, o.version, o.multiplier) m
  CROSS JOIN LATERAL (SELECT 'system' AS client, p_id AS key, o.type, row_to_json(p) AS payload, o.context::json AS context, row_to_json(w) AS flow,
    row_to_json(m) AS offer, slot AS slot, p_cause::json AS cause) d;
  IF first_event IS NULL THEN
    RETURN QUERY SELECT NULL::uuid, false, 'this kind of task has no flow', NULL::text, NULL::integer;
    RETURN;
  END IF;
  RETURN QUERY SELECT p_id, true, NULL::text, a.hearer, a.version
    FROM advance(ARRAY[p_id], ARRAY[0], ARRAY['system'], ARRAY['system'], ARRAY[p_lane], ARRAY[NULL::uuid], ARRAY['TASK_CREATED'], ARRAY[first_event]) a
    WHERE a.verdict = 'won';
END $$;
COMMENT ON FUNCTION open_task IS 'Opens a system task under p_id, or answers with the one of this kind that is active about the same; refusal says why neither can be. p_cause: JSON, why it is opened';
GRANT EXECUTE ON FUNCTION open_task TO aethelos_meta_repair;

CREATE OR REPLACE FUNCTION cleanup_command(p_task uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = aethelos, pg_temp
AS $$
  INSERT INTO repair_command (id, what, args, by_whom)
  SELECT c.id, 'auto_repair', row_to_json(a)::text, 'system task'
  FROM chain c CROSS JOIN LATERAL (SELECT substr(c.task, length('CLEANUP/') + 1) AS issue_id) a
  WHERE c.id = p_task AND c.status = 'open' AND c.task LIKE 'CLEANUP/%' ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION cleanup_command IS 'Has meta-repair handle the issue that an open CLEANUP is about: a command under the id of the task, stored once';
GRANT EXECUTE ON FUNCTION cleanup_command TO aethelos_execution;
