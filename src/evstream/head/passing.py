"""What is finished in the ledger, read in pieces: all of it, or as far as a frontier can pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import takewhile

from evstream.domain.ledger import ClosedInterval, Commit
from evstream.domain.merging import Frontier
from evstream.ports import Ledger

ROWS_AT_FIRST, ROWS_AT_ONCE = 16, 4096
"""Where the frontier waits for one range, little is read; where it moves, much."""


async def move(ledger: Ledger, book: int, frontier: Frontier) -> AsyncIterator[None]:
    """Have a frontier pass all that is finished in a book; yields after each read."""
    limit, moving = ROWS_AT_FIRST, True
    while moving and (place := frontier.place) is not None:
        rows = await ledger.finished(book, *place, limit)
        moving = sum(1 for _ in takewhile(frontier.advance, rows)) == limit
        limit = min(4 * limit, ROWS_AT_ONCE)
        yield


async def in_pieces(ledger: Ledger, book: int) -> AsyncIterator[list[Commit | ClosedInterval]]:
    """Yield all that is finished in a book that is not archived; between pieces others go on."""
    place = 0, 0
    while rows := await ledger.finished(book, *place, ROWS_AT_ONCE):
        yield rows
        place = rows[-1].chunk, rows[-1].entry_start + 1
