"""Our ledger through its port, as the service drives it."""

from __future__ import annotations

from datetime import timedelta

from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.domain.ledger import BookRules, LeasedInterval, RangeReport, Success
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.outputs import OutputRecord
from evstream.domain.splitting import RANGES_PER_CHUNK, Chunk
from evstream.domain.states import Answer

LEASE_TIME = timedelta(minutes=30)
OUTPUT = OutputRecord(
    "output", "tasks/1/output/000001-0000-00000000.root", 812_345, "ab" * 32, "0badcafe",
    {"Events": 100},
)  # fmt: skip


def chunks(ranges: int) -> list[Chunk]:
    """Return the chunks of a task of one-event ranges, 64 to a file."""
    return [
        Chunk(
            number, Lfn(f"file-{number // 64}.root"), start, min(start + RANGES_PER_CHUNK, ranges)
        )
        for number, start in enumerate(range(0, ranges, RANGES_PER_CHUNK))
    ]


def success_on(held: LeasedInterval) -> RangeReport:
    """Return the word that all of an interval is done."""
    place = held.book, held.chunk, held.entry_start, held.entry_stop
    done = Success((OUTPUT,), cpu_s=1.5, wall_s=2.0, bytes_in=1_000)
    return RangeReport(held.lease, held.worker, *place, held.attempt, done)


class OurSide:
    """A head's ledger, which all clients share."""

    def __init__(self, database: PostgresDatabase | SqliteDatabase, book: int) -> None:
        self._database = database
        self.ledger = database.ledger
        self._book = book

    async def __aenter__(self) -> OurSide:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._database.close()

    async def open(self, ranges: int) -> None:
        """Open the book that clients work on; again is no error."""
        await self.ledger.open_book(self._book, BookRules(events_per_range=1), chunks(ranges))

    async def cycle(self, client: int, number: int, ranges: int) -> None:
        """Claim and report."""
        worker, lease = WorkerId(f"worker-{client}"), LeaseId(f"lease-{client}-{number}")
        held = await self.ledger.claim_ranges(lease, worker, ranges, LEASE_TIME, [self._book])
        answers = await self.ledger.report_ranges([success_on(row) for row in held])
        entries = sum(row.entries for row in held)
        assert (entries, set(answers)) == (ranges, {Answer.ACCEPTED}), (client, number, entries)
