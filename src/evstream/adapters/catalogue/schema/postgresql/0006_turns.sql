-- Each turn to write takes a number: the head that sees the number after its own last one
-- has been alone since, and what it knows of the ledger is still so.
CREATE SEQUENCE turn AS BIGINT;
