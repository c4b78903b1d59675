-- Webhooks: a secret is changed in place, and a disabled subscription is an issue.

-- A secret that was replaced goes on signing beside the new one for a time, so that the receiver may change when it likes.
CREATE TABLE webhook_old_secret (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  webhook_id uuid NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
  secret     text NOT NULL,
  until      timestamptz NOT NULL
);
CREATE INDEX webhook_old_secret_of ON webhook_old_secret (webhook_id);
COMMENT ON TABLE webhook_old_secret IS 'Secrets that were replaced and still sign. Deleted when their time is over';
COMMENT ON COLUMN webhook_old_secret.id IS 'Order in which they were replaced';
COMMENT ON COLUMN webhook_old_secret.webhook_id IS 'The subscription';
COMMENT ON COLUMN webhook_old_secret.secret IS 'As webhook.secret';
COMMENT ON COLUMN webhook_old_secret.until IS 'Until then messages are signed with it, too';
GRANT SELECT, DELETE ON webhook_old_secret TO aethelos_webhooks;
GRANT SELECT (webhook_id, until) ON webhook_old_secret TO aethelos_board;

-- An issue may be about a subscription. The old condition held for all rows there are, so the new one does, unread.
ALTER TABLE issue ADD COLUMN webhook_id uuid;
ALTER TABLE issue DROP CONSTRAINT issue_check, ADD CONSTRAINT issue_about CHECK (num_nonnulls(chain_id, operator, webhook_id) = 1) NOT VALID;
-- takes long on issue: its rows are read once; meta-repair alone writes there, and goes on behind it.
CREATE UNIQUE INDEX issue_of_webhook ON issue (webhook_id, kind) WHERE closed_at IS NULL AND webhook_id IS NOT NULL;
COMMENT ON COLUMN issue.webhook_id IS 'The subscription it is about';
GRANT SELECT (id, client, state, failing_since) ON webhook TO aethelos_meta_repair;
