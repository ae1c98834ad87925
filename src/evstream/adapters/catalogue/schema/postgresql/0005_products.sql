-- Products that are prepared, and where; replicas of files; what is wanted how much.
--
-- Contents of files and recipes have numbers, given once and never again. A product's intervals
-- are `piece`, the index of searches: those of one reach that hold an entry begin within so many
-- entries before it. `piece_span` says which recipes and reaches a file has at all.
-- Times are microseconds since 1970 in UTC; sizes are bytes.

CREATE TABLE source (
    source BIGINT PRIMARY KEY,
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    uuid TEXT NOT NULL
);

CREATE UNIQUE INDEX source_by_content ON source (digest, size, uuid);

-- All of a descriptor but its sources.
CREATE TABLE recipe (
    recipe BIGINT PRIMARY KEY,
    digest BYTEA NOT NULL UNIQUE,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    parameters TEXT NOT NULL,   -- JSON
    format TEXT NOT NULL
);

CREATE TABLE product (
    product BIGINT PRIMARY KEY,
    key BYTEA NOT NULL,
    encoder TEXT NOT NULL,
    recipe BIGINT NOT NULL,
    size BIGINT NOT NULL,
    sha256 BYTEA NOT NULL,
    sources TEXT                -- JSON; null where the one piece says it all
);

CREATE UNIQUE INDEX product_by_key ON product (key, encoder);

CREATE TABLE piece (
    source BIGINT NOT NULL,
    recipe BIGINT NOT NULL,
    reach BIGINT NOT NULL,     -- the least power of two above its width
    entry_start BIGINT NOT NULL,
    entry_stop BIGINT NOT NULL CHECK (entry_start < entry_stop),
    product BIGINT NOT NULL,
    size BIGINT NOT NULL,      -- of the product
    PRIMARY KEY (source, recipe, reach, entry_start, product)
);

CREATE INDEX piece_by_product ON piece (product);

CREATE TABLE piece_span (
    source BIGINT NOT NULL,
    recipe BIGINT NOT NULL,
    reach BIGINT NOT NULL,
    pieces BIGINT NOT NULL,
    PRIMARY KEY (source, recipe, reach)
);

CREATE TABLE edge (
    edge BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    kind TEXT NOT NULL,
    capacity_bytes BIGINT NOT NULL,
    alive_until BIGINT,        -- null: it need not beat
    removed BIGINT NOT NULL DEFAULT 0,
    products BIGINT NOT NULL DEFAULT 0,
    bytes BIGINT NOT NULL DEFAULT 0
);

-- One that was removed stays until its products are gone; its name is free at once.
CREATE UNIQUE INDEX edge_by_name ON edge (name) WHERE removed = 0;

CREATE TABLE place (
    product BIGINT NOT NULL,
    edge BIGINT NOT NULL,
    expires BIGINT,            -- null: until it is dropped
    PRIMARY KEY (product, edge)
);

CREATE INDEX place_by_edge ON place (edge, product);
CREATE INDEX place_by_expiry ON place (expires) WHERE expires IS NOT NULL;

CREATE TABLE replica (
    source BIGINT NOT NULL,
    pfn TEXT NOT NULL,
    site TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (source, pfn)
);

-- Heat is the logarithm to base two of what requests are worth, in half-lives since 1970: it
-- sorts by what is wanted at any time, and changes with requests alone.
CREATE TABLE wanted (
    source BIGINT NOT NULL,
    recipe BIGINT NOT NULL,
    heat DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (source, recipe)
);

CREATE INDEX wanted_by_heat ON wanted (heat);
