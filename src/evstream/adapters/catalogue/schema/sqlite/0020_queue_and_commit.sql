-- How long units waited for their turn to be fetched, and reports for their answers.
ALTER TABLE account ADD COLUMN queue_s REAL NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN commit_s REAL NOT NULL DEFAULT 0;
