"""ROOT files, by `evstream.rootio`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy.typing as npt

from evstream import rootio
from evstream.adapters.formats.tables import Int64, rows_of
from evstream.ports import ByteSource
from evstream.ports.format import FileIndex
from evstream.rootio import CorruptFileError

_DEFAULTS = rootio.Rules()


class RootFormat:
    """The `Format` port on the ROOT engine, whose values have the port's shape already.

    Parameters
    ----------
    beside : rootio.Rules
        What becomes of metadata trees and other objects in cuts and joins.
    """

    name = "root"
    suffixes = (".root",)
    whole = False
    encoder_id = rootio.ENCODER_ID

    def __init__(self, beside: rootio.Rules = _DEFAULTS) -> None:
        self._beside = beside

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
    ) -> rootio.Cut:
        """Plan a cut that copies whole baskets."""
        return rootio.plan_cut(
            _own(index),
            tree=tree,
            entry_start=entry_start,
            entry_stop=entry_stop,
            branches=branches,
            beside=self._beside,
            identity=identity,
        )

    def plan_select(
        self,
        index: FileIndex,
        *,
        tree: str,
        entries: npt.ArrayLike,
        branches: Sequence[str] | None = None,
        identity: bytes = b"",
    ) -> rootio.Cut:
        """Plan a product of scattered entries."""
        return rootio.plan_select(
            _own(index),
            tree=tree,
            entries=entries,
            branches=branches,
            beside=self._beside,
            identity=identity,
        )

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
