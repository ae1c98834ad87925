-- The ledger of intervals and the catalogue, in one SQLite file.
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
    book INTEGER PRIMARY KEY,
    events_per_range INTEGER NOT NULL CHECK (events_per_range > 0),
    failures_max INTEGER NOT NULL,
    losses_max INTEGER NOT NULL,
    bisections_max INTEGER NOT NULL,
    bisections INTEGER NOT NULL DEFAULT 0,
    -- Sums that progress reads in one row; the triggers below keep them.
    entries INTEGER NOT NULL,
    ranges INTEGER NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0 CHECK (sent >= 0),
    running INTEGER NOT NULL DEFAULT 0 CHECK (running >= 0),
    finished INTEGER NOT NULL DEFAULT 0,
    fatal INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    withdrawn INTEGER NOT NULL DEFAULT 0,
    ranges_finished INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    failed_attempts INTEGER NOT NULL DEFAULT 0,
    cpu_s REAL NOT NULL DEFAULT 0,
    lost_cpu_s REAL NOT NULL DEFAULT 0,
    wall_s REAL NOT NULL DEFAULT 0,
    bytes_in INTEGER NOT NULL DEFAULT 0,
    own_failures INTEGER NOT NULL DEFAULT 0,
    CHECK (sent + running + finished + fatal + cancelled + withdrawn <= entries)
) STRICT;

CREATE TABLE chunk (
    book INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    lfn TEXT NOT NULL,
    entry_start INTEGER NOT NULL,
    entry_stop INTEGER NOT NULL CHECK (entry_start < entry_stop),
    high_water INTEGER NOT NULL CHECK (high_water BETWEEN entry_start AND entry_stop),
    PRIMARY KEY (book, chunk)
) STRICT, WITHOUT ROWID;

-- Claims of fresh work look here; a chunk that was claimed to its end leaves it.
CREATE INDEX chunk_fresh ON chunk (book, chunk) WHERE high_water < entry_stop;

CREATE TABLE free (
    book INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    entry_start INTEGER NOT NULL,
    entry_stop INTEGER NOT NULL CHECK (entry_start < entry_stop),
    attempt INTEGER NOT NULL,   -- the number that its next claim gets
    failures INTEGER NOT NULL,  -- how many of its attempts were its own fault
    losses INTEGER NOT NULL,    -- how many ran when their worker was lost
    bisected INTEGER NOT NULL,  -- a part of a range that used up its attempts
    PRIMARY KEY (book, chunk, entry_start)
) STRICT, WITHOUT ROWID;

-- Claims look here, each for its kind: no worker holds two suspects at once. The limit
-- is the ledger's SUSPECT_LOSSES.
CREATE INDEX free_returned ON free (book, chunk, entry_start) WHERE losses < 3 AND bisected = 0;
CREATE INDEX free_part ON free (book, chunk, entry_start) WHERE losses < 3 AND bisected = 1;
CREATE INDEX free_suspect ON free (book, chunk, entry_start) WHERE losses >= 3;

CREATE TABLE lease (
    lease TEXT NOT NULL,
    worker TEXT NOT NULL,
    book INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    entry_start INTEGER NOT NULL,
    entry_stop INTEGER NOT NULL CHECK (entry_start < entry_stop),
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    losses INTEGER NOT NULL,
    bisected INTEGER NOT NULL,
    duration INTEGER NOT NULL,  -- microseconds, of the claim or the last renewal
    expires INTEGER NOT NULL,
    running INTEGER NOT NULL DEFAULT 0,
    cpu_s REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (lease, book, chunk, entry_start)
) STRICT, WITHOUT ROWID;

CREATE INDEX lease_by_book ON lease (book, chunk, entry_start);
CREATE INDEX lease_by_expiry ON lease (expires);
CREATE INDEX lease_by_worker ON lease (worker);

CREATE TABLE done (
    book INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    entry_start INTEGER NOT NULL,
    entry_stop INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    lease TEXT NOT NULL,
    worker TEXT NOT NULL,
    outputs TEXT NOT NULL,      -- JSON list of output records
    cpu_s REAL NOT NULL,
    wall_s REAL NOT NULL,
    bytes_in INTEGER NOT NULL,
    PRIMARY KEY (book, chunk, entry_start)
) STRICT, WITHOUT ROWID;

CREATE TABLE failed (
    seq INTEGER PRIMARY KEY,    -- the order in which attempts ended
    book INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    entry_start INTEGER NOT NULL,
    entry_stop INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    lease TEXT NOT NULL,
    worker TEXT NOT NULL,
    running INTEGER NOT NULL,
    kind TEXT NOT NULL,         -- payload, input, output, internal, merge, node, lost, retracted
    error TEXT NOT NULL,
    log TEXT NOT NULL,
    cpu_s REAL NOT NULL,
    wall_s REAL NOT NULL
) STRICT;

CREATE INDEX failed_by_book ON failed (book);
CREATE INDEX failed_by_interval ON failed (book, chunk, entry_start, attempt);

