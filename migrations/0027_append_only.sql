-- What is only ever added to is vacuumed when it is frozen, and not before: marking its pages visible writes each of them once more, and nothing here
-- reads by that mark. Its statistics decide no plan of a service, so they may be older.
ALTER TABLE event SET (autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0.5);
ALTER TABLE journal SET (autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0.5);
ALTER TABLE evidence SET (autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0.5);
ALTER TABLE submission SET (autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0.5);
ALTER TABLE payment_intent SET (autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0.5);
