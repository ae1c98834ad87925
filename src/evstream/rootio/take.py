"""Take scattered entries of baskets, byte-wise, and put small baskets together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from evstream.rootio.baskets import NEW_CLASS, Basket
from evstream.rootio.errors import CorruptFileError
from evstream.rootio.source import Data

Int64 = npt.NDArray[np.int64]
_WIDTHS = (8, 4, 2)


def take_entries(basket: Basket, chosen: Int64, *, pinned: bool) -> tuple[Basket, bool]:
    """Take some entries of a basket.

    Parameters
    ----------
    chosen : int64
        Ascending, counted from the basket's first entry.
    pinned : bool
        As in `slice_basket`. Where one of the entries names a class, all stay at their
        positions; zeros take the place of what is left out, and trail the entry before.

    Returns
    -------
    basket, movable
        ``movable`` is False where entries had to stay at their positions.
    """
    if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < basket.entries:
        raise CorruptFileError(
            f"a basket of {basket.key.name!r} has fewer entries than its branch says"
        )
    if basket.offsets is None:
        return basket.part(len(chosen), _take_rows(basket, chosen)), True
    begin, size = basket.offsets[chosen], basket.offsets[chosen + 1] - basket.offsets[chosen]
    offsets = np.zeros(len(chosen) + 1, np.int64)
    np.cumsum(size, out=offsets[1:])
    data = _take_stretches(basket.data, begin, size, offsets)
    movable = not (pinned and NEW_CLASS.search(data))
    if not movable:
        # Where each entry was, so is it now; its bytes reach to the next one's.
        inside = np.zeros(len(basket.data) + 1, np.int8)
        np.add.at(inside, begin, 1)
        np.add.at(inside, begin + size, -1)
        behind = int(begin[-1] + size[-1])
        kept = np.cumsum(inside[:behind], dtype=np.int8).view(np.uint8)
        data = (np.frombuffer(basket.data, np.uint8, behind) * kept).tobytes()
        offsets = np.append(begin, behind)
    displacements = basket.displacements
    if displacements is not None:
        displacements = displacements[chosen] + (offsets[:-1] - begin)
    return basket.part(len(chosen), data, offsets, displacements), movable


def _take_rows(basket: Basket, chosen: Int64) -> bytes:
    size = basket.entry_bytes
    if not size:
        return b""
    dtype = np.dtype(f"u{size}") if size in (1, *_WIDTHS) else np.dtype((np.void, size))
    return np.frombuffer(basket.data, dtype, basket.entries)[chosen].tobytes()


def _take_stretches(data: Data, begin: Int64, size: Int64, offsets: Int64) -> bytes:
    """Copy stretches of bytes behind each other, in items as wide as all of them allow."""
    bits = int(np.bitwise_or.reduce(begin, initial=0) | np.bitwise_or.reduce(size, initial=0))
    width = next((w for w in _WIDTHS if not bits % w), 1)
    items = np.frombuffer(data, f"u{width}", len(data) // width)
    where = np.repeat((begin - offsets[:-1]) // width, size // width)
    where += np.arange(len(where))
    return items[where].tobytes()


def alike(one: Basket, other: Basket) -> bool:
    """Tell whether entries of two baskets of one branch may share a basket."""
    same_size = one.entry_bytes == other.entry_bytes or one.offsets is not None
    return (
        same_size
        and (one.offsets is None) == (other.offsets is None)
        and (one.displacements is None) == (other.displacements is None)
        and (one.algorithm == other.algorithm or None in (one.algorithm, other.algorithm))
        # The upper bits of the position say which process ids its references mean.
        and one.key.strings == other.key.strings
        and (one.key.big, one.key.pids) == (other.key.big, other.key.pids)
    )


def together(parts: Sequence[Basket]) -> Basket:
    """Put the entries of baskets that are `alike` behind each other."""
    first = parts[0]
    if len(parts) == 1:
        return first
    sizes = np.array([len(part.data) for part in parts], np.int64)
    bases = (np.cumsum(sizes) - sizes).tolist()
    offsets, displacements = None, None
    if first.offsets is not None:
        columns = [p.offsets[:-1] + b for p, b in zip(parts, bases, strict=True)
                   if p.offsets is not None]  # fmt: skip
        offsets = np.concatenate([*columns, [int(sizes.sum())]])
    if first.displacements is not None:
        columns = [p.displacements + b for p, b in zip(parts, bases, strict=True)
                   if p.displacements is not None]  # fmt: skip
        displacements = np.concatenate(columns)
    return replace(
        first,
        buffer_bytes=max(part.buffer_bytes for part in parts),
        entries=sum(part.entries for part in parts),
        data=b"".join([part.data for part in parts]),
        offsets=offsets,
        displacements=displacements,
        # A basket that compression would not have made smaller is stored plain.
        algorithm=next((p.algorithm for p in parts if p.algorithm is not None), None),
    )
