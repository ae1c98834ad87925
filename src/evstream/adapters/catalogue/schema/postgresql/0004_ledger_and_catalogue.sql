-- The ledger of intervals and the catalogue, in one schema of PostgreSQL.
--
-- What becomes of entries [entry_start, entry_stop) of a chunk, and where it is kept:
--
--   ready, never claimed   chunk: at or above high_water
--        │ claim: high_water moves up                   → lease
--   ready, returned        free
--        │ claim: the row is deleted, a rest put back   → lease
--   sent                   lease, running = 0
--        │ renewed with the unit as begun               → lease, running = 1
--   running                lease, running = 1
--        │ success reported: the row is deleted         → done
--        │ failed, expired, given back, worker lost     → failed (history), and
--        │     failures and losses left                 → free, attempt + 1
--        │     none left, more than one entry           → free in two halves, bisected = 1
--        │     none left                                → closed, state 8 (fatal)
--   any but done ── cancel ──                           → closed, state 4 (cancelled)
--   any ── withdrawn ──                                 → closed, state 5 (discarded)
--   any ── sent out again ──                            → free, the next attempt
--
-- At every commit the intervals of done, lease, free and closed, and what lies at or
-- above the high-water mark, partition the chunk. Deleting its lease row is what makes
-- a report count. Times are microseconds since 1970 in UTC; sizes are bytes.

CREATE TABLE book (
    book BIGINT PRIMARY KEY,
    events_per_range BIGINT NOT NULL CHECK (events_per_range > 0),
    failures_max BIGINT NOT NULL,
    losses_max BIGINT NOT NULL,
    bisections_max BIGINT NOT NULL,
    bisections BIGINT NOT NULL DEFAULT 0,
    -- Sums that progress reads in one row; the triggers below keep them.
    entries BIGINT NOT NULL,
    ranges BIGINT NOT NULL,
    sent BIGINT NOT NULL DEFAULT 0 CHECK (sent >= 0),
    running BIGINT NOT NULL DEFAULT 0 CHECK (running >= 0),
    finished BIGINT NOT NULL DEFAULT 0,
    fatal BIGINT NOT NULL DEFAULT 0,
    cancelled BIGINT NOT NULL DEFAULT 0,
    withdrawn BIGINT NOT NULL DEFAULT 0,
    ranges_finished BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    failed_attempts BIGINT NOT NULL DEFAULT 0,
    cpu_s DOUBLE PRECISION NOT NULL DEFAULT 0,
    lost_cpu_s DOUBLE PRECISION NOT NULL DEFAULT 0,
    wall_s DOUBLE PRECISION NOT NULL DEFAULT 0,
    bytes_in BIGINT NOT NULL DEFAULT 0,
    own_failures BIGINT NOT NULL DEFAULT 0,
    CHECK (sent + running + finished + fatal + cancelled + withdrawn <= entries)
);

CREATE TABLE chunk (
    book BIGINT NOT NULL,
    chunk BIGINT NOT NULL,
    lfn TEXT NOT NULL,
    entry_start BIGINT NOT NULL,
    entry_stop BIGINT NOT NULL CHECK (entry_start < entry_stop),
    high_water BIGINT NOT NULL CHECK (high_water BETWEEN entry_start AND entry_stop),
    PRIMARY KEY (book, chunk)
);

-- Claims of fresh work look here; a chunk that was claimed to its end leaves it.
CREATE INDEX chunk_fresh ON chunk (book, chunk) WHERE high_water < entry_stop;

CREATE TABLE free (
    book BIGINT NOT NULL,
    chunk BIGINT NOT NULL,
    entry_start BIGINT NOT NULL,
    entry_stop BIGINT NOT NULL CHECK (entry_start < entry_stop),
    attempt BIGINT NOT NULL,   -- the number that its next claim gets
    failures BIGINT NOT NULL,  -- how many of its attempts were its own fault
    losses BIGINT NOT NULL,    -- how many ran when their worker was lost
    bisected BIGINT NOT NULL,  -- a part of a range that used up its attempts
    PRIMARY KEY (book, chunk, entry_start)
);

-- Claims look here, each for its kind: no worker holds two suspects at once. The limit
-- is the ledger's SUSPECT_LOSSES.
CREATE INDEX free_returned ON free (book, chunk, entry_start) WHERE losses < 3 AND bisected = 0;
CREATE INDEX free_part ON free (book, chunk, entry_start) WHERE losses < 3 AND bisected = 1;
CREATE INDEX free_suspect ON free (book, chunk, entry_start) WHERE losses >= 3;

CREATE TABLE lease (
    lease TEXT NOT NULL,
    worker TEXT NOT NULL,
    book BIGINT NOT NULL,
    chunk BIGINT NOT NULL,
    entry_start BIGINT NOT NULL,
    entry_stop BIGINT NOT NULL CHECK (entry_start < entry_stop),
    attempt BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    losses BIGINT NOT NULL,
    bisected BIGINT NOT NULL,
    duration BIGINT NOT NULL,  -- microseconds, of the claim or the last renewal
    expires BIGINT NOT NULL,
    running BIGINT NOT NULL DEFAULT 0,
    cpu_s DOUBLE PRECISION NOT NULL DEFAULT 0,
    PRIMARY KEY (lease, book, chunk, entry_start)
);

