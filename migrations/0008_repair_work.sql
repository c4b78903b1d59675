-- What meta-repair walks over, and what it counts.

-- Failed ones are redriven in bulk: like chain_standing this index changes only when a chain gets there or leaves.
CREATE INDEX chain_failed ON chain (id) WHERE status = 'final_fail';
CREATE INDEX issue_open ON issue (id) WHERE closed_at IS NULL;

CREATE TABLE repair_figure (
  name  text NOT NULL,
  label text NOT NULL,
  value bigint NOT NULL,
  at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (name, label)
) WITH (fillfactor = 50);
COMMENT ON TABLE repair_figure IS 'Figures of meta-repair: of what stands, as its last complete sweep found it, and of the repairs since the installation';
COMMENT ON COLUMN repair_figure.name IS 'standing, past_bell, past_deadline, waiting (chains that stand, longer than a bell may take, beyond their deadline, waiting for a party outside), oldest_s, waiting_evidence (issues), repair (a counter)';
COMMENT ON COLUMN repair_figure.label IS 'Of chains: kind/step; of issues: the party; of repairs: antibody/outcome';
COMMENT ON COLUMN repair_figure.value IS 'Chains, issues, seconds or repairs';
COMMENT ON COLUMN repair_figure.at IS 'When it was taken';
GRANT SELECT, INSERT, UPDATE, DELETE ON repair_figure TO aethelos_meta_repair;
GRANT SELECT ON repair_figure TO aethelos_board;
-- Pages are cut from partial indexes: a bitmap of all that stands for each page would be quadratic. And a plan
-- that was made while nothing was finished must not walk over everything once much is.
ALTER ROLE aethelos_meta_repair SET enable_bitmapscan = off;
ALTER ROLE aethelos_meta_repair SET plan_cache_mode = force_custom_plan;
