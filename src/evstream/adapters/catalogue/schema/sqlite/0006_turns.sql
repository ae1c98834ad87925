-- PostgreSQL's heads number their turns here. SQLite's file is one process's, and tells
-- whether another has written (PRAGMA data_version).
SELECT 1;
