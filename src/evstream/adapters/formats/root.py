"""ROOT files, by `evstream.rootio`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evstream import rootio
from evstream.adapters.formats.root_makers import RootMakers
from evstream.adapters.formats.tables import Int64, rows_of
from evstream.ports import ByteSource
from evstream.ports.format import FileIndex
from evstream.rootio import CorruptFileError

_DEFAULTS = rootio.Rules()

IN_PLACE_BRANCHES_MAX = 100
"""Baskets of so many branches that are all copied whole are laid out in milliseconds: to have that
done elsewhere takes as long, and the file's index would have to be sent before."""


class MadeElsewhere:
    """A cut that a maker prepares; it is read here, as any other."""

    def __init__(
        self,
        cut: rootio.Cut,
        index: rootio.SourceIndex,
        words: dict[str, Any],
        makers: RootMakers,
    ) -> None:
        self._cut = cut
        self._order: tuple[rootio.SourceIndex, dict[str, Any]] | None = (index, words)
        self._makers = makers
        self.beside = cut.beside
        self.left_behind = cut.left_behind
        self.entries = cut.entries
        self.boundary_bytes = cut.boundary_bytes

    @property
    def size(self) -> int:
        """Length of the product in bytes; call `prepare` first."""
        return self._cut.size

    def prepare(self, source: ByteSource) -> None:
        """Have a maker prepare it; again is nothing."""
        if self._order is not None:
            index, words = self._order
            self._makers.prepare(self._cut, index, words, source)
            self._order = None

    def read(self, offset: int, size: int, source: ByteSource) -> bytes:
        """Return the product's bytes ``[offset, offset + size)``, fewer at its end."""
        return self._cut.read(offset, size, source)


class RootFormat:
    """The `Format` port on the ROOT engine, whose values have the port's shape already.

    Parameters
    ----------
    beside : rootio.Rules
        What becomes of metadata trees and other objects in cuts and joins.
    makers : RootMakers, optional
        Processes that prepare cuts that take baskets apart; else that is done where it is asked
        for, as are other cuts.
    """

    name = "root"
    suffixes = (".root",)
    whole = False
    encoder_id = rootio.ENCODER_ID

    def __init__(self, beside: rootio.Rules = _DEFAULTS, makers: RootMakers | None = None) -> None:
        self._beside = beside
        self._makers = makers

    def recognises(self, head: bytes) -> bool:
        """Look for ROOT's first four bytes."""
        return head.startswith(b"root")

    def inspect(self, source: ByteSource) -> rootio.SourceIndex:
        """Read the metadata at the file's ends."""
        return rootio.inspect(source)

    def load(self, data: bytes) -> rootio.SourceIndex:
        """Decode a source index."""
        return rootio.SourceIndex.from_bytes(data)

    def summed(self, index: FileIndex) -> dict[str, int]:
        """Return the entries of trees that are put behind each other."""
        return self._beside.summed(_own(index))

    def for_output(self, name: str) -> Self:
        """Return this one, whatever the name."""
        return self

    def select(self, index: FileIndex, tree: str, globs: Sequence[str]) -> list[str]:
        """List branches; what they cannot do without comes along when they are cut."""
        return rootio.select_branches(_own(index).tree(tree), globs)

    def plan_cut(
        self,
        index: FileIndex,
        *,
        tree: str,
        entry_start: int,
        entry_stop: int,
        branches: Sequence[str] | None = None,
        identity: bytes = b"",
    ) -> rootio.Cut | MadeElsewhere:
        """Plan a cut that copies whole baskets."""
        words: dict[str, Any] = {"tree": tree, "entry_start": entry_start, "entry_stop": entry_stop}
        words |= {"branches": branches, "beside": self._beside, "identity": identity}
        return self._made(rootio.plan_cut(_own(index), **words), _own(index), words)

    def plan_select(
        self,
        index: FileIndex,
        *,
        tree: str,
        entries: npt.ArrayLike,
        branches: Sequence[str] | None = None,
        identity: bytes = b"",
    ) -> rootio.Cut | MadeElsewhere:
        """Plan a product of scattered entries."""
        words: dict[str, Any] = {"tree": tree, "entries": np.asarray(entries), "branches": branches}
        words |= {"beside": self._beside, "identity": identity}
        return self._made(rootio.plan_select(_own(index), **words), _own(index), words)

    def _made(
        self, cut: rootio.Cut, index: rootio.SourceIndex, words: dict[str, Any]
    ) -> rootio.Cut | MadeElsewhere:
        in_place = not cut.boundary_bytes and len(cut.branches) <= IN_PLACE_BRANCHES_MAX
        if self._makers is None or in_place:
            return cut
        return MadeElsewhere(cut, index, words, self._makers)

    def read_numbers(self, path: Path, tree: str, branches: Sequence[str]) -> Int64 | None:
        """Read branches of a TTree or fields of an RNTuple with uproot."""
        # Half a second of imports that nothing else here needs.
        import uproot

        try:
            with uproot.open(path) as file:
                found = file.get(tree)
                if found is None or not set(branches) <= set(found.keys()):
                    return None
                return rows_of([found[name].array(library="np") for name in branches])
        except Exception as error:  # an odd file makes its reader raise anything
            line = str(error).strip().split("\n", 1)[0][:200]
            raise CorruptFileError(
                f"uproot cannot read {tree}: {line}",
                hint="compare its size and checksum with the original's",
            ) from error

    def join(
        self,
        inputs: Sequence[Path],
        output: Path,
        *,
        identity: bytes = b"",
        names: Sequence[str] | None = None,
    ) -> rootio.JoinResult:
        """Join by copying baskets; histograms are added."""
        return rootio.join(inputs, output, beside=self._beside, identity=identity, names=names)


def _own(index: FileIndex) -> rootio.SourceIndex:
    assert isinstance(index, rootio.SourceIndex)
    return index
