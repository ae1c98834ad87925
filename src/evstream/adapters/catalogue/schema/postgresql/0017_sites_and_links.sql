-- Where sites are, and what was measured of the links between them and edges: sums in which a
-- measurement counts half as much after ten minutes, as of the time of the last one.
CREATE TABLE site (
    name TEXT PRIMARY KEY,
    country TEXT NOT NULL,      -- ISO 3166-1, two letters; empty if it is not known
    latitude DOUBLE PRECISION,  -- degrees; null if it is not known
    longitude DOUBLE PRECISION
);

CREATE TABLE link (
    site TEXT NOT NULL,
    edge TEXT NOT NULL,         -- its name
    direction TEXT NOT NULL,    -- to_site, from_site
    trips DOUBLE PRECISION NOT NULL,
    trips_s DOUBLE PRECISION NOT NULL,
    bytes DOUBLE PRECISION NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    measured BIGINT NOT NULL,   -- microseconds since 1970
    PRIMARY KEY (site, edge, direction)
);

CREATE INDEX link_by_age ON link (measured);
