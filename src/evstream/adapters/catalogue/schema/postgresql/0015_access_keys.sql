-- API keys. Of a key's secret only the SHA-256 is kept; a revoked key stays, to be shown.
-- Times are microseconds since 1970 in UTC.
CREATE TABLE access_key (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    role TEXT NOT NULL,         -- submitter, pilot, edge, operator
    name TEXT NOT NULL,
    edge TEXT NOT NULL,         -- the edge that it is bound to; empty for other roles
    created BIGINT NOT NULL,
    expires BIGINT,
    revoked BIGINT,
    last_used BIGINT           -- to the minute
);
