-- Outputs are in one store, which all heads of a database share; it holds the same id. A head that
-- has another store would take every output for lost.
CREATE TABLE output_store (
    id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
