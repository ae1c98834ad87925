-- The ids of changes are forgotten some time after them; here are the oldest found.
CREATE INDEX note_version_by_age ON note_version (changed) WHERE change_id IS NOT NULL;
