"""Secondary inputs: the same events whoever processes them, each used once before any twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from msgspec import structs

from evstream.domain.dataset import Dataset, Fingerprint, SourceFile
from evstream.domain.errors import LimitError, RequestError
from evstream.domain.names import DatasetName, Guid, Lfn
from evstream.domain.payload import Payload, PayloadKind, fill_command
from evstream.domain.secondary import Row, Secondary, check_secondary
from tests.unit.domain.test_task import SPEC

FILES = {"a": 7, "b": 0, "c": 5}
PILEUP = Secondary("pileup", "user:minbias", per_event=2.0)


def row_of(files: dict[str, int], **asked: Any) -> Row:
    found = tuple(
        SourceFile(Lfn(n), Guid(""), (), Fingerprint(1, "", n), {"T": entries}, asked.get(n, {}))
        for n, entries in files.items()
    )
    return Row.of(Dataset(DatasetName("user:minbias"), found), "T")


def entries(row: Row, secondary: Secondary, start: int, stop: int) -> list[tuple[str, int]]:
    """Return (file, entry) of each event that events of the task get."""
    pieces = row.take(*secondary.positions((start, stop)))
    return [(file.lfn, each) for file, (first, last) in pieces for each in range(first, last)]


def test_events_are_taken_in_order_over_files_and_from_the_beginning_again() -> None:
    row = row_of(FILES)
    assert row.entries == 12
    assert entries(row, PILEUP, 2, 5) == [
        ("a", 4),
        ("a", 5),
        ("a", 6),
        *(("c", n) for n in (0, 1, 2)),
    ]
    assert entries(row, PILEUP, 5, 7) == [("c", 3), ("c", 4), ("a", 0), ("a", 1)]
    later = structs.replace(PILEUP, offset=12 * 1000 + 11)
    assert entries(row, later, 0, 1) == [("c", 4), ("a", 0)]
    assert [len(row.take(0, n)) for n in (1, 12, 13, 36)] == [1, 2, 3, 6]


def test_no_events_are_no_entries_of_a_file() -> None:
    row = row_of(FILES)
    none = structs.replace(PILEUP, per_event=0.1)
    for start in (0, 3, 8, 123):
        ((_, (first, last)),) = row.take(*none.positions((start, start + 1)))
        assert first == last


def test_only_wanted_entries_stand_in_the_row() -> None:
    row = row_of(FILES, a={"T": ((1, 2), (4, 6))}, b={"other": ((0, 1),)})
    assert entries(row, PILEUP, 0, 2) == [("a", 1), ("a", 4), ("a", 5), ("c", 0)]


@pytest.mark.parametrize("per_event", [1.0, 3.0, 0.1, 0.3, 2.5, 7.77, 1 / 3, 1e-7])
def test_it_does_not_matter_how_events_are_divided_into_units(per_event: float) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    row, secondary = row_of(FILES), structs.replace(PILEUP, per_event=per_event, offset=3)
    start = rng.randrange(10**9)
    borders = sorted({start, start + 60, *(start + rng.randrange(60) for _ in range(10))})
    whole = entries(row, secondary, start, start + 60)
    parts = [one for a, b in pairwise(borders) for one in entries(row, secondary, a, b)]
    assert parts == whole, f"seed {seed}"
    assert abs(len(whole) - 60 * per_event) < 1, f"seed {seed}"


def test_all_are_used_once_before_any_is_used_twice() -> None:
    row = row_of(FILES)
    for events in range(30):
        used = Counter(entries(row, PILEUP, 0, events))
        passes = 2 * events // 12
        assert set(used.values()) <= {passes, passes + 1}
        assert len(used) == min(12, 2 * events)


def test_a_tenth_is_a_tenth() -> None:
    # In binary, 0.1 is a little more: after 10^17 events that would be several.
    tenth = structs.replace(PILEUP, per_event=0.1)
    assert tenth.positions((0, 10**18)) == (0, 10**17)
    assert tenth.positions((9, 10)) == (0, 1)


@pytest.mark.parametrize(
    ("change", "expected", "told"),
    [
        ({"name": "pile-up"}, RequestError, "cannot name"),
        ({"name": ""}, RequestError, "cannot name"),
        ({"per_event": 0.0}, LimitError, "per_event"),
        ({"per_event": float("nan")}, LimitError, "per_event"),
        ({"per_event": 1e9}, LimitError, "per_event"),
        ({"offset": -1}, LimitError, "offset"),
    ],
)
def test_what_cannot_work_is_refused(
    change: dict[str, Any], expected: type[Exception], told: str
) -> None:
    with pytest.raises(expected, match=told):
        replace(SPEC, secondary=(structs.replace(PILEUP, **change),)).check()


def test_names_differ_in_more_than_case() -> None:
    with pytest.raises(RequestError, match="one name"):
        check_secondary([PILEUP, structs.replace(PILEUP, name="PileUp")], SPEC.payload)
    with pytest.raises(LimitError, match="21 secondary"):
        check_secondary([structs.replace(PILEUP, name=f"p{n}") for n in range(21)], SPEC.payload)


@pytest.mark.parametrize(
    ("command", "kind", "told"),
    [
        ("mix {input} --pu={secondary:pileup} {output}", "command", "word of its own"),
        ("sh -c 'mix {secondary:pileup} {output}'", "command", "EVSTREAM_SECONDARY_PILEUP"),
        ("mix {secondary:noise} {output}", "command", "no such secondary input"),
        ("serve {secondary:pileup}", "long-lived", "over its channel"),
    ],
)
def test_commands_that_name_them_wrongly_are_refused(
    command: str, kind: PayloadKind, told: str
) -> None:
    payload = Payload(command, kind=kind)
    with pytest.raises(RequestError) as caught:
        replace(SPEC, payload=payload, secondary=(PILEUP,)).check()
    assert told in f"{caught.value.message} {caught.value.hint}"


def test_files_become_words() -> None:
    words = ["mix", "{secondary:pileup}", "{secondary:x}", "{output}", "}{"]
    several = {"secondary:pileup": ("a b", "{output}"), "secondary:x": ()}
    assert fill_command(words, {"output": "out"}, several) == [
        "mix",
        "a b",
        "{output}",
        "out",
        "}{",
    ]
