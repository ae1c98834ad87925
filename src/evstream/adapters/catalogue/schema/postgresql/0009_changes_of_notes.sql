-- A client that asks again, since the answer was lost, is told by the id of its change from one who
-- wants the same at the same time.

ALTER TABLE note_version ADD COLUMN change_id TEXT; -- null: made without one

CREATE UNIQUE INDEX note_version_by_change ON note_version (note, change_id)
    WHERE change_id IS NOT NULL;
