-- What work took: sums by book, site and bin of time, and never a row of one unit. They stay when a
-- book is archived, and when what was done is taken back: it was spent all the same.
CREATE TABLE account (
    book bigint NOT NULL,
    site text NOT NULL,
    bin bigint NOT NULL,
    started bigint NOT NULL DEFAULT 0,
    done bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    entries bigint NOT NULL DEFAULT 0,
    cpu_s double precision NOT NULL DEFAULT 0,
    lost_cpu_s double precision NOT NULL DEFAULT 0,
    wall_s double precision NOT NULL DEFAULT 0,
    plan_s double precision NOT NULL DEFAULT 0,
    fetch_s double precision NOT NULL DEFAULT 0,
    ready_s double precision NOT NULL DEFAULT 0,
    starved_s double precision NOT NULL DEFAULT 0,
    idle_s double precision NOT NULL DEFAULT 0,
    stage_s double precision NOT NULL DEFAULT 0,
    bytes_out bigint NOT NULL DEFAULT 0,
    edge bigint NOT NULL DEFAULT 0,
    replica bigint NOT NULL DEFAULT 0,
    head bigint NOT NULL DEFAULT 0,
    node bigint NOT NULL DEFAULT 0,
    store bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (book, site, bin)
);
