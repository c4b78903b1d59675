-- What was admitted together moves together: a page of chains is updated as a whole, and again before what the first update left can be pruned. A third of
-- a page for the rows and two for their next versions keeps these updates heap-only. At rest the table is half as large again by it, some 300 bytes a chain
-- of the 6 KB that it takes with its events. Pages that are there fill up as they did.
ALTER TABLE chain SET (fillfactor = 33);
