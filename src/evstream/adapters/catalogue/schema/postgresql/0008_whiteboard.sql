-- The whiteboard: notes on collections of events. Every version of a note stays; `note` holds the
-- last one, with its value once more in the column that its type is compared in.
-- Times are microseconds since 1970 in UTC.

CREATE TABLE note_key (
    name TEXT PRIMARY KEY,
    type TEXT NOT NULL,         -- bool, int, float, string, time, json
    description TEXT NOT NULL,
    owner TEXT NOT NULL
);

CREATE TABLE collection (
    collection BIGINT PRIMARY KEY,
    digest BYTEA NOT NULL UNIQUE,
    kind TEXT NOT NULL,         -- dataset, file, interval, entries
    dataset TEXT                -- its name; null for all other kinds
);

CREATE INDEX collection_by_dataset ON collection (dataset) WHERE dataset IS NOT NULL;

-- Entries of a file, a run of intervals a row; of a file as a whole one row without any. Those of
-- one reach that hold an entry begin within so many entries before it.
CREATE TABLE noted (
    source BIGINT NOT NULL,
    tree TEXT NOT NULL,
    reach BIGINT NOT NULL,     -- the least power of two above its width; 0: a whole file
    entry_start BIGINT NOT NULL,
    entry_stop BIGINT NOT NULL,
    collection BIGINT NOT NULL,
    intervals BYTEA,             -- packed; null where it is one
    PRIMARY KEY (source, tree, reach, entry_start, collection)
);

CREATE INDEX noted_by_collection ON noted (collection);

CREATE TABLE noted_span (
    source BIGINT NOT NULL,
    tree TEXT NOT NULL,
    reach BIGINT NOT NULL,
    PRIMARY KEY (source, tree, reach)
);

CREATE TABLE note (
    note BIGINT PRIMARY KEY,
    collection BIGINT NOT NULL,
    key TEXT NOT NULL,
    version BIGINT NOT NULL,
    owner TEXT NOT NULL,
    author TEXT NOT NULL,
    changed BIGINT NOT NULL,
    removed BIGINT NOT NULL,
    writers TEXT NOT NULL,      -- JSON
    value TEXT NOT NULL,        -- JSON
    whole BIGINT,              -- bool, int, time
    fraction DOUBLE PRECISION,              -- float
    words TEXT COLLATE "C"                  -- string, json
);

CREATE UNIQUE INDEX note_by_place ON note (collection, key);
CREATE INDEX note_by_whole ON note (key, whole) WHERE whole IS NOT NULL;
CREATE INDEX note_by_fraction ON note (key, fraction) WHERE fraction IS NOT NULL;
-- An index takes no long texts.
CREATE INDEX note_by_words ON note (key, substr(words, 1, 100)) WHERE words IS NOT NULL;
CREATE INDEX note_by_owner ON note (owner);

CREATE TABLE note_version (
    note BIGINT NOT NULL,
    version BIGINT NOT NULL,
    author TEXT NOT NULL,
    changed BIGINT NOT NULL,
    removed BIGINT NOT NULL,
    writers TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (note, version)
);
