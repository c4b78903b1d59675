-- Feed reads the tail of the events in the order of its index. Planned while there were none, a page was everything behind the checkpoint by bitmap, sorted.
ALTER ROLE aethelos_feed SET enable_bitmapscan = off;
