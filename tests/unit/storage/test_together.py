"""Pieces of work that are done in groups."""

from __future__ import annotations

import asyncio

from evstream.adapters.offload import InPlace
from evstream.adapters.storage.together import Together


def test_one_piece_after_another() -> None:
    """What comes when a group has just been done does not wait for company."""
    groups: list[list[int]] = []

    def work(pieces: list[int]) -> list[int]:
        groups.append(pieces)
        return [2 * piece for piece in pieces]

    async def main() -> None:
        together = Together(InPlace(), work, groups_max=1)
        async with asyncio.timeout(10):
            assert [await together(piece) for piece in (1, 2, 3)] == [2, 4, 6]

    asyncio.run(main())
    assert groups == [[1], [2], [3]]
