-- API keys. Of a key's secret only the SHA-256 is kept; a revoked key stays, to be shown.
-- Times are microseconds since 1970 in UTC.
CREATE TABLE access_key (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    role TEXT NOT NULL,         -- submitter, pilot, edge, operator
    name TEXT NOT NULL,
    edge TEXT NOT NULL,         -- the edge that it is bound to; empty for other roles
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER,
    last_used INTEGER           -- to the minute
) STRICT, WITHOUT ROWID;
