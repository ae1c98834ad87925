"""The third level of verification: the events in outputs, compared with those in sources."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evstream.client.event_numbers import (
    COUNTER,
    EVENT_NUMBERS,
    LocalSources,
    Names,
    NoNumbersError,
    read_numbers,
)
from evstream.domain.errors import VerificationError
from evstream.ports import Formats

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Piece = tuple[str, int, int]
"""LFN, first entry, entry after the last."""


class CannotCheckError(Exception):
    """There is nothing to look at."""


def check_events(
    receipt: dict[str, Any],
    outputs: dict[int, Path],
    sources: Path | None,
    formats: Formats,
    names: Names = (),
) -> str:
    """Compare the events in outputs with those of the entries that each was made from.

    What one unit left for one stream is taken together, however many files that is.

    Parameters
    ----------
    outputs : dict of int to Path
        Where each output of the receipt is that no merge replaced.
    sources : Path, optional
        Folder that source files are looked for in, besides the receipt's own paths.
    names : tuple of str
        Branches that number events; by default, those that usually do.

    Returns
    -------
    str
        One line that says what holds.

    Raises
    ------
    VerificationError
        An event is in an output that its entries do not hold, or too often.
    CannotCheckError
        No output numbers its events; or some are in several, and the sources that tell
        whether they should be are not at hand.
    """
    at_hand = _Sources(receipt, sources, formats)
    choices = [names] if names else EVENT_NUMBERS
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    # One source after another, so that each is read once.
    for (pieces, stream), indexes in sorted(_of_one_unit(receipt, outputs).items()):
        tally = tallies[stream]
        made: dict[Names, list[_Made]] = defaultdict(list)
        for index in indexes:
            name = receipt["outputs"][index]["file"]
            tally.outputs += 1
            try:
                # The receipt's name says what it is; the file may have another by now.
                if formats.of_file_name(name) is None:
                    raise NoNumbersError(f"{name} is of no known format")
                found = read_numbers(
                    formats, outputs[index], receipt["task"]["tree"], choices, elsewhere=True
                )
            except NoNumbersError as error:
                tally.unnumbered.append(str(error))
            else:
                made[found.names].append(_Made(outputs[index].name, found.rows))
        for chosen, files in made.items():
            given = at_hand.numbers(pieces, chosen)
            tally.add(chosen, files, given, counted_anew=chosen == COUNTER and not names)
    return _finding(tallies, at_hand)


def _of_one_unit(
    receipt: dict[str, Any], outputs: Iterable[int]
) -> dict[tuple[tuple[Piece, ...], str], list[int]]:
    """Return outputs by the entries that they were made from, and by stream.

    Those of a merge are the entries of its parts.
    """
    covers: dict[int, list[Piece]] = defaultdict(list)
    for lfn, start, stop, _, indexes in receipt["commits"]:
        for index in indexes:
            last = index
            while (merge := receipt["outputs"][last]["merged_into"]) is not None:
                last = merge
            if (lfn, start, stop) not in covers[last][-1:]:
                covers[last].append((lfn, start, stop))
    units: dict[tuple[tuple[Piece, ...], str], list[int]] = defaultdict(list)
    for index in outputs:
        pieces = tuple(sorted(covers[index]))
        units[pieces, receipt["outputs"][index]["stream"]].append(index)
    return units


@dataclass(frozen=True, slots=True)
class _Made:
    """What numbers the events of an output."""

    file: str
    rows: NDArray[np.int64]


@dataclass(slots=True)
class _Tally:
    """What was looked at so far of a stream."""

    outputs: int = 0
    unnumbered: list[str] = field(default_factory=list)
    anew: int = 0
    kept: int = 0
    given: int = 0
    doubled: int = 0
    names: set[Names] = field(default_factory=set)
    alone: dict[Names, list[NDArray[np.int64]]] = field(default_factory=lambda: defaultdict(list))

    def add(
        self,
        names: Names,
        files: Sequence[_Made],
        given: NDArray[np.int64] | None,
        *,
        counted_anew: bool,
    ) -> None:
        """Compare what was made with what was given, or keep it where that is not at hand.

        Parameters
        ----------
        counted_anew : bool
            Differing from the source proves nothing.
        """
        wrong = "" if given is None else _difference(files, given, names)
        if counted_anew and (given is None or wrong):
            self.anew += len(files)
        elif wrong:
            raise VerificationError(wrong)
        elif given is None:
            self.alone[names] += [made.rows for made in files]
        else:
            self.names.add(names)
            self.kept += sum(len(made.rows) for made in files)
            self.given += len(given)

    def told(self, why_not: str) -> list[str]:
        """Say what holds, and what cannot be told."""
        told = []
        if self.names:
            labels = " or ".join(f"({', '.join(names)})" for names in sorted(self.names))
            told.append(
                f"each of {self.given} {labels} is in the outputs once, as in the source"
                if self.kept == self.given
                else f"{self.kept} of {self.given} {labels} were kept by the payload; "
                "none doubled, none foreign"
            )
        for names, pieces in self.alone.items():
            count, doubled = sum(map(len, pieces)), _doubled(pieces)
            self.doubled += doubled
            found = (
                f"{doubled} ({', '.join(names)}) occur more than once, which proves nothing: "
                "they may in the sources"
                if doubled
                else f"no ({', '.join(names)}) doubled among {count}"
            )
            told.append(f"{found}; {why_not}")
        if self.anew:
            told.append(
                f"{self.anew} of {self.outputs} outputs count their events by {COUNTER[0]} alone, "
                f"not as the source does: that proves nothing ({why_not or 'counted anew'})"
            )
        if self.unnumbered:
            told.append(
                f"{len(self.unnumbered)} of {self.outputs} outputs have no numbers that can be "
                f"read ({self.unnumbered[0]})"
            )
        return told


def _finding(tallies: dict[str, _Tally], at_hand: _Sources) -> str:
    """Say what holds of all streams, each by its name if there are several."""
    told = {stream: tally.told(at_hand.why_not) for stream, tally in tallies.items()}
    lines = [
        f"{stream}: {line}" if len(told) > 1 else line
        for stream, found in sorted(told.items())
        for line in found
    ]
    if not any(tally.names or tally.alone for tally in tallies.values()):
        raise CannotCheckError("; ".join(["no run and event numbers in the outputs", *lines]))
    if any(tally.doubled for tally in tallies.values()):
        raise CannotCheckError("; ".join(lines))
    return "; ".join(lines)


class _Sources:
    """The sources of a receipt, as far as they are at hand."""

    def __init__(self, receipt: dict[str, Any], folder: Path | None, formats: Formats) -> None:
        self._tree = receipt["task"]["tree"]
        self._files = {file["lfn"]: file for file in receipt["files"]}
        self._local = LocalSources(formats, folder)
        self.why_not = ""

    def numbers(self, pieces: Iterable[Piece], names: Names) -> NDArray[np.int64] | None:
        """Return the numbers of some entries as rows; None, and why not, if one is away."""
        import numpy as np

        rows = [np.empty((0, len(names)), np.int64)]
        try:
            for lfn, start, stop in pieces:
                file = self._files[lfn]
                copy = (lfn, file["pfns"], file["fingerprint"])
                rows.append(self._local.read(*copy, self._tree, [names]).rows[start:stop])
        except NoNumbersError as error:
            self.why_not = str(error)
            return None
        return np.concatenate(rows)


def _ids(rows: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return a number for each row, the same for equal rows, from 0 on."""
    import numpy as np

    order = np.lexsort(rows.T)
    ordered = rows[order]
    ids = np.zeros(len(rows), np.intp)
    ids[order[1:]] = np.cumsum((ordered[1:] != ordered[:-1]).any(axis=1))
    return ids


def _difference(files: Sequence[_Made], given: NDArray[np.int64], names: Names) -> str:
    """Say which event files hold that their entries do not, or more often; "" if none."""
    import numpy as np

    rows = np.concatenate([given, *(made.rows for made in files)])
    ids = _ids(rows)
    given_counts = np.bincount(ids[: len(given)], minlength=len(rows))
    made_counts = np.bincount(ids[len(given) :], minlength=len(rows))
    wrong = np.flatnonzero(made_counts > given_counts)
    if not len(wrong):
        return ""
    row = rows[np.flatnonzero(ids == wrong[0])[0]]
    holders = [made.file for made in files if (made.rows == row).all(axis=1).any()]
    event = f"({', '.join(names)}) = {tuple(row.tolist())} is in {' and '.join(holders)}"
    if given_counts[wrong[0]] == 0:
        return f"{event}, and not in the source's entries that it was made from"
    return f"{event} {made_counts[wrong[0]]} times"


def _doubled(pieces: list[NDArray[np.int64]]) -> int:
    """Return how many events occur more than once."""
    import numpy as np

    counts = np.bincount(_ids(np.concatenate(pieces)))
    return int((counts > 1).sum())
