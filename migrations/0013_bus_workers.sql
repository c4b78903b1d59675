-- Operators whose workers listen on the bus, and what is known of the runs that such workers have.
ALTER TABLE operator DROP CONSTRAINT operator_kind_check, DROP CONSTRAINT operator_check,
  ADD CONSTRAINT operator_kind_check CHECK (kind IN ('builtin', 'http', 'bus')),
  ADD CONSTRAINT operator_address_check CHECK ((kind = 'builtin') = (url IS NULL)),
  ADD COLUMN lease_ms integer NOT NULL DEFAULT 10000 CHECK (lease_ms BETWEEN 1000 AND 3600000);
COMMENT ON COLUMN operator.kind IS 'builtin: compiled into execution; http: called at url; bus: workers that listen on the subject url, called by request';
COMMENT ON COLUMN operator.url IS 'Where runs are sent: a URL, or a subject of the bus';
COMMENT ON COLUMN operator.status_url IS 'Where the outcome of a run can be asked, a URL or a subject; NULL: nowhere';
COMMENT ON COLUMN operator.lease_ms IS 'Of kind bus: a worker that has accepted a run and gives no beat for so long is asked about it';

ALTER TABLE operator_run ADD COLUMN beat_at timestamptz, ADD COLUMN worker text, ADD COLUMN progress text,
  ADD COLUMN percent smallint CHECK (percent BETWEEN 0 AND 100);
COMMENT ON COLUMN operator_run.lease_until IS 'Until then a call may still reach the operator, or a worker on the bus has it; after this another instance may take over, and asks';
COMMENT ON COLUMN operator_run.beat_at IS 'When a worker on the bus last said that it has the run; NULL: not since the last call';
COMMENT ON COLUMN operator_run.worker IS 'Which worker, as it names itself';
COMMENT ON COLUMN operator_run.progress IS 'How far it is, in its own words';
COMMENT ON COLUMN operator_run.percent IS 'How far it is';
COMMENT ON COLUMN operator_run.sends IS 'How often it was sent, or tried to be. On the bus also the fencing token: only a worker that names the present number is heard';
