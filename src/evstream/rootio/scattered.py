"""Numbers and records that lie at any positions of a buffer, all taken or put at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]


def _windows(buffer: Bytes, width: int) -> npt.NDArray[np.void]:
    """See a buffer as items of so many bytes, one from each position on.

    They overlap and have no type, so that numpy moves each as one block: ten times as fast as
    an index of single bytes.
    """
    if not buffer.flags.c_contiguous:
        # The view below counts bytes from the first one on.
        raise TypeError("numbers are taken from buffers without gaps only")
    if len(buffer) < width:
        return np.empty(0, np.dtype((np.void, width)))
    return np.ndarray((len(buffer) - width + 1,), np.dtype((np.void, width)), buffer, 0, (1,))


def take(buffer: Bytes, at: Int64, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Copy the items of a type, aligned or not, that begin at some positions.

    Parameters
    ----------
    buffer : uint8
    at : int64
    dtype : dtype
        As stored, with its byte order.

    Returns
    -------
    array of that type, shape of ``at``

    Raises
    ------
    IndexError
        An item reaches beyond the buffer's end.
    """
    return _windows(buffer, dtype.itemsize)[at].view(dtype)


def put(buffer: Bytes, at: Int64, items: npt.NDArray[Any]) -> None:
    """Write items, in the type and byte order that they have, to some positions.

    Raises
    ------
    IndexError
        An item reaches beyond the buffer's end.
    """
    raw = np.ascontiguousarray(items).view(np.dtype((np.void, items.dtype.itemsize)))
    _windows(buffer, items.dtype.itemsize)[at] = raw
