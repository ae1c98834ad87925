-- The whiteboard: notes on collections of events. Every version of a note stays; `note` holds the
-- last one, with its value once more in the column that its type is compared in.
-- Times are microseconds since 1970 in UTC.

CREATE TABLE note_key (
    name TEXT PRIMARY KEY,
    type TEXT NOT NULL,         -- bool, int, float, string, time, json
    description TEXT NOT NULL,
    owner TEXT NOT NULL
) STRICT;

CREATE TABLE collection (
    collection INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,         -- dataset, file, interval, entries
    dataset TEXT                -- its name; null for all other kinds
) STRICT;

CREATE INDEX collection_by_dataset ON collection (dataset) WHERE dataset IS NOT NULL;

-- Entries of a file, a run of intervals a row; of a file as a whole one row without any. Those of
-- one reach that hold an entry begin within so many entries before it.
CREATE TABLE noted (
    source INTEGER NOT NULL,
    tree TEXT NOT NULL,
    reach INTEGER NOT NULL,     -- the least power of two above its width; 0: a whole file
    entry_start INTEGER NOT NULL,
    entry_stop INTEGER NOT NULL,
    collection INTEGER NOT NULL,
    intervals BLOB,             -- packed; null where it is one
    PRIMARY KEY (source, tree, reach, entry_start, collection)
) STRICT, WITHOUT ROWID;

CREATE INDEX noted_by_collection ON noted (collection);

CREATE TABLE noted_span (
    source INTEGER NOT NULL,
    tree TEXT NOT NULL,
    reach INTEGER NOT NULL,
    PRIMARY KEY (source, tree, reach)
) STRICT, WITHOUT ROWID;

CREATE TABLE note (
    note INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    owner TEXT NOT NULL,
    author TEXT NOT NULL,
    changed INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    writers TEXT NOT NULL,      -- JSON
    value TEXT NOT NULL,        -- JSON
    whole INTEGER,              -- bool, int, time
    fraction REAL,              -- float
    words TEXT                  -- string, json
) STRICT;

CREATE UNIQUE INDEX note_by_place ON note (collection, key);
CREATE INDEX note_by_whole ON note (key, whole) WHERE whole IS NOT NULL;
CREATE INDEX note_by_fraction ON note (key, fraction) WHERE fraction IS NOT NULL;
-- An index takes no long texts.
CREATE INDEX note_by_words ON note (key, substr(words, 1, 100)) WHERE words IS NOT NULL;
CREATE INDEX note_by_owner ON note (owner);

CREATE TABLE note_version (
    note INTEGER NOT NULL,
    version INTEGER NOT NULL,
    author TEXT NOT NULL,
    changed INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    writers TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (note, version)
) STRICT, WITHOUT ROWID;
