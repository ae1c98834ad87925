"""PanDA's row per event range, on PostgreSQL.

Columns, keys and what statements do are PanDA's (``JEDI_Events`` in panda-database,
``getEventRanges`` and ``updateEventRanges`` in panda-server), whose SQL is Oracle's. It is
translated in its favour:

- rows that others are claiming are skipped, which Oracle's statement waits for;
- a claim is one statement, from ready to sent, without the step by way of "reserved", the range
  that is claimed too many and given back, and the look at the job and the files;
- a report is one statement for all ranges, without the count of the job's finished events;
- no two clients ask for ranges of the same jobset;
- numbers are integers of four and eight bytes, and there is no partition to be found.

The table is not vacuumed while it is measured: that is less work for it, and more dead rows.
"""

from __future__ import annotations

from typing import Any

import psycopg

TASK, DATASET = 7_400_001, 31
FIRST_JOBSET, FIRST_JOB = 1, 1_000
RANGES_PER_FILE = 10_000
READY, SENT, RUNNING, FINISHED = 0, 1, 2, 4

_SCHEMA = """
CREATE TABLE jedi_events (
    jeditaskid bigint NOT NULL,
    pandaid bigint NOT NULL,
    fileid bigint NOT NULL,
    job_processid integer NOT NULL,
    datasetid bigint,
    status smallint,
    def_min_eventid integer,
    def_max_eventid integer,
    processed_upto_eventid integer,
    attemptnr smallint,
    objstore_id integer,
    event_offset bigint,
    is_jumbo smallint,
    ziprow_id bigint,
    file_not_deleted char(1),
    error_code integer,
    path_convention smallint,
    error_diag varchar(500)
) WITH (autovacuum_enabled = false)"""
_FILL = f"""
INSERT INTO jedi_events (jeditaskid, pandaid, fileid, job_processid, datasetid, status,
    def_min_eventid, def_max_eventid, processed_upto_eventid, attemptnr, event_offset)
SELECT {TASK}, jobset, n / {RANGES_PER_FILE}, event, {DATASET}, {READY}, event, event, 0, 10,
    jobset
FROM generate_series(%s::bigint, %s::bigint - 1) AS n,
    LATERAL (
        SELECT {FIRST_JOBSET} + n / %s AS jobset, n %% {RANGES_PER_FILE} + 1 AS event
    ) AS its"""
_KEYS = (
    "ALTER TABLE jedi_events ADD CONSTRAINT jedi_events_pk"
    " PRIMARY KEY (jeditaskid, pandaid, fileid, job_processid)",
    "CREATE INDEX jedi_events_fileid_idx ON jedi_events (jeditaskid, datasetid, fileid)",
    "CREATE INDEX jedi_events_pandaid_status_idx ON jedi_events (pandaid, status)",
    "VACUUM ANALYZE jedi_events",
)
_CLAIM = f"""
UPDATE jedi_events SET pandaid = %s, status = {SENT}
WHERE (jeditaskid, pandaid, fileid, job_processid) IN (
    SELECT jeditaskid, pandaid, fileid, job_processid FROM jedi_events
    WHERE jeditaskid = {TASK} AND pandaid = %s AND status = {READY} AND attemptnr > 0
    ORDER BY jeditaskid, pandaid, fileid LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING fileid, job_processid, attemptnr, def_min_eventid, def_max_eventid, event_offset"""
# Looked up by their whole keys, as PanDA's statement does for each range; the planner may else
# take a part of the key, and walk over all that the job has done.
_REPORT = f"""
UPDATE jedi_events SET status = {FINISHED}, objstore_id = 1, error_code = NULL,
    path_convention = NULL, error_diag = NULL
WHERE ctid = ANY(ARRAY(
    SELECT found.at FROM unnest(%s::bigint[], %s::integer[], %s::smallint[])
        AS said (fileid, job_processid, attemptnr)
    CROSS JOIN LATERAL (
        SELECT tab.ctid AS at FROM jedi_events AS tab
        WHERE tab.jeditaskid = {TASK} AND tab.pandaid = %s AND tab.fileid = said.fileid
            AND tab.job_processid = said.job_processid AND tab.attemptnr = said.attemptnr
            AND tab.status IN ({SENT}, {RUNNING})
        LIMIT 1) AS found))"""


def fill(url: str, rows: int, jobsets: int) -> None:
    """Make the table with so many ready ranges of one task, then its indices."""
    each = -(-rows // jobsets)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_SCHEMA)
        for start in range(0, rows, 5_000_000):
            connection.execute(_FILL, (start, min(start + 5_000_000, rows), each))
        for statement in _KEYS:
            connection.execute(statement)


def size(url: str) -> int:
    """Return the bytes of the table and its indices."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_total_relation_size('jedi_events')").fetchone()
        assert row is not None
        return int(row[0])


class PandaSide:
    """Clients with a connection each: jobs, each on the ranges of its own jobset.

    Attributes
    ----------
    url : str
        With ``synchronous_commit`` as it shall be.
    """

    def __init__(self, url: str, clients: int) -> None:
        self.url = url
        self._clients = clients
        self._connections: list[psycopg.AsyncConnection[Any]] = []

    async def __aenter__(self) -> PandaSide:
        for _ in range(self._clients):
            connection = await psycopg.AsyncConnection.connect(self.url, prepare_threshold=0)
            self._connections.append(connection)
        return self

    async def __aexit__(self, *error: object) -> None:
        for connection in self._connections:
            await connection.close()

    async def cycle(self, client: int, number: int, ranges: int) -> None:
        """Claim and report, a transaction each."""
        connection = self._connections[client]
        job = FIRST_JOB + client
        claimed = await connection.execute(_CLAIM, (job, FIRST_JOBSET + client, ranges))
        rows = await claimed.fetchall()
        await connection.commit()
        files, processes, attempts, *_ = zip(*rows, strict=True)
        said = (list(files), list(processes), list(attempts), job)
        reported = await connection.execute(_REPORT, said)
        await connection.commit()
        assert len(rows) == reported.rowcount == ranges, (client, number, len(rows))
