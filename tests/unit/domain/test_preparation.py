"""Requests: whole ranges, first events, and at which edge files meet."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from evstream.domain.brokering import Preference
from evstream.domain.errors import LimitError
from evstream.domain.names import Lfn
from evstream.domain.preparation import (
    KEEP_FOR_OWNER,
    Preparation,
    chunks_for,
    first_events,
    whole_ranges,
)


def test_what_is_asked_for_grows_to_whole_ranges() -> None:
    assert whole_ranges((0, 100), [(15, 16)], 10) == [(10, 20)]
    assert whole_ranges((5, 100), [(5, 6), (14, 16)], 10) == [(5, 25)]
    assert whole_ranges((0, 95), [(92, 400)], 10) == [(90, 95)]
    assert whole_ranges((0, 100), [(40, 50), (0, 10), (45, 62)], 10) == [(0, 10), (40, 70)]
    assert whole_ranges((0, 100), [(100, 120)], 10) == []


def test_the_first_events_go_over_files() -> None:
    a, b, c = map(Lfn, "abc")
    wanted = [(a, [(0, 10), (20, 30)]), (b, [(0, 10)]), (c, [(0, 10)])]
    assert first_events(wanted, 15) == [(a, [(0, 10), (20, 25)])]
    assert first_events(wanted, 25) == [(a, [(0, 10), (20, 30)]), (b, [(0, 5)])]
    assert first_events(wanted, 1_000) == wanted


def test_files_meet_at_one_edge_and_only_a_lost_ones_move(rng: random.Random) -> None:
    edges = [f"edge-{number}" for number in range(5)]
    files = [rng.randbytes(8).hex() for _ in range(2_000)]
    before, after = Preference(dict.fromkeys(edges, 1.0)), Preference(dict.fromkeys(edges[1:], 1.0))
    at = {file: before.first(file) for file in files}
    assert min(Counter(at.values()).values()) > 2_000 / 5 * 0.8
    moved = [file for file in files if after.first(file) != at[file]]
    assert all(at[file] == edges[0] for file in moved)


def test_an_edge_is_offered_its_own_and_then_from_the_end_of_others() -> None:
    owners = {number: "a" if number < 6 else "b" for number in range(10)}
    own, others = chunks_for("b", owners, {"a", "b"})
    assert own == [6, 7, 8, 9]
    assert others == [5, 4, 3, 2]
    assert KEEP_FOR_OWNER == 2
    # Nobody works on them: not one is left.
    assert chunks_for("b", owners, {"b"})[1] == [5, 4, 3, 2, 1, 0]
    assert chunks_for("c", {0: "a", 1: "a"}, {"a"}) == ([], [])


def test_a_life_has_bounds() -> None:
    with pytest.raises(LimitError):
        Preparation(life_s=0).check()
