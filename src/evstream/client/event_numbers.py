"""The third level of verification: run and event numbers in outputs and in sources."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from evstream import rootio
from evstream.domain.errors import EvstreamError, VerificationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Names = tuple[str, ...]

EVENT_NUMBERS: tuple[Names, ...] = (
    ("run", "luminosityBlock", "event"),
    ("run", "event"),
    ("Run", "Event"),
    ("runNumber", "eventNumber"),
    ("RunNumber", "EventNumber"),
    ("run_number", "event_number"),
)
"""Branches that number events, by convention of CMS, ATLAS and others; first match."""
SUFFIX = ".root"


class CannotCheckError(Exception):
    """There is nothing to look at."""


def check_events(receipt: dict[str, Any], outputs: dict[int, Path], sources: Path | None) -> str:
    """Compare the events in outputs with those of the entries that each was made from.

    Parameters
    ----------
    outputs : dict of int to Path
        Where each output of the receipt is that no merge replaced.
    sources : Path, optional
        Folder that source files are looked for in, besides the receipt's own paths.

    Returns
    -------
    str
        One line that says what holds.

    Raises
    ------
    VerificationError
        An event is in an output that its entries do not hold, or too often.
    CannotCheckError
        No output numbers its events.
    """
    covers = _covers(receipt)
    at_hand = _Sources(receipt, sources)
    tally = _Tally()
    # One file after another, so that each is read once.
    for index in sorted(outputs, key=lambda index: covers[index][:1]):
        output = receipt["outputs"][index]
        # The receipt's name says what it is; the file may have another by now.
        if PurePosixPath(output["file"]).suffix != SUFFIX:
            tally.unnumbered += 1
            continue
        found = _numbers(outputs[index], receipt["task"]["tree"], EVENT_NUMBERS)
        if found is None:
            tally.unnumbered += 1
            continue
        names, made = found
        given = at_hand.numbers(covers[index], names)
        if given is None:
            tally.alone[output["stream"], names].append(made)
        else:
            _compare(made, given, names, outputs[index].name)
            tally.compared(names, len(made), len(given))
    for (_, names), pieces in tally.alone.items():
        _refuse_doubled(pieces, names)
    return tally.finding(len(outputs), at_hand)


@dataclass
class _Tally:
    """What was looked at so far."""

    unnumbered: int = 0
    kept: int = 0
    given: int = 0
    names: set[Names] = field(default_factory=set)
    alone: dict[tuple[str, Names], list[NDArray[np.int64]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def compared(self, names: Names, kept: int, given: int) -> None:
        self.names.add(names)
        self.kept += kept
        self.given += given

    def finding(self, outputs: int, at_hand: _Sources) -> str:
        if not self.names and not self.alone:
            raise CannotCheckError("no run and event numbers in the outputs")
        told = []
        if self.names:
            labels = " or ".join(f"({', '.join(names)})" for names in sorted(self.names))
            told.append(
                f"each of {self.given} {labels} is in the outputs once, as in the source"
                if self.kept == self.given
                else f"{self.kept} of {self.given} {labels} were kept by the payload; "
                "none doubled, none foreign"
            )
        for (_, names), pieces in self.alone.items():
            count = sum(map(len, pieces))
            why = at_hand.why_not or "sources not at hand"
            told.append(f"no ({', '.join(names)}) doubled among {count}; {why}")
        if self.unnumbered:
            told.append(f"{self.unnumbered} of {outputs} outputs have no numbers that can be read")
        return "; ".join(told)


def _covers(receipt: dict[str, Any]) -> dict[int, list[tuple[str, int, int]]]:
    """Return the entries that each output was made from; of a merge, those of its parts."""
    covers: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
    for lfn, start, stop, _, indexes in receipt["commits"]:
        for index in indexes:
            last = index
            while (merge := receipt["outputs"][last]["merged_into"]) is not None:
                last = merge
            covers[last].append((lfn, start, stop))
    for pieces in covers.values():
        pieces.sort()
    return covers


class _Sources:
    """The sources of a receipt, as far as they are here and still what they were."""

    def __init__(self, receipt: dict[str, Any], folder: Path | None) -> None:
        self._tree = receipt["task"]["tree"]
        self._files = {file["lfn"]: file for file in receipt["files"]}
        self._folder = folder
        self._paths: dict[str, Path | None] = {}
        self._latest: tuple[str, Names, NDArray[np.int64] | None] | None = None
        self.why_not = ""

    def numbers(
        self, pieces: Iterable[tuple[str, int, int]], names: Names
    ) -> NDArray[np.int64] | None:
        """Return the numbers of some entries as rows; None, and why not, if one is away."""
        import numpy as np

        rows = [np.empty((0, len(names)), np.int64)]
        for lfn, start, stop in pieces:
            whole = self._whole(lfn, names)
            if whole is None:
                return None
            rows.append(whole[start:stop])
        return np.concatenate(rows)

    def _whole(self, lfn: str, names: Names) -> NDArray[np.int64] | None:
        if self._latest is not None and self._latest[:2] == (lfn, names):
            return self._latest[2]
        if lfn not in self._paths:
            self._paths[lfn] = _find(self._files[lfn], self._folder)
        path = self._paths[lfn]
        found = None
        if path is None:
            self.why_not = self.why_not or "sources not at hand"
        else:
            numbers = _numbers(path, self._tree, [names], elsewhere=False)
            if numbers is None:
                self.why_not = f"source {path.name} has no such numbers"
            found = None if numbers is None else numbers[1]
        self._latest = (lfn, names, found)
        return found


def source_numbers(
    tree: str, lfn: str, pfns: list[str], fingerprint: dict[str, Any], folder: Path | None
) -> tuple[Names, NDArray[np.int64]] | None:
    """Return the branches that number the events of a source file, and a row for each entry.

    None if the file is not at hand as it was registered, or holds no such numbers.

    Parameters
    ----------
    folder : Path, optional
        Where the file is looked for besides its own paths.
    """
    file = {"lfn": lfn, "pfns": pfns, "fingerprint": fingerprint}
    path = _find(file, folder)
    return None if path is None else _numbers(path, tree, EVENT_NUMBERS, elsewhere=False)


def _find(file: dict[str, Any], folder: Path | None) -> Path | None:
    paths = [path for pfn in file["pfns"] if (path := _local_path(pfn)) is not None]
    if folder is not None:
        named = [folder / file["lfn"], folder / PurePosixPath(file["lfn"]).name]
        paths += named + sorted(folder.rglob(f"*{SUFFIX}"))
    size = file["fingerprint"]["size"]
    return next((p for p in paths if _has_size(p, size) and _is_source(p, file)), None)


def _local_path(pfn: str) -> Path | None:
    if pfn.startswith("file:"):
        return Path(unquote(urlsplit(pfn).path))
    return None if "://" in pfn or "::" in pfn else Path(pfn)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _is_source(path: Path, file: dict[str, Any]) -> bool:
    """Whether a file is the one that was registered, by all that its fingerprint says."""
    try:
        with rootio.FileSource(path) as source:
            index = rootio.inspect(source)
    except (EvstreamError, OSError):
        return False
    expected = file["fingerprint"]
    return (index.uuid, index.fingerprint) == (expected["uuid"], expected["digest"])


def _numbers(
    path: Path, tree: str, choices: Iterable[Names], *, elsewhere: bool = True
) -> tuple[Names, NDArray[np.int64]] | None:
    """Return the event numbers of a file, as rows, and the branches they are in.

    They are looked for in the task's tree, then in any other unless that is excluded: a
    payload may name its own. Only whole numbers, one for each event, number events.
    """
    try:
        return _read_numbers(path, tree, choices, elsewhere=elsewhere)
    except Exception:  # noqa: BLE001 - an odd file makes its reader raise anything
        return None


def _read_numbers(
    path: Path, tree: str, choices: Iterable[Names], *, elsewhere: bool
) -> tuple[Names, NDArray[np.int64]] | None:
    # Half a second of imports that only this level needs.
    import numpy as np
    import uproot

    with uproot.open(path) as file:
        classes = file.classnames(cycle=False)
        trees = [name for name, kind in classes.items() if kind == "TTree"]
        wanted = [name for name in trees if name == tree]
        if elsewhere:
            wanted += [name for name in trees if name != tree]
        for name in wanted:
            found = file[name]
            branches = set(found.keys(recursive=False))
            for chosen in choices:
                if not branches.issuperset(chosen):
                    continue
                arrays = [found[branch].array(library="np") for branch in chosen]
                if all(array.dtype.kind in "iu" and array.ndim == 1 for array in arrays):
                    # They may use all 64 bits; equality survives the change of sign.
                    columns = [array.astype(np.uint64).view(np.int64) for array in arrays]
                    return chosen, np.stack(columns, axis=1)
    return None


def _ids(rows: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return a number for each row, the same for equal rows, from 0 on."""
    import numpy as np

    order = np.lexsort(rows.T)
    ordered = rows[order]
    ids = np.zeros(len(rows), np.intp)
    ids[order[1:]] = np.cumsum((ordered[1:] != ordered[:-1]).any(axis=1))
    return ids


def _compare(made: NDArray[np.int64], given: NDArray[np.int64], names: Names, output: str) -> None:
    """Refuse an output that holds what its entries do not, or more often than they do."""
    import numpy as np

    rows = np.concatenate([given, made])
    ids = _ids(rows)
    given_counts = np.bincount(ids[: len(given)], minlength=len(rows))
    made_counts = np.bincount(ids[len(given) :], minlength=len(rows))
    wrong = np.flatnonzero(made_counts > given_counts)
    if not len(wrong):
        return
    row = rows[np.flatnonzero(ids == wrong[0])[0]]
    event = f"({', '.join(names)}) = {tuple(row.tolist())} is in {output}"
    if given_counts[wrong[0]] == 0:
        raise VerificationError(f"{event}, and not in the source's entries that it was made from")
    raise VerificationError(f"{event} {made_counts[wrong[0]]} times")


def _refuse_doubled(pieces: list[NDArray[np.int64]], names: Names) -> None:
    import numpy as np

    counts = np.bincount(_ids(np.concatenate(pieces)))
    if doubled := int((counts > 1).sum()):
        raise VerificationError(
            f"{doubled} ({', '.join(names)}) occur more than once in the outputs"
        )
