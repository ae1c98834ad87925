-- A request id gives its task again for some time after the task's end, and then no more: the
-- index of those that do stays as small as what happens in that time.
ALTER TABLE task ADD COLUMN forgotten BIGINT NOT NULL DEFAULT 0;
ALTER TABLE task DROP CONSTRAINT task_request_id_key;

CREATE UNIQUE INDEX task_by_request ON task (request_id) WHERE forgotten = 0;
CREATE INDEX task_by_end ON task (ended) WHERE forgotten = 0 AND ended IS NOT NULL;
