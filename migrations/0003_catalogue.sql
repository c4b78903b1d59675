-- The catalogue: flows, offers and operators, versioned; runs at outside operators; readers of the tail and the figures they keep.

CREATE TABLE flow (
  id       text NOT NULL,
  version  integer NOT NULL,
  type     text NOT NULL CHECK (type ~ '^[a-z0-9_:.-]{1,100}$'),
  base     text NOT NULL CHECK (base ~ '^[0-9]{1,15}([.][0-9]{1,6})?$'),
  per_unit text NOT NULL CHECK (per_unit ~ '^[0-9]{1,15}([.][0-9]{1,6})?$'),
  currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  steps    text[] NOT NULL CHECK (cardinality(steps) BETWEEN 1 AND 32),
  at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (id, version)
);
CREATE INDEX flow_type ON flow (type);
COMMENT ON TABLE flow IS 'Recipes for job types, append-only: the newest version of a type''s flow is used for new jobs, and a job keeps the version that admission pinned';
COMMENT ON COLUMN flow.id IS 'Name';
COMMENT ON COLUMN flow.version IS '1, 2, 3, ...';
COMMENT ON COLUMN flow.type IS 'Job type';
COMMENT ON COLUMN flow.base IS 'Price of a job before its complexity, decimal text in major units';
COMMENT ON COLUMN flow.per_unit IS 'Price of one unit of complexity, decimal text';
COMMENT ON COLUMN flow.currency IS 'ISO 4217 code';
COMMENT ON COLUMN flow.steps IS 'Tags of the steps, in order';
COMMENT ON COLUMN flow.at IS 'When this version was registered';

CREATE TABLE offer (
  id         text NOT NULL CHECK (id ~ '^[a-z0-9_]{1,64}$'),
  version    integer NOT NULL,
  product    text NOT NULL,
  title      text NOT NULL,
  type       text NOT NULL,
  context    text NOT NULL,
  multiplier text NOT NULL CHECK (multiplier ~ '^[0-9]{1,6}([.][0-9]{1,6})?$'),
  active     boolean NOT NULL,
  PRIMARY KEY (id, version)
);
COMMENT ON TABLE offer IS 'Products with a stable address (/buy/offer/{id}), append-only; the newest version counts';
COMMENT ON COLUMN offer.id IS 'Name in the address';
COMMENT ON COLUMN offer.version IS '1, 2, 3, ...';
COMMENT ON COLUMN offer.product IS 'Product it belongs to';
COMMENT ON COLUMN offer.title IS 'For people';
COMMENT ON COLUMN offer.type IS 'Job type';
COMMENT ON COLUMN offer.context IS 'Context of its jobs, minified JSON text';
COMMENT ON COLUMN offer.multiplier IS 'Factor of the price, decimal text';
COMMENT ON COLUMN offer.active IS 'Whether it can be bought';

CREATE TABLE operator (
  name          text PRIMARY KEY CHECK (name ~ '^[a-z0-9_]{1,64}$'),
  kind          text NOT NULL CHECK (kind IN ('builtin', 'http')),
  description   text NOT NULL DEFAULT '',
  url           text,
  status_url    text,
  tags          text[] NOT NULL CHECK (cardinality(tags) BETWEEN 1 AND 32),
  fallback_for  text[] NOT NULL DEFAULT '{}',
  idempotent    boolean NOT NULL DEFAULT false,
  timeout_ms    integer NOT NULL DEFAULT 30000 CHECK (timeout_ms BETWEEN 100 AND 600000),
  max_in_flight integer NOT NULL DEFAULT 100 CHECK (max_in_flight BETWEEN 1 AND 10000),
  successes     bigint NOT NULL DEFAULT 0,
  failures      bigint NOT NULL DEFAULT 0,
  total_ms      bigint NOT NULL DEFAULT 0,
  last_error    text,
  CHECK ((kind = 'http') = (url IS NOT NULL))
) WITH (fillfactor = 50);
COMMENT ON TABLE operator IS 'Who performs steps, and how well: health and score are computed from the counts';
COMMENT ON COLUMN operator.name IS 'Name';
COMMENT ON COLUMN operator.kind IS 'builtin: compiled into execution; http: called at url';
COMMENT ON COLUMN operator.description IS 'For people';
COMMENT ON COLUMN operator.url IS 'Where runs are POSTed';
COMMENT ON COLUMN operator.status_url IS 'Where the outcome of a run can be asked; NULL: nowhere';
COMMENT ON COLUMN operator.tags IS 'Step tags it performs';
COMMENT ON COLUMN operator.fallback_for IS 'Operators or tags it stands in for when they fail';
COMMENT ON COLUMN operator.idempotent IS 'The same run_id may be sent again, and a run may be given to another operator though its outcome is unknown';
COMMENT ON COLUMN operator.timeout_ms IS 'Of one call';
COMMENT ON COLUMN operator.max_in_flight IS 'Calls at once, per instance';
COMMENT ON COLUMN operator.successes IS 'Finished runs that were done';
COMMENT ON COLUMN operator.failures IS 'Finished runs that failed';
COMMENT ON COLUMN operator.total_ms IS 'Sum of the durations of finished runs';
COMMENT ON COLUMN operator.last_error IS 'Of the last failed run';

