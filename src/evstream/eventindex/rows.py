"""Rows of the event index: events, and where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NO_LUMI = 0xFFFF_FFFF
"""The lumi block of an event whose file has none, and of a key that names none."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Events of files and where they are; arrays of one length, in any order.

    Attributes
    ----------
    runs, lumis, files : uint32
        A lumi block of `NO_LUMI` stands for none; files are numbered by the manifest.
    events, entries : uint64
    """

    runs: Array
    lumis: Array
    events: Array
    files: Array
    entries: Array

    def __len__(self) -> int:
        return len(self.events)

    @classmethod
    def concatenate(cls, pieces: Sequence[Rows]) -> Self:
        """Return rows of several pieces behind each other."""
        return cls(
            np.concatenate([np.empty(0, np.uint32), *(p.runs for p in pieces)]),
            np.concatenate([np.empty(0, np.uint32), *(p.lumis for p in pieces)]),
            np.concatenate([np.empty(0, np.uint64), *(p.events for p in pieces)]),
            np.concatenate([np.empty(0, np.uint32), *(p.files for p in pieces)]),
            np.concatenate([np.empty(0, np.uint64), *(p.entries for p in pieces)]),
        )

    def tuples(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield run, lumi block, event, file and entry of each row."""
        columns = (self.runs, self.lumis, self.events, self.files, self.entries)
        yield from zip(*(column.tolist() for column in columns), strict=True)

    def take(self, chosen: Array) -> Rows:
        """Return some rows, by a mask or by positions."""
        return Rows(
            self.runs[chosen],
            self.lumis[chosen],
            self.events[chosen],
            self.files[chosen],
            self.entries[chosen],
        )
