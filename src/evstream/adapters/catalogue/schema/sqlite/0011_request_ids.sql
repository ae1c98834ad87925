-- A request id gives its task again for some time after the task's end, and then no more: the
-- index of those that do stays as small as what happens in that time. A table's own UNIQUE
-- cannot be taken away, so the table is made anew.
CREATE TABLE task_anew (
    task INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL,
    spec TEXT NOT NULL,         -- JSON of a TaskSpec
    state TEXT NOT NULL,
    created INTEGER NOT NULL,
    ended INTEGER,
    reason TEXT NOT NULL DEFAULT '',
    receipt TEXT,               -- JSON
    taken_back TEXT,            -- JSON of the last TakenBack
    forgotten INTEGER NOT NULL DEFAULT 0    -- its request id gives it no more
) STRICT;

INSERT INTO task_anew
SELECT task, request_id, spec, state, created, ended, reason, receipt, taken_back, 0 FROM task;

DROP TABLE task;
ALTER TABLE task_anew RENAME TO task;

CREATE INDEX task_by_state ON task (state);
CREATE UNIQUE INDEX task_by_request ON task (request_id) WHERE forgotten = 0;
CREATE INDEX task_by_end ON task (ended) WHERE forgotten = 0 AND ended IS NOT NULL;
