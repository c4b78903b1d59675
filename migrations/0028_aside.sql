-- What waits for an answer that comes soon, as most payments do, stays in the index of what stands: no index changes when the wait begins and when it ends,
-- so both updates stay heap-only (HOT). They were half of the updates of a job that were not. What waits long is set aside: at once where a step is known
-- for it, and by meta-repair where a payer takes his time. Chains that wait already are set aside by its next walk.
-- takes long on chain: the indexes of what is open are built from every row, once; who writes waits for it. What still runs of the version before looks
-- through all chains meanwhile, where it looked through what stands.
ALTER TABLE chain ADD COLUMN aside text;
COMMENT ON COLUMN chain.aside IS 'The party for which it waits, once that is no short wait: by step, or set by set_aside(); NULL: it moves, or an answer is expected soon';
DROP INDEX chain_standing, chain_waiting, chain_at_provider;
CREATE INDEX chain_standing ON chain (id) WHERE status = 'open' AND aside IS NULL;
CREATE INDEX chain_waiting ON chain (id) WHERE status = 'open' AND aside IS NOT NULL AND aside <> 'clock';
CREATE INDEX chain_at_provider ON chain (id) WHERE status = 'open' AND aside = 'provider';
