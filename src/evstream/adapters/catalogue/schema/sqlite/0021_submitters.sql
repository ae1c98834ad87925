-- Whose credentials made a task: what its work took is summed up for them. Empty: made before this.
ALTER TABLE task ADD COLUMN submitter TEXT NOT NULL DEFAULT '';
