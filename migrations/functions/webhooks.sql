-- Secrets of webhooks. The board may write them and read none.

CREATE OR REPLACE FUNCTION rotate_webhook(which uuid, new_secret text, keep interval) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = aethelos, pg_temp AS $$
BEGIN
  PERFORM 1 FROM webhook w WHERE w.id = which FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 'unknown';
  END IF;
  IF keep > interval '0' AND (SELECT count(*) >= 3 FROM webhook_old_secret o WHERE o.webhook_id = which AND o.until > now()) THEN
    RETURN 'too_many';
  END IF;
  IF keep > interval '0' THEN
    INSERT INTO webhook_old_secret (webhook_id, secret, until) SELECT w.id, w.secret, now() + keep FROM webhook w WHERE w.id = which;
  ELSE -- it has become known to somebody: none of the old ones signs any more
    DELETE FROM webhook_old_secret o WHERE o.webhook_id = which;
  END IF;
  UPDATE webhook w SET secret = new_secret WHERE w.id = which;
  RETURN 'rotated';
END $$;
COMMENT ON FUNCTION rotate_webhook IS 'Gives a subscription another secret; the one before signs beside it for `keep`, at once no more when that is 0';
GRANT EXECUTE ON FUNCTION rotate_webhook TO aethelos_board;
