"""An edge and its head: what it is told, what it keeps of that, and what it does without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from evstream.client.edges import Edges
from evstream.domain.edges import EdgeState, EdgeStatus
from evstream.domain.errors import TransientError
from evstream.domain.products import Edge
from evstream.edge.joining import KEYS_FILE, Card, Joining
from evstream.testing.virtual_time import VirtualClock, run_virtual
from evstream.wire.edge_messages import BeatAnswer, EdgeBeat, UrlKey

CARD = Card("lyon-1", "https://lyon-1.example.org", 5.0, 1 << 30)


class Head:
    """A head that decides as it is told to."""

    def __init__(self) -> None:
        self.state: EdgeState = "serving"
        self.away = False
        self.beats = 0
        self.products = 0

    async def beat(self, edge: str, beat: EdgeBeat) -> BeatAnswer:
        self.beats += 1
        if self.away:
            raise TransientError("the head is away")
        seen = Edge(edge, beat.url, state=self.state, products=self.products)
        return BeatAnswer(seen, [UrlKey(7, "ab" * 32)])


def joining(
    head: Head, folder: Path, thrown: list[str], on_forgotten: Callable[[], None] = lambda: None
) -> Joining:
    """Return an edge's side of joining; `thrown` grows when its cache is thrown away."""

    async def throw_away() -> None:
        thrown.append(head.state)

    return Joining(
        cast("Edges", cast("Any", head)),
        VirtualClock(),
        EdgeStatus,
        card=CARD,
        folder=folder,
        on_quarantine=throw_away,
        on_orders=lambda orders: None,
        on_forgotten=on_forgotten,
    )


def test_keys_are_kept_for_a_start_without_a_head(tmp_path: Path) -> None:
    async def main() -> None:
        edge = joining(Head(), tmp_path, [])
        with pytest.raises(TransientError, match="no keys"):
            await edge.have_keys()
        await edge.beat()
        assert edge.keys.all == {7: bytes.fromhex("ab" * 32)}
        again = joining(Head(), tmp_path, [])
        await again.have_keys()
        assert again.keys.all == edge.keys.all
        assert (tmp_path / KEYS_FILE).stat().st_mode & 0o077 == 0

    run_virtual(main)


def test_a_file_of_keys_that_is_damaged_is_as_none(tmp_path: Path) -> None:
    (tmp_path / KEYS_FILE).write_text("[1, 2")
    assert joining(Head(), tmp_path, []).keys.all == {}


def test_quarantine_throws_away_when_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    async def main() -> None:
        head, thrown = Head(), list[str]()
        edge = joining(head, tmp_path, thrown)
        states: list[EdgeState] = ["serving", "quarantined", "quarantined", "serving", "draining"]
        for head.state in states:
            await edge.beat()
        assert thrown == ["quarantined", "serving"]
        edge.check_serving()
        head.state = "maintenance"
        await edge.beat()
        with pytest.raises(TransientError, match="is in maintenance"):
            edge.check_serving()
        assert thrown == ["quarantined", "serving"]

    run_virtual(main)


def test_an_edge_in_quarantine_does_not_serve_after_a_restart_without_a_head(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        head, thrown = Head(), list[str]()
        head.state = "quarantined"
        await joining(head, tmp_path, thrown).beat()
        again = joining(head, tmp_path, thrown)
        with pytest.raises(TransientError, match="quarantined"):
            again.check_serving()
        head.state = "serving"
        await again.beat()
        again.check_serving()
        assert thrown == ["quarantined", "serving"]

    run_virtual(main)


def test_an_edge_that_was_taken_out_while_it_runs_hears_that_it_is_forgotten(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        head, forgotten = Head(), list[int]()
        edge = joining(head, tmp_path, [], lambda: forgotten.append(head.beats))
        for head.products in (0, 3, 2, 0, 0, 1):
            await edge.beat()
        assert forgotten == [4]

    run_virtual(main)


def test_it_beats_on_while_the_head_is_away(tmp_path: Path) -> None:
    async def main() -> None:
        head = Head()
        head.away = True
        running = asyncio.create_task(joining(head, tmp_path, []).run())
        await VirtualClock().sleep(11.0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert head.beats == 3

    run_virtual(main)
