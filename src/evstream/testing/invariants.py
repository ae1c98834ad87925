"""What must hold after every step, whatever went wrong: the exactly-once checker."""

from __future__ import annotations

from collections import defaultdict

from evstream.domain.intervals import Interval, IntervalSet, overlaps
from evstream.domain.ledger import RETRACTED, ClosedInterval, Commit, LeasedInterval
from evstream.head.stored import is_as_recorded
from evstream.ports import Ledger, OutputStore


class Watcher:
    """Looks at a book of the ledger again and again and remembers what it saw.

    Raises `AssertionError` from `look` where a rule is broken.
    """

    def __init__(self, ledger: Ledger, store: OutputStore, book: int) -> None:
        self._ledger = ledger
        self._store = store
        self._book = book
        self._leased: dict[tuple[int, int, int], str] = {}
        self._committed: set[tuple[int, int, int, int]] = set()
        self.looks = 0

    def follow(self, ledger: Ledger) -> None:
        """Go on with a ledger that was opened anew; what was seen still counts."""
        self._ledger = ledger

    async def look(self) -> None:
        """Check every rule against the ledger as it is now."""
        self.looks += 1
        chunks = {chunk.number: chunk for chunk in await self._ledger.chunks(self._book)}
        leases = [row for row in await self._ledger.leases() if row.book == self._book]
        commits = await self._ledger.commits(self._book)
        closed = await self._ledger.closed(self._book)
        held: dict[int, list[Interval]] = defaultdict(list)
        rows: list[LeasedInterval | Commit | ClosedInterval] = [*leases, *commits, *closed]
        for row in rows:
            held[row.chunk].append((row.entry_start, row.entry_stop))
        for number, intervals in held.items():
            chunk = chunks[number]
            assert not overlaps(intervals), f"chunk {number}: entries held twice: {intervals}"
            outside = IntervalSet.of(intervals) - IntervalSet.of(
                [(chunk.entry_start, chunk.entry_stop)]
            )
            assert not outside, f"chunk {number}: entries from nowhere: {outside}"
        for lease in leases:
            for entry in range(lease.entry_start, lease.entry_stop):
                key = (lease.chunk, entry, lease.attempt)
                assert self._leased.setdefault(key, lease.lease) == lease.lease, (
                    f"entry {entry} attempt {lease.attempt} was leased twice"
                )
        now = {(c.chunk, c.entry_start, c.entry_stop, c.attempt) for c in commits}
        retracted = {
            (item.chunk, item.entry_start, item.entry_stop, item.attempt)
            for item in await self._ledger.failed_attempts(self._book)
            if item.failure.kind == RETRACTED
        }
        gone = self._committed - now - retracted
        assert not gone, f"commits have gone: {gone}"
        assert not now & retracted, f"commits have come back: {now & retracted}"
        for commit in commits:
            place = (commit.chunk, commit.entry_start, commit.entry_stop, commit.attempt)
            if place in self._committed:
                continue
            for output in commit.success.outputs:
                whole = await is_as_recorded(self._store, output)
                assert whole, f"{output.name} is not what was committed"
        self._committed = now
        progress = await self._ledger.progress(self._book)
        total = sum(chunk.entries for chunk in chunks.values())
        assert progress.entries == total
        assert progress.finished == sum(c.entry_stop - c.entry_start for c in commits)
        assert 0 <= progress.ready <= total, f"progress does not add up: {progress}"
