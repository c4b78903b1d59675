-- The list of open refunds costs the open refunds. waits_for is indexed already, so updates stay as they are (HOT).
CREATE INDEX chain_at_provider ON chain (id) WHERE status = 'open' AND waits_for = 'provider';
