"""Event numbers: which branches hold them, and reading them from files that are at hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from evstream.domain.errors import EvstreamError
from evstream.ports import FileIndex, Format, Formats
from evstream.rootio import FileSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Names = tuple[str, ...]

EVENT_NUMBERS: tuple[Names, ...] = (
    ("run", "luminosityBlock", "event"),
    ("run", "event"),
    ("Run", "Event"),
    ("runNumber", "lumiBlock", "eventNumber"),
    ("runNumber", "eventNumber"),
    ("RunNumber", "EventNumber"),
    ("run_number", "event_number"),
    ("EventInfoAuxDyn.runNumber", "EventInfoAuxDyn.lumiBlock", "EventInfoAuxDyn.eventNumber"),
    (
        "EventInfoAux./EventInfoAux.runNumber",
        "EventInfoAux./EventInfoAux.lumiBlock",
        "EventInfoAux./EventInfoAux.eventNumber",
    ),
    ("event_number",),
)
"""Branches that number events, by convention of CMS, ATLAS and others; first match.

The last one is what a HepMC event has."""
COUNTER: Names = EVENT_NUMBERS[-1]
"""A number that many programs count anew in each file that they write."""
LUMI_BLOCKS: tuple[Names, ...] = (
    ("run", "luminosityBlock"),
    ("runNumber", "lumiBlock"),
    ("EventInfoAuxDyn.runNumber", "EventInfoAuxDyn.lumiBlock"),
    ("EventInfoAux./EventInfoAux.runNumber", "EventInfoAux./EventInfoAux.lumiBlock"),
)
"""Branches that name lumi blocks, by the same conventions."""


class NoNumbersError(Exception):
    """What numbers events cannot be told; the text is a clause that says why."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What numbers the events of a file.

    Attributes
    ----------
    names : tuple of str
        Branches.
    rows : int64, shape (entries, branches)
    """

    names: Names
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Numbered:
    """A tree whose events are numbered.

    Attributes
    ----------
    names : tuple of str
        Branches.
    """

    tree: str
    names: Names


def find_numbered(
    known: Format, index: FileIndex, trees: Iterable[str], choices: Sequence[Names]
) -> Iterator[Numbered]:
    """Yield what may number the events of a file by the names of its branches, best first."""
    for tree in trees:
        # Events that come whole have no branches that could be looked for.
        branches = {branch.name for branch in index.trees[tree].branches}
        for names in choices:
            if known.whole or branches.issuperset(names):
                yield Numbered(tree, names)


def read_numbers(
    formats: Formats,
    path: Path,
    tree: str,
    choices: Sequence[Names],
    *,
    elsewhere: bool = False,
    name: str = "",
) -> Numbers:
    """Return what numbers the events of a file: the first choice that it has.

    Only whole numbers, one for each event, number events.

    Parameters
    ----------
    elsewhere : bool
        Look in other trees too if this one has none: a payload may name its own.
    name : str
        What errors call the file; by default its own name.

    Raises
    ------
    NoNumbersError
    """
    named = name or path.name
    try:
        with FileSource(path) as source:
            known, index = formats.inspect(source, named)
        trees = [tree] if tree in index.trees else []
        if elsewhere:
            trees += [other for other in index.trees if other != tree]
        for each in find_numbered(known, index, trees, choices):
            rows = known.read_numbers(path, each.tree, each.names)
            if rows is not None:
                return Numbers(each.names, rows)
    except (EvstreamError, OSError) as error:
        raise NoNumbersError(f"{named} cannot be read: {error}") from error
    raise no_numbers(named, choices)


def no_numbers(name: str, choices: Sequence[Names]) -> NoNumbersError:
    """Return the error for a file that has none of some branches."""
    if len(choices) == 1:
        return NoNumbersError(f"{name} has no {', '.join(choices[0])}")
    return NoNumbersError(f"nothing in {name} numbers its events")


class LocalSources:
    """Source files that are at hand and are still what they were registered as.

    Parameters
    ----------
    folder : Path, optional
        Where they are looked for besides their own local paths, by whatever name.
    """

    def __init__(self, formats: Formats, folder: Path | None) -> None:
        self._formats = formats
        self._folder = folder
        self._paths: dict[str, Path | None] = {}
        self._latest: tuple[tuple[str, str, tuple[Names, ...]], Numbers] | None = None

    def find(self, lfn: str, pfns: Iterable[str], fingerprint: dict[str, Any]) -> Path | None:
        """Return where a file is; None if it is not at hand."""
        if lfn not in self._paths:
            paths = [path for pfn in pfns if (path := local_path(pfn)) is not None]
            if self._folder is not None:
                named = [self._folder / lfn, self._folder / PurePosixPath(lfn).name]
                paths += named + sorted(self._folder.rglob("*"))
            fitting = (path for path in paths if self._is_source(path, fingerprint))
            self._paths[lfn] = next(fitting, None)
        return self._paths[lfn]

    def read(
        self,
        lfn: str,
        pfns: Iterable[str],
        fingerprint: dict[str, Any],
        tree: str,
        choices: Sequence[Names],
    ) -> Numbers:
        """Return what numbers the events of a whole file; that of the last one is kept.

        Raises
        ------
        NoNumbersError
        """
        wanted = lfn, tree, tuple(choices)
        if self._latest is None or self._latest[0] != wanted:
            path = self.find(lfn, pfns, fingerprint)
            if path is None:
                raise NoNumbersError("sources not at hand")
            self._latest = wanted, read_numbers(self._formats, path, tree, choices)
        return self._latest[1]

    def _is_source(self, path: Path, fingerprint: dict[str, Any]) -> bool:
        """Whether a file is the one that was registered, by all that its fingerprint says."""
        if not path.is_file() or path.stat().st_size != fingerprint["size"]:
            return False
        try:
            with FileSource(path) as source:
                _, index = self._formats.inspect(source)
        except (EvstreamError, OSError):
            return False
        return (index.uuid, index.fingerprint) == (fingerprint["uuid"], fingerprint["digest"])


def local_path(pfn: str) -> Path | None:
    """Return where a PFN is on this machine; None if it is a URL."""
    if pfn.startswith("file:"):
        return Path(unquote(urlsplit(pfn).path))
    return None if "://" in pfn or "::" in pfn else Path(pfn)
