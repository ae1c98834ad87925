-- Leases and returned work are queues: as many rows go as come. They are vacuumed after so many
-- dead rows, whatever the table's size, and without pauses.
ALTER TABLE lease SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_analyze_scale_factor = 0.2, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE free SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_analyze_scale_factor = 0.2, autovacuum_vacuum_cost_delay = 0);
-- Claims move a few chunks' high-water marks over and over.
ALTER TABLE chunk SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0);
-- The sums of a book change with each group; there is room for the row's next versions beside it.
ALTER TABLE book SET (
    fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0);
-- failed_by_interval begins with the book too.
DROP INDEX failed_by_book;