CREATE INDEX lease_by_book ON lease (book, chunk, entry_start);
CREATE INDEX lease_by_expiry ON lease (expires);
CREATE INDEX lease_by_worker ON lease (worker);

CREATE TABLE done (
    book BIGINT NOT NULL,
    chunk BIGINT NOT NULL,
    entry_start BIGINT NOT NULL,
    entry_stop BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    lease TEXT NOT NULL,
    worker TEXT NOT NULL,
    outputs TEXT NOT NULL,      -- JSON list of output records
    cpu_s DOUBLE PRECISION NOT NULL,
    wall_s DOUBLE PRECISION NOT NULL,
    bytes_in BIGINT NOT NULL,
    PRIMARY KEY (book, chunk, entry_start)
);

CREATE TABLE failed (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,    -- the order in which attempts ended
    book BIGINT NOT NULL,
    chunk BIGINT NOT NULL,
    entry_start BIGINT NOT NULL,
    entry_stop BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    lease TEXT NOT NULL,
    worker TEXT NOT NULL,
    running BIGINT NOT NULL,
    kind TEXT NOT NULL,         -- payload, input, output, internal, merge, node, lost, retracted
    error TEXT NOT NULL,
    log TEXT NOT NULL,
    cpu_s DOUBLE PRECISION NOT NULL,
    wall_s DOUBLE PRECISION NOT NULL
);

CREATE INDEX failed_by_book ON failed (book);
CREATE INDEX failed_by_interval ON failed (book, chunk, entry_start, attempt);

CREATE TABLE closed (
    book BIGINT NOT NULL,
    chunk BIGINT NOT NULL,
    entry_start BIGINT NOT NULL,
    entry_stop BIGINT NOT NULL,
    state BIGINT NOT NULL CHECK (state IN (4, 5, 8)),
    error TEXT NOT NULL,
    attempt BIGINT NOT NULL,   -- the last one that any of the entries had; 0 if none
    PRIMARY KEY (book, chunk, entry_start)
);

-- Sums are kept by statement: one that moves thousands of intervals updates a book once.
CREATE FUNCTION lease_counts_in() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE book SET
        sent = book.sent + sums.sent,
        running = book.running + sums.running
    FROM (
        SELECT book AS number,
            coalesce(sum(entry_stop - entry_start) FILTER (WHERE running = 0), 0) AS sent,
            coalesce(sum(entry_stop - entry_start) FILTER (WHERE running = 1), 0) AS running
        FROM changed GROUP BY book
    ) AS sums
    WHERE book.book = sums.number;
    RETURN NULL;
END $$;

CREATE TRIGGER lease_counts_in AFTER INSERT ON lease
REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION lease_counts_in();

CREATE FUNCTION lease_counts_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE book SET
        sent = book.sent - sums.sent,
        running = book.running - sums.running
    FROM (
        SELECT book AS number,
            coalesce(sum(entry_stop - entry_start) FILTER (WHERE running = 0), 0) AS sent,
            coalesce(sum(entry_stop - entry_start) FILTER (WHERE running = 1), 0) AS running
        FROM changed GROUP BY book
    ) AS sums
    WHERE book.book = sums.number;
    RETURN NULL;
END $$;

CREATE TRIGGER lease_counts_out AFTER DELETE ON lease
REFERENCING OLD TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION lease_counts_out();

CREATE FUNCTION done_counts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE book SET
        finished = book.finished + sums.finished,
        ranges_finished = book.ranges_finished + sums.ranges_finished,
        attempts = book.attempts + sums.attempts,
        cpu_s = book.cpu_s + sums.cpu_s,
        wall_s = book.wall_s + sums.wall_s,
        bytes_in = book.bytes_in + sums.bytes_in
    FROM (
        SELECT book AS number,
            sum(entry_stop - entry_start) AS finished,
            count(*) AS ranges_finished,
            count(*) AS attempts,
            sum(cpu_s) AS cpu_s,
            sum(wall_s) AS wall_s,
            sum(bytes_in) AS bytes_in
        FROM changed GROUP BY book
    ) AS sums
    WHERE book.book = sums.number;
    RETURN NULL;
END $$;

CREATE TRIGGER done_counts AFTER INSERT ON done
REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION done_counts();

CREATE FUNCTION done_counts_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE book SET
        finished = book.finished - sums.finished,
        ranges_finished = book.ranges_finished - sums.ranges_finished,
        attempts = book.attempts - sums.attempts,
        cpu_s = book.cpu_s - sums.cpu_s,
        wall_s = book.wall_s - sums.wall_s,
        bytes_in = book.bytes_in - sums.bytes_in
    FROM (
        SELECT book AS number,
            sum(entry_stop - entry_start) AS finished,
            count(*) AS ranges_finished,
            count(*) AS attempts,
            sum(cpu_s) AS cpu_s,
            sum(wall_s) AS wall_s,
            sum(bytes_in) AS bytes_in
        FROM changed GROUP BY book
    ) AS sums
    WHERE book.book = sums.number;
    RETURN NULL;
