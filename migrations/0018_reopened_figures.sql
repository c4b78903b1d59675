-- What was reopened used to be counted under its own name, and what it takes back (a failure, an expiry) was not taken off: the figures of before are
-- made again from the events, up to where feed has counted. Where there are none, nothing is read.
SELECT 1 FROM reader WHERE name = 'feed' FOR UPDATE; -- feed counts on behind this
INSERT INTO figure (name, currency, minor, count)
  SELECT q.type || ' reopened', coalesce(c.currency, ''), coalesce(sum(c.amount), 0), count(*)
  FROM reader r
  JOIN event e ON (e.generation, e.xid, e.id) <= (r.generation, r.xid, r.id) AND e.type = 'CHAIN_REOPENED'
  JOIN event q ON q.chain_id = e.chain_id AND q.version = e.version - 1
  JOIN chain c ON c.id = e.chain_id
  WHERE r.name = 'feed' AND EXISTS (SELECT 1 FROM figure f WHERE f.name = 'CHAIN_REOPENED') GROUP BY 1, 2
  ON CONFLICT (name, currency) DO UPDATE SET minor = excluded.minor, count = excluded.count;
DELETE FROM figure WHERE name = 'CHAIN_REOPENED';
COMMENT ON COLUMN figure.name IS 'Type of the event counted; of system tasks behind the word system, so that no customer figure counts them; of a reopening the event that it takes back, before the word reopened';
