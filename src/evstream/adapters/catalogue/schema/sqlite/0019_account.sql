-- What work took: sums by book, site and bin of time, and never a row of one unit. They stay when a
-- book is archived, and when what was done is taken back: it was spent all the same.
CREATE TABLE account (
    book INTEGER NOT NULL,
    site TEXT NOT NULL,
    bin INTEGER NOT NULL,
    started INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    entries INTEGER NOT NULL DEFAULT 0,
    cpu_s REAL NOT NULL DEFAULT 0,
    lost_cpu_s REAL NOT NULL DEFAULT 0,
    wall_s REAL NOT NULL DEFAULT 0,
    plan_s REAL NOT NULL DEFAULT 0,
    fetch_s REAL NOT NULL DEFAULT 0,
    ready_s REAL NOT NULL DEFAULT 0,
    starved_s REAL NOT NULL DEFAULT 0,
    idle_s REAL NOT NULL DEFAULT 0,
    stage_s REAL NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0,
    edge INTEGER NOT NULL DEFAULT 0,
    replica INTEGER NOT NULL DEFAULT 0,
    head INTEGER NOT NULL DEFAULT 0,
    node INTEGER NOT NULL DEFAULT 0,
    store INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (book, site, bin)
) STRICT, WITHOUT ROWID;
