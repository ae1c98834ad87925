"""Descriptors of products: content identity, independent of hosts and of time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evstream.domain.dataset import Fingerprint
from evstream.domain.errors import RequestError
from evstream.domain.intervals import Interval, IntervalSet
from evstream.domain.names import ProductKey

DESCRIPTOR_VERSION = 1
SLICE = "slice"
"""The built-in recipe: a cut of one tree, with parameters ``tree`` and ``branches``."""

COPY = "copy"
"""The recipe of a file as it is: its entries are bytes. Edges that have one give it to others."""
COPY_ENCODER = "copy"
"""Nobody encodes anything: all make the same bytes."""


@dataclass(frozen=True, slots=True)
class SourceSlice:
    """Which entries of which file."""

    fingerprint: Fingerprint
    entries: tuple[Interval, ...]


@dataclass(frozen=True)
class Descriptor:
    """What a product is made of, and how.

    Two descriptors that mean the same are equal byte for byte: parameters that take
    their default are left out and lists are sorted by whoever builds one (`slice_of`).
    """

    sources: tuple[SourceSlice, ...]
    recipe: str
    recipe_version: int
    parameters: tuple[tuple[str, Any], ...]
    format: str = "root"

    def parameter(self, name: str, default: Any = None) -> Any:
        """Return a recipe parameter, or the default where it was left out."""
        return dict(self.parameters).get(name, default)

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON values: the form that is hashed and sent."""
        return {
            "evstream": DESCRIPTOR_VERSION,
            "format": self.format,
            "recipe": {
                "name": self.recipe,
                "parameters": dict(self.parameters),
                "version": self.recipe_version,
            },
            "sources": [
                {
                    "entries": [list(interval) for interval in source.entries],
                    "fingerprint": source.fingerprint.canonical(),
                }
                for source in self.sources
            ],
        }

    @classmethod
    def from_wire(cls, plain: Any) -> Descriptor:
        """Read what `to_wire` wrote.

        Raises
        ------
        RequestError
            A field is missing, of the wrong kind, or of a version we do not speak.
        """
        try:
            if plain["evstream"] != DESCRIPTOR_VERSION:
                raise RequestError(
                    f"descriptor version {plain['evstream']!r} is not spoken here",
                    hint=f"send version {DESCRIPTOR_VERSION}",
                )
            recipe = plain["recipe"]
            sources = tuple(
                SourceSlice(
                    Fingerprint(
                        size=_size(source["fingerprint"]["size"]),
                        uuid=_text(source["fingerprint"]["uuid"]),
                        digest=_text(source["fingerprint"]["digest"]),
                    ),
                    tuple((_integer(start), _integer(stop)) for start, stop in source["entries"]),
                )
                for source in plain["sources"]
            )
            return cls(
                sources=sources,
                recipe=_text(recipe["name"]),
                recipe_version=_integer(recipe["version"]),
                parameters=tuple(sorted(recipe["parameters"].items())),
                format=_text(plain["format"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RequestError(
                f"malformed descriptor: {error!r}",
                hint="send what the plan or POST gave",
            ) from error

    @cached_property
    def canonical_bytes(self) -> bytes:
        """The one JSON text of this descriptor: sorted keys, no spaces, ASCII."""
        return json.dumps(self.to_wire(), sort_keys=True, separators=(",", ":")).encode()

    @cached_property
    def key(self) -> ProductKey:
        """Hex sha256 of `canonical_bytes`."""
        return ProductKey(hashlib.sha256(self.canonical_bytes).hexdigest())


# Nothing is made to fit: a descriptor that was read otherwise than it was sent has another key.
def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value


def _size(value: Any) -> int:
    if _integer(value) < 0:
        raise ValueError(f"{value} is no size")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def copy_of(fingerprint: Fingerprint, file_format: str) -> Descriptor:
    """Describe all bytes of a file."""
    whole = SourceSlice(fingerprint, ((0, fingerprint.size),))
    return Descriptor((whole,), COPY, 1, (), file_format)


def slice_of(
    fingerprint: Fingerprint,
    tree: str,
    interval: Interval,
    branches: tuple[str, ...] | None,
    file_format: str = "root",
) -> Descriptor:
    """Describe a cut of one tree of one file.

    Parameters
    ----------
    branches : tuple of str or None
        Names as `evstream.ports.Format.select` gives them; None for all. Order does
        not matter.
    file_format : str
        The file's; the product is in the same one.
    """
    return scattered_slice_of(fingerprint, tree, IntervalSet((interval,)), branches, file_format)


def scattered_slice_of(
    fingerprint: Fingerprint,
    tree: str,
    entries: IntervalSet,
    branches: tuple[str, ...] | None,
    file_format: str = "root",
) -> Descriptor:
    """Describe a cut of entries that need not follow each other; else as `slice_of`."""
    parameters: list[tuple[str, Any]] = [("tree", tree)]
    if branches is not None:
        parameters.insert(0, ("branches", sorted(set(branches))))
    return Descriptor(
        sources=(SourceSlice(fingerprint, entries.intervals),),
        recipe=SLICE,
        recipe_version=1,
        parameters=tuple(parameters),
        format=file_format,
    )
