-- What judge() says to advance() about a transition. Both functions take other parameters than before: functions/advance.sql makes them anew.
DROP FUNCTION judge(text, uuid[], integer[], text[], text[], text[], uuid[], integer[], text[], text[]);
DROP FUNCTION advance(uuid[], integer[], text[], text[], text[], uuid[], integer[], text[], text[]);
CREATE TYPE judged AS (
  id         uuid,
  parent     uuid,
  events     text,
  verdict    text,
  guarded    boolean,
  opens      boolean,
  kind       text,
  version    integer,
  n          integer,
  old_step   text,
  new_step   text,
  status     text,
  waits_for  text,
  hearer     text,
  lane       text,
  client     text,
  amount     bigint,
  currency   text
);
COMMENT ON TYPE judged IS 'A transition as judge() sees it';
COMMENT ON COLUMN judged.id IS 'The chain';
COMMENT ON COLUMN judged.parent IS 'Of a payout that opens: its job';
COMMENT ON COLUMN judged.events IS 'Names of the events, separated by commas';
COMMENT ON COLUMN judged.verdict IS 'won, lost or refused';
COMMENT ON COLUMN judged.guarded IS 'One of the events needs more than an edge: evidence, or the absence of something';
COMMENT ON COLUMN judged.opens IS 'There is no such chain yet';
COMMENT ON COLUMN judged.kind IS 'Kind of chain';
COMMENT ON COLUMN judged.version IS 'Its version before';
COMMENT ON COLUMN judged.n IS 'Number of events';
COMMENT ON COLUMN judged.old_step IS 'Where it stood';
COMMENT ON COLUMN judged.new_step IS 'Where it will stand';
COMMENT ON COLUMN judged.status IS 'Its status there';
COMMENT ON COLUMN judged.waits_for IS 'For whom it waits there';
COMMENT ON COLUMN judged.hearer IS 'The service that must move it on';
COMMENT ON COLUMN judged.lane IS 'Lane on the bus';
COMMENT ON COLUMN judged.client IS 'Who submitted';
COMMENT ON COLUMN judged.amount IS 'Amount of the chain, minor units';
COMMENT ON COLUMN judged.currency IS 'ISO 4217 code';
