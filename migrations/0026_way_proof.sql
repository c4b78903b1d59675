-- A move that evidence alone guards is made in one statement with the look-up of that evidence, instead of under a lock taken before.
ALTER TABLE way ADD COLUMN proof text[];
COMMENT ON COLUMN way.proof IS 'Of a move of one event for which evidence is all that is needed beside the edge: its kinds, of which one must be stored; NULL: none is needed, or more than that';
