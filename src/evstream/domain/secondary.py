"""Secondary inputs: events of another dataset beside each unit's own, such as pile-up.

Which ones is a rule without chance: the wanted entries of the secondary dataset stand in
a row, those of its first file first, and event number ``n`` takes positions
``offset + floor(n * per_event)`` to ``offset + floor((n + 1) * per_event)``, over the end
of the row to its beginning. Events of a task with a dataset are counted through its files,
so that none is used twice before all have been used once; those of a chained task, whose
files come and go, through each file from the number that the file's digest is. So an event
has the same ones in whatever unit and attempt it is processed, and what a unit needs lies
side by side.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from msgspec import Struct

from evstream.domain.dataset import Dataset, SourceFile
from evstream.domain.errors import LimitError, RequestError
from evstream.domain.intervals import Interval
from evstream.domain.payload import Payload, placeholders_in, split_payload
from evstream.domain.streams import variable_of

PER_EVENT_MAX = 1_000_000.0
OFFSET_MAX = 1 << 50
SECONDARY_MAX = 20
"""Secondary inputs of one task."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}", re.ASCII)


class Secondary(Struct, frozen=True, forbid_unknown_fields=True):
    """A dataset whose events units get beside their own.

    Attributes
    ----------
    name : str
        By which the payload knows it, as in ``{secondary:NAME}``.
    dataset : str
        A registered one.
    per_event : float
        How many of its events come for each event of the task; on average, where that is
        no whole number. Counted exactly as the decimal number that it is written as.
    tree : str
        Empty for the only one.
    branches : tuple of str
        Globs of the branches to deliver; none for all. Of a task that was accepted, the
        names that they stood for.
    offset : int
        Where in the dataset the task's first event begins to take.
    """

    name: str
    dataset: str
    per_event: float = 1.0
    tree: str = ""
    branches: tuple[str, ...] = ()
    offset: int = 0

    def check(self) -> None:
        """Refuse what cannot work, naming the field.

        Raises
        ------
        LimitError, RequestError
        """
        if not _NAME.fullmatch(self.name):
            raise RequestError(
                f"{self.name!r} cannot name a secondary input",
                hint="use letters, digits and _, and a letter first",
                field="secondary.name",
            )
        if not 0 < self.per_event <= PER_EVENT_MAX:
            raise LimitError(
                f"per_event of secondary {self.name!r} is {self.per_event}",
                hint=f"give a number above 0 and up to {PER_EVENT_MAX:.0f}",
                field="secondary.per_event",
            )
        if not 0 <= self.offset <= OFFSET_MAX:
            raise LimitError(
                f"the offset of secondary {self.name!r} is {self.offset}",
                hint=f"give 0 to {OFFSET_MAX}",
                field="secondary.offset",
            )

    def positions(self, events: Interval) -> Interval:
        """Return which positions of the row events of the task take.

        Parameters
        ----------
        events : (int, int)
            Numbers of the events among those of the task, half-open.
        """
        each = Fraction(repr(self.per_event))
        start, stop = events
        return self.offset + math.floor(start * each), self.offset + math.floor(stop * each)


@dataclass(frozen=True, slots=True)
class Row:
    """The wanted entries of a dataset, in a row.

    Attributes
    ----------
    pieces : tuple of (SourceFile, (int, int))
        None is empty.
    ends : tuple of int
        The position after each piece.
    """

    pieces: tuple[tuple[SourceFile, Interval], ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, dataset: Dataset, tree: str) -> Row:
        """Lay the wanted entries of a tree in a row."""
        pieces = [(file, each) for file in dataset.files for each in file.wanted(tree)]
        return cls(tuple(pieces), tuple(accumulate(stop - start for _, (start, stop) in pieces)))

    @property
    def entries(self) -> int:
        """How many there are."""
        return self.ends[-1] if self.ends else 0

    def take(self, start: int, stop: int) -> list[tuple[SourceFile, Interval]]:
        """Return the entries at positions ``[start, stop)``, in order, file by file.

        A position beyond the end counts from the beginning again. No positions are no
        entries of one file: it tells what branches there would be.
        """
        taken: list[tuple[SourceFile, Interval]] = []
        while start < stop or not taken:
            position = start % self.entries
            number = bisect_right(self.ends, position)
            file, (_, piece_stop) = self.pieces[number]
            left = self.ends[number] - position
            count = min(left, stop - start)
            taken.append((file, (piece_stop - left, piece_stop - left + count)))
            start += count
        return taken


def check_secondary(several: Sequence[Secondary], payload: Payload) -> None:
    """Refuse secondary inputs that cannot work, alone, together, or with a payload.

    Raises
    ------
    LimitError, RequestError
    """
    if len(several) > SECONDARY_MAX:
        raise LimitError(
            f"the task has {len(several)} secondary inputs",
            hint=f"give it {SECONDARY_MAX} at most",
            field="secondary",
        )
    for one in several:
        one.check()
    if len({variable_of(one.name) for one in several}) != len(several):
        raise RequestError(
            "two secondary inputs have one name, or almost so",
            hint="give names that differ in more than case",
            field="secondary.name",
        )
    if payload.kind == "command":
        for word in split_payload(payload):
            _check_word(word, {one.name for one in several})


def _check_word(word: str, names: set[str]) -> None:
    for found in placeholders_in(word):
        kind, _, name = found.partition(":")
        if kind != "secondary":
            continue
        if name not in names:
            raise RequestError(
                f"the payload names {{{found}}}, and the task has no such secondary input",
                hint=f"it has {', '.join(sorted(names)) or 'none'}",
            )
        if word != f"{{{found}}}":
            raise RequestError(
                f"{{{found}}} must be a word of its own: it may stand for several files",
                hint=f"in a shell, use $EVSTREAM_SECONDARY_{variable_of(name)}, a file a line",
            )
