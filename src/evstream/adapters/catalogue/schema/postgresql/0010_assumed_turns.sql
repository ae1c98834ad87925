-- A head that has just been alone takes its next turn for one that it has alone too, and knows what
-- the time is. This says in the trip that commits whether it was so; what it raises ends the
-- transaction. The head asks first, then, and does the same again.
CREATE FUNCTION still_so(known BIGINT, number BIGINT, told TIMESTAMPTZ, new_leases TEXT[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('turn') <> number
        OR (SELECT evstream.version FROM evstream) <> known
        OR clock_timestamp() NOT BETWEEN told - INTERVAL '1 s' AND told + INTERVAL '1 s'
        OR EXISTS (SELECT 1 FROM lease WHERE lease.lease = ANY (new_leases))
    THEN
        RAISE EXCEPTION 'another head had a turn, or a lease is known' USING ERRCODE = 'EV001';
    END IF;
END $$;