CREATE TABLE operator_run (
  id         uuid PRIMARY KEY,
  chain_id   uuid NOT NULL,
  step       integer NOT NULL,
  attempt    integer NOT NULL,
  tag        text NOT NULL,
  operator   text NOT NULL,
  state      text NOT NULL CHECK (state IN ('calling', 'accepted', 'unknown', 'done', 'failed')),
  error      text,
  owner      text NOT NULL,
  epoch      integer NOT NULL DEFAULT 1,
  lease_until timestamptz NOT NULL,
  next_at    timestamptz NOT NULL,
  probes     integer NOT NULL DEFAULT 0,
  started_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (chain_id, step, attempt)
);
CREATE INDEX operator_run_due ON operator_run (next_at) WHERE state IN ('calling', 'accepted', 'unknown');
CREATE UNIQUE INDEX operator_run_live ON operator_run (chain_id) WHERE state IN ('calling', 'accepted', 'unknown');
COMMENT ON TABLE operator_run IS 'Runs at outside operators: committed before the call, so that an unknown outcome is asked about and not sent blindly again. At most one live run per chain';
COMMENT ON COLUMN operator_run.id IS 'run_id: the idempotency key of the call';
COMMENT ON COLUMN operator_run.chain_id IS 'The job';
COMMENT ON COLUMN operator_run.step IS 'Index of the step in the flow, from 0';
COMMENT ON COLUMN operator_run.attempt IS 'Attempt at this step, from 1';
COMMENT ON COLUMN operator_run.tag IS 'Tag of the step';
COMMENT ON COLUMN operator_run.operator IS 'Whom';
COMMENT ON COLUMN operator_run.state IS 'calling: may be under way; accepted: the operator answers later; unknown: no answer came; done, failed: known';
COMMENT ON COLUMN operator_run.error IS 'Why it failed or is unknown';
COMMENT ON COLUMN operator_run.owner IS 'Instance that holds the lease';
COMMENT ON COLUMN operator_run.epoch IS 'Fencing number of the lease: only the present one may write the outcome';
COMMENT ON COLUMN operator_run.lease_until IS 'After this another instance may take over, and asks';
COMMENT ON COLUMN operator_run.next_at IS 'When it is looked at again';
COMMENT ON COLUMN operator_run.probes IS 'How often its outcome was asked';
COMMENT ON COLUMN operator_run.started_at IS 'When it began';

CREATE TABLE reader (
  name       text PRIMARY KEY,
  generation smallint NOT NULL,
  xid        bigint NOT NULL,
  id         bigint NOT NULL
);
COMMENT ON TABLE reader IS 'Checkpoints of those who follow the tail of the event store';
COMMENT ON COLUMN reader.name IS 'Who';
COMMENT ON COLUMN reader.generation IS 'Last event read: generation';
COMMENT ON COLUMN reader.xid IS 'Last event read: transaction';
COMMENT ON COLUMN reader.id IS 'Last event read: number';

CREATE TABLE figure (
  name     text NOT NULL,
  currency text NOT NULL,
  minor    bigint NOT NULL,
  count    bigint NOT NULL,
  PRIMARY KEY (name, currency)
) WITH (fillfactor = 50);
COMMENT ON TABLE figure IS 'Sums over all events up to the checkpoint of reader ''feed'', so that an overview costs the tail and not the history';
COMMENT ON COLUMN figure.name IS 'Type of the event counted';
COMMENT ON COLUMN figure.currency IS 'Currency of its chain, or empty before it is priced';
COMMENT ON COLUMN figure.minor IS 'Sum of the amounts, minor units';
COMMENT ON COLUMN figure.count IS 'Number of events';

INSERT INTO flow (id, version, type, base, per_unit, currency, steps) VALUES
  ('puz19_text_flow', 1, 'puz19:text_analysis', '20.00', '0.05', 'EUR', '{puz19_text}'),
  ('puz19_numeric_flow', 1, 'puz19:numeric_analysis', '25.00', '0.02', 'EUR', '{puz19_numeric}'),
  ('system_health_flow', 1, 'system:health_check', '5.00', '0.01', 'EUR', '{puz19_text}');
INSERT INTO offer (id, version, product, title, type, context, multiplier, active) VALUES
  ('offer_p19_text_basic', 1, 'Project19Codon', 'Text analysis', 'puz19:text_analysis', '{}', '1', true),
  ('offer_p19_numeric_basic', 1, 'Project19Codon', 'Numeric analysis', 'puz19:numeric_analysis', '{}', '1', true),
  ('offer_openseat_text', 1, 'OpenSeat', 'Text analysis, open seat', 'puz19:text_analysis', '{}', '1', true);
INSERT INTO operator (name, kind, description, tags, idempotent) VALUES
  ('puz19_text_summary', 'builtin', 'length, word count and preview of payload.text', '{puz19_text}', true),
  ('puz19_numeric_stats', 'builtin', 'count, sum and average of payload.numbers', '{puz19_numeric}', true);
