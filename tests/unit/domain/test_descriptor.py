"""A product's key depends on what it is, and on nothing else; it never changes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.errors import RequestError

FINGERPRINT = Fingerprint(size=1000, uuid="5a1e-uuid", digest="ab" * 32)
DESCRIPTOR = slice_of(FINGERPRINT, "Events", (10, 20), ("pt", "eta"))
# Products are kept and found by these bytes: a change here orphans every one of them.
GOLDEN = (
    b'{"evstream":1,"format":"root","recipe":{"name":"slice","parameters":'
    b'{"branches":["eta","pt"],"tree":"Events"},"version":1},"sources":[{"entries":[[10,20]],'
    b'"fingerprint":{"digest":"' + b"ab" * 32 + b'","size":1000,"uuid":"5a1e-uuid"}}]}'
)
GOLDEN_KEY = "7238d465e067809527ba7244108a79b2644508f037749bd920e6edf522dc7191"


def shuffled(plain: Any) -> Any:
    """Return the same JSON value with the fields of every object in another order."""
    if isinstance(plain, dict):
        return {name: shuffled(plain[name]) for name in sorted(plain, reverse=True)}
    return [shuffled(item) for item in plain] if isinstance(plain, list) else plain


def test_the_canonical_bytes_are_frozen() -> None:
    assert DESCRIPTOR.canonical_bytes == GOLDEN
    assert DESCRIPTOR.key == hashlib.sha256(GOLDEN).hexdigest() == GOLDEN_KEY


def test_the_key_does_not_depend_on_order() -> None:
    assert slice_of(FINGERPRINT, "Events", (10, 20), ("eta", "pt", "eta")).key == GOLDEN_KEY
    assert Descriptor.from_wire(shuffled(DESCRIPTOR.to_wire())).key == GOLDEN_KEY


def test_a_descriptor_comes_back_from_the_wire() -> None:
    assert Descriptor.from_wire(DESCRIPTOR.to_wire()) == DESCRIPTOR
    assert DESCRIPTOR.parameter("tree") == "Events"
    assert DESCRIPTOR.parameter("selection", "none") == "none"


def test_all_branches_are_not_the_same_as_some() -> None:
    everything = slice_of(FINGERPRINT, "Events", (10, 20), None)
    assert everything.parameter("branches") is None
    assert everything.key != GOLDEN_KEY


@pytest.mark.parametrize(
    "other",
    [
        slice_of(FINGERPRINT, "Events", (10, 21), ("pt", "eta")),
        slice_of(FINGERPRINT, "Runs", (10, 20), ("pt", "eta")),
        slice_of(FINGERPRINT, "Events", (10, 20), ("pt",)),
        slice_of(Fingerprint(1001, "5a1e-uuid", "ab" * 32), "Events", (10, 20), ("pt", "eta")),
        slice_of(Fingerprint(1000, "other", "ab" * 32), "Events", (10, 20), ("pt", "eta")),
        slice_of(Fingerprint(1000, "5a1e-uuid", "cd" * 32), "Events", (10, 20), ("pt", "eta")),
    ],
)
def test_what_differs_has_another_key(other: Descriptor) -> None:
    assert other.key != GOLDEN_KEY


def without(*path: str | int) -> dict[str, Any]:
    """Return the wire form without one of its fields."""
    plain: dict[str, Any] = DESCRIPTOR.to_wire()
    inner: Any = plain
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return plain


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        "descriptor",
        {},
        {**DESCRIPTOR.to_wire(), "evstream": 2},
        {**DESCRIPTOR.to_wire(), "sources": 7},
        {**DESCRIPTOR.to_wire(), "sources": [{"entries": [[1, 2, 3]], "fingerprint": {}}]},
        without("recipe"),
        without("recipe", "version"),
        without("recipe", "parameters"),
        without("format"),
        without("sources", 0, "entries"),
        without("sources", 0, "fingerprint", "digest"),
    ],
)
def test_malformed_descriptors_are_refused(plain: Any) -> None:
    with pytest.raises(RequestError):
        Descriptor.from_wire(plain)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sources", 0, "entries"), [[0.5, 1.5]]),
        (("sources", 0, "entries"), [["0", "5"]]),
        (("sources", 0, "entries"), [[False, True]]),
        (("sources", 0, "fingerprint", "size"), -1),
        (("sources", 0, "fingerprint", "size"), 1.0),
        (("sources", 0, "fingerprint", "uuid"), None),
        (("sources", 0, "fingerprint", "digest"), 5),
        (("recipe", "version"), "1"),
        (("recipe", "name"), {"a": 1}),
        (("format",), 7),
    ],
)
def test_what_would_be_another_descriptor_is_refused(path: tuple[Any, ...], value: Any) -> None:
    plain = json.loads(json.dumps(DESCRIPTOR.to_wire()))
    inner = plain
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(RequestError, match="malformed"):
        Descriptor.from_wire(plain)
