-- When a head last took back what had expired, in microseconds since 1970: while one does, workers
-- can renew, and a head that starts has no reason to give leases their time again.
CREATE TABLE expiry (
    last BIGINT NOT NULL
);

INSERT INTO expiry (last) VALUES (0);
