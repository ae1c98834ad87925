"""Compare trees as uproot reads them, every branch and every entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from tests.conformance.rootio.conftest import JUDGED

# Streamed member by member, which uproot takes for entry by entry: its numbers are
# those of neighbouring bytes, and depend on what else is in the basket.
MISREAD_BY_UPROOT = ("METAssoc_AnalysisMETAux.jetLink",)


def equal_by_uproot(
    source: Path,
    tree: str,
    start: int,
    product: Path,
    first: int,
    entries: int,
    chosen: Any = None,
) -> tuple[int, list[str]]:
    """Compare all branches of a product with their source.

    Parameters
    ----------
    chosen : array, optional
        Entries of the source, instead of those from ``start`` on.

    Returns
    -------
    compared, unreadable
        Number of equal branches, and names of those that uproot cannot read even in
        the source.

    Raises
    ------
    AssertionError
        Naming the branches that differ.
    """
    compared, unreadable, different = 0, [], []
    with uproot.open(source) as one, uproot.open(product) as two:
        mine, made = one[tree], two[tree]
        for name in made.keys():  # noqa: SIM118 - branches are not keys
            if name.endswith(MISREAD_BY_UPROOT):
                unreadable.append(name)
                continue
            if len(made[name].branches) != len(mine[name].branches):
                continue  # a part of an object: its own branches are compared one by one
            if chosen is None:
                expected = _array(mine[name], start, start + entries)
            else:
                expected = _array(mine[name], 0, None)
                expected = None if expected is None else expected[chosen]
            if expected is None:
                unreadable.append(name)
                continue
            found = _array(made[name], first, first + entries)
            if found is not None and same_arrays(expected, found):
                compared += 1
            else:
                different.append(name)
    assert not different, f"{product} differs from {source} in {different[:20]}"
    names = [f"{source.name}: {tree}/{name}" for name in unreadable]
    JUDGED.add_by_uproot("branches", compared, names)
    return compared, unreadable


def _array(branch: Any, start: int, stop: int | None) -> Any:
    try:
        return branch.array(entry_start=start, entry_stop=stop)
    except Exception:  # noqa: BLE001 - whatever uproot cannot read in the source either
        try:
            return branch.array(entry_start=start, entry_stop=stop, library="np")
        except Exception:  # noqa: BLE001 - see above
            return None


def same_arrays(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return len(one) == len(other) and all(
            repr(_plain(x)) == repr(_plain(y)) for x, y in zip(one, other, strict=True)
        )
    one, other = ak.to_packed(one), ak.to_packed(other)
    form, length, buffers = ak.to_buffers(one)
    other_form, other_length, other_buffers = ak.to_buffers(other)
    # Compared as bytes: NaN equals itself, and minus zero is not zero.
    return (
        length == other_length
        and form == other_form
        and all(_bytes(buffers[k]) == _bytes(other_buffers[k]) for k in buffers)
    )


def _bytes(buffer: Any) -> bytes:
    return np.ascontiguousarray(buffer).tobytes()


def _plain(value: Any) -> Any:
    if hasattr(value, "all_members"):
        return {k: _plain(v) for k, v in value.all_members.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value