END $$;

CREATE TRIGGER done_counts_out AFTER DELETE ON done
REFERENCING OLD TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION done_counts_out();

-- An attempt that never began is history too, but no attempt at the range; one that was
-- committed and taken back has not failed.
CREATE FUNCTION failed_counts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE book SET
        attempts = book.attempts + sums.attempts,
        failed_attempts = book.failed_attempts + sums.failed_attempts,
        own_failures = book.own_failures + sums.own_failures,
        lost_cpu_s = book.lost_cpu_s + sums.lost_cpu_s
    FROM (
        SELECT book AS number,
            coalesce(sum(running) FILTER (WHERE kind <> 'retracted'), 0) AS attempts,
            coalesce(sum(running) FILTER (WHERE kind <> 'retracted'), 0) AS failed_attempts,
            count(*) FILTER (WHERE kind IN ('payload', 'input', 'source', 'output', 'internal')) AS own_failures,
            sum(cpu_s) AS lost_cpu_s
        FROM changed GROUP BY book
    ) AS sums
    WHERE book.book = sums.number;
    RETURN NULL;
END $$;

CREATE TRIGGER failed_counts AFTER INSERT ON failed
REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION failed_counts();

CREATE FUNCTION closed_counts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE book SET
        fatal = book.fatal + sums.fatal,
        cancelled = book.cancelled + sums.cancelled,
        withdrawn = book.withdrawn + sums.withdrawn
    FROM (
        SELECT book AS number,
            coalesce(sum(entry_stop - entry_start) FILTER (WHERE state = 8), 0) AS fatal,
            coalesce(sum(entry_stop - entry_start) FILTER (WHERE state = 4), 0) AS cancelled,
            coalesce(sum(entry_stop - entry_start) FILTER (WHERE state = 5), 0) AS withdrawn
        FROM changed GROUP BY book
    ) AS sums
    WHERE book.book = sums.number;
    RETURN NULL;
END $$;

CREATE TRIGGER closed_counts AFTER INSERT ON closed
REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION closed_counts();

CREATE FUNCTION closed_counts_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE book SET
        fatal = book.fatal - sums.fatal,
        cancelled = book.cancelled - sums.cancelled,
        withdrawn = book.withdrawn - sums.withdrawn
    FROM (
        SELECT book AS number,
            coalesce(sum(entry_stop - entry_start) FILTER (WHERE state = 8), 0) AS fatal,
            coalesce(sum(entry_stop - entry_start) FILTER (WHERE state = 4), 0) AS cancelled,
            coalesce(sum(entry_stop - entry_start) FILTER (WHERE state = 5), 0) AS withdrawn
        FROM changed GROUP BY book
    ) AS sums
    WHERE book.book = sums.number;
    RETURN NULL;
END $$;

CREATE TRIGGER closed_counts_out AFTER DELETE ON closed
REFERENCING OLD TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION closed_counts_out();

CREATE TABLE dataset (
    name TEXT PRIMARY KEY,
    files BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);

CREATE TABLE file (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,    -- the latest registration of a content is the one to read
    dataset TEXT NOT NULL,
    position BIGINT NOT NULL,  -- of a chained task's: the number of the chunk too
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    uuid TEXT NOT NULL,
    record TEXT NOT NULL,       -- JSON of a SourceFile
    retracted BIGINT NOT NULL DEFAULT 0    -- it has left its dataset; kept for its number
);

CREATE UNIQUE INDEX file_by_dataset ON file (dataset, position);
CREATE INDEX file_by_content ON file (digest, size, uuid) WHERE retracted = 0;

-- Source indexes can be made again from the files; the latest one is kept.
CREATE TABLE source_index (
    digest TEXT PRIMARY KEY,
    content BYTEA NOT NULL
);

-- running ──▶ merging ──▶ done | finished | failed | aborted
--  ▲ │ └──────────────────────▲   the first end stays, until work is
--  │ └──▶ paused                  taken back: then the task is running again
CREATE TABLE task (
    task BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,         -- JSON of a TaskSpec
    state TEXT NOT NULL,
    created BIGINT NOT NULL,
    ended BIGINT,
    reason TEXT NOT NULL DEFAULT '',
    receipt TEXT,               -- JSON
    taken_back TEXT             -- JSON of the last TakenBack
);

-- Which tasks take the outputs of which.
CREATE TABLE taker (
    parent BIGINT NOT NULL,
    task BIGINT NOT NULL,
    PRIMARY KEY (parent, task)
);

-- What each chunk of a task's merge book joins.
CREATE TABLE merge_group (
    task BIGINT NOT NULL,
    number BIGINT NOT NULL,    -- the chunk
    record TEXT NOT NULL,       -- JSON of a MergeGroup
    PRIMARY KEY (task, number)
);

CREATE INDEX task_by_state ON task (state);

-- What the schema is; one row.
CREATE TABLE evstream (
    version BIGINT NOT NULL
);
