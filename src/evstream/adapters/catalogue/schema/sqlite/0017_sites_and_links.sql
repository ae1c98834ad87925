-- Where sites are, and what was measured of the links between them and edges: sums in which a
-- measurement counts half as much after ten minutes, as of the time of the last one.
CREATE TABLE site (
    name TEXT PRIMARY KEY,
    country TEXT NOT NULL,      -- ISO 3166-1, two letters; empty if it is not known
    latitude REAL,              -- degrees; null if it is not known
    longitude REAL
) STRICT, WITHOUT ROWID;

CREATE TABLE link (
    site TEXT NOT NULL,
    edge TEXT NOT NULL,         -- its name
    direction TEXT NOT NULL,    -- to_site, from_site
    trips REAL NOT NULL,
    trips_s REAL NOT NULL,
    bytes REAL NOT NULL,
    seconds REAL NOT NULL,
    measured INTEGER NOT NULL,  -- microseconds since 1970
    PRIMARY KEY (site, edge, direction)
) STRICT, WITHOUT ROWID;

CREATE INDEX link_by_age ON link (measured);
