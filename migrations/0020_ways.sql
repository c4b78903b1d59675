-- What may follow what, written out once for each way that services take: a batch looks its ways up by key instead of deriving them from step and edge
-- event by event. judge() is no longer used; it stays, because services of the version before go on with the advance() that calls it until
-- functions/advance.sql is applied.
CREATE TABLE way (
  kind      text NOT NULL,
  from_step text NOT NULL,
  events    text NOT NULL,
  service   text NOT NULL,
  n         integer NOT NULL,
  new_step  text NOT NULL,
  status    text NOT NULL,
  waits_for text,
  hearer    text,
  reopens   boolean NOT NULL,
  guarded   boolean NOT NULL,
  paired    boolean NOT NULL,
  prices    boolean NOT NULL,
  posts     boolean NOT NULL,
  PRIMARY KEY (from_step, events, kind, service)
);
COMMENT ON TABLE way IS 'Moves of several events that are allowed, derived from step and edge: written by learn_ways() when first taken, all forgotten when step or edge change. Holds nothing of its own';
COMMENT ON COLUMN way.kind IS 'Kind of chain';
COMMENT ON COLUMN way.from_step IS 'Where the chain stands; empty: it does not exist yet';
COMMENT ON COLUMN way.events IS 'The events in their order, separated by commas';
COMMENT ON COLUMN way.service IS 'The service that may make the move';
COMMENT ON COLUMN way.n IS 'Number of events';
COMMENT ON COLUMN way.new_step IS 'Where the chain will stand';
COMMENT ON COLUMN way.status IS 'Its status there';
COMMENT ON COLUMN way.waits_for IS 'For whom it waits there';
COMMENT ON COLUMN way.hearer IS 'The service that must move it on';
COMMENT ON COLUMN way.reopens IS 'It leaves a final state';
COMMENT ON COLUMN way.guarded IS 'One of the events needs more than an edge: evidence, or the absence of something';
COMMENT ON COLUMN way.paired IS 'It wins only together with another chain of the batch: booked revenue and its payout';
COMMENT ON COLUMN way.prices IS 'One of the events sets the amount of the chain';
COMMENT ON COLUMN way.posts IS 'One of the events posts to the journal';

CREATE FUNCTION forget_ways() RETURNS trigger LANGUAGE plpgsql SET search_path = aethelos, pg_temp AS $$
BEGIN
  DELETE FROM way;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION forget_ways IS 'Ways are derived from step and edge: when those change they are derived anew';
CREATE TRIGGER forget_ways AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON step FOR EACH STATEMENT EXECUTE FUNCTION forget_ways();
CREATE TRIGGER forget_ways AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON edge FOR EACH STATEMENT EXECUTE FUNCTION forget_ways();
