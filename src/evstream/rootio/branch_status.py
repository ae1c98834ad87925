"""Whether ROOT reads a branch, where `TTree::SetBranchStatus` was written along.

Source: TBranch::GetEntry and EStatusBits of ROOT 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from evstream.rootio.splice import Piece
from evstream.rootio.tree_index import STATUS_BITS, TreeIndex
from evstream.rootio.tree_template import Spots

_DO_NOT_PROCESS = 1 << 10
_UNSIGNED = 15
Mask = npt.NDArray[np.bool_]


def with_common_status(pieces: Sequence[Piece]) -> list[Piece]:
    """Let a join's tree read all branches that ROOT reads of one of its files.

    A product's record follows its first file's, whose status would hide what the others
    have from ROOT.
    """
    kinds = {piece.index.table.kind: piece for piece in pieces}
    first = pieces[0]
    hidden = _inactive(first)
    if hidden.any():
        everywhere = np.logical_and.reduce([_inactive(piece) for piece in kinds.values()])
        rows = np.array(first.kept, np.int64)[hidden & ~everywhere]
        if len(rows):
            return [replace(first, index=_activated(first.index, rows)), *pieces[1:]]
    return list(pieces)


def _spots(index: TreeIndex, rows: npt.NDArray[np.int64]) -> Spots:
    at = index.table.fields[STATUS_BITS].at[rows]
    return Spots(at[at >= 0], _UNSIGNED)


def _inactive(piece: Piece) -> Mask:
    """Say of each branch of a piece whether ROOT leaves it unread."""
    rows = np.array(piece.kept, np.int64)
    known = piece.index.table.fields[STATUS_BITS].at[rows] >= 0
    found = np.zeros(len(rows), np.bool_)
    data = np.frombuffer(piece.index.walked.data, np.uint8)
    found[known] = _spots(piece.index, rows).get(data) & _DO_NOT_PROCESS != 0
    return found


def _activated(index: TreeIndex, rows: npt.NDArray[np.int64]) -> TreeIndex:
    data = np.frombuffer(index.walked.data, np.uint8).copy()
    spots = _spots(index, rows)
    spots.put(data, spots.get(data) & ~_DO_NOT_PROCESS)
    return replace(index, walked=replace(index.walked, data=data.tobytes()), _templates={})
