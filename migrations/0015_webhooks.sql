-- Outgoing webhooks: who wants to be told of events, and what came of telling. The event store is the queue: each subscription stands at a place in it.
CREATE TABLE webhook (
  id            uuid PRIMARY KEY,
  url           text NOT NULL CHECK (length(url) BETWEEN 8 AND 2000),
  types         text[] NOT NULL,
  client        text,
  secret        text NOT NULL,
  state         text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
  reason        text,
  failing_since timestamptz,
  last_error    text,
  generation    smallint NOT NULL,
  xid           bigint NOT NULL,
  event_id      bigint NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now(),
  CHECK ((state = 'disabled') = (reason IS NOT NULL))
);
COMMENT ON TABLE webhook IS 'Subscriptions: where events are POSTed to';
COMMENT ON COLUMN webhook.id IS 'The subscription';
COMMENT ON COLUMN webhook.url IS 'Where to';
COMMENT ON COLUMN webhook.types IS 'Events that are told; empty: all';
COMMENT ON COLUMN webhook.client IS 'Only events of chains of this client; NULL: of all';
COMMENT ON COLUMN webhook.secret IS 'whsec_ and base64: the key of the signatures. Shown once, when it is made';
COMMENT ON COLUMN webhook.state IS 'active, or disabled: nothing is sent, and its place in the store stays';
COMMENT ON COLUMN webhook.reason IS 'Why it is disabled, for people';
COMMENT ON COLUMN webhook.failing_since IS 'Since when every delivery failed; NULL: the last one succeeded, or there was none';
COMMENT ON COLUMN webhook.last_error IS 'Of the last failure since then';
COMMENT ON COLUMN webhook.generation IS 'With xid and event_id: the event up to which deliveries were made, in the order of readers';
COMMENT ON COLUMN webhook.xid IS 'See generation';
COMMENT ON COLUMN webhook.event_id IS 'See generation';
COMMENT ON COLUMN webhook.created_at IS 'When it was made; events before it are not told';

CREATE TABLE webhook_delivery (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  webhook_id  uuid NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
  message     uuid NOT NULL DEFAULT gen_random_uuid(),
  chain_id    uuid NOT NULL,
  version     integer NOT NULL,
  type        text NOT NULL,
  state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
  attempts    integer NOT NULL DEFAULT 0,
  next_at     timestamptz NOT NULL DEFAULT now(),
  last_status integer,
  last_error  text,
  created_at  timestamptz NOT NULL DEFAULT now(),
  done_at     timestamptz,
  UNIQUE (webhook_id, chain_id, version),
  CHECK ((state = 'pending') = (done_at IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX webhook_delivery_pending ON webhook_delivery (webhook_id, next_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_list ON webhook_delivery (webhook_id, id);
CREATE INDEX webhook_delivery_done ON webhook_delivery (done_at) WHERE done_at IS NOT NULL;
COMMENT ON TABLE webhook_delivery IS 'One row for each event that a subscription is told. Pruned some days after it is done';
COMMENT ON COLUMN webhook_delivery.id IS 'Number, for lists and commands';
COMMENT ON COLUMN webhook_delivery.webhook_id IS 'The subscription';
COMMENT ON COLUMN webhook_delivery.message IS 'webhook-id of every attempt: by it a receiver knows a repeat';
COMMENT ON COLUMN webhook_delivery.chain_id IS 'With version: the event';
COMMENT ON COLUMN webhook_delivery.version IS 'See chain_id';
COMMENT ON COLUMN webhook_delivery.type IS 'Type of the event';
COMMENT ON COLUMN webhook_delivery.state IS 'pending; delivered: answered with 2xx; failed: given up';
COMMENT ON COLUMN webhook_delivery.attempts IS 'Attempts begun since it was made or asked for again';
COMMENT ON COLUMN webhook_delivery.next_at IS 'When it is sent next; while an attempt is under way, when another may take it over';
COMMENT ON COLUMN webhook_delivery.last_status IS 'HTTP status of the last answer; NULL: none came';
COMMENT ON COLUMN webhook_delivery.last_error IS 'What was wrong with the last attempt; NULL: nothing, or none is over';
COMMENT ON COLUMN webhook_delivery.created_at IS 'When it was made';
COMMENT ON COLUMN webhook_delivery.done_at IS 'When it was delivered or given up';

DO $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'aethelos_webhooks') THEN
    CREATE ROLE aethelos_webhooks LOGIN;
  END IF;
END $$;
ALTER ROLE aethelos_webhooks SET search_path = aethelos, pg_temp;
ALTER ROLE aethelos_webhooks SET statement_timeout = '30s';
ALTER ROLE aethelos_webhooks SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE aethelos_webhooks SET jit = off;
ALTER ROLE aethelos_webhooks SET enable_seqscan = off;
ALTER ROLE aethelos_webhooks SET enable_hashjoin = off;
ALTER ROLE aethelos_webhooks SET enable_mergejoin = off;
GRANT USAGE ON SCHEMA aethelos TO aethelos_webhooks;
GRANT SELECT ON step, edge, chain, event, generation, webhook TO aethelos_webhooks;
GRANT SELECT, INSERT ON quarantine TO aethelos_webhooks;
GRANT UPDATE (state, reason, failing_since, last_error, generation, xid, event_id) ON webhook TO aethelos_webhooks;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_delivery TO aethelos_webhooks;
GRANT SELECT (id, url, types, client, state, reason, failing_since, last_error, created_at), INSERT, DELETE ON webhook TO aethelos_board;
GRANT UPDATE (state, reason, failing_since) ON webhook TO aethelos_board;
GRANT SELECT ON webhook_delivery TO aethelos_board;
GRANT UPDATE (state, attempts, next_at, done_at) ON webhook_delivery TO aethelos_board;
