-- Products that are prepared, and where; replicas of files; what is wanted how much.
--
-- Contents of files and recipes have numbers, given once and never again. A product's intervals
-- are `piece`, the index of searches: those of one reach that hold an entry begin within so many
-- entries before it. `piece_span` says which recipes and reaches a file has at all.
-- Times are microseconds since 1970 in UTC; sizes are bytes.

CREATE TABLE source (
    source INTEGER PRIMARY KEY,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    uuid TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX source_by_content ON source (digest, size, uuid);

-- All of a descriptor but its sources.
CREATE TABLE recipe (
    recipe INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    parameters TEXT NOT NULL,   -- JSON
    format TEXT NOT NULL
) STRICT;

CREATE TABLE product (
    product INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    encoder TEXT NOT NULL,
    recipe INTEGER NOT NULL,
    size INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    sources TEXT                -- JSON; null where the one piece says it all
) STRICT;

CREATE UNIQUE INDEX product_by_key ON product (key, encoder);

CREATE TABLE piece (
    source INTEGER NOT NULL,
    recipe INTEGER NOT NULL,
    reach INTEGER NOT NULL,     -- the least power of two above its width
    entry_start INTEGER NOT NULL,
    entry_stop INTEGER NOT NULL CHECK (entry_start < entry_stop),
    product INTEGER NOT NULL,
    size INTEGER NOT NULL,      -- of the product
    PRIMARY KEY (source, recipe, reach, entry_start, product)
) STRICT, WITHOUT ROWID;

CREATE INDEX piece_by_product ON piece (product);

CREATE TABLE piece_span (
    source INTEGER NOT NULL,
    recipe INTEGER NOT NULL,
    reach INTEGER NOT NULL,
    pieces INTEGER NOT NULL,
    PRIMARY KEY (source, recipe, reach)
) STRICT, WITHOUT ROWID;

CREATE TABLE edge (
    edge INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    kind TEXT NOT NULL,
    capacity_bytes INTEGER NOT NULL,
    alive_until INTEGER,        -- null: it need not beat
    removed INTEGER NOT NULL DEFAULT 0,
    products INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
) STRICT;

-- One that was removed stays until its products are gone; its name is free at once.
CREATE UNIQUE INDEX edge_by_name ON edge (name) WHERE removed = 0;

CREATE TABLE place (
    product INTEGER NOT NULL,
    edge INTEGER NOT NULL,
    expires INTEGER,            -- null: until it is dropped
    PRIMARY KEY (product, edge)
) STRICT, WITHOUT ROWID;

CREATE INDEX place_by_edge ON place (edge, product);
CREATE INDEX place_by_expiry ON place (expires) WHERE expires IS NOT NULL;

CREATE TABLE replica (
    source INTEGER NOT NULL,
    pfn TEXT NOT NULL,
    site TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (source, pfn)
) STRICT, WITHOUT ROWID;

-- Heat is the logarithm to base two of what requests are worth, in half-lives since 1970: it
-- sorts by what is wanted at any time, and changes with requests alone.
CREATE TABLE wanted (
    source INTEGER NOT NULL,
    recipe INTEGER NOT NULL,
    heat REAL NOT NULL,
    PRIMARY KEY (source, recipe)
) STRICT, WITHOUT ROWID;

CREATE INDEX wanted_by_heat ON wanted (heat);
