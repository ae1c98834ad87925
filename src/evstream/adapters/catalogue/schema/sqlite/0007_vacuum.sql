-- PostgreSQL is told here how to vacuum the tables that are queues. SQLite takes the place of
-- rows that have gone for those that come.
SELECT 1;