CREATE TABLE closed (
    book INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    entry_start INTEGER NOT NULL,
    entry_stop INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state IN (4, 5, 8)),
    error TEXT NOT NULL,
    attempt INTEGER NOT NULL,   -- the last one that any of the entries had; 0 if none
    PRIMARY KEY (book, chunk, entry_start)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER lease_counts_in AFTER INSERT ON lease BEGIN
    UPDATE book SET
        sent = sent + iif(new.running, 0, new.entry_stop - new.entry_start),
        running = running + iif(new.running, new.entry_stop - new.entry_start, 0)
    WHERE book = new.book;
END;

CREATE TRIGGER lease_counts_out AFTER DELETE ON lease BEGIN
    UPDATE book SET
        sent = sent - iif(old.running, 0, old.entry_stop - old.entry_start),
        running = running - iif(old.running, old.entry_stop - old.entry_start, 0)
    WHERE book = old.book;
END;

CREATE TRIGGER done_counts AFTER INSERT ON done BEGIN
    UPDATE book SET
        finished = finished + new.entry_stop - new.entry_start,
        ranges_finished = ranges_finished + 1,
        attempts = attempts + 1,
        cpu_s = cpu_s + new.cpu_s,
        wall_s = wall_s + new.wall_s,
        bytes_in = bytes_in + new.bytes_in
    WHERE book = new.book;
END;

CREATE TRIGGER done_counts_out AFTER DELETE ON done BEGIN
    UPDATE book SET
        finished = finished - old.entry_stop + old.entry_start,
        ranges_finished = ranges_finished - 1,
        attempts = attempts - 1,
        cpu_s = cpu_s - old.cpu_s,
        wall_s = wall_s - old.wall_s,
        bytes_in = bytes_in - old.bytes_in
    WHERE book = old.book;
END;

-- An attempt that never began is history too, but no attempt at the range; one that was
-- committed and taken back has not failed.
CREATE TRIGGER failed_counts AFTER INSERT ON failed BEGIN
    UPDATE book SET
        attempts = attempts + iif(new.kind = 'retracted', 0, new.running),
        failed_attempts = failed_attempts + iif(new.kind = 'retracted', 0, new.running),
        own_failures = own_failures
            + (new.kind IN ('payload', 'input', 'source', 'output', 'internal')),
        lost_cpu_s = lost_cpu_s + new.cpu_s
    WHERE book = new.book;
END;

CREATE TRIGGER closed_counts AFTER INSERT ON closed BEGIN
    UPDATE book SET
        fatal = fatal + iif(new.state = 8, new.entry_stop - new.entry_start, 0),
        cancelled = cancelled + iif(new.state = 4, new.entry_stop - new.entry_start, 0),
        withdrawn = withdrawn + iif(new.state = 5, new.entry_stop - new.entry_start, 0)
    WHERE book = new.book;
END;

CREATE TRIGGER closed_counts_out AFTER DELETE ON closed BEGIN
    UPDATE book SET
        fatal = fatal - iif(old.state = 8, old.entry_stop - old.entry_start, 0),
        cancelled = cancelled - iif(old.state = 4, old.entry_stop - old.entry_start, 0),
        withdrawn = withdrawn - iif(old.state = 5, old.entry_stop - old.entry_start, 0)
    WHERE book = old.book;
END;

CREATE TABLE dataset (
    name TEXT PRIMARY KEY,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE file (
    seq INTEGER PRIMARY KEY,    -- the latest registration of a content is the one to read
    dataset TEXT NOT NULL,
    position INTEGER NOT NULL,  -- of a chained task's: the number of the chunk too
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    uuid TEXT NOT NULL,
    record TEXT NOT NULL,       -- JSON of a SourceFile
    retracted INTEGER NOT NULL DEFAULT 0    -- it has left its dataset; kept for its number
) STRICT;

CREATE UNIQUE INDEX file_by_dataset ON file (dataset, position);
CREATE INDEX file_by_content ON file (digest, size, uuid) WHERE retracted = 0;

-- Source indexes can be made again from the files; the latest one is kept.
CREATE TABLE source_index (
    digest TEXT PRIMARY KEY,
    content BLOB NOT NULL
) STRICT;

-- running ──▶ merging ──▶ done | finished | failed | aborted
--  ▲ │ └──────────────────────▲   the first end stays, until work is
--  │ └──▶ paused                  taken back: then the task is running again
CREATE TABLE task (
    task INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,         -- JSON of a TaskSpec
    state TEXT NOT NULL,
    created INTEGER NOT NULL,
    ended INTEGER,
    reason TEXT NOT NULL DEFAULT '',
    receipt TEXT,               -- JSON
    taken_back TEXT             -- JSON of the last TakenBack
) STRICT;

-- Which tasks take the outputs of which.
CREATE TABLE taker (
    parent INTEGER NOT NULL,
    task INTEGER NOT NULL,
    PRIMARY KEY (parent, task)
) STRICT, WITHOUT ROWID;

-- What each chunk of a task's merge book joins.
CREATE TABLE merge_group (
    task INTEGER NOT NULL,
    number INTEGER NOT NULL,    -- the chunk
    record TEXT NOT NULL,       -- JSON of a MergeGroup
    PRIMARY KEY (task, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX task_by_state ON task (state);
